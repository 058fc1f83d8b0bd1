"""Appearance in a joint image and text space: CLIP or SigLIP from a folder or hub name (`clip@/models/clip`).

One frame a second (MDMMT, appendix A), prepared by the model's own image processor.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import ExpertUnavailable
from reelseek.experts.expert import PerFrame, Session, fingerprint
from reelseek.experts.hub import load_pretrained, move_inputs, pretrained_folder, rows, weights_hash
from reelseek.experts.preprocessing import Preprocessing
from reelseek.media.streams import FrameBatch, Stream

__all__ = ["clip", "clip_text"]


class _Clip:
    name = "clip"
    modality = "appearance"

    def __init__(self, model: str | None) -> None:
        if model is None:
            raise ExpertUnavailable("clip needs a model: --experts clip@FOLDER, or clip@NAME after `models pull NAME`")
        self._folder = pretrained_folder(model)
        self._preprocessing = Preprocessing(self._folder)
        self.streams: Sequence[Stream] = (self._preprocessing.stream(fps=1),)
        self.fingerprint = fingerprint(
            "clip",
            weights=weights_hash(self._folder),
            preprocessing=self._preprocessing.settings,
            fps=1,
            dtype="float16",
        )
        self.dim = _width(self._folder)

    def to(self, device: str) -> None:
        """Move the model to a device."""
        self._model().to(device)

    def open(self) -> Session:
        return PerFrame(self._encode, self.dim)

    def _model(self) -> Any:
        return load_pretrained("AutoModel", str(self._folder))

    def _encode(self, batch: FrameBatch) -> npt.NDArray[np.float32]:
        import torch

        model = self._model()
        inputs = self._preprocessing(batch.pixels, model.get_image_features)
        with torch.inference_mode():
            output = model.get_image_features(**move_inputs(inputs, model))
            output = getattr(output, "pooler_output", output)
            return rows(torch.nn.functional.normalize(output, dim=-1))


def _width(folder: Path) -> int:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    projection = getattr(config, "projection_dim", None)
    if config.model_type == "clip" and projection:
        return int(projection)
    return int(config.vision_config.hidden_size)


@cache
def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def clip_text(folder: Path, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Embed texts as unit vectors [text, dim] by the same model's text tower."""
    import torch

    tokenizer = _tokenizer(folder)
    model = load_pretrained("AutoModel", str(folder))
    longest = min(tokenizer.model_max_length, model.config.text_config.max_position_embeddings)
    padding = "max_length" if model.config.model_type == "siglip" else True
    tokens = tokenizer(list(texts), padding=padding, truncation=True, max_length=longest, return_tensors="pt")
    with torch.inference_mode():
        output = model.get_text_features(**move_inputs(tokens, model))
        output = getattr(output, "pooler_output", output)
        return rows(torch.nn.functional.normalize(output, dim=-1))


def clip(model: str | None = None) -> _Clip:
    """Unit image embeddings, one a second."""
    return _Clip(model)
