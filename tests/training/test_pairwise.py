"""Systems that compare pairs learn what a library's clips hold."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter
from tests.training.test_training import world  # noqa: F401 - the fixture

from reelseek.library import Library
from reelseek.models import load_model
from reelseek.training import Recipe, evaluate, train

MODELS: dict[str, dict[str, object]] = {
    "xpool": {"width": 32, "loss": {"name": "info_nce", "settings": {"temperature": 0.07}}},
    "jsfusion": {
        "width": 32, "channels": 16, "hidden": 16, "decoded": 16, "scorer": [16], "coarse": 16, "most_steps": 5,
        "dropout": 0.0, "text": {"most_tokens": 10},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", list(MODELS))
def test_recall_rises_and_what_is_saved_has_learned_it(name: str, world: Path, tmp_path: Path) -> None:  # noqa: F811
    """Of 40 test videos, ten at random hold the right one for a quarter of captions."""
    recipe = TypeAdapter(Recipe).validate_python(
        {"model": {"system": name, **MODELS[name]}, "train": {"epochs": 8, "batch": 32, "rate": 3e-3}}
    )
    lines = []
    with Library.open(world) as library:
        train(recipe, library, tmp_path / "m", report=lambda line, *_: lines.append(line))
        measured = evaluate(load_model(tmp_path / "m"), library)
    assert lines[-1].loss < lines[1].loss
    assert measured.text_to_video.recall_at_10 > 0.5
    assert measured.video_to_text.recall_at_10 > 0.5
