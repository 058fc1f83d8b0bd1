"""Objects that a detector is sure of (score above .7) from a folder or hub name (`detection@/models/detr`).

One frame a second, prepared by the model's own image processor. A step holds, for every class, the best score of its
boxes above .7, else 0.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import ExpertUnavailable
from reelseek.experts.encoder import Encoder
from reelseek.experts.expert import PerFrame, Session, Text, fingerprint, likeliest
from reelseek.experts.hub import labels_of, load_pretrained, model_method, pretrained_folder, weights_hash
from reelseek.experts.preprocessing import Preprocessing
from reelseek.media.streams import FrameBatch, Stream

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["detection"]

_SURE = 0.7
_DETECTOR = "AutoModelForObjectDetection"


class _Detection:
    name = "detection"
    modality = "object"
    divisible = True

    def __init__(self, model: str | None) -> None:
        if model is None:
            raise ExpertUnavailable("detection needs a model: --experts detection@FOLDER (a detector such as DETR)")
        from transformers import AutoConfig

        self._folder = pretrained_folder(model)
        self._preprocessing = Preprocessing(self._folder, has_longest_edge=True)
        config = AutoConfig.from_pretrained(self._folder, local_files_only=True)
        self.dim, self._labels = int(config.num_labels), labels_of(config)
        self.streams: Sequence[Stream] = (self._preprocessing.stream(fps=1),)
        self.fingerprint = fingerprint(
            "detection",
            weights=weights_hash(self._folder),
            preprocessing=self._preprocessing.settings,
            sure=_SURE,
            fps=1,
        )
        self.encoder = Encoder(
            f"detection@{model}", self.dim, load=self._model, prepare=self._prepare, forward=self._forward
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
        return load_pretrained(_DETECTOR, str(self._folder))

    def _prepare(self, batch: FrameBatch) -> "dict[str, Tensor]":
        return self._preprocessing(batch.pixels, model_method(_DETECTOR, self._folder, "forward"))

    def _forward(self, model: Any, inputs: "dict[str, Tensor]") -> "Tensor":
        import torch

        logits: Tensor = model(**inputs).logits
        # DETR-like detectors score boxes by softmax and keep a last class for "no object"; others use sigmoids.
        softmax = logits.shape[-1] == self.dim + 1
        scores = logits.softmax(-1)[..., :-1] if softmax else logits.sigmoid()
        best = scores.amax(dim=1)
        return torch.where(best > _SURE, best, 0.0)

    def labels(self, values: npt.NDArray[np.floating]) -> list[tuple[str, float]]:
        """Name the likeliest classes over some steps."""
        return likeliest(self._labels, values)

    def _describe(self, values: npt.NDArray[Any], spans: npt.NDArray[np.float64]) -> tuple[Text, ...]:
        return tuple(
            Text(self._labels[index], float(start), float(end), "label", float(row[index]))
            for row, (start, end) in zip(values, spans, strict=True)
            for index in np.flatnonzero(row)
        )


def detection(model: str | None = None) -> _Detection:
    """Scores of the classes that a detector is sure of, one step a second."""
    return _Detection(model)
