"""Ranks, metrics, protocols, significance, and how they are shown."""

from reelseek.evaluation.protocols import PROTOCOLS, Protocol
from reelseek.evaluation.ranks import Direction, dual_softmax, metrics, text_to_video_ranks, video_to_text_ranks

__all__ = [
    "PROTOCOLS",
    "Direction",
    "Protocol",
    "dual_softmax",
    "metrics",
    "text_to_video_ranks",
    "video_to_text_ranks",
]
