"""Combinations of experts, by their names or by modality."""

from collections.abc import Collection, Sequence
from itertools import combinations as subsets

from reelseek.errors import UsageError
from reelseek.library.source import FeatureSource

__all__ = ["combinations_of", "experts_of"]

_MOST = 7  # experts have 127 combinations


def experts_of(names: Sequence[str], model_experts: Collection[str], library: FeatureSource) -> list[str]:
    """Return experts by their names, or by a modality, which stands for all of its experts."""
    by_modality: dict[str, list[str]] = {}
    for expert, row in library.experts().items():
        if expert in model_experts:
            by_modality.setdefault(str(row["modality"]), []).append(expert)
    experts = [
        expert
        for name in (name.strip() for name in names)
        if name
        for expert in ([name] if name in model_experts else by_modality.get(name, [name]))
    ]
    return list(dict.fromkeys(experts))


def combinations_of(
    combinations: str | Sequence[Sequence[str]], model_experts: Collection[str], library: FeatureSource
) -> list[list[str]]:
    """Return combinations of experts.

    Args:
        combinations: `all` of the experts that a model takes and a library has; or the ones to take, as in
            `object,audio/speech` or as lists of names.

    Raises:
        UsageError: all of them would be too many.
    """
    if combinations == "all":
        present = [name for name in model_experts if name in library.experts()]
        if len(present) > _MOST:
            count = 2 ** len(present) - 1
            raise UsageError(f"{len(present)} experts have {count} combinations; name some, as in a,b/a/b,c")
        return [list(subset) for size in range(1, len(present) + 1) for subset in subsets(present, size)]
    if isinstance(combinations, str):
        combinations = [part.split(",") for part in combinations.split("/") if part.strip()]
    return [experts_of(part, model_experts, library) for part in combinations]
