"""Films of tasks: steps that are known to happen in some order, with other things between them, and where each is."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelseek.studio.films import FORMATS, MOVES, Film, Shot, shoot
from reelseek.studio.pictures import available_subjects

__all__ = ["Task", "TaskFilm", "plan_task_films", "shoot_tasks"]

_STEPS = (4, 5, 6)
_STEP_SECONDS, _OTHER_SECONDS = (2.0, 5.0), (3.0, 12.0)  # steps take about a third of a film, as they do in CrossTask


@dataclass(frozen=True)
class Task:
    """A name and its steps, each a subject in the words of somebody who tells what to look for."""

    name: str
    subjects: tuple[str, ...]
    steps: tuple[str, ...]


@dataclass(frozen=True)
class TaskFilm:
    """A film of a task.

    Attributes:
        happens: for each step that happens, in the order of time, its number from 0 and its span in seconds.
    """

    task: Task
    film: Film
    happens: tuple[tuple[int, float, float], ...]


def plan_task_films(
    count: int, *, seed: int = 0, tasks: int = 3, missing: float = 0.0, shuffled: bool = False
) -> list[TaskFilm]:
    """Plan films of the tasks in turn; the same seed gives the same films.

    Args:
        tasks: how many tasks there are; they may share subjects.
        missing: share of steps that do not happen, at most all but one of a film.
        shuffled: steps come in any order.
    """
    rng = np.random.default_rng([seed, 77])
    all_tasks = [_task(number, rng) for number in range(tasks)]
    return [
        _plan(index, all_tasks[index % tasks], np.random.default_rng([seed, 78, index]), missing, shuffled)
        for index in range(count)
    ]


def _task(number: int, rng: np.random.Generator) -> Task:
    subjects = available_subjects()
    sample = [subjects[i] for i in rng.permutation(len(subjects))[: int(rng.choice(_STEPS))]]
    names = tuple(str(rng.choice(subject.names)) for subject in sample)
    return Task(f"task{number}", tuple(subject.key for subject in sample), names)


def _plan(index: int, task: Task, rng: np.random.Generator, missing: float, shuffled: bool) -> TaskFilm:
    others = [subject.key for subject in available_subjects() if subject.key not in task.subjects]
    performed = [step for step in range(len(task.steps)) if rng.random() >= missing] or [
        int(rng.integers(len(task.steps)))
    ]
    if shuffled:
        performed = [int(step) for step in rng.permutation(performed)]
    shots: list[Shot] = []
    happens = []

    def film(subject: str, seconds: tuple[float, float]) -> Shot:
        start = shots[-1].end if shots else 0.0
        shots.append(Shot(subject, str(rng.choice(sorted(MOVES))), start, round(start + rng.uniform(*seconds), 1)))
        return shots[-1]

    for step in performed:
        film(str(rng.choice(others)), _OTHER_SECONDS)
        shot = film(task.subjects[step], _STEP_SECONDS)
        happens.append((step, shot.start, shot.end))
    film(str(rng.choice(others)), _OTHER_SECONDS)
    planned = Film(
        name=f"{task.name}_film{index:03d}", shots=tuple(shots), title="", title_shot=0, sound="", line="", voice="en",
        subtitled=False, format=FORMATS[0], size=(320, 240), rate=12, captions=(), seed=int(rng.integers(2**31)),
    )  # fmt: skip
    return TaskFilm(task, planned, tuple(happens))


def shoot_tasks(
    folder: Path,
    films: Sequence[TaskFilm],
    *,
    split: str = "test",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Encode films into a folder, with `captions-SPLIT.csv`: a caption for every shot, at its place."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {subject.key: subject.names for subject in available_subjects()}
    rows = []
    for done, planned in enumerate(films, 1):
        film = planned.film
        if not (folder / film.file).is_file():
            shoot(film, folder)
        rows += [(film.file, name, shot.start, shot.end, split) for shot in film.shots for name in names[shot.subject]]
        if progress:
            progress(done, len(films))
    table = folder / f"captions-{split}.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("video", "caption", "start", "end", "split"), *rows])
    return table
