"""The effort of a review: the search curve of an expert on two sets, and how many pairs remain to be judged."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from reelseek.errors import UsageError
from reelseek.experts import load_expert
from reelseek.media.address import FilePath
from reelseek.media.store import is_file
from reelseek.models.device import resolve_device
from reelseek.overlap.curve import Estimate, SearchCurve, augmented_videos, estimate, search_curve
from reelseek.overlap.match import Frames, unit_rows
from reelseek.overlap.pairs import Pair
from reelseek.overlap.scan import ScanOptions, weighted_sets
from reelseek.overlap.sources import LibrarySource, Source
from reelseek.overlap.verdicts import SAME, Decision
from reelseek.overlap.weights import ScreensaverBank

__all__ = ["Effort", "measure_effort"]

_RECALLS = (0.5, 0.8, 0.9, 0.95, 1.0)


@dataclass(frozen=True)
class Effort:
    """A search curve, the sets it was measured on, and an estimate where pairs were judged."""

    curve: SearchCurve
    space: str
    window: int
    queries: int
    seed: int
    estimate: Estimate | None

    def as_json(self) -> dict[str, Any]:
        """Plain values under the keys of a curve's file; `negatives_at` is F at some recalls."""
        return {
            "space": self.space, "window": self.window, "queries": self.queries, "seed": self.seed,
            "negative_pairs": self.curve.pairs, "negatives_at": {str(x): self.curve.at(x) for x in _RECALLS},
            "found": self.curve.recall.tolist(), "negatives": self.curve.negatives.tolist(),
            "estimate": self.estimate.as_json() if self.estimate else None,
        }  # fmt: skip


def measure_effort(
    source: Source,
    options: ScanOptions,
    *,
    bank: ScreensaverBank | None = None,
    queries: int = 500,
    seed: int = 0,
    judged: Sequence[tuple[Pair, Decision]] | None = None,
    augmented_in: Source | None = None,
    device: str | torch.device | None = None,
    progress: Callable[[str, int, int, str], None] = lambda *_: None,
) -> Effort:
    """Measure the search curve of two sets, with the source's features.

    Args:
        options, bank: as of the scan whose effort is measured.
        queries: at most so many test videos are augmented, sampled with `seed`.
        judged: pairs with their decisions; duplicates are no negatives, and the estimate counts them.
        augmented_in: features of augmented videos by the same names, where the source has no files to augment.
        device: where pairs are compared and experts compute, see `resolve_device` and `search_curve`.

    Raises:
        UsageError: there is no such device, or no video can be augmented.
    """
    place = resolve_device(device)
    with weighted_sets(source, options, bank, progress) as sets:
        names = sets.test.names
        order = np.random.default_rng(seed).permutation(len(names))[:queries]
        sample = [names[place] for place in sorted(order.tolist())]
        changed = (
            _augment(source, sample, seed, place, progress) if augmented_in is None else _read(augmented_in, sample)
        )
        if not changed:
            raise UsageError(f"not one video of {options.test!r} could be augmented")
        place_of = {name: place for place, name in enumerate(names)}
        copies = {place_of[name]: sets.as_gallery(unit_rows(rows)) for name, rows in changed.items()}
        duplicates = [(pair.test, pair.train) for pair, decision in judged or () if decision.verdict in SAME]
        curve = search_curve(
            sets.queries, sets.gallery, copies,
            window=options.window, names=(names, sets.train.names), duplicates=duplicates, device=place,
        )  # fmt: skip
    remaining = estimate(curve, len(judged), len(duplicates)) if judged else None
    return Effort(curve, source.space, options.window, len(copies), seed, remaining)


def _read(source: Source, names: Sequence[str]) -> dict[str, Frames]:
    """Features of those of the videos that have frames in a source."""
    features = {name: source.read(name) for name in names if name in source.names}
    return {name: rows for name, rows in features.items() if rows is not None and len(rows)}


def _augment(
    source: Source,
    names: Sequence[str],
    seed: int,
    device: torch.device,
    progress: Callable[[str, int, int, str], None],
) -> dict[str, Frames]:
    if not isinstance(source, LibrarySource):
        raise UsageError(
            f"{source.path} has features alone, and pictures are needed to crop; extract features of cropped and "
            "shifted test videos yourself, and name their folder with --augmented"
        )
    spec = source.spec
    if load_expert(spec).fingerprint != source.space:
        raise UsageError(
            f"the features {source.space} of {source.path} were not made by the expert {spec} that runs here; "
            "name one that does with --expert, or give features of augmented videos with --augmented"
        )
    paths: dict[str, FilePath] = {}
    for name in names:
        video = source.video(name)
        if video is not None and video.path is not None and is_file(video.path):
            paths[name] = video.path
    features = augmented_videos(list(paths.values()), spec, seed=seed, device=str(device), progress=progress)
    return {name: features[path] for name, path in paths.items() if path in features}
