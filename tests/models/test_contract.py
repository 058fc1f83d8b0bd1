"""The claims of every system, over the whole registry. An entry that is not here cannot land."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.models.worlds import SMALL, small, tokens_of

from reelseek.errors import ModelError
from reelseek.models import SYSTEMS, RetrievalModel, load_model
from reelseek.testing import SystemContract

TRAINED = [name for name in SMALL if SYSTEMS[name.partition("+")[0]].trained]


class TestEverySystem(SystemContract):
    @pytest.fixture(params=list(SMALL))
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


def test_published_as_needing_everything_they_can_refuse() -> None:
    for name in ("mbt", "token_fusion", "avlnet", "zorro", "mmt"):
        model = small(name, missing="refuse")
        with pytest.raises(ModelError, match=r"lack object; set model.missing to mask"):
            model.encode_videos(tokens_of(model))


def test_settings_that_do_not_fit_are_refused_in_words(tmp_path: Path) -> None:
    for name, settings, message in (
        ("mmt", {"depht": 3}, "wrong: depht"),
        ("mmt", {"width": 30, "heads": 4}, "cannot be divided"),
        ("vse", {"loss": {"name": "hinge"}}, "no loss is called 'hinge'"),
        ("vse", {"loss": {"name": "nce", "settings": {"margin": 1.0}}}, "no setting 'margin'"),
        ("eao", {"spectrograms": {"sound": {}}}, "which is none of"),
        ("eao", {"pool": "cls"}, "shared_head"),
        ("eao", {"weights": {"text|vidoe": 1.0}}, "no term of the loss"),
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
