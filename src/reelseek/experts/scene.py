"""Scenes by an image classifier (Places-like) from a folder or hub name (`scene@/models/places`).

One frame a second, prepared by the model's own image processor. A step holds the class probabilities.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import ExpertUnavailable
from reelseek.experts.expert import PerFrame, Session, Text, fingerprint, likeliest
from reelseek.experts.hub import labels_of, load_pretrained, pretrained_folder, rows, weights_hash
from reelseek.experts.preprocessing import Preprocessing
from reelseek.media.streams import FrameBatch, Stream

__all__ = ["scene"]

_LABEL_AT_LEAST = 0.25


class _Scene:
    name = "scene"
    modality = "scene"

    def __init__(self, model: str | None) -> None:
        if model is None:
            raise ExpertUnavailable("scene needs a model: --experts scene@FOLDER (an image classifier such as Places)")
        from transformers import AutoConfig

        self._folder = pretrained_folder(model)
        self._preprocessing = Preprocessing(self._folder)
        config = AutoConfig.from_pretrained(self._folder, local_files_only=True)
        self.dim, self._labels = int(config.num_labels), labels_of(config)
        self.streams: Sequence[Stream] = (self._preprocessing.stream(fps=1),)
        self.fingerprint = fingerprint(
            "scene",
            weights=weights_hash(self._folder),
            preprocessing=self._preprocessing.settings,
            fps=1,
            dtype="float16",
        )

    def prepare(self) -> None:
        """Load the weights."""
        self._model()

    def open(self) -> Session:
        return PerFrame(self._encode, self.dim, self._describe)

    def _model(self) -> Any:
        return load_pretrained("AutoModelForImageClassification", str(self._folder))

    def _encode(self, batch: FrameBatch) -> npt.NDArray[np.float32]:
        import torch

        model = self._model()
        with torch.inference_mode():
            return rows(model(**self._preprocessing(batch.pixels, model.forward)).logits.softmax(-1))

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


def scene(model: str | None = None) -> _Scene:
    """Class probabilities of an image classifier, one step a second."""
    return _Scene(model)
