"""How many examples a dataset is good for: MDMMT's "information size".

Source: Dzabraev et al. 2021, section 3 and figure 2: the number of training examples after which more of them give no
better model. Nothing but the number shown is changed.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reelseek.errors import UsageError
from reelseek.evaluation.figures import curves
from reelseek.evaluation.report import Figure, ReportTable
from reelseek.library.source import FeatureSource
from reelseek.training.loop import train
from reelseek.training.recipe import Recipe

__all__ = ["Saturation", "saturation", "saturation_report"]


@dataclass(frozen=True)
class Saturation:
    """Validation R@5 of one dataset by the number of examples shown until the best epoch; `size` is the least number
    that reaches `share` of the best."""

    split: str
    shown: tuple[int, ...]
    recall: tuple[float, ...]
    share: float

    @property
    def size(self) -> int:
        enough = self.share * max(self.recall)
        return next(count for count, recall in zip(self.shown, self.recall, strict=True) if recall >= enough)

    @property
    def saturated(self) -> bool:
        """Whether more was tried than the size, without a better model."""
        return self.size < self.shown[-1]

    @property
    def tried(self) -> int:
        """The largest number that is known not to be enough."""
        return max((count for count in self.shown if count < self.size), default=0)


def saturation(
    recipe: Recipe,
    library: FeatureSource,
    split: str,
    counts: Sequence[int],
    out: Path,
    *,
    share: float = 0.98,
    progress: Callable[[str, int, int, str], None] = lambda *_: None,
) -> Saturation:
    """Train a recipe on one split with several numbers of examples an epoch; what was trained before is read.

    Args:
        counts: examples an epoch, of which each is a video drawn uniformly and then one of its captions.
        out: a folder a model.

    Raises:
        UsageError: fewer than two numbers, or no rising ones.
    """
    if len(counts) < 2 or sorted(set(counts)) != list(counts) or counts[0] < 2:
        raise UsageError(f"examples {list(counts)}: wanted two or more rising numbers, each at least 2")
    recalls, shown = [], []
    for place, count in enumerate(counts, 1):
        data = replace(recipe.data, train=split, mixture={split: 1.0}, without=(), examples=count)
        config = replace(recipe.train, patience=None, clips_per_video=None)
        folder = out / split.replace("/", "-") / f"examples-{count}"
        train(replace(recipe, data=data, train=config), library, folder)
        record = json.loads((folder / "config.json").read_text("utf-8"))
        recalls.append(float(record["validation"]["recall_at_5"]))
        shown.append(count * record["validation"]["epoch"])
        progress(split, place, len(counts), f"{count} examples an epoch")
    order = sorted(range(len(counts)), key=lambda place: shown[place])
    return Saturation(split, tuple(shown[at] for at in order), tuple(recalls[at] for at in order), share)


def saturation_report(results: Sequence[Saturation], path: Path) -> tuple[ReportTable, Figure]:
    """The curves, and the information sizes."""
    lines = {result.split: (result.shown, [100 * recall for recall in result.recall]) for result in results}
    figure = Figure("Saturation", curves(path, {"validation R@5 (%)": lines}, "examples shown"))
    rows = [
        [
            result.split,
            f"{result.size:,}" if result.saturated else f"more than {result.tried:,}",
            f"{max(result.recall):.1%}",
        ]
        for result in results
    ]
    share = f"{results[0].share:.0%}"
    note = f"The least number of examples shown that reaches {share} of the best R@5 on the validation split."
    return ReportTable("Information size", ["split", "examples", "best R@5"], rows, note), figure
