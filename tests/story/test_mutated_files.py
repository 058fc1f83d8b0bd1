"""Every reader of files against damaged ones: no signal, no stray exception, memory and time within limits.

A hundred here; `REELSEEK_FUZZ=10000 pytest -n 0 tests/story/test_mutated_files.py` tries as many as it says.
"""

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import save_file

from reelseek.errors import LimitError, ReelseekError
from reelseek.evaluation.compare import qrels_path, read_run_ranks
from reelseek.library.collection import read_collection
from reelseek.library.readers import FEATURES, read_annotations
from reelseek.library.readers.labels import read_labels
from reelseek.library.readers.steps import read_lines
from reelseek.media.decode import decode
from reelseek.media.guard import Workers
from reelseek.media.streams import FrameStream, SoundStream, SubtitleStream
from reelseek.media.subtitles import sidecar_subtitles
from reelseek.models.checkpoints.read import read_tensors
from reelseek.overlap.clean import read_ids, read_videos
from reelseek.overlap.pairs import read_pairs
from reelseek.training.recipe import read_recipe

COUNT = int(os.environ.get("REELSEEK_FUZZ", "124"))
SECONDS = 120.0
MEMORY = 2 * 2**30


def _decode(path: Path) -> object:
    def ignore(_: object) -> None: ...

    return decode(path, {FrameStream(2, 32): [ignore], SoundStream(): [ignore], SubtitleStream(): [ignore]}).frames


def _features(kind: str) -> Callable[[Path], object]:
    read, _ = FEATURES[kind]  # without the process of its own that an import gives it: this is one already
    return lambda path: len(list(read(path)))


def _annotations(kind: str) -> Callable[[Path], object]:
    return lambda path: len(read_annotations(kind, [path]).captions)


READERS: dict[str, Callable[[Path], object]] = {
    "media": _decode,
    "subtitles": lambda path: sidecar_subtitles(path.with_suffix(".mp4")),
    "table": lambda path: read_collection([path], media=False),
    "recipe": lambda path: read_recipe(path),
    "pairs": lambda path: read_pairs(path),
    "ids": lambda path: read_ids(path),
    "videos": lambda path: read_videos(path),
    "labels": lambda path: read_labels(path),
    "lines": lambda path: read_lines(path),
    "run": lambda path: read_run_ranks(path),
    "msrvtt": _annotations("msrvtt"),
    "tgif": _annotations("tgif"),
    "ce": _features("ce"),
    "coot-features": _features("coot-features"),
    "eao": _features("eao"),
    "crosstask-features": _features("crosstask-features"),
    "tensors": lambda path: read_tensors(path),
}


def _read(item: tuple[str, Path]) -> str:
    """Name of the error of ours that a file ended in, or nothing where it was read."""
    kind, path = item
    try:
        READERS[kind](path)
    except ReelseekError as error:
        return type(error).__name__ if "\n" not in str(error).strip() else f"more than a line: {error}"
    return ""


def _text_seeds() -> dict[str, tuple[str, bytes]]:
    subtitle = "1\n00:00:01,000 --> 00:00:02,500\nHello <i>there</i>\n\n2\n00:00:03,000 --> 00:00:04,000\nBye\n"
    ass = (
        "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname\nStyle: Default,Arial\n\n[Events]\n"
        "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        "Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,{\\b1}Hello\\Nagain\n"
    )
    rows = [{"video": f"v{i}.mp4", "caption": f"a dog number {i}", "start": i, "end": i + 1} for i in range(4)]
    table = "video,caption,start,end,split\n" + "".join(f'v{i}.mp4,"a dog, {i}",{i},{i + 1},train\n' for i in range(6))
    msrvtt = {
        "videos": [{"video_id": "video0", "split": "train"}],
        "sentences": [{"video_id": "video0", "caption": "a dog"}],
    }
    pair = {"test": "a", "train": "b", "score": 0.5, "test_start": 0.0, "train_start": 1.0, "window": 4.0}
    recipe = Path(__file__).parents[2] / "recipes" / "mmt.toml"
    texts = {
        "v.srt": ("subtitles", subtitle),
        "v.vtt": ("subtitles", "WEBVTT\n\n" + subtitle.replace(",", ".")),
        "v.ass": ("subtitles", ass),
        "t.csv": ("table", table),
        "t.tsv": ("table", table.replace(",", "\t")),
        "t.jsonl": ("table", "".join(json.dumps(row) + "\n" for row in rows)),
        "t.txt": ("table", "a.mp4\nb.mp4\n"),
        "r.toml": ("recipe", recipe.read_text("utf-8")),
        "p.jsonl": ("pairs", json.dumps(pair) + "\n"),
        "ids.csv": ("ids", "video,id\na,x1\nb,x2\n"),
        "train.txt": ("videos", "a\nb\n"),
        "l.csv": ("labels", "video,label,start,end,split\na,run,0,1,train\nb,jump,1,2,test\n"),
        "steps.txt": ("lines", "pour\nstir\n"),
        "m.run": ("run", "q1 Q0 v1 1 0.9 x\nq1 Q0 v2 2 0.8 x\n"),
        "MSRVTT_data.json": ("msrvtt", json.dumps(msrvtt)),
        "tgif.tsv": ("tgif", "https://example.org/a.gif\ta man walks\n"),
    }
    return {name: (kind, text.encode()) for name, (kind, text) in texts.items()}


