"""How far an extraction has come, in seconds of video: of finished videos and of those that are worked on."""

from collections.abc import Iterable, Sequence

from reelseek.experts.parts import clear_progress, read_progress
from reelseek.library.pieces import work_of
from reelseek.library.report import Progress
from reelseek.library.tasks import Task

__all__ = ["Watch"]


class Watch:
    """Reports the progress of tasks, whose pieces are worked on side by side.

    Args:
        tasks: one a content.
        pieces: of them, as they were divided.
    """

    def __init__(self, tasks: Sequence[Task], pieces: Sequence[Task], progress: Progress) -> None:
        self._progress, self._count = progress, len(tasks)
        self._seconds = {task.content: max(1.0, task.duration or 0.0) for task in tasks}
        self._total = max(1, round(sum(self._seconds.values())))
        self._finished: set[str] = set()
        self._ended: set[tuple[str, int]] = set()
        self._pieces: dict[str, list[Task]] = {task.content: [] for task in tasks}
        for piece in pieces:
            self._pieces[piece.content].append(piece)
        self._latest = tasks[0].video if tasks else ""
        for task in tasks:
            if task.parts is not None:
                clear_progress(task.parts)
        progress("extracting", 0, self._total, f"0 of {self._count} files")

    def look(self, running: Iterable[Task]) -> None:
        """Report how far those have come that are worked on."""
        for task in running:
            if task.parts is not None and task.content not in self._finished and read_progress(task.parts):
                self._latest = task.video
                self._report(sum(self._worked(content)[0] for content in self._unfinished()))
                return

    def end_piece(self, piece: Task) -> None:
        """Note that a piece of a video is worked on no more."""
        if piece.ends is None:
            self._ended.add((piece.content, piece.piece))

    def finish(self, task: Task) -> None:
        """Report that a video is finished."""
        self._finished.add(task.content)
        self._latest = task.video
        self._report(sum(self._worked(content)[0] for content in self._unfinished()))

    def stop(self) -> None:
        """Report what is kept, where the work is ended in the middle."""
        self._report(sum(self._worked(content)[1] for content in self._unfinished()))

    def _unfinished(self) -> list[str]:
        return [content for content in self._pieces if content not in self._finished]

    def _worked(self, content: str) -> tuple[float, float]:
        """Seconds of a video that were worked on, and of those what is kept; a piece counts by what it costs."""
        pieces = self._pieces[content]
        folder = pieces[0].parts if pieces else None
        if folder is None:
            return 0.0, 0.0
        progress = read_progress(folder)
        worked = saved = 0.0
        duration = self._seconds[content]
        for piece in pieces:
            length = min(piece.stretch.end, duration) - piece.stretch.start
            work, seconds = progress.get(piece.piece, (0.0, 0.0))
            if (content, piece.piece) in self._ended:
                work, seconds = piece.stretch.work(duration), length if not piece.stretch.is_whole else seconds
            worked += work_of(piece) * min(1.0, work / max(1.0, piece.stretch.work(duration)))
            saved += work_of(piece) * min(1.0, seconds / max(1.0, length))
        total = sum(map(work_of, pieces))
        return duration * worked / total, duration * saved / total

    def _report(self, seconds: float) -> None:
        done = seconds + sum(self._seconds[content] for content in self._finished)
        is_finished = len(self._finished) == self._count
        self._progress(
            "extracting", self._total if is_finished else min(self._total - 1, int(done)), self._total,
            f"{len(self._finished)} of {self._count} files, {self._latest}",
        )  # fmt: skip
