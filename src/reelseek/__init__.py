"""Reelseek: find the moment in a video collection by what is seen, heard, said, written or done.

The public names, each imported when it is first used, so that `import reelseek` costs nothing:

- `Library`, `add`: what was made of a collection of videos; `Clip`, a span of one of them.
- `Searcher`, `Hit`: questions to a library, and what answers them; `localize` and `segment` look inside one video.
- `load_model`, `SYSTEMS`: saved models, and the systems that can be trained; `RetrievalModel`, what every model is, and
  `Embedding`, what it makes of clips and texts.
- `train`, `read_recipe`: learn from a library, or from a `FeatureDataset` in memory, as a recipe says; `evaluate`
  measures, in `Measured` with a `Direction` each way; `probe` asks what embeddings are worth to a linear classifier;
  `caption` describes.

Beside them stand `reelseek.losses`, `reelseek.blocks` and `reelseek.metrics`, which take plain tensors;
`reelseek.models` and `reelseek.experts`, with what a package's own systems and experts are written with;
`reelseek.testing`, which holds those to their contracts; and `reelseek.errors`.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reelseek.evaluation.ranks import Direction
    from reelseek.library import Library, add
    from reelseek.library.tokens import Clip
    from reelseek.models import SYSTEMS, Embedding, RetrievalModel, load_model
    from reelseek.moments import localize, segment
    from reelseek.search import Hit, Searcher
    from reelseek.training import Measured, evaluate, read_recipe, train
    from reelseek.training.dataset import FeatureDataset
    from reelseek.training.describe import caption
    from reelseek.training.probe import probe

# Nobody is called: libraries that report how they are used are told not to, before the first of them is imported, in
# this process and those that it starts.
for _switch, _value in {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",  # keeps a number of the device on disk besides
    "RAY_USAGE_STATS_ENABLED": "0",
}.items():
    os.environ[_switch] = _value

_MODULES = {
    "SYSTEMS": "models",
    "Clip": "library.tokens",
    "Direction": "evaluation.ranks",
    "Embedding": "models",
    "FeatureDataset": "training.dataset",
    "Hit": "search",
    "Library": "library",
    "Measured": "training",
    "RetrievalModel": "models",
    "Searcher": "search",
    "add": "library",
    "caption": "training.describe",
    "evaluate": "training",
    "load_model": "models",
    "localize": "moments",
    "probe": "training.probe",
    "read_recipe": "training",
    "segment": "moments",
    "train": "training",
}
__all__ = [
    "SYSTEMS",
    "Clip",
    "Direction",
    "Embedding",
    "FeatureDataset",
    "Hit",
    "Library",
    "Measured",
    "RetrievalModel",
    "Searcher",
    "add",
    "caption",
    "evaluate",
    "load_model",
    "localize",
    "probe",
    "read_recipe",
    "segment",
    "train",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"reelseek.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'reelseek' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
