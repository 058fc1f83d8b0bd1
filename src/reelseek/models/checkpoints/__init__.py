"""Checkpoints that other projects published, read as tensors only."""

from reelseek.models.checkpoints.convert import FORMATS, convert, load_released
from reelseek.models.checkpoints.read import read_tensors

__all__ = ["FORMATS", "convert", "load_released", "read_tensors"]
