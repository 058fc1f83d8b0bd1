"""Labelled samples: the windows of each video, its labels, and the rounds in which they are learnt from and tested."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from reelseek.errors import UsageError
from reelseek.library.readers.labels import Labelled
from reelseek.library.store import Library
from reelseek.library.tokens import Clip, TokenReader
from reelseek.overlap.ids import matching
from reelseek.overlap.sources import library_splits

__all__ = ["Bools", "Parts", "Sample", "held_out", "read_samples", "rounds_of", "with_folds"]

Bools = npt.NDArray[np.bool_]
Parts = tuple[Bools, Bools, Bools]  # which samples are learnt from, validated on, and tested
_HELD = 0.2  # share of training videos on which the strength is selected


@dataclass(frozen=True)
class Sample:
    """A labelled video, or a span of it: its windows with evidence, its labels and its fold."""

    video: str
    clips: tuple[Clip, ...]
    labels: tuple[str, ...]
    fold: str


def rounds_of(samples: Sequence[Sample]) -> list[Parts]:
    """Return what is learnt from, validated on (none: a part of what is learnt from) and tested, for each round.

    Raises:
        UsageError: a fold has another name than train, val, test or a number, or a video is learnt from and tested.
    """
    folds = np.array([sample.fold for sample in samples])
    names = sorted(set(folds.tolist()))
    if all(name.isdigit() for name in names):
        rounds = [(folds != name, np.zeros(len(samples), bool), folds == name) for name in names]
    elif set(names) <= {"train", "val", "validation", "test"}:
        rounds = [(folds == "train", np.isin(folds, ["val", "validation"]), folds == "test")]
    else:
        odd = next(name for name in names if name not in ("train", "val", "validation", "test"))
        raise UsageError(f"a split is called {odd!r}; wanted train, test (and val), or numbers of folds")
    videos = np.array([sample.video for sample in samples])
    for learn, held, test in rounds:
        shared = (set(videos[learn]) | set(videos[held])) & set(videos[test])
        if shared:
            raise UsageError(f"{len(shared)} videos are learnt from and tested, such as {sorted(shared)[0]}: a leak")
    return rounds


def read_samples(
    library: Library, reader: TokenReader, rows: Sequence[Labelled], windows: int, seconds: float
) -> tuple[list[Sample], int]:
    """Return the samples that have evidence, and how many labelled videos have none or are not in the library.

    Raises:
        UsageError: none has any.
    """
    named, unknown = matching([row.video for row in rows], [video.id for video in library.videos()])
    samples, skipped = [], len(unknown)
    for row in rows:
        if row.video not in named:
            continue
        video = library.video(named[row.video][0])
        start = row.start if row.start is not None else 0.0
        end = video.duration if row.end is None else min(row.end, video.duration or row.end)
        clips = tuple(_windows(video.id, start, end, windows, seconds))
        present = np.any(list(reader.present(clips).values()), axis=0)
        with_evidence = tuple(clip for clip, has_any in zip(clips, present, strict=True) if has_any)
        if with_evidence:
            samples.append(Sample(video.id, with_evidence, row.labels, row.fold))
        else:
            skipped += 1
    if not samples:
        raise UsageError(
            f"of the {len(rows)} labelled videos {library.path} has none with anything that the model reads"
        )
    return samples, skipped


def with_folds(library: Library, rows: Sequence[Labelled]) -> list[Labelled]:
    """Return the rows, each with a fold: their own, else the library's test split, else a fifth of each class."""
    if all(row.fold for row in rows):
        return list(rows)
    test_videos = set(library_splits(library).get("test", ()))
    named, _ = matching([row.video for row in rows], [video.id for video in library.videos()])
    tested = [named[row.video][0] in test_videos if row.video in named else False for row in rows]
    if not any(tested) or all(tested):
        order = sorted(range(len(rows)), key=lambda index: hashlib.sha256(rows[index].video.encode()).digest())
        tested = [False] * len(rows)
        for label in {row.labels[0] for row in rows}:
            for index in [index for index in order if rows[index].labels[0] == label][::5]:
                tested[index] = True
    return [
        replace(row, fold=row.fold or ("test" if is_test else "train"))
        for row, is_test in zip(rows, tested, strict=True)
    ]


def held_out(samples: Sequence[Sample], targets: Bools, learn: Bools, rng: np.random.Generator) -> Bools:
    """Select training samples to validate on: a fifth of the videos of every class, but never a class's last one.

    Raises:
        UsageError: too few are left to learn from.
    """
    held = np.zeros(len(learn), bool)
    first, videos = targets.argmax(1), np.array([sample.video for sample in samples])
    for label in range(targets.shape[1]):
        candidates = rng.permutation(np.unique(videos[learn & (first == label)]))
        count = min(len(candidates) - 1, max(1, round(_HELD * len(candidates))))
        held |= learn & np.isin(videos, candidates[:count])
    if not held.any() or len(np.unique(first[learn & ~held])) < 2:
        raise UsageError("too few training videos: there is nothing to choose the classifier's strength on")
    return held


def _windows(video: str, start: float, end: float | None, count: int, seconds: float) -> list[Clip]:
    if end is None:
        return [Clip(video)]
    if end - start <= seconds or count == 1:
        return [Clip(video, start, end)]
    begins = np.linspace(start, end - seconds, count)
    return [Clip(video, float(begin), float(begin) + seconds) for begin in begins]
