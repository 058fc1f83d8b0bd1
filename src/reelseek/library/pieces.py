"""Long videos that are extracted side by side: stretches and groups of experts in processes, one record at the end."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Self

from reelseek.experts import load_expert
from reelseek.experts.encoder import encoder_of
from reelseek.experts.extract import Extracted
from reelseek.experts.guarded import is_divisible
from reelseek.experts.parts import WHOLE, Stretch, kept_stretches
from reelseek.library.tasks import Task
from reelseek.media.notice import Notice
from reelseek.media.picture import THUMBNAIL_STREAM
from reelseek.media.shots import SHOT_STREAM
from reelseek.media.streams import FrameStream

__all__ = ["PieceQueue", "close_divided", "divide_tasks", "join_pieces", "split_tasks", "work_of"]

_SHORTEST = 120.0  # seconds of video that are worth a second pass of decoding
_SHORTEST_STRETCH = 60.0
# Measured on ten minutes of 640 x 480 with speech and writing, in hundredths of a second for a second of video.
_COSTS = {"ocr": 13.0, "appearance": 11.0, "object": 11.0, "motion": 2.5, "speech": 4.0, "audio": 0.2, "plain": 0.5}
_COST_OF_A_MODEL = 50.0  # of the user's choice
_COST_OF_DECODING = 7.0
Outcome = Extracted | Exception


class PieceQueue:
    """Pieces of work that wait, to which more can be added while they are taken."""

    def __init__(self, pieces: Iterable[Task]) -> None:
        self._pieces = deque(pieces)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Task:
        if not self._pieces:
            raise StopIteration
        return self._pieces.popleft()

    def append(self, piece: Task) -> None:
        """Add a piece, which is taken next."""
        self._pieces.appendleft(piece)


def divide_tasks(tasks: Sequence[Task], workers: int) -> list[Task]:
    """Divide long tasks while there are fewer than workers: by time where experts allow it, the rest by experts.

    Stretches that were divided before, and parts of which are kept, stay; what is left of them may be divided again.
    """
    pieces = [[task] for task in tasks]
    for place in sorted(range(len(tasks)), key=lambda place: -(tasks[place].duration or 0)):
        task, free = tasks[place], workers - sum(map(len, pieces))
        divided = _divide(task, max(1, free + 1)) if (task.duration or 0) >= _SHORTEST and task.parts else []
        if divided:
            pieces[place] = divided
        elif free > 0:
            pieces[place] = split_tasks([replace(task, short_side=_short_side(task))], free + 1)
    return [replace(piece, piece=number) for group in pieces for number, piece in enumerate(group)]


def _divide(task: Task, count: int) -> list[Task]:
    """Pieces of stretches of a video, and one or more of the experts that need all of it; none where it stays whole."""
    specs = tuple(filter(is_divisible, task.specs))
    assert task.parts is not None
    duration = task.duration or 0.0
    passing = _COST_OF_DECODING / (_COST_OF_DECODING + _cost(specs))
    saved = [kept_stretches(task.parts, load_expert(spec).fingerprint) for spec in specs]
    starts = _starts(saved, duration, min(count, int(duration / _SHORTEST_STRETCH)), passing)
    if len(starts) < 2:
        return []
    task = replace(task, short_side=_short_side(task))
    ends = [*starts[1:], float("inf")]
    stretches = [Stretch(start, end, passing) for start, end in zip(starts, ends, strict=True)]
    last = stretches[-1]  # reads the whole file, so it also makes the pictures
    pieces = [
        replace(task, specs=specs, has_tracks=task.has_tracks or stretch != last, stretch=stretch, starts=starts)
        for stretch in stretches
        if stretch == last or not all(expert.get(stretch.start, (0.0, 0.0))[1] >= stretch.end for expert in saved)
    ]
    rest = tuple(spec for spec in task.specs if spec not in specs)
    if rest:
        undivided = replace(task, specs=rest, has_tracks=True)
        pieces += _split(undivided, count) if _cost(rest) > _cost(specs) / len(stretches) else [undivided]
    return pieces


def _starts(
    saved: Sequence[dict[int, tuple[float, float]]], duration: float, count: int, passing: float
) -> tuple[int, ...]:
    """Where stretches start, so that each costs about the same: those that were begun, and the longest of them again.

    Args:
        saved: of each expert, to which second the parts of each stretch are kept, and where it ends if they are all.
        count: of stretches that are worked on side by side.
        passing: see `Stretch`.
    """
    if not saved:
        return (0,)
    intervals = [(start, *ends) for expert in saved for start, ends in expert.items()]
    # Where a stretch ended another one began, of which perhaps nothing is kept.
    begun = {0, *(start for start, _, _ in intervals), *(int(end) for _, _, end in intervals if math.isfinite(end))}
    # What one expert has worked on across a start of another's must not be worked on again behind it.
    starts = sorted(place for place in begun if not any(start < place < until for start, until, _ in intervals))
    gaps = []  # where work is left
    for start, end in zip(starts, [*starts[1:], duration], strict=True):
        stretches = [expert.get(start, (float(start), 0.0)) for expert in saved]
        if not all(covered >= end for _, covered in stretches):
            gaps.append((min(end, max(until for until, _ in stretches)), end))
    if not gaps or len(gaps) >= count:
        return tuple(starts)
    begin, end = max(gaps, key=lambda gap: gap[1] - gap[0])
    return tuple(sorted({*starts, *_cuts(begin, end, count - len(gaps) + 1, passing)}))


def _cuts(begin: float, end: float, count: int, passing: float) -> list[int]:
    """Whole seconds that divide a stretch in pieces of one cost, where each passes over what is before it."""
    length, ratio = end - begin, 1.0 - passing  # of the length of a piece to that of the one before
    while count > 1 and length * passing * ratio ** (count - 1) / (1 - ratio**count) < _SHORTEST_STRETCH:
        count -= 1  # the last piece is the shortest
    return [round(begin + length * (1 - ratio**number) / (1 - ratio**count)) for number in range(1, count)]


def _short_side(task: Task) -> int:
    """Of the largest picture that one pass with all experts asks for."""
    streams = [stream for spec in task.specs for stream in load_expert(spec).streams if isinstance(stream, FrameStream)]
    streams += [] if task.has_tracks else [SHOT_STREAM, THUMBNAIL_STREAM]
    return max((stream.short_side for stream in streams), default=0)


def work_of(piece: Task) -> float:
    """What a piece costs beside others, roughly."""
    duration = max(1.0, piece.duration or 0.0)
    return piece.stretch.work(duration) * (_COST_OF_DECODING + _cost(piece.specs))


def close_divided(
    pieces: Sequence[Task], queue: PieceQueue, outcomes: Iterable[tuple[Task, Outcome]]
) -> Iterator[tuple[Task, Outcome]]:
    """Outcomes as they come, those of all stretches of a video as one, for which a piece of its own is queued.

    Args:
        pieces: all that were planned.
        queue: what outcomes are taken from.
    """
    planned: dict[str, int] = {}
    for piece in pieces:
        planned[piece.content] = planned.get(piece.content, 0) + bool(piece.starts)
    groups: dict[str, list[tuple[Task, Outcome]]] = {}
    for piece, outcome in outcomes:
        if not piece.starts:
            yield piece, outcome
        elif piece.ends is not None:
            group = groups.pop(piece.content)
            yield _without_division(_last(group)), _add_passes(outcome, group)
        else:
            group = groups.setdefault(piece.content, [])
            group.append((piece, outcome))
            if len(group) == planned[piece.content]:
                failures = [outcome for _, outcome in group if isinstance(outcome, Exception)]
                if failures:
                    yield _without_division(_last(group)), failures[0]
                else:
                    queue.append(_closing(group))


def _last(group: Sequence[tuple[Task, Outcome]]) -> Task:
    """The piece of the last stretch."""
    return max((piece for piece, _ in group), key=lambda piece: piece.stretch.start)


def _without_division(piece: Task) -> Task:
    return replace(piece, stretch=WHOLE, starts=(), ends=None)


def _closing(group: Sequence[tuple[Task, Outcome]]) -> Task:
    """The piece that makes tracks of what passes over all stretches have left."""
    passes = [outcome for _, outcome in group if isinstance(outcome, Extracted)]
    last = _last(group)
    specs = tuple(spec for spec in last.specs if not any(spec in extracted.errors for extracted in passes))
    ends = max(extracted.picture_end for extracted in passes), max(extracted.sound_end for extracted in passes)
    return replace(last, specs=specs, stretch=WHOLE, ends=ends)


def _add_passes(closed: Outcome, group: Sequence[tuple[Task, Outcome]]) -> Outcome:
    """The tracks of a divided video, with what the passes over it yield beside them."""
    if isinstance(closed, Exception):
        return closed
    for piece, extracted in group:
        if isinstance(extracted, Exception):
            continue
        closed.errors.update({spec: extracted.errors[spec] for spec in piece.specs if spec in extracted.errors})
        for spec in closed.seconds:
            closed.seconds[spec] += extracted.seconds.get(spec, 0.0)
        if piece is _last(group):
            closed.cuts, closed.thumbnails = extracted.cuts, extracted.thumbnails
            closed.notices = extracted.notices
    return closed


def split_tasks(tasks: Sequence[Task], workers: int) -> list[Task]:
    """Split long tasks by their experts while there are fewer tasks than workers.

    The first piece of a task makes its pictures. Experts that share a forward pass stay together.
    """
    pieces = [[task] for task in tasks]
    for place in sorted(range(len(tasks)), key=lambda place: -(tasks[place].duration or 0)):
        free = workers - sum(map(len, pieces))
        if free < 1 or (tasks[place].duration or 0) < _SHORTEST:
            break
        pieces[place] = _split(tasks[place], free + 1)
    return [piece for group in pieces for piece in group]


def _split(task: Task, count: int) -> list[Task]:
    """At most `count` pieces of about the same cost."""
    shared: dict[object, list[str]] = {}
    for spec in task.specs:
        expert = load_expert(spec)
        shared.setdefault(id(encoder_of(expert)) if encoder_of(expert) else spec, []).append(spec)
    groups: list[list[str]] = [[] for _ in range(min(count, len(shared)))]
    for specs in sorted(shared.values(), key=_cost, reverse=True):
        min(groups, key=_cost).extend(specs)
    order = list(task.specs)
    return [
        replace(task, specs=tuple(sorted(specs, key=order.index)), has_tracks=task.has_tracks or number > 0)
        for number, specs in enumerate(groups)
    ]


def _cost(specs: Iterable[str]) -> float:
    """What experts cost beside one another, roughly; those that share a forward pass count once."""
    costs = {spec: _COST_OF_A_MODEL if "@" in spec else _COSTS.get(spec, 4.0) for spec in specs}
    return sum(costs.values()) - (_COSTS["object"] if {"appearance", "object"} <= set(costs) else 0.0)


def join_pieces(tasks: Sequence[Task], outcomes: Iterable[tuple[Task, Outcome]]) -> Iterator[tuple[Task, Outcome]]:
    """Each task with its outcome, once all pieces of it have theirs.

    Args:
        tasks: as they were before they were split.
        outcomes: of the pieces, in any order.
    """
    planned = {task.content: task for task in tasks}
    waiting: dict[str, list[tuple[Task, Outcome]]] = {}
    for piece, outcome in outcomes:
        task = planned[piece.content]
        group = waiting.setdefault(task.content, [])
        group.append((piece, outcome))
        if sum(len(member.specs) for member, _ in group) == len(task.specs):
            yield from _joined(task, waiting.pop(task.content))


def _joined(task: Task, group: list[tuple[Task, Outcome]]) -> Iterator[tuple[Task, Outcome]]:
    """One outcome of all pieces; where some failed, that of the others first, and the failure once.

    Without the piece that makes the pictures nothing is recorded, since pictures come with the first tracks alone; what
    the others have made is kept.
    """
    complete = [(piece, outcome) for piece, outcome in group if isinstance(outcome, Extracted)]
    failures = [outcome for _, outcome in group if isinstance(outcome, Exception)]
    has_pictures = task.has_tracks or any(not piece.has_tracks for piece, _ in complete)
    if complete and has_pictures:
        specs = tuple(spec for spec in task.specs if any(spec in piece.specs for piece, _ in complete))
        parts = None if failures else task.parts  # unfinished work is still needed
        yield replace(task, specs=specs, parts=parts), _merge(task, complete)
    if failures:
        yield task, failures[0]


def _merge(task: Task, group: Sequence[tuple[Task, Extracted]]) -> Extracted:
    """What one pass with the experts of all pieces would have given."""
    merged = Extracted(
        end_seconds=max(extracted.end_seconds for _, extracted in group),
        picture_end=max(extracted.picture_end for _, extracted in group),
        sound_end=max(extracted.sound_end for _, extracted in group),
    )
    notices: dict[Notice, None] = {}
    for piece, extracted in sorted(group, key=lambda member: member[0].has_tracks):
        merged.tracks.update(extracted.tracks)
        merged.errors.update(extracted.errors)
        merged.seconds.update(extracted.seconds)
        notices.update(dict.fromkeys(extracted.notices))
        if not piece.has_tracks:
            merged.cuts, merged.thumbnails = extracted.cuts, extracted.thumbnails
    merged.tracks = {spec: merged.tracks[spec] for spec in task.specs if spec in merged.tracks}
    merged.notices = list(notices)
    return merged
