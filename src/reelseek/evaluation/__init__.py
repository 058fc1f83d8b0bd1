"""Ranks, metrics and how they are shown."""

from reelseek.evaluation.ranks import Direction, metrics, text_to_video_ranks, video_to_text_ranks

__all__ = ["Direction", "metrics", "text_to_video_ranks", "video_to_text_ranks"]
