"""A frozen text side encodes every caption once, and a run reads it from then on."""

import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.models.worlds import TEXTS, small
from tests.training.test_every_system import _recipe
from tests.training.test_training import world  # noqa: F401 - the fixture

from reelseek.library import Library
from reelseek.library.text_store import TextStore
from reelseek.models import text as text_module
from reelseek.models.once import encode_once
from reelseek.training import train


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each run of the encoder had."""
    counts: list[int] = []
    run = text_module.run_encoder
    monkeypatch.setattr(
        text_module,
        "run_encoder",
        lambda model, ids, *args, **names: (counts.append(len(ids)), run(model, ids, *args, **names))[1],
    )
    return counts


@pytest.mark.parametrize("name", ["eao+mask", "mee", "mmt", "vse", "jsfusion"])
def test_what_is_read_is_what_the_encoder_gives(name: str, tmp_path: Path, encoded: list[int]) -> None:
    model = small(name)
    with torch.no_grad():
        live = model.encode_texts(TEXTS)
    encode_once(model, [*TEXTS, "another one"], tmp_path)
    encoded.clear()
    with torch.no_grad():
        stored = model.encode_texts(TEXTS)
    assert encoded == []
    assert torch.equal(stored.present, live.present)
    torch.testing.assert_close(stored.values, live.values, atol=1e-5, rtol=0)
    again = small(name)
    encode_once(again, [*TEXTS, "another one"], tmp_path)
    assert sum(encoded) <= 1  # the one that shows what the model asks for
    with torch.no_grad():
        assert torch.equal(again.encode_texts(TEXTS).values, stored.values)
    assert sorted(again.encode_texts(["never seen"]).present.shape) == sorted(live.present[:1].shape)


@pytest.mark.parametrize("name", ["eao+mask", "mee"])
def test_which_captions_are_read_is_looked_up_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(name)
    texts = [*TEXTS, "собака бежит по берегу", *TEXTS]
    live = model.reads(texts)
    encode_once(model, texts, tmp_path)
    assert torch.equal(model.reads(texts), live)
    assert not live.all()
    monkeypatch.setattr(text_module.TextEncoder, "_reads", lambda *_: pytest.fail("tokenized again"))
    assert torch.equal(model.reads(texts[::-1]), live.flip(0))


@pytest.mark.long
def test_a_run_encodes_no_caption_twice_and_ends_the_same_after_a_stop(
    world: Path,  # noqa: F811
    tmp_path: Path,
    encoded: list[int],
) -> None:
    class Stop(Exception):
        pass

    def stop(line: object, *_: object) -> None:
        if line.epoch == 1:  # type: ignore[attr-defined]
            raise Stop

    recipe = _recipe("eao", epochs=2)
    with Library.open(world) as library:
        captions = len({caption.text for caption in library.captions()})
        train(recipe, library, tmp_path / "whole")
        first = sum(encoded)
        assert first <= captions + 1
        assert any((library.path / "texts").iterdir())
        with pytest.raises(Stop):
            train(recipe, library, tmp_path / "parts", report=stop)
        train(recipe, library, tmp_path / "parts")
        assert sum(encoded) <= first + 2
    one, two = (load_file(tmp_path / part / "state.safetensors") for part in ("whole", "parts"))
    assert all(one[key].equal(two[key]) for key in one)


def _rows(seed: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)


def test_every_stop_and_damage_costs_no_more_than_encoding_again(tmp_path: Path) -> None:
    texts = {f"text {number}": _rows(number, 1 + number % 3) for number in range(20)}
    store = TextStore(tmp_path / "s", 8)
    store.add(dict(list(texts.items())[:10]))
    store.add(dict(list(texts.items())[10:]))
    for text, rows in texts.items():
        np.testing.assert_array_equal(TextStore(tmp_path / "s", 8).read([text])[0], rows)
    assert store.read(["text 1", "unknown"]) is None
    records, vectors = ((tmp_path / "s" / name).read_bytes() for name in ("records", "rows"))
    for name, content in (("records", records), ("rows", vectors)):
        for size in (0, 1, len(content) // 2 + 1, len(content) - 1):
            (tmp_path / "s" / name).write_bytes(content[:size])
            _is_right_or_missing(tmp_path / "s", texts)
            mended = TextStore(tmp_path / "s", 8)
            mended.add({text: rows for text, rows in texts.items() if text not in mended})
            assert all(text in TextStore(tmp_path / "s", 8) for text in texts)
            _is_right_or_missing(tmp_path / "s", texts)
            (tmp_path / "s" / "records").write_bytes(records)
            (tmp_path / "s" / "rows").write_bytes(vectors)
        for place in range(0, len(content), 7):
            flipped = bytearray(content)
            flipped[place] ^= 4
            (tmp_path / "s" / name).write_bytes(flipped)
            _is_right_or_missing(tmp_path / "s", texts)
        (tmp_path / "s" / name).write_bytes(content)


def _is_right_or_missing(folder: Path, texts: dict[str, np.ndarray]) -> None:
    store = TextStore(folder, 8)
    for text, rows in texts.items():
        stored = store.read([text])
        if stored is not None:
            np.testing.assert_array_equal(stored[0], rows)


def _add_some(folder: Path, first: int) -> None:
    for number in range(first, first + 20):
        TextStore(folder, 8).add({f"text {number}": _rows(number)})


@pytest.mark.long
def test_several_processes_may_add_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add_some, args=(tmp_path / "s", first)) for first in (0, 20, 40)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    store = TextStore(tmp_path / "s", 8)
    for number in range(60):
        np.testing.assert_array_equal(store.read([f"text {number}"])[0], _rows(number))


def test_a_folder_that_cannot_be_written_is_said_and_memory_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, encoded: list[int]
) -> None:
    (tmp_path / "texts").write_text("a file is in the way")
    model = small("eao+mask")
    encode_once(model, TEXTS, tmp_path / "texts")
    assert "cannot be written" in caplog.text
    encoded.clear()
    model.encode_texts(TEXTS)
    assert encoded == []
    assert os.listdir(tmp_path) == ["texts"]


def test_a_folder_that_was_deleted_meanwhile_gives_nobody_the_rows_of_others(tmp_path: Path) -> None:
    store = TextStore(tmp_path / "s", 8)
    store.add({"one": _rows(1), "two": _rows(2)})
    assert store.read(["one", "two"]) is not None
    shutil.rmtree(tmp_path / "s")
    TextStore(tmp_path / "s", 8).add({"three": _rows(3)})
    store.add({"four": _rows(4)})
    assert store.read(["one"]) is None
    for text, seed in (("three", 3), ("four", 4)):
        np.testing.assert_array_equal(store.read([text])[0], _rows(seed))
