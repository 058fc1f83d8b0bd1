"""Frozen text encoders that systems build their text side on."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from reelseek.errors import ModelError
from reelseek.experts.hub import load_pretrained, pretrained_folder
from reelseek.experts.sentence import SENTENCE_DIM, sentence_encoder

__all__ = ["text_features", "text_width"]


def text_width(name: str) -> int:
    """Width of `text_features`. `name` is `sentence`, or a folder or hub name of a BERT-like encoder."""
    return SENTENCE_DIM if name == "sentence" else int(_encoder(name)[1].config.hidden_size)


@cache
def _encoder(name: str) -> tuple[Any, Any]:
    from transformers import AutoTokenizer

    folder = pretrained_folder(name)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True), load_pretrained("AutoModel", str(folder))


def text_features(name: str, texts: Sequence[str]) -> Float[Tensor, "text width"]:
    """One vector a text: the packaged sentence encoder's, or the first token's ([CLS]) of a BERT-like encoder.

    Raises:
        ModelError: a text is empty.
    """
    for text in texts:
        if not text.strip():
            raise ModelError("an empty text has no embedding; give at least one word")
    if name == "sentence":
        return torch.from_numpy(sentence_encoder().encode(texts))
    tokenizer, encoder = _encoder(name)
    tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=512, return_tensors="pt")
    with torch.inference_mode():
        hidden: Tensor = encoder(**tokens).last_hidden_state[:, 0]
    return hidden.clone()
