"""Reelseek: find the moment in a video collection by what is seen, heard, said, written or done.

The public names; each is imported when it is first used, so that `import reelseek` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reelseek.library import Library, add
    from reelseek.library.tokens import Clip
    from reelseek.models import SYSTEMS, load_model
    from reelseek.moments import localize, segment
    from reelseek.search import Hit, Searcher
    from reelseek.training import evaluate, train
    from reelseek.training.describe import caption
    from reelseek.training.probe import probe

__all__ = [
    "SYSTEMS",
    "Clip",
    "Hit",
    "Library",
    "Searcher",
    "add",
    "caption",
    "evaluate",
    "load_model",
    "localize",
    "probe",
    "segment",
    "train",
]
__version__ = "0.1.0"

_MODULES = {
    "SYSTEMS": "models",
    "Clip": "library.tokens",
    "Hit": "search",
    "Library": "library",
    "Searcher": "search",
    "add": "library",
    "caption": "training.describe",
    "evaluate": "training",
    "load_model": "models",
    "localize": "moments",
    "probe": "training.probe",
    "segment": "moments",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"reelseek.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'reelseek' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
