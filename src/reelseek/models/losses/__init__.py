"""Losses: functions over similarity matrices."""

from reelseek.models.losses.max_margin import max_margin

__all__ = ["max_margin"]
