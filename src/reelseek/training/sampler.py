"""Which clips and captions the batches of an epoch take.

Everything random is drawn here, on the thread of the loop and in one order, so that the numbers depend on the seed and
the epoch alone: not on reader threads, on the number of processes, or on where a run was resumed.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reelseek.errors import UsageError
from reelseek.library.source import FeatureSource
from reelseek.library.tokens import Clip
from reelseek.models import parallel
from reelseek.training.data import read_split
from reelseek.training.narrations import Narrations, Windows
from reelseek.training.recipe import DataRecipe, TrainRecipe
from reelseek.training.split import Split

__all__ = ["BatchPlan", "MixturePart", "Sampler", "mixture_parts"]

_log = logging.getLogger("reelseek")


@dataclass(frozen=True)
class BatchPlan:
    """The clips of one batch that this process reads, and the random numbers that go with them.

    Attributes:
        clips: their numbers in the training split.
        examples: the span to read and the caption of each clip, '' where there is none.
        shifts: by expert, how many seconds later each clip is read.
        drop_scores: [clip, expert], uniform in [0, 1); an expert whose score is below `train.drop` is dropped. None
            where nothing is dropped.
        more_texts: further candidates for the captions, a sequence [clip] for each (`train.narrations`).
        seeds: of what is drawn where each clip is read (windows of frames); empty where nothing is.
    """

    clips: npt.NDArray[np.int64]
    examples: Sequence[tuple[Clip, str]]
    shifts: dict[str, list[float]]
    drop_scores: npt.NDArray[np.float64] | None
    more_texts: Sequence[Sequence[str]] = ()
    seeds: Sequence[int] = ()


@dataclass(frozen=True)
class MixturePart:
    """One split of a mixture: its weight, and its captioned clips."""

    weight: float
    clips: list[int]


def mixture_parts(library: FeatureSource, recipe: DataRecipe, split: Split) -> list[MixturePart]:
    """Return the parts of a recipe's mixture, with clips numbered as in the training split; none without a mixture."""
    captioned = {clip for clip, rows in enumerate(split.captions_by_clip()) if rows or recipe.uncaptioned}
    number = {clip: index for index, clip in enumerate(split.clips)}
    parts = []
    for name, weight in recipe.weights.items():
        members = read_split(library, name, uncaptioned=recipe.uncaptioned).clips
        clips = [number[clip] for clip in members if number.get(clip) in captioned]
        if clips:
            parts.append(MixturePart(weight, clips))
    return parts


