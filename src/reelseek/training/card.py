"""A trained model on disk: its weights, what is recorded of its training, and its card."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reelseek.models.model import RetrievalModel
from reelseek.models.systems import SYSTEMS
from reelseek.training.data import Split
from reelseek.training.log import Epoch, epoch_json
from reelseek.training.recipe import Recipe

__all__ = ["save_trained"]


def save_trained(
    model: RetrievalModel,
    folder: Path,
    recipe: Recipe,
    splits: tuple[Split, Split],
    fingerprints: dict[str, str],
    *,
    log: Sequence[Epoch],
    steps: int,
) -> None:
    """Write a model that holds its best epoch's weights.

    Args:
        splits: training and validation.

    Raises:
        ModelError: a file cannot be written.
    """
    train, validation = splits
    best = next(line for line in reversed(log) if line.best)
    record: dict[str, Any] = {
        "recipe": asdict(recipe),
        "fingerprints": fingerprints,
        "steps": steps,
        "validation": {"split": validation.name, "split_hash": validation.hash, **epoch_json(best)},
        "log": [epoch_json(line) for line in log],
    }
    model.save(folder, card=_card(model, train, validation, best), about=record)


def _card(model: RetrievalModel, train: Split, validation: Split, best: Epoch) -> str:
    parameters = sum(p.numel() for p in model.parameters())
    return (
        f"# {model.system}\n\n{SYSTEMS[model.system].paper}.\n\n"
        f"- experts: {', '.join(f'{name} ({dim})' for name, dim in model.experts.items())}\n"
        f"- parameters: {parameters:,}\n"
        f"- trained on {len(train.clips)} clips and {len(train.texts)} captions of `{train.name}` ({train.hash})\n"
        f"- best epoch {best.epoch} by `{validation.name}` ({validation.hash}, {len(validation.clips)} clips), "
        f"text to video: R@1 {best.recall_at_1:.3f}, R@5 {best.recall_at_5:.3f}, R@10 {best.recall_at_10:.3f}, "
        f"MdR {best.median_rank:g}, MnR {best.mean_rank:.1f}\n\n"
        f"Where an expert is absent: {SYSTEMS[model.system].missing}.\n"
    )
