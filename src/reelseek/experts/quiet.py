"""Keeps third-party loading bars and reports off standard error, where our own progress is shown."""

from functools import cache

__all__ = ["quiet_transformers"]


@cache
def quiet_transformers() -> None:
    """Let transformers say errors only."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