class Sampler:
    """Draws the batches of an epoch from a training split.

    Args:
        split: what is learnt from; clips without captions are drawn if the data's settings say so.
        config: batch size, captions, clips per video and dropping of experts.
        data: window length and examples per epoch.
        mixture: draw each example by weight from these parts, instead of every clip once.
        shifts: by expert, the seconds by which the model wants a clip shifted, earlier or later at random.
        experts: how many experts are read.
        whole_videos: clips of a video are read by one process.
        seeds: draw a seed for each clip that is read.

    Raises:
        UsageError: fewer than two clips have captions, or no batch has two clips.
    """

    def __init__(
        self,
        split: Split,
        config: TrainRecipe,
        data: DataRecipe,
        *,
        mixture: Sequence[MixturePart] = (),
        shifts: Mapping[str, float],
        experts: int,
        whole_videos: bool = False,
        seeds: bool = False,
    ) -> None:
        self.split, self.config, self.mixture, self.shifts, self.experts = split, config, mixture, shifts, experts
        self.whole_videos, self.seeds = whole_videos, seeds
        self.examples_per_epoch = data.examples_per_epoch
        self.windows = None
        if data.window_seconds is not None:
            self.windows = Windows(split, data.window_seconds, silent=data.uncaptioned)
        self._left_out_said = False
        self.captions = split.captions_by_clip()
        self.captioned = [clip for clip, rows in enumerate(self.captions) if rows or data.uncaptioned]
        self.narrations = None if config.narrations is None else Narrations(split, config.narrations - 1)
        if len(self.captioned) < 2:
            raise UsageError(f"the split {split.name!r} has {len(self.captioned)} captioned clips; training needs two")
        if self._of_videos and not self.batches(np.random.default_rng(0)):
            raise UsageError(
                f"no batch of {split.name!r} has two clips, with train.batch = {config.batch}, train.batch_of = "
                f"{config.batch_of!r} and train.clips_per_video = {config.clips_per_video}; set a larger train.batch, "
                "or fewer clips of each video"
            )

    @property
    def _of_videos(self) -> bool:
        return self.config.clips_per_video is not None or self.config.batch_of == "videos"

    def batches(self, rng: np.random.Generator) -> list[npt.NDArray[np.int64]]:
        """Return the clip numbers of every batch of an epoch, over all processes.

        A batch of a single clip has no negatives, and one with fewer clips than processes (or videos, where these stay
        whole) cannot be shared; both are left out, which is said once.
        """
        candidates = self._by_video(rng) if self._of_videos else self._by_clip(rng)
        processes = parallel.world_size()
        batches = [clips for clips in candidates if len(clips) >= max(2, processes)]
        if self.whole_videos and processes > 1:
            batches = [clips for clips in batches if len({self.split.clips[clip].video for clip in clips}) >= processes]
        self._count_left_out(sum(map(len, candidates)), sum(map(len, batches)))
        return batches

    def _count_left_out(self, total: int, in_batches: int) -> None:
        """Say once how many of the clips of an epoch are in no batch."""
        if not 0 < in_batches < total or self._left_out_said or not parallel.is_main_process():
            return
        self._left_out_said = True
        processes = parallel.world_size()
        reason = f"{processes} processes cannot share them" if processes > 1 else "a batch of one clip has no negatives"
        _log.warning(
            "%d of the %d clips of an epoch are left out: %s; another train.batch may take them in",
            total - in_batches, total, reason,
        )  # fmt: skip

    def plan(self, clips: npt.NDArray[np.int64], rng: np.random.Generator) -> BatchPlan:
        """Draw captions, shifts and drops for a batch, and return this process's part.

        Every process draws them for the whole batch, so that their generators stay in step.
        """
        shifts = {expert: rng.choice([-1.0, 1.0], len(clips)) * seconds for expert, seconds in self.shifts.items()}
        scores = rng.random((len(clips), self.experts)) if self.config.drop else None
        examples = [self._example(int(clip), rng) for clip in clips]
        seeds = rng.integers(2**63, size=len(clips)) if self.seeds else None
        local = self._shares(clips)[parallel.rank()]
        more_texts: Sequence[Sequence[str]] = ()
        if self.narrations is not None:
            others = [self.narrations.near(int(clips[row]), examples[row][1]) for row in local]
            more_texts = list(zip(*others, strict=True))
        return BatchPlan(
            clips[local],
            [examples[row] for row in local],
            {expert: seconds[local].tolist() for expert, seconds in shifts.items()},
            None if scores is None else scores[local],
            more_texts,
            () if seeds is None else seeds[local].tolist(),
        )

    def _shares(self, clips: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        """The rows of a batch that each process reads, as even as whole videos allow where these stay together."""
        processes = parallel.world_size()
        if not self.whole_videos or processes == 1:
            return np.array_split(np.arange(len(clips)), processes)
        rows_of_video: dict[str, list[int]] = {}
        for row, clip in enumerate(clips):
            rows_of_video.setdefault(self.split.clips[clip].video, []).append(row)
        shares: list[list[int]] = [[] for _ in range(processes)]
        for rows in sorted(rows_of_video.values(), key=len, reverse=True):
            min(shares, key=len).extend(rows)
        return [np.array(sorted(share), np.int64) for share in shares]

    def _by_clip(self, rng: np.random.Generator) -> list[npt.NDArray[np.int64]]:
        order, size = self._order(rng), self.config.batch
        return [order[begin : begin + size] for begin in range(0, len(order), size)]

    def _by_video(self, rng: np.random.Generator) -> list[npt.NDArray[np.int64]]:
        """Batches of whole videos, or of `clips_per_video` clips of each of theirs."""
        per_video = self.config.clips_per_video
        clips_by_video: dict[str, list[np.int64]] = {}
        for clip in self._order(rng):
            clips_by_video.setdefault(self.split.clips[clip].video, []).append(clip)
        videos = [clips[:per_video] for clips in clips_by_video.values()]
        shuffled = [videos[index] for index in rng.permutation(len(videos))]
        size = self.config.batch if self.config.batch_of == "videos" else max(1, self.config.batch // (per_video or 1))
        groups = [shuffled[begin : begin + size] for begin in range(0, len(shuffled), size)]
        return [np.array([clip for clips in group for clip in clips], np.int64) for group in groups]

    def _order(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """The clips of an epoch: permutations of all that have captions, or examples of the mixture."""
        if not self.mixture:
            count = self.examples_per_epoch or len(self.captioned)
            rounds = [rng.permutation(self.captioned) for _ in range(-(-count // len(self.captioned)))]
            return np.concatenate(rounds)[:count]
        weights = np.array([part.weight for part in self.mixture])
        count = self.examples_per_epoch or sum(len(part.clips) for part in self.mixture)
        splits = rng.choice(len(weights), count, p=weights / weights.sum())
        clips = [self.mixture[index].clips for index in splits]
        return np.array([several[rng.integers(len(several))] for several in clips], np.int64)

    def _example(self, clip: int, rng: np.random.Generator) -> tuple[Clip, str]:
        if self.windows is not None:
            return self.windows.draw(clip, rng)
        rows = self.captions[clip]
        if not rows:
            return self.split.clips[clip], ""
        return self.split.clips[clip], self.split.texts[rows[0] if self.config.caption == "first" else rng.choice(rows)]
