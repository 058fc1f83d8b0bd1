"""Reelseek: find the moment in a video collection by what is seen, heard, said, written or done.

The few public names; everything is imported when it is first used.
"""

from importlib import import_module
from typing import Any

__all__ = [
    "SYSTEMS",
    "Clip",
    "Hit",
    "Library",
    "Searcher",
    "add",
    "evaluate",
    "load_model",
    "localize",
    "segment",
    "train",
]
__version__ = "0.1.0"

_PLACES = {
    "SYSTEMS": "models",
    "Clip": "library.tokens",
    "Hit": "search",
    "Library": "library",
    "Searcher": "search",
    "add": "library",
    "caption": "training.describe",
    "evaluate": "training",
    "load_model": "models",
    "localize": "search",
    "probe": "training.probe",
    "segment": "search",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"reelseek.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'reelseek' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
