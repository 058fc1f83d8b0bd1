"""Premises of claims: what a world must be like for a claim to say anything there, measured before any training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from reelseek.studio.redundant_worlds import RedundantWorld

__all__ = [
    "ORDER_TELLS",
    "STRONGER_TELLS_MORE",
    "CheckedPremise",
    "Premise",
    "captions_read_from",
    "check",
    "dominance",
    "effective_share",
    "explained",
    "predicts",
    "prunes",
    "redundant",
    "share_pruned",
    "text_inputs",
    "told_by_order",
    "video_inputs",
    "weighs",
]

Floats = npt.NDArray[np.float64]
_BATCH, _BATCHES, _RIDGE = 128, 20, 1e-2  # clips of a batch of CrossCLR's arms: 64 videos of two


@dataclass(frozen=True)
class Premise:
    """A number of a world that has to lie between two bounds.

    Attributes:
        says: what it is, as a line of a table.
    """

    says: str
    measure: Callable[[RedundantWorld], float]
    low: float = -np.inf
    high: float = np.inf


@dataclass(frozen=True)
class CheckedPremise:
    """A premise with its value in a world."""

    says: str
    value: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        return self.low <= self.value <= self.high

    @property
    def bounds(self) -> str:
        """The bounds in words.

        >>> CheckedPremise("", 0.3, 0.0, 0.5).bounds
        '0 to 0.5'
        """
        if np.isinf(self.high):
            return f"at least {self.low:g}" if np.isfinite(self.low) else "any"
        return f"{self.low:g} to {self.high:g}" if np.isfinite(self.low) else f"at most {self.high:g}"


def check(premises: Sequence[Premise], world: RedundantWorld) -> list[CheckedPremise]:
    """Measure premises in a world."""
    return [CheckedPremise(p.says, float(p.measure(world)), p.low, p.high) for p in premises]


def share_pruned(inputs: Floats, gamma: float | None, *, batch: int = _BATCH) -> float:
    """Return the mean share of a batch that CrossCLR takes out of its negatives: connectivity above gamma of the most.

    Args:
        inputs: unit rows [clip, dim].
    """
    if gamma is None:
        return 0.0
    return float(np.mean([np.mean(row / row.max() > gamma) for row in _connectivity(inputs, batch)]))


def effective_share(inputs: Floats, kappa: float, *, batch: int = _BATCH) -> float:
    """Return the effective share of a batch under CrossCLR's weights, `(sum w)^2 / (n sum w^2)`: 1 if all are equal.

    Args:
        inputs: unit rows [clip, dim].
    """
    shares = []
    for row in _connectivity(inputs, batch):
        row = row.clip(min=0)
        scaled = row / max(row.sum(), 1e-12) / kappa
        weights = np.exp(scaled - scaled.max())
        shares.append(weights.sum() ** 2 / (len(weights) * (weights**2).sum()))
    return float(np.mean(shares))


def _connectivity(inputs: Floats, batch: int) -> list[Floats]:
    """The mean similarity of each of a batch to the others of it, in some batches."""
    rng = np.random.default_rng(7)
    rows = []
    for _ in range(_BATCHES):
        picked = inputs[rng.permutation(len(inputs))[:batch]]
        gram = picked @ picked.T
        np.fill_diagonal(gram, 0)
        rows.append(gram.sum(1) / (len(picked) - 1))
    return rows


def video_inputs(world: RedundantWorld, experts: Sequence[str], split: str = "train") -> Floats:
    """Return the mean features of each clip of a split, of all experts side by side: unit rows [clip, dim].

    Clips of videos that lack one of the experts are left out.
    """
    rows = []
    for video in world.splits[split]:
        tracks = [world.tracks[expert][1].get(video) for expert in experts]
        present = [track for track in tracks if track is not None]
        if len(present) == len(experts):
            rows += [np.concatenate([_mean(track, *span) for track in present]) for span in world.spans(video)]
    stacked = np.stack(rows)
    return stacked / np.linalg.norm(stacked, axis=1, keepdims=True)


def _mean(track: tuple[npt.NDArray[np.float32], Floats], begin: float | None, end: float | None) -> Floats:
    values, spans = track
    inside = np.ones(len(values), bool)
    if begin is not None and end is not None:
        inside = (spans[:, 0] >= begin) & (spans[:, 1] <= end)
    mean: Floats = values[inside].mean(0, dtype=np.float64)
    return mean


def text_inputs(world: RedundantWorld, split: str = "train") -> Floats:
    """Return the mean token vector of the first caption of each clip of a split: unit rows [clip, dim]."""
    members = set(world.splits[split])
    first: dict[tuple[str, float | None], Floats] = {}
    for (video, _, begin, _, _), vectors in zip(world.captions, world.vectors, strict=True):
        if video in members and (video, begin) not in first:
            first[video, begin] = vectors.mean(0, dtype=np.float64)
    stacked = np.stack(list(first.values()))
    return stacked / np.linalg.norm(stacked, axis=1, keepdims=True)


def explained(source: tuple[Floats, Floats], target: tuple[Floats, Floats]) -> float:
    """Return the share of variance of unseen targets that ridge regression from the source explains: at most 1.

    A stated proxy of mutual information: of jointly normal variables it is at least `-log(1 - share) / 2` nats.

    Args:
        source, target: rows [clip, dim] to learn from, and to predict.
    """
    (x, x_test), (y, y_test) = source, target
    centre, mean = x.mean(0), y.mean(0)
    x, x_test = x - centre, x_test - centre
    gram = x.T @ x
    weights = np.linalg.solve(gram + _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram)), x.T @ (y - mean))
    return float(1 - ((y_test - mean - x_test @ weights) ** 2).sum() / ((y_test - mean) ** 2).sum())


def predicts(world: RedundantWorld, source: str, target: str) -> float:
    """Return how well one modality predicts another in test videos, see `explained`; the world lacks neither."""
    rows = [[video_inputs(world, [expert], split) for split in ("train", "test")] for expert in (source, target)]
    return explained((rows[0][0], rows[0][1]), (rows[1][0], rows[1][1]))


def captions_read_from(world: RedundantWorld, expert: str, *, split: str = "test") -> float:
    """Return how well a modality predicts the caption vectors of clips of a split, see `explained`.

    Args:
        split: `train` learns from one half of the training clips and predicts the other.
    """
    rows, texts = video_inputs(world, [expert]), text_inputs(world)
    if split == "train":
        half = len(rows) // 2
        return explained((rows[:half], rows[half:]), (texts[:half], texts[half:]))
    return explained((rows, video_inputs(world, [expert], split)), (texts, text_inputs(world, split)))


def dominance(world: RedundantWorld, experts: Sequence[str]) -> float:
    """Return how much better the first expert predicts captions than the best of the others."""
    first, *others = (captions_read_from(world, expert) for expert in experts)
    return first - max(others)


def told_by_order(world: RedundantWorld) -> float:
    """Return the share of test videos that differ from another one in the order of their actions."""
    scripts = {
        video: tuple((tuple(world.facts[video, n].values()), world.second[video, n]) for n in _clips(world, video))
        for video in world.splits["test"]
    }
    swapped = {
        tuple((tuple({**world.facts[video, n], "action": world.second[video, n]}.values()),
               world.facts[video, n]["action"]) for n in _clips(world, video))
        for video, script in scripts.items()
        if any(world.facts[video, n]["action"] != world.second[video, n] for n in _clips(world, video))
    }  # fmt: skip
    return float(np.mean([script in swapped for script in scripts.values()]))


def _clips(world: RedundantWorld, video: str) -> range:
    return range(len(world.spans(video)))


def redundant(dominant: str, *others: str) -> tuple[Premise, ...]:
    """Return the premises that modalities share something, and that one tells most of what captions say."""
    shared = (
        Premise(f"{dominant} explains of {other} (share of variance)", partial(predicts, source=dominant, target=other),
                low=0.1)
        for other in others
    )  # fmt: skip
    experts = (dominant, *others)
    above = Premise(f"{dominant} explains more of the captions than any other, by", partial(dominance, experts=experts),
                    low=0.0)  # fmt: skip
    return (*shared, above) if others else ()


def _pruned(world: RedundantWorld, experts: tuple[str, ...] | None, gamma: float) -> float:
    return share_pruned(text_inputs(world) if experts is None else video_inputs(world, experts), gamma)


def _weighted(world: RedundantWorld, experts: tuple[str, ...] | None, kappa: float) -> float:
    return effective_share(text_inputs(world) if experts is None else video_inputs(world, experts), kappa)


def prunes(experts: tuple[str, ...], gamma: float, *, low: float = 0.01, high: float = 0.5) -> tuple[Premise, ...]:
    """Return the premises that gamma takes some of the negatives, and not most of them, by video and by text."""
    return tuple(
        Premise(f"share of negatives that gamma = {gamma:g} prunes, by {side}",
                partial(_pruned, experts=names, gamma=gamma), low, high)
        for side, names in (("video", experts), ("text", None))
    )  # fmt: skip


def weighs(experts: tuple[str, ...], kappa: float, *, low: float = 0.5, high: float = 1.0) -> tuple[Premise, ...]:
    """Return the premises that kappa leaves an effective share of the batch, by video and by text."""
    return tuple(
        Premise(f"effective share of the batch under kappa = {kappa:g}, by {side}",
                partial(_weighted, experts=names, kappa=kappa), low, high)
        for side, names in (("video", experts), ("text", None))
    )  # fmt: skip


ORDER_TELLS = Premise("share of test videos that the order of actions alone tells from another", told_by_order, low=0.1)


def _stronger(world: RedundantWorld) -> float:
    """How much more of the captions the stronger appearance tells than the weaker."""
    return captions_read_from(world, "appearance-strong") - captions_read_from(world, "appearance")


STRONGER_TELLS_MORE = Premise("the stronger appearance explains more of the captions, by", _stronger, 0.01)
