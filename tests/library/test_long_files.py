"""Long files: side by side, stopped in the middle, taken up, with progress in seconds of video."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from reelseek.errors import MediaError
from reelseek.experts import load_expert
from reelseek.experts.expert import Track
from reelseek.experts.extract import Extracted, close_stretches
from reelseek.experts.parts import Parts, Stretch
from reelseek.library import Library, add
from reelseek.library.pieces import PieceQueue, close_divided, divide_tasks, join_pieces, split_tasks
from reelseek.library.tasks import Task
from reelseek.library.watch import Watch
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


class _Pool:
    """Works on pieces one after the other in this process, in the order in which a pool of workers takes them."""

    def __init__(self, function: Callable[[Any], Any], **_: object) -> None:
        self.function = function

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def map(
        self, items: Iterable[Any], seconds: object, waiting_for: Callable[[list[Any]], None] = lambda items: None
    ) -> Iterator[tuple[Any, Any]]:
        for item in items:
            waiting_for([item])
            yield item, self.function(item)


def _add_here(
    library: Path, film: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, list[tuple[int, int]]]:
    """Add a film in this process: the digest, and what progress said."""
    told: list[tuple[int, int]] = []
    with monkeypatch.context() as patch, Library.open(library, create=True) as opened:
        patch.setattr("reelseek.library.ingest.Workers", _Pool)
        report = add(
            opened, [film], experts=["motion", "audio"], workers=workers,
            progress=lambda stage, done, total, _: told.append((done, total)) if stage == "extracting" else None,
        )  # fmt: skip
        assert (report.extracted, report.failed) == (1, [])
        assert opened.catalog.expert_seconds()["motion"] > 0
        return opened.digest(), told


@pytest.mark.long
def test_a_long_film_stopped_in_the_middle_is_taken_up(
    make_video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = make_video("film.mp4", times=[i / 2 for i in range(2 * 260)], sound_seconds=260.0)
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
    assert "of 4:20 of video is kept" in screen.text
    assert "the same command goes on from there" in screen.text
    kept = {file.name: file.read_bytes() for file in library.glob("parts/*/*.npz")}
    assert kept
    digest, told = _add_here(library, film, 4, monkeypatch)  # more workers than before
    assert (told[0], told[-1]) == ((0, 260), (260, 260))
    assert not (library / "parts").exists()
    assert _add_here(tmp_path / "whole", film, 1, monkeypatch)[0] == digest


@pytest.mark.parametrize("specs", [SPECS, ("motion", "ocr"), ("audio", "speech")])
def test_long_files_are_divided_by_time_where_their_experts_allow_it(tmp_path: Path, specs: tuple[str, ...]) -> None:
    task = replace(_task("long", 2000.0, tmp_path), specs=specs)
    pieces = divide_tasks([task], 4)
    divided = [piece for piece in pieces if piece.starts]
    assert len(divided) == (0 if specs == ("audio", "speech") else 4)
    assert sorted({spec for piece in pieces for spec in piece.specs}) == sorted(specs)
    assert sum(not piece.has_tracks for piece in pieces) == 1, "one piece makes the pictures"
    assert sorted(piece.piece for piece in pieces) == list(range(len(pieces)))
    if divided:
        edges = [(piece.stretch.start, piece.stretch.end) for piece in divided]
        assert [start for start, _ in edges] == [0, *(end for _, end in edges[:-1])]
        assert edges[-1][1] == float("inf")
        lengths = [min(end, 2000) - start for start, end in edges]
        assert lengths == sorted(lengths, reverse=True), "the last ones pass over most of the file"
        work = [piece.stretch.work(2000.0) for piece in divided]
        assert max(work) < 1.02 * min(work)
    assert not any(piece.starts for piece in divide_tasks([replace(task, duration=90.0)], 4)), "it is short"
    assert not any(piece.starts for piece in divide_tasks([task, replace(task, content="other")], 2)), "all are at work"


def test_what_is_left_of_a_stretch_is_divided_again(tmp_path: Path) -> None:
    task = replace(_task("long", 3000.0, tmp_path), specs=("motion",))
    fingerprint = load_expert("motion").fingerprint
    Parts(tmp_path).save(fingerprint, [9], {}, until=400.0)
    Parts(tmp_path, Stretch(1000)).save(fingerprint, [9], {}, until=1100.0)
    assert [piece.stretch.start for piece in divide_tasks([task], 1)] == [0, 1000], "what was begun stays"
    again = divide_tasks([task], 4)
    assert [piece.stretch.start for piece in again][:2] == [0, 1000]
    assert len(again) == 4
    assert all(piece.stretch.start > 1160 for piece in again[2:])
    first = Parts(tmp_path)
    first.load(fingerprint)
    first.save(fingerprint, [9], {}, until=1000.0, ended=True)
    assert [piece.stretch.start for piece in divide_tasks([task], 1)] == [1000], "what is complete is passed over"


def test_a_stretch_of_which_nothing_was_kept_is_worked_on_again(tmp_path: Path) -> None:
    task = replace(_task("long", 2000.0, tmp_path), specs=("motion",))
    fingerprint = load_expert("motion").fingerprint
    Parts(tmp_path, Stretch(0, 700)).save(fingerprint, [9], {}, until=700.0, ended=True)
    last = Parts(tmp_path, Stretch(1400))
    last.save(fingerprint, [9], {}, until=2000.0, ended=True)  # its worker died between before it kept a part
    between = divide_tasks([task], 1)[0].stretch
    assert (between.start, between.end) == (700, 1400)
    lost = close_stretches(tmp_path, ["motion"], (0, 1400), picture_end=2000.0, sound_end=0.0)
    assert "is lost" in lost.errors["motion"], "a stretch ends where the next one begins"


def test_no_second_is_worked_on_twice_where_experts_were_divided_differently(tmp_path: Path) -> None:
    task = replace(_task("long", 3000.0, tmp_path), specs=("plain", "motion"))
    plain, motion = (load_expert(spec).fingerprint for spec in task.specs)
    Parts(tmp_path).save(plain, [9], {}, until=600.0)
    Parts(tmp_path, Stretch(1000)).save(plain, [9], {}, until=2000.0)
    Parts(tmp_path).save(motion, [9], {}, until=60.0)
    Parts(tmp_path, Stretch(1500)).save(motion, [9], {}, until=1560.0)
    assert [piece.stretch.start for piece in divide_tasks([task], 1)] == [0, 1000]


class _Outcomes:
    """Outcomes of pieces as a pool gives them, which takes pieces that come to the queue in the meantime."""

    def __init__(self, queue: PieceQueue, outcome: Callable[[Task], Extracted | Exception]) -> None:
        self._queue, self._outcome = queue, outcome

    def __iter__(self) -> Iterator[tuple[Task, Extracted | Exception]]:
        for piece in self._queue:
            yield piece, self._outcome(piece)


def test_a_stretch_that_fails_costs_the_experts_of_the_stretches(tmp_path: Path) -> None:
    task = _task("long", 2000.0, tmp_path)
    pieces = divide_tasks([task], 2)
    death = MediaError("its worker process died")

    def joined(outcome: Callable[[Task], Extracted | Exception]) -> list[tuple[Task, Extracted | Exception]]:
        queue = PieceQueue(pieces)
        return list(join_pieces([task], close_divided(pieces, queue, _Outcomes(queue, outcome))))

    assert joined(lambda piece: death if piece.stretch.start else _extracted(piece)) == [(task, death)]

    def forgets_words(piece: Task) -> Extracted:
        extracted = _extracted(piece, "turned")
        if piece.stretch.start and "ocr" in extracted.tracks:
            extracted.errors["ocr"] = "ValueError: no words"
        if piece.starts and piece.ends is None:
            extracted.tracks = {}
        return extracted

    ((_, merged),) = joined(forgets_words)
    assert isinstance(merged, Extracted)
    assert merged.errors == {"ocr": "ValueError: no words"}
    assert sorted(merged.tracks) == sorted(set(SPECS) - {"ocr"})
    assert (merged.cuts, [notice.message for notice in merged.notices]) == ([1.0], ["turned"])


def test_progress_counts_pieces_by_what_they_cost(tmp_path: Path) -> None:
    task = _task("long", 2000.0, tmp_path)
    pieces = divide_tasks([task], 2)
    said: list[tuple[int, int, str]] = []
    watch = Watch([task], pieces, lambda _, done, total, detail: said.append((done, total, detail)))
    (tmp_path / "progress-0").write_text("300.0 250.0")
    watch.look([task])
    first = said[-1][0]
    assert 0 < first < 300
    watch.look([])
    assert said[-1][0] == first, "a process that died is no news"
    for piece in pieces:
        watch.end_piece(piece)
    watch.look([task])
    assert said[-1][:2] == (1999, 2000), "its tracks are still to be made"
    watch.stop()
    assert 0 < said[-1][0] < 2000
    watch.finish(task)
    assert said[-1] == (2000, 2000, "1 of 1 files, long")


def test_a_removal_takes_unfinished_work_along(make_video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reelseek.library.ingest.Workers", _Pool)
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
