"""Scenes by an image classifier (Places-like) from a folder or hub name (`scene@/models/places`), or by a joint model.

One frame a second, prepared by the model's own image processor. A step holds the class probabilities. A joint model of
images and texts (CLIP, SigLIP) has no classes of its own: they are the places of `scenes.txt`, and a frame's
probabilities are the softmax of its scaled similarities to "a photo of" each.
"""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import ExpertUnavailable
from reelseek.experts.clip import clip_text, embed_frames
from reelseek.experts.encoder import Encoder
from reelseek.experts.expert import PerFrame, Session, Text, fingerprint, likeliest
from reelseek.experts.hub import labels_of, load_pretrained, model_method, pretrained_folder, weights_hash
from reelseek.experts.preprocessing import Preprocessing
from reelseek.media.streams import FrameBatch, Stream

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["scene"]

_LABEL_AT_LEAST = 0.25
_PROMPT = "a photo of {}"


class _Scene:
    name = "scene"
    modality = "scene"
    divisible = True

    def __init__(self, model: str | None) -> None:
        if model is None:
            raise ExpertUnavailable(
                "scene needs a model: --experts scene@FOLDER (an image classifier such as Places, or a joint model)"
            )
        from transformers import AutoConfig

        self._folder = pretrained_folder(model)
        self._preprocessing = Preprocessing(self._folder)
        config = AutoConfig.from_pretrained(self._folder, local_files_only=True)
        self._joint = _is_joint(config)
        self._auto_class = "AutoModel" if self._joint else "AutoModelForImageClassification"
        self._labels = [name.partition(" ")[2] for name in _places()] if self._joint else labels_of(config)
        self.dim = len(self._labels)
        self.streams: Sequence[Stream] = (self._preprocessing.stream(fps=1),)
        self.fingerprint = fingerprint(
            "scene",
            weights=weights_hash(self._folder),
            preprocessing=self._preprocessing.settings,
            fps=1,
            dtype="float16",
            **({"places": _places(), "prompt": _PROMPT} if self._joint else {}),
        )
        self.encoder = Encoder(
            f"scene@{model}", self.dim, load=self._model, prepare=self._prepare, forward=self._forward
        )

    def prepare(self) -> None:
        """Load the weights."""
        self._model()

    def to(self, device: str) -> None:
        """Move the model to a device."""
        self._model().to(device)

    def open(self) -> Session:
        return PerFrame(self.encoder.submit, self.dim, self._describe)

    def _model(self) -> Any:
        return load_pretrained(self._auto_class, str(self._folder))

    def _prepare(self, batch: FrameBatch) -> "dict[str, Tensor]":
        method = "get_image_features" if self._joint else "forward"
        return self._preprocessing(batch.pixels, model_method(self._auto_class, self._folder, method))

    def _forward(self, model: Any, inputs: "dict[str, Tensor]") -> "Tensor":
        if not self._joint:
            logits: Tensor = model(**inputs).logits
            return logits.softmax(-1)
        frames = embed_frames(model, inputs)
        return (_cosines(frames, _place_vectors(self._folder)) * model.logit_scale.exp()).softmax(-1)

    def labels(self, values: npt.NDArray[np.floating]) -> list[tuple[str, float]]:
        """Name the likeliest classes over some steps."""
        return likeliest(self._labels, values)

    def _describe(self, values: npt.NDArray[Any], spans: npt.NDArray[np.float64]) -> tuple[Text, ...]:
        best = values.astype(np.float32).argmax(axis=1)
        return tuple(
            Text(self._labels[index], float(start), float(end), "label", float(row[index]))
            for row, index, (start, end) in zip(values, best, spans, strict=True)
            if row[index] >= _LABEL_AT_LEAST
        )


def _is_joint(config: Any) -> bool:
    """Whether a configuration is of an image and a text tower, and not of a classifier made from the image tower."""
    classifies = any("ForImageClassification" in name for name in config.architectures or ())
    return hasattr(config, "vision_config") and hasattr(config, "text_config") and not classifies


def _cosines(frames: "Tensor", places: npt.NDArray[np.float32]) -> "Tensor":
    """Products [frame, place] of unit vectors; on the CPU by NumPy, by which tables are recorded."""
    import torch

    if frames.device.type == "cpu":
        return torch.from_numpy(frames.numpy() @ places.T)
    return frames @ torch.from_numpy(places).to(frames.device).T


@cache
def _places() -> tuple[str, ...]:
    """Everyday places, each with its article."""
    return tuple(files("reelseek.experts").joinpath("scenes.txt").read_text("utf-8").split("\n")[:-1])


@cache
def _place_vectors(folder: Path) -> npt.NDArray[np.float32]:
    """Unit vectors [place, dim] of the places by a joint model's text tower."""
    return clip_text(folder, [_PROMPT.format(place) for place in _places()])


def scene(model: str | None = None) -> _Scene:
    """Class probabilities of an image classifier, one step a second."""
    return _Scene(model)
