"""What tests share: real encoded films, a library made of them, and small media files made on the spot."""

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["REELSEEK_HELPER"] = "0"  # no search leaves a process behind, unless a test is about that

import av
import numpy as np
import pytest
import torch

import reelseek.search  # noqa: F401 - its tokenizer's table in memory stays open, so that no single test opens it
from reelseek.cli.main import main
from reelseek.library import Library, add
from reelseek.studio import write_archive
from tests.typed import Run, checked

torch.set_num_threads(1)

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the folder of real sample media is absent ({SHARED})")
    return SHARED


@pytest.fixture(autouse=True)
def connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that leaves a connection to SQLite open; Python itself warns of these from 3.13 on."""
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def recording_connect(*arguments: object, **options: object) -> sqlite3.Connection:
        opened.append(connect(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", recording_connect)
    yield
    assert not [connection for connection in opened if _is_open(connection)]


def _is_open(connection: sqlite3.Connection) -> bool:
    if getattr(connection, "origin", None) is not None:
        return False  # a copy that a reader replaces when the library changes closes with its last query
    try:
        return connection.total_changes >= 0
    except sqlite3.ProgrammingError:
        return False


def _made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first of the processes which run the tests makes for all of them."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, complete = root / name, root / f"{name}.complete"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            complete.touch()
    return folder


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight short films with captions.csv, no real clips."""
    return _made_once(tmp_path_factory, "archive", lambda folder: write_archive(folder, 8, seed=3, clips=False))


@pytest.fixture(scope="session")
def library_path(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of the archive, a copy of its own for each process that runs tests."""

    def make(folder: Path) -> None:
        with Library.open(folder / "library", create=True) as library:
            assert not add(library, [archive], captions=archive / "captions.csv", workers=2).failed

    template = _made_once(tmp_path_factory, "library-of-the-archive", make)
    return shutil.copytree(template, tmp_path_factory.mktemp("made") / "copy") / "library"


@pytest.fixture
def library(library_path: Path) -> Iterator[Library]:
    with Library.open(library_path) as opened:
        yield opened


Make = Callable[..., Path]


@pytest.fixture
def make_video(tmp_path: Path) -> Make:
    """Encode a small video: frame i is of one colour that tells i (`value = 8 * i`)."""

    def make(
        name: str = "film.mp4",
        *,
        times: list[float] | None = None,
        size: tuple[int, int] = (64, 48),
        codec: str = "libx264",
        pix_fmt: str = "yuv420p",
        sound_seconds: float = 0.0,
        sounds: int = 1,
        options: dict[str, str] | None = None,
        video: bool = True,
        tone: float = 440.0,
    ) -> Path:
        path = tmp_path / name
        times = [i / 10 for i in range(20)] if times is None else times
        with av.open(str(path), "w") as out:
            stream = None
            if video:
                stream = out.add_stream(codec, rate=10, options=options or {})
                stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
                stream.codec_context.time_base = Fraction(1, 1000)
            tracks = [out.add_stream("aac", rate=16_000, layout="mono") for _ in range(sounds if sound_seconds else 0)]
            for index, seconds in enumerate(times if stream is not None else []):
                pixels = np.full((size[1], size[0], 3), min(255, 8 * index + 10), np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = round(seconds * 1000), Fraction(1, 1000)
                out.mux(stream.encode(frame))
            if stream is not None:
                out.mux(stream.encode(None))
            for number, track in enumerate(tracks):
                samples = np.sin(np.arange(int(sound_seconds * 16_000)) * 2 * np.pi * tone * (number + 1) / 16_000)
                frame = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None] / 2, format="fltp", layout="mono")
                frame.rate, frame.pts = 16_000, 0
                out.mux(track.encode(frame))
                out.mux(track.encode(None))
        return path

    return make


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the program's `main` on the words of a command line, in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        arguments = ["reelseek", *map(str, words)]
        monkeypatch.setattr(sys, "argv", arguments)
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        return checked(subprocess.CompletedProcess(arguments, stop.value.code, *capfd.readouterr()), code)

    return run
