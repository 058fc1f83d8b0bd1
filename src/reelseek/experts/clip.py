"""Appearance in a joint image and text space: CLIP, SigLIP or SigLIP 2 (`clip@/models/siglip2`).

One frame a second (MDMMT, appendix A), prepared by the model's own image processor.
"""

import json
import unicodedata
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import ExpertUnavailable
from reelseek.experts.encoder import Encoder
from reelseek.experts.expert import PerFrame, Session, fingerprint
from reelseek.experts.hub import load_pretrained, model_method, move_inputs, pretrained_folder, rows, weights_hash
from reelseek.experts.preprocessing import Preprocessing
from reelseek.media.streams import FrameBatch, Stream

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["clip", "clip_reads", "clip_text", "embed_frames", "is_sigmoid", "joint_width", "prepare_frames"]

_SIGMOID = ("siglip", "siglip2")
_MARKS = ("▁", "Ġ", "##", "</w>")  # of tokens that begin, continue or end a word


class _Clip:
    name = "clip"
    modality = "appearance"
    divisible = True

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
        self.dim = joint_width(self._folder)
        self.encoder = Encoder(
            f"clip@{model}",
            self.dim,
            load=self._model,
            prepare=partial(prepare_frames, self._folder, self._preprocessing),
            forward=embed_frames,
            half=True,
        )

    def prepare(self) -> None:
        """Load the weights."""
        self._model()

    def to(self, device: str) -> None:
        """Move the model to a device."""
        self._model().to(device)

    def open(self) -> Session:
        return PerFrame(self.encoder.submit, self.dim)

    def _model(self) -> Any:
        return load_pretrained("AutoModel", str(self._folder))


def prepare_frames(folder: Path, preprocessing: Preprocessing, batch: FrameBatch) -> "dict[str, Tensor]":
    """Prepare frames for a joint model's image tower."""
    return preprocessing(batch.pixels, model_method("AutoModel", folder, "get_image_features"))


def embed_frames(model: Any, inputs: "dict[str, Tensor]") -> "Tensor":
    """Embed prepared frames as unit vectors [frame, dim] by a joint model's image tower."""
    import torch

    output = model.get_image_features(**inputs)
    return torch.nn.functional.normalize(getattr(output, "pooler_output", output), dim=-1)


def is_sigmoid(config: Any) -> bool:
    """Whether a model is SigLIP-like: its text tower reads lower case padded to full length, without a mask.

    Source: Tschannen et al., "SigLIP 2", 2025, and the model's own page in transformers' documentation.
    """
    return config.model_type in _SIGMOID


def joint_width(folder: Path) -> int:
    """Read the width of a joint model's space from its configuration.

    Raises:
        ExpertUnavailable: the folder holds no joint image and text model.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if not hasattr(config, "vision_config") or not hasattr(config, "text_config"):
        raise ExpertUnavailable(
            f"{folder} holds a {config.model_type} model; clip needs one of images and texts, such as CLIP or SigLIP 2"
        )
    projection = getattr(config, "projection_dim", None)
    if not is_sigmoid(config) and projection:
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
    options = {"truncation": True, "max_length": longest, "return_tensors": "pt"}
    if is_sigmoid(model.config):
        tokens = tokenizer([text.lower() for text in texts], padding="max_length", **options)
        tokens = {"input_ids": tokens["input_ids"]}
    else:
        tokens = tokenizer(list(texts), padding=True, **options)
    with torch.inference_mode():
        output = model.get_text_features(**move_inputs(tokens, model))
        output = getattr(output, "pooler_output", output)
        return rows(torch.nn.functional.normalize(output, dim=-1))


def clip_reads(folder: Path, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which texts [text] the text tower can read: half of their letters and digits lie in tokens that spell them.

    Tokens of single bytes, by which a vocabulary without an alphabet writes it, spell nothing.
    """
    tokenizer = _tokenizer(folder)
    if json.loads((folder / "config.json").read_text("utf-8")).get("model_type") in _SIGMOID:
        texts = [text.lower() for text in texts]
    return np.array([_share_spelt(text, tokenizer) >= 0.5 for text in texts], bool)


def _share_spelt(text: str, tokenizer: Any) -> float:
    encoding = tokenizer.backend_tokenizer.encode(text)
    total = sum(letter.isalnum() for letter in text)
    spelt = 0
    for token, (start, end) in zip(encoding.tokens, encoding.offsets, strict=True):
        for mark in _MARKS:
            token = token.removeprefix(mark).removesuffix(mark)
        piece = text[start:end].strip()
        if _folded(token) == _folded(piece):
            spelt += sum(letter.isalnum() for letter in piece)
    return spelt / total if total else 0.0


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def clip(model: str | None = None) -> _Clip:
    """Unit image embeddings, one a second."""
    return _Clip(model)
