"""Long files: side by side, stopped in the middle, taken up, with progress in seconds of video."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np

from reelseek.errors import MediaError
from reelseek.experts.expert import Track
from reelseek.experts.extract import Extracted
from reelseek.library import Library, add
from reelseek.library.pieces import join_pieces, split_tasks
from reelseek.library.tasks import Task
from reelseek.media.notice import Notice

SPECS = ("appearance", "object", "motion", "audio", "speech", "ocr")


def _task(name: str, seconds: float, parts: Path | None = None) -> Task:
    return Task(name, Path(name), name, SPECS, seconds, False, (), frozenset(), parts=parts)


def test_long_files_are_split_by_expert_while_workers_are_idle() -> None:
    pieces = split_tasks([_task("long", 2000.0), _task("short", 20.0)], 4)
    assert [piece.content for piece in pieces] == ["long", "long", "long", "short"]
    long = [piece for piece in pieces if piece.content == "long"]
    assert sorted(spec for piece in long for spec in piece.specs) == sorted(SPECS)
    assert [piece.has_tracks for piece in long] == [False, True, True], "one piece makes the pictures"
    assert any({"appearance", "object"} <= set(piece.specs) for piece in long), "they share a forward pass"
    assert split_tasks([_task("a", 2000.0), _task("b", 1000.0)], 2) == [_task("a", 2000.0), _task("b", 1000.0)]
    assert split_tasks([_task("short", 20.0)], 8) == [_task("short", 20.0)]


def _extracted(piece: Task, *notices: str) -> Extracted:
    track = Track(np.zeros((1, 2), np.float16), np.array([[0.0, 1.0]]))
    extracted = Extracted(tracks=dict.fromkeys(piece.specs, track), end_seconds=10.0)
    extracted.notices = [Notice("", message) for message in notices]
    if not piece.has_tracks:
        extracted.cuts = [1.0]
    return extracted


def test_pieces_are_recorded_as_one_pass(tmp_path: Path) -> None:
    task = _task("long", 2000.0, tmp_path)
    one, two = split_tasks([task], 2)
    outcomes = [(two, _extracted(two, "turned", "quiet")), (one, _extracted(one, "turned"))]
    ((joined, merged),) = join_pieces([task], outcomes)
    assert joined == task
    assert tuple(merged.tracks) == SPECS
    assert merged.cuts == [1.0]
    assert [notice.message for notice in merged.notices] == ["turned", "quiet"]


def test_a_piece_that_fails_costs_its_own_experts(tmp_path: Path) -> None:
    task = _task("long", 2000.0, tmp_path)
    one, two = split_tasks([task], 2)
    death = MediaError("its worker process died")
    (first, merged), (last, failure) = join_pieces([task], [(two, death), (one, _extracted(one))])
    assert (first.specs, first.parts) == (one.specs, None)
    assert tuple(merged.tracks) == one.specs
    assert (last, failure) == (task, death)
    without_pictures = list(join_pieces([task], [(one, death), (two, _extracted(two))]))
    assert without_pictures == [(task, death)], "pictures come with the first tracks alone"
    assert list(join_pieces([task], [(one, death), (two, death)])) == [(task, death)]
    assert replace(task, specs=one.specs) == replace(first, parts=task.parts)


class _Screen(threading.Thread):
    """Reads all that is written to a terminal, until its other side is closed."""

    def __init__(self, terminal: int) -> None:
        super().__init__(daemon=True)
        self.text, self._terminal = "", terminal

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while block := os.read(self._terminal, 4096):
                self.text += block.decode("utf-8", "replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.join(60)
        os.close(self._terminal)


def _run(library: Path, film: Path, terminal: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "reelseek.cli.main", "add", str(library), str(film), "--experts", "motion,audio"]
    return subprocess.Popen(
        [*command, "--workers", "2"], stdout=subprocess.PIPE, stderr=terminal, env={**os.environ, "COLUMNS": "200"}
    )


def test_a_long_film_stopped_in_the_middle_is_taken_up(make_video, tmp_path: Path) -> None:
    film = make_video("film.mp4", times=[i / 4 for i in range(4 * 400)], sound_seconds=400.0)
    library = tmp_path / "library"
    ours, theirs = pty.openpty()
    with _run(library, film, theirs) as process, _Screen(ours) as screen:
        until = time.monotonic() + 300
        while not list(library.glob("parts/*/*-00000.npz")):
            assert process.poll() is None, "it ended before a part was kept"
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
        os.close(theirs)
    assert "of 6:40 of video is kept" in screen.text
    assert "the same command goes on from there" in screen.text
    assert list(library.glob("parts/*/*.npz"))
    seconds: list[tuple[int, int]] = []
    with Library.open(library) as opened:
        report = add(
            opened, [film], experts=["motion", "audio"], workers=2,
            progress=lambda stage, done, total, _: seconds.append((done, total)) if stage == "extracting" else None,
        )  # fmt: skip
        assert (report.extracted, report.failed) == (1, [])
        digest = opened.digest()
    assert seconds[0] == (0, 400)
    assert seconds[-1] == (400, 400)
    assert not (library / "parts").exists()
    with Library.open(tmp_path / "whole", create=True) as opened:
        add(opened, [film], experts=["motion", "audio"], workers=1)
        assert opened.digest() == digest


def test_a_removal_takes_unfinished_work_along(make_video, tmp_path: Path) -> None:
    source = make_video("film.mp4", sound_seconds=1.0)
    with Library.open(tmp_path / "library", create=True) as library:
        add(library, [source], experts=["audio"], workers=1)
        (video,) = library.videos()
        for content in (video.content, "0" * 64):
            library.parts_folder(content).mkdir(parents=True)
            (library.parts_folder(content) / "part.npz").write_bytes(b"work")
        library.remove([video.id])
        assert not library.parts_folder(video.content).exists()
        add(library, [source], experts=["audio"], workers=1)
        assert not (library.path / "parts").exists(), "nothing that a video could take up is left"
