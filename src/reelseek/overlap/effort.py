"""What is left to look at, for the videos at hand: the search curve of an expert, and an estimate after a review."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.errors import UsageError
from reelseek.experts import load_expert
from reelseek.overlap.curve import Estimate, SearchCurve, augmented_videos, estimate, search_curve
from reelseek.overlap.match import Frames, unit_rows
from reelseek.overlap.pairs import Pair
from reelseek.overlap.scan import Asked, weighted_sets
from reelseek.overlap.sources import LibrarySource, Source
from reelseek.overlap.verdicts import SAME, Decision
from reelseek.overlap.weights import ScreensaverBank

__all__ = ["Effort", "measure_effort"]

_AT = (0.5, 0.8, 0.9, 0.95, 1.0)


@dataclass(frozen=True)
class Effort:
    """A curve with what it was measured on, and the estimate where pairs were judged."""

    curve: SearchCurve
    space: str
    window: int
    queries: int
    seed: int
    estimate: Estimate | None

    def as_json(self) -> dict[str, Any]:
        """Plain values; `negatives_at` is F at some shares."""
        return {
            "space": self.space, "window": self.window, "queries": self.queries, "seed": self.seed,
            "negative_pairs": self.curve.pairs, "negatives_at": {str(x): self.curve.at(x) for x in _AT},
            "found": self.curve.found.tolist(), "negatives": self.curve.negatives.tolist(),
            "estimate": asdict(self.estimate) if self.estimate else None,
        }  # fmt: skip


def measure_effort(
    source: Source,
    asked: Asked,
    *,
    bank: ScreensaverBank | None = None,
    queries: int = 500,
    seed: int = 0,
    judged: Sequence[tuple[Pair, Decision]] | None = None,
    augmented_in: Source | None = None,
    progress: Callable[[str, int, int, str], None] = lambda *_: None,
) -> Effort:
    """The search curve of two sets, with the source's features.

    Args:
        asked, bank: as of the search whose effort is measured.
        queries: at most so many test videos are augmented, drawn by `seed`.
        judged: pairs with what stands about them; duplicates are no negatives, and the estimate counts them.
        augmented_in: features of augmented videos by the same names, where the source has no files to augment.

    Raises:
        UsageError: no video can be augmented.
    """
    sets = weighted_sets(source, asked, bank, progress)
    names = sets.test.names
    order = np.random.default_rng(seed).permutation(len(names))[:queries]
    chosen = [names[place] for place in sorted(order.tolist())]
    if augmented_in is not None:
        features = {name: augmented_in.read(name) for name in chosen if name in augmented_in.names}
        changed: dict[str, Frames] = {name: each for name, each in features.items() if each is not None and len(each)}
    else:
        changed = _augment(source, chosen, seed, progress)
    if not changed:
        raise UsageError(f"not one video of {asked.test!r} could be augmented")
    place_of = {name: place for place, name in enumerate(names)}
    copies = {place_of[name]: sets.as_gallery(unit_rows(each)) for name, each in changed.items()}
    same = [(pair.test, pair.train) for pair, decision in judged or () if decision.verdict in SAME]
    drawn = search_curve(
        sets.queries, sets.gallery, copies, window=asked.window, names=(names, sets.train.names), duplicates=same
    )
    told = estimate(drawn, len(judged), len(same)) if judged else None
    return Effort(drawn, source.space, asked.window, len(copies), seed, told)


def _augment(
    source: Source, names: Sequence[str], seed: int, progress: Callable[[str, int, int, str], None]
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
    paths: dict[str, Path] = {}
    for name in names:
        video = source.video(name)
        if video is not None and video.path is not None and video.path.is_file():
            paths[name] = video.path
    found = augmented_videos(list(paths.values()), spec, seed=seed, progress=progress)
    return {name: found[path] for name, path in paths.items() if path in found}
