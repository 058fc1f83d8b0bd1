"""Long videos that are extracted side by side: their experts in groups, each in a process, one record at the end."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from reelseek.experts import load_expert
from reelseek.experts.encoder import encoder_of
from reelseek.experts.extract import Extracted
from reelseek.library.tasks import Task
from reelseek.media.notice import Notice

__all__ = ["join_pieces", "split_tasks"]

_SHORTEST = 120.0  # seconds of video that are worth a second pass of decoding
_COSTS = {"ocr": 8.0, "appearance": 4.0, "object": 4.0, "motion": 1.0, "speech": 1.0, "audio": 0.2, "plain": 0.2}
_COST_OF_A_MODEL = 20.0  # of the user's choice
Outcome = Extracted | Exception


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
    return sum(costs.values()) - (4.0 if {"appearance", "object"} <= set(costs) else 0.0)


def join_pieces(tasks: Sequence[Task], outcomes: Iterable[tuple[Task, Outcome]]) -> Iterator[tuple[Task, Outcome]]:
    """Each task with its outcome, once all pieces of it have theirs.

    Args:
        tasks: as they were before they were split.
        outcomes: of the pieces, in any order.
    """
    whole = {task.content: task for task in tasks}
    waiting: dict[str, list[tuple[Task, Outcome]]] = {}
    for piece, outcome in outcomes:
        task = whole[piece.content]
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
    merged = Extracted(end_seconds=max(extracted.end_seconds for _, extracted in group))
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
