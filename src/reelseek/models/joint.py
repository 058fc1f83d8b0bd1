"""The model that a library is searched by: `concepts` takes the joint model of the library's `clip` tracks along."""

import logging
import os
from dataclasses import dataclass

import torch

from reelseek.errors import ExpertUnavailable
from reelseek.experts import load_expert
from reelseek.library.store import Library
from reelseek.models.device import resolve_device
from reelseek.models.model import RetrievalModel, load_model

__all__ = ["ModelForLibrary", "load_for"]

_log = logging.getLogger("reelseek")


@dataclass(frozen=True)
class ModelForLibrary:
    """A model, and why the library's `clip` tracks are left out of it ('': they are not, or there are none)."""

    model: RetrievalModel
    left_out: str = ""


def load_for(
    library: Library,
    model: "RetrievalModel | str | os.PathLike[str]",
    device: "str | torch.device | None" = None,
) -> ModelForLibrary:
    """Load a model for a library. By its bare name `concepts` looks at the library's `clip` tracks too.

    The joint model is the one that the library records as its expert `clip@MODEL`, if its fingerprint is that of the
    tracks. A model with settings of its own is taken as it is.

    Args:
        device: see `resolve_device`. A model that is loaded already moves only if a device is named.

    Raises:
        ModelError: see `load_model`.
        UsageError: there is no such device.
    """
    place = None if device is None and isinstance(model, RetrievalModel) else resolve_device(device)
    loaded = _load(library, model)
    if place is not None:
        loaded.model.to(place)
    return loaded


def _load(library: Library, model: "RetrievalModel | str | os.PathLike[str]") -> ModelForLibrary:
    if isinstance(model, RetrievalModel) or str(model) != "concepts" or os.path.isdir(model):
        return ModelForLibrary(load_model(model))
    tracks = library.experts().get("clip")
    specs = [spec for spec in library.catalog.expert_specs() if spec.startswith("clip@")]
    if tracks is None or not tracks["present"] or not specs:  # imported tracks have no model to be compared by
        return ModelForLibrary(load_model(model))
    problems = []
    for spec in reversed(specs):
        name = spec.removeprefix("clip@")
        try:
            if load_expert(spec).fingerprint in tracks["fingerprints"]:
                return ModelForLibrary(load_model(model, clip_model=name))
            problems.append(f"{name} has changed since it made them")
        except ExpertUnavailable as error:
            problems.append(str(error))
    left_out = f"the clip tracks of {library.path} are left out: {'; '.join(problems)}"
    _log.warning("%s", left_out)
    return ModelForLibrary(load_model(model), left_out)
