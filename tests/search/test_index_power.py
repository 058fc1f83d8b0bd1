"""Building an index over power cuts: what was built stays, and building again gives the same answers."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.library.power import PowerCuts
from tests.search.talks import add_talk, make_talks

from reelseek.library import Library
from reelseek.models import load_model
from reelseek.models.model import RetrievalModel
from reelseek.search import Searcher, build_index, open_index
from reelseek.search.generation import MANIFEST, read_manifest
from reelseek.search.index import verify


def _answers(library: Library, model: RetrievalModel) -> str:
    """Of a search that takes the index as it is, where there is one."""
    hits = Searcher(library, model, update=False).search("a dog on the beach", k=5)
    return json.dumps([hit.as_json() for hit in hits])


@pytest.mark.long
def test_after_a_cut_at_any_step_the_index_is_whole_and_can_be_built_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_model("concepts")
    make_talks(tmp_path / "root" / "lib", 4).close()
    answers = []
    with Library.open(tmp_path / "root" / "lib") as library:
        power = PowerCuts(tmp_path / "root")
        with power.recording():
            build_index(library, model)
            power.acknowledge()
            answers.append(_answers(library, model))
            with library.saving():  # counts as acknowledged too
                add_talk(library, "v999", np.random.default_rng(6))
            build_index(library, model)
            power.acknowledge()
            answers.append(_answers(library, model))
    assert answers[0] != answers[1]
    assert {cut.commits for cut in power.cuts} == {0, 1, 2, 3}
    for number, cut in enumerate(power.cuts):
        place = cut.restore(tmp_path / f"cut{number}") / "lib"
        with Library.open(place) as library, caplog.at_level(logging.WARNING, "reelseek"):
            caplog.clear()
            index = open_index(library, model)
            assert not caplog.records, (cut.step, cut.kind)
            assert verify(library) == [], (cut.step, cut.kind)
            videos = {video.id for video in library.videos()}
            if cut.commits >= 1:
                assert index is not None, (cut.step, cut.kind)
            if cut.commits in (1, 3):
                assert _answers(library, model) == answers[cut.commits == 3], (cut.step, cut.kind)
            build_index(library, model)
            assert _answers(library, model) == answers["v999" in videos], (cut.step, cut.kind)
            (manifest,) = (library.path / "index").rglob(MANIFEST)
            names = {path.name for path in manifest.parent.iterdir()}
            assert names == {MANIFEST, *read_manifest(manifest.parent).files}, (cut.step, cut.kind)
        shutil.rmtree(place.parent)
