"""Saved weights, refused where no score could come of them."""

import os
from collections.abc import Mapping

import torch
from safetensors.torch import load_file
from torch import Tensor

from reelseek.errors import ModelError

__all__ = ["check_finite", "load_weights"]


def load_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Every tensor of a safetensors file by name.

    Raises:
        ModelError: a tensor holds NaN or infinity. What a damaged file raises is safetensors' own.
    """
    weights = load_file(path)
    check_finite(weights, path)
    return weights


def check_finite(weights: Mapping[str, Tensor], source: str | os.PathLike[str]) -> None:
    """Refuse weights with which every score would be NaN.

    Raises:
        ModelError: names the first tensor that holds NaN or infinity.
    """
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not tensor.is_meta and not bool(torch.isfinite(tensor).all()):
            count = int((~torch.isfinite(tensor)).sum())
            raise ModelError(f"{source}: {name} holds {count:,} NaN or infinite values; train or fetch it again")
