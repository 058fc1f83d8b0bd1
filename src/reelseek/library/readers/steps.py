"""Steps of tasks and where they happen, in the files of CrossTask and of those who followed it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelseek.errors import CollectionError, FeatureError
from reelseek.library import texts
from reelseek.library.readers.containers import read_npy
from reelseek.library.tables import read_json, split_cells

__all__ = [
    "CrossTask",
    "SegmentedVideo",
    "Task",
    "crosstask_videos",
    "read_crosstask",
    "read_lines",
    "read_segmented",
    "read_truth",
]


@dataclass(frozen=True)
class Task:
    """What a task is called and its steps, in order."""

    id: str
    title: str
    steps: tuple[str, ...]


@dataclass(frozen=True)
class CrossTask:
    """Tasks by id, videos that are to be tested as (task, video), and the folder of their annotations."""

    tasks: dict[str, Task]
    videos: tuple[tuple[str, str], ...]
    annotations: Path

    def truth(self, task: str, video: str, seconds: int) -> npt.NDArray[np.bool_] | None:
        """Which second shows which step [second, step]; None where the video has no annotation.

        Raises:
            CollectionError: as `read_truth`.
        """
        for name in (f"{task}_{video}.csv", f"{task}_{video}.npy"):
            if (self.annotations / name).is_file():
                return read_truth(self.annotations / name, seconds, len(self.tasks[task].steps))
        return None


def read_lines(path: Path) -> list[str]:
    """A text a line with single blanks, blank lines left out.

    Raises:
        CollectionError: see `reelseek.library.texts.read_lines`.
    """
    return [" ".join(line.split()) for _, line in texts.read_lines(path)]


def read_truth(path: Path, seconds: int, steps: int) -> npt.NDArray[np.bool_]:
    """Which second shows which step [second, step]: rows `step,start,end` with steps from 1 (CrossTask), or an array
    [second, step] (MCN). Ends are rounded outwards to whole seconds; what lies behind the video is left out.

    Raises:
        CollectionError: it cannot be read, or names a step that the task has not.
    """
    if path.suffix == ".npy":
        try:
            array = read_npy(path)
        except FeatureError as error:
            raise CollectionError(f"{path} is no array of numbers [second, step]: it {error}") from error
        if array.ndim != 2:
            raise CollectionError(f"{path} is no array of numbers [second, step]: it is {array.shape}")
        if array.shape[1] != steps:
            raise CollectionError(f"{path} is {array.shape}; wanted [second, {steps}]")
        truth = np.zeros((seconds, steps), bool)
        truth[: len(array)] = array[:seconds] > 0
        return truth
    truth = np.zeros((seconds, steps), bool)
    for place, (number, line) in enumerate(texts.read_lines(path)):
        fields = split_cells(line)
        if place == 0 and not fields[0].strip().isdigit():
            continue  # a header
        try:
            if len(fields) != 3:
                raise ValueError(f"{len(fields)} cells")
            step, start, end = int(fields[0]), float(fields[1]), float(fields[2])
            if not 1 <= step <= steps or not 0 <= start <= end < math.inf:
                raise ValueError(f"step {step} of {steps}, from {start:g} to {end:g}")
        except (ValueError, IndexError) as error:
            raise CollectionError(f"{path}, line {number}: {error}; wanted step,start,end") from error
        truth[math.floor(start) : math.ceil(end), step - 1] = True
    return truth


def read_crosstask(folder: Path) -> CrossTask:
    """A folder with `tasks_primary.txt`, a list of videos (`videos_val.csv`, else `videos.csv`) and `annotations/`.

    MCN's form is read too: a JSON of steps by task, and a list `video_id,task`.

    Raises:
        CollectionError: a file is not there or is of another form.
    """
    tasks = _tasks(folder)
    listed = next((folder / name for name in ("videos_val.csv", "videos.csv") if (folder / name).is_file()), None)
    if listed is None:
        raise CollectionError(f"{folder} has no videos_val.csv nor videos.csv: which videos are to be tested?")
    rows = [split_cells(line) for line in read_lines(listed)]
    if short := next((row for row in rows if len(row) < 2), None):
        raise CollectionError(f"{listed} has the row {','.join(short)!r}; wanted a task and a video")
    turned = bool(rows) and rows[0][0] == "video_id"
    pairs = [(row[1], row[0]) if turned else (row[0], row[1]) for row in rows[1 if turned else 0 :]]
    annotations = folder / "annotations"
    annotated = tuple(pair for pair in pairs if pair[0] in tasks)
    if not annotated:
        raise CollectionError(f"{listed} names no video of the {len(tasks)} tasks of {folder}")
    return CrossTask(tasks, annotated, annotations if annotations.is_dir() else folder)


def _tasks(folder: Path) -> dict[str, Task]:
    blocks = folder / "tasks_primary.txt"
    if blocks.is_file():
        lines = read_lines(blocks)
        if len(lines) % 5:
            raise CollectionError(
                f"{blocks} has {len(lines)} lines; wanted five a task: id, title, address, count, steps"
            )
        by_id = {}
        for at in range(0, len(lines), 5):
            identifier, title, _, count, steps = lines[at : at + 5]
            named = tuple(step.strip() for step in steps.split(","))
            if str(len(named)) != count:
                raise CollectionError(f"{blocks}: task {identifier} names {len(named)} steps and says it has {count}")
            by_id[identifier] = Task(identifier, title, named)
        return by_id
    for path in sorted(folder.glob("*steps*.json")):
        tasks = read_json(path)
        if isinstance(tasks, dict) and all(_is_texts(steps) for steps in tasks.values()):
            return {name: Task(name, name, tuple(steps)) for name, steps in tasks.items()}
        raise CollectionError(f"{path} is not a JSON object of lists of steps by task")
    raise CollectionError(f"{folder} has no tasks_primary.txt nor a JSON of steps: what are the steps of a task?")


def _is_texts(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(text, str) for text in value)


@dataclass(frozen=True)
class SegmentedVideo:
    """A video to be segmented.

    Attributes:
        transcript: its labels in order.
        truth: the true label at even distances over the whole video; None is background.
    """

    name: str
    transcript: tuple[str, ...]
    truth: tuple[str | None, ...]

    def at_seconds(self, seconds: int) -> list[str | None]:
        """The true label in the middle of every second."""
        places = ((second + 0.5) * len(self.truth) / seconds for second in range(seconds))
        return [self.truth[min(int(place), len(self.truth) - 1)] for place in places]


_BACKGROUND = ("bg", "background", "sil", "none", "")
_TRUTH = ("groundTruth/*.txt", "groundTruth/*.gt", "gt/*.gt")  # the last are Mining YouTube's example of an alignment
_TRANSCRIPTS = ("transcripts", "transcript", "grammar")


def read_segmented(folder: Path) -> tuple[SegmentedVideo, ...]:
    """Videos with a label for every frame, as Mining YouTube and Breakfast have them for weak segmentation.

    `groundTruth/VIDEO.txt` (or `gt/VIDEO.gt`) holds a label a line. `transcripts/VIDEO.txt` (or `transcript/`, or
    `grammar/VIDEO.grammar`) holds the order of labels, on lines of their own or side by side; without it the order is
    that of the frames. `mapping.txt` (number, label) names numbers. Background is `bg`, `background` or `SIL`.

    Raises:
        CollectionError: there is no ground truth, or a file cannot be read.
    """
    files = next(filter(None, (sorted(folder.glob(pattern)) for pattern in _TRUTH)), [])
    if not files:
        raise CollectionError(f"{folder} has no groundTruth/VIDEO.txt (or gt/VIDEO.gt) with a label for every frame")
    mapping = folder / "mapping.txt"
    names = dict(line.split(None, 1) for line in read_lines(mapping) if " " in line) if mapping.is_file() else {}
    videos = []
    for file in files:
        lines = texts.split_lines(texts.read_text(file))
        truth = [_label(line, names) for line in (lines if lines[-1].strip() else lines[:-1])]
        order = _transcript(folder, file.stem, names, set(truth))
        order = _runs(truth) if order is None else order
        transcript = tuple(label for label in order if label is not None)
        if transcript and truth:
            videos.append(SegmentedVideo(file.stem, transcript, tuple(truth)))
    if not videos:
        raise CollectionError(f"{files[0].parent} names no label but background")
    return tuple(videos)


def _transcript(folder: Path, video: str, names: dict[str, str], labels: set[str | None]) -> list[str | None] | None:
    """The labels of a video in order, None for background; None where there is no transcript.

    Args:
        labels: those of its frames, by which a line with several labels is told from a label of several words; in a
            `.grammar` a label is one word.
    """
    files = (folder / name / f"{video}{suffix}" for name in _TRANSCRIPTS for suffix in (".txt", ".grammar"))
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return None
    lines = [[_label(word, names) for word in line.split()] for line in read_lines(file)]
    together = [len(words) > 1 and (file.suffix == ".grammar" or labels.issuperset(words)) for words in lines]
    if any(together) and len(lines) > 1:
        raise CollectionError(f"{file} has {len(lines)} transcripts, one a line; leave the one that is to be followed")
    if any(together):
        return lines[0]
    return [_label(line, names) for line in read_lines(file)]


def _label(line: str, names: dict[str, str]) -> str | None:
    """A label as words; None for background."""
    name = names.get(line.strip(), line.strip())
    return None if name.lower() in _BACKGROUND else " ".join(name.replace("_", " ").split())


def _runs(labels: Sequence[str | None]) -> list[str | None]:
    """Labels in order, each run of equal ones once."""
    return [label for place, label in enumerate(labels) if place == 0 or labels[place - 1] != label]


def crosstask_videos(crosstask: CrossTask, seconds: Callable[[str], int]) -> tuple[SegmentedVideo, ...]:
    """CrossTask's videos to be segmented along the steps of their tasks, where each second shows one step or none.

    Args:
        seconds: how long a video is; 0 leaves it out.

    Raises:
        CollectionError: as `read_truth`.
    """
    videos = []
    for task, video in crosstask.videos:
        length = seconds(video)
        truth = crosstask.truth(task, video, length) if length else None
        if truth is not None and truth.any():
            steps = crosstask.tasks[task].steps
            labels = [steps[int(row.argmax())] if row.any() else None for row in truth]
            videos.append(SegmentedVideo(video, steps, tuple(labels)))
    return tuple(videos)
