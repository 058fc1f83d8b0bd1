"""A trained model on disk: its weights, the record of its training, and its card."""

from collections.abc import Sequence
from typing import Any

from reelseek.models.model import RetrievalModel
from reelseek.models.systems import SYSTEMS
from reelseek.training.log import Epoch, epoch_json
from reelseek.training.recipe import Recipe
from reelseek.training.split import Split

__all__ = ["training_card", "training_record"]


def training_record(
    recipe: Recipe,
    validation: Split,
    fingerprints: dict[str, str],
    *,
    log: Sequence[Epoch],
    steps: int,
    caveats: Sequence[str],
) -> dict[str, Any]:
    """Return what is written beside a model's weights of how it was trained."""
    line = _line_of(log, recipe.train.keep)
    return {
        "recipe": recipe.settings(),
        "fingerprints": fingerprints,
        "steps": steps,
        "validation": {"split": validation.name, "split_hash": validation.hash, **epoch_json(line)},
        "log": [epoch_json(line) for line in log],
        "warnings": list(caveats),
    }


def training_card(
    model: RetrievalModel, splits: tuple[Split, Split], log: Sequence[Epoch], caveats: Sequence[str], *, keep: str
) -> str:
    """Return the card of a model.

    Args:
        splits: training and validation.
        keep: whether it holds the weights of its `best` epoch or of its `last`, `train.keep`.
    """
    (train, validation), line = splits, _line_of(log, keep)
    parameters = sum(p.numel() for p in model.parameters())
    warnings = "".join(f"Warning: {caveat}.\n\n" for caveat in caveats)
    return (
        f"# {model.system}\n\n{SYSTEMS[model.system].paper}.\n\n"
        f"- experts: {', '.join(f'{name} ({dim})' for name, dim in model.experts.items())}\n"
        f"- parameters: {parameters:,}\n"
        f"- trained on {len(train.clips)} clips and {len(train.texts)} captions of `{train.name}` ({train.hash})\n"
        f"- {keep} epoch {line.epoch} by `{validation.name}` ({validation.hash}, {len(validation.clips)} clips), "
        f"text to video: R@1 {line.recall_at_1:.3f}, R@5 {line.recall_at_5:.3f}, R@10 {line.recall_at_10:.3f}, "
        f"MdR {line.median_rank:g}, MnR {line.mean_rank:.1f}\n\n"
        f"{warnings}Where an expert is absent: {SYSTEMS[model.system].missing}.\n"
    )


def _line_of(log: Sequence[Epoch], keep: str) -> Epoch:
    """The line of the epoch whose weights a model holds."""
    return log[-1] if keep == "last" else next(line for line in reversed(log) if line.best)