def _write_binary_seeds(folder: Path) -> dict[str, str]:
    values = np.arange(24, dtype=np.float32).reshape(6, 4)
    (folder / "c.pickle").write_bytes(pickle.dumps({f"v{i}": values for i in range(3)}))
    (folder / "old.pickle").write_bytes(pickle.dumps({"v": values.astype(">f8"), "n": np.float32(3)}, protocol=2))
    np.savez(folder / "v_2d.npz", features=values)
    np.savez_compressed(folder / "v_3d.npz", features=values)
    np.save(folder / "v.npy", np.zeros((3, 3200), np.float32))
    with h5py.File(folder / "f.h5", "w") as file:
        for i in range(3):
            file[f"v{i}"] = values
    torch.save({"state_dict": {"a.weight": torch.ones(3, 4)}, "epoch": 3}, folder / "m.pt")
    torch.save({"a": torch.ones(3)}, folder / "old.pth", _use_new_zipfile_serialization=False)
    save_file({"a": torch.ones(3, 4)}, folder / "m.safetensors")
    columns = {"video": ["a.mp4", "b.mp4"], "caption": ["a dog", "a cat"]}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "t.parquet")
    return {
        "c.pickle": "ce", "old.pickle": "ce", "v_2d.npz": "eao", "v_3d.npz": "eao", "v.npy": "crosstask-features",
        "f.h5": "coot-features", "m.pt": "tensors", "old.pth": "tensors", "m.safetensors": "tensors",
        "t.parquet": "table",
    }  # fmt: skip


@pytest.fixture
def seeds(archive: Path, tmp_path: Path) -> list[tuple[str, Path]]:
    """A valid file of every kind."""
    folder = tmp_path / "seeds"
    folder.mkdir()
    kinds = _write_binary_seeds(folder)
    for name, (kind, content) in _text_seeds().items():
        (folder / name).write_bytes(content)
        kinds[name] = kind
    qrels_path(folder / "m.run").write_text("q1 0 v1 1\n")
    films = [path for path in sorted(archive.iterdir()) if path.suffix in (".mp4", ".webm", ".mkv", ".mov", ".avi")]
    for film in films[:5]:
        shutil.copy(film, folder / film.name)
        kinds[film.name] = "media"
    return [(kind, folder / name) for name, kind in kinds.items()]


def _mutated(data: bytes, rng: random.Random) -> bytes:
    """Bits flipped, pieces cut, doubled, moved, or made of what parsers trip over."""
    odd = (b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\x85", "\u2028".encode(), b'"', b"[" * 3000, b"<" * 3000, b"{" * 3000)
    mutable = bytearray(data)
    for _ in range(rng.choice([1, 1, 3, 30])):
        place = rng.randrange(len(mutable) + 1)
        match rng.randrange(6):
            case 0 if mutable:
                mutable[place % len(mutable)] ^= 1 << rng.randrange(8)
            case 1 if mutable:
                mutable[place % len(mutable)] = rng.randrange(256)
            case 2:
                del mutable[place : place + rng.randrange(1, 40)]
            case 3:
                mutable[place:place] = mutable[: rng.randrange(1, 40)]
            case 4:
                mutable[place:place] = rng.choice(odd)
            case 5:
                mutable[place : place + 4] = rng.choice([b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\xff\xff\xff\xff"])
    return bytes(mutable[: rng.randrange(len(mutable) + 1)] if rng.random() < 0.1 else mutable)


def test_every_seed_is_read(seeds: list[tuple[str, Path]]) -> None:
    assert {kind for kind, _ in seeds} == set(READERS)
    assert [path.name for kind, path in seeds if _read((kind, path))] == []


@pytest.mark.long
def test_damaged_files_of_every_kind_end_in_words(seeds: list[tuple[str, Path]], tmp_path: Path) -> None:
    rng = random.Random(int(os.environ.get("REELSEEK_FUZZ_SEED", "11")))
    items: list[tuple[str, Path]] = []
    for number in range(COUNT):
        kind, seed = seeds[number % len(seeds)]
        path = tmp_path / str(number) / seed.name
        path.parent.mkdir()
        path.write_bytes(_mutated(seed.read_bytes(), rng))
        if kind == "run":
            shutil.copy(qrels_path(seed), qrels_path(path))
        items.append((kind, path))
    with Workers(_read, workers=2, memory_bytes=MEMORY) as pool:
        outcomes: dict[Any, Any] = dict(pool.map(items, lambda _: SECONDS))
    wrong = {
        f"{kind} {path}": repr(outcome)
        for (kind, path), outcome in outcomes.items()
        if isinstance(outcome, Exception) and not isinstance(outcome, LimitError)  # too much asked for is said in words
    }
    assert not wrong
    assert set(outcomes) == set(items)
    outcomes = {item: str(outcome) for item, outcome in outcomes.items()}
    assert {"", "CollectionError", "ModelError"} <= set(outcomes.values())
