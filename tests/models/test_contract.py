"""The claims of every system, over the whole registry. An entry that is not here cannot land."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.models.worlds import EVERY_SYSTEM, SMALL, batch_of, small

from reelseek.errors import ModelError, RecipeError
from reelseek.library.tokens import Steps
from reelseek.models import SYSTEMS, RetrievalModel, load_model
from reelseek.models.learned import LearnedModel
from reelseek.testing import SystemContract
from reelseek.training.caching import cached_gradients

TRAINED = [name for name in SMALL if SYSTEMS[name.partition("+")[0]].trained]


class TestEverySystem(SystemContract):
    @pytest.fixture(params=EVERY_SYSTEM)
    def build(self, request: pytest.FixtureRequest) -> Callable[[], RetrievalModel]:
        return partial(small, request.param)


def test_every_entry_is_held_to_the_contract() -> None:
    assert {name.partition("+")[0] for name in SMALL} == set(SYSTEMS)


@pytest.mark.parametrize("name", TRAINED)
def test_long_texts_are_cut_with_a_count(name: str, caplog: pytest.LogCaptureFixture) -> None:
    model = small(name)
    text = getattr(model, "text", None)
    assert text is not None
    with caplog.at_level(logging.WARNING, "reelseek"):
        model.encode_texts(["word " * 600])
    if text.left_out:
        assert "tokens were left out" in caplog.text
    else:  # the sentence encoder's own vector counts for itself
        from reelseek.experts.sentence import sentence_encoder

        assert sentence_encoder().truncated


@pytest.mark.parametrize("name", [name for name in TRAINED if not name.startswith("anchored")])
def test_videos_that_lack_a_modality_can_be_refused_everywhere(name: str) -> None:
    model = small(name, missing="refuse")
    assert isinstance(model, LearnedModel)
    batch = batch_of(model)  # each expert is absent in one video
    refused = pytest.raises(ModelError, match=r"1 of 4 videos lack \w+; set model.missing to mask")
    with refused:
        model.encode_videos(batch.tokens)
    with refused:
        model.loss(batch)
    with refused if model.compares_only else pytest.raises(RecipeError, match="in chunks"):
        cached_gradients(model, batch, chunk=2)
    whole = batch.rows(torch.tensor([3]))
    model.encode_videos(whole.tokens)
    absent = {
        name: Steps(steps.values, torch.zeros_like(steps.present), steps.spans) for name, steps in whole.tokens.items()
    }
    with pytest.raises(ModelError, match="1 of 1 videos lack"):  # such clips are left out where nothing is refused
        model.loss(replace(whole, tokens=absent))


def test_what_refuses_videos_refuses_them_inside_an_anchor() -> None:
    model = small("anchored", inner={"system": "late_fusion", "width": 32, "heads": 2, "missing": "mask"})
    batch = batch_of(model)
    model.loss(batch)
    model.inner.config = replace(model.inner.config, missing="refuse")  # its fitting sample has such videos
    for call in (partial(model.encode_videos, batch.tokens), partial(model.loss, batch)):
        with pytest.raises(ModelError, match="late_fusion as published needs every modality"):
            call()


def test_settings_that_do_not_fit_are_refused_in_words(tmp_path: Path) -> None:
    for name, settings, message in (
        ("mmt", {"depht": 3}, "wrong: depht"),
        ("mmt", {"width": 30, "heads": 4}, "cannot be divided"),
        ("vse", {"loss": {"name": "hinge"}}, "no loss is called 'hinge'"),
        ("vse", {"loss": {"name": "nce", "settings": {"margin": 1.0}}}, "no setting 'margin'"),
        ("eao", {"spectrograms": {"sound": {}}}, "which is none of"),
        ("eao", {"pool": "cls"}, "shared_head"),
        ("eao", {"weights": {"text|vidoe": 1.0}}, "no term of the loss"),
        ("eao", {"transformers": "per_modality"}, "fused = true is given"),
        ("eao", {"transformers": "per_modality", "fused": False, "depth": 0}, "depth = 0 is given"),
        ("crossclr", {"local": {"quee": 3}}, "wrong: local.quee"),
        ("coot", {"together": (("object",),)}, "together names object"),
        ("multi_cues", {"spaces": (("smell",),)}, "disagree on 'smell'"),
        ("clip4clip", {"experts": {"clip": 10}}, "keeps a width of 512, and the other side has 10"),
        ("mmt", {"experts": {}}, "experts"),
        ("mmt", {"text": {"encoder": "/no/such/folder"}}, "neither a folder"),
    ):
        with pytest.raises(ModelError, match=message):
            SYSTEMS[name].build({"experts": DIMS, **settings})
    with pytest.raises(ModelError, match="not a model"):
        load_model(tmp_path)
    model = small("vse")
    model.save(tmp_path / "m")
    config = (tmp_path / "m" / "config.json").read_text().replace('"vse"', '"mmt"')
    (tmp_path / "m" / "config.json").write_text(config)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(tmp_path / "m")


DIMS = {"object": 1000, "speech": 384, "ocr": 384}
