"""The networks of text encoders: how they are loaded, what they read, and the vectors that they give."""

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelseek.experts.clip import is_sigmoid
from reelseek.experts.hub import load_pretrained, pretrained_folder
from reelseek.experts.sentence import packaged_encoder

__all__ = [
    "as_trained",
    "collate_tokens",
    "count_positions",
    "encoder_folder",
    "is_causal",
    "is_clip",
    "load_encoder",
    "run_encoder",
    "trainable_copy",
]


def encoder_folder(name: str) -> Path:
    """Return the folder of an encoder's weights; `sentence` is the packaged one.

    Raises:
        ExpertUnavailable: they are not on this machine.
    """
    return packaged_encoder().folder if name == "sentence" else pretrained_folder(name)


@cache
def load_encoder(name: str, device: str = "cpu", number: int | None = None) -> tuple[Any, Any]:
    """Load a tokenizer and a frozen model, one copy per process and device.

    Raises:
        ExpertUnavailable: the weights are not on this machine.
    """
    if device != "cpu":
        shared, model = load_encoder(name)
        return shared, deepcopy(model).to(device if number is None else f"{device}:{number}")
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = encoder_folder(name)
    if name == "sentence":
        tokenizer: Any = PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]", model_max_length=int(1e9)
        )
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    else:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, model_max_length=int(1e9))
    return tokenizer, load_pretrained("AutoModel", str(folder))


def trainable_copy(name: str) -> nn.Module:
    """Copy an encoder's text part, to be trained."""
    model = deepcopy(load_encoder(name)[1])
    if is_clip(model):
        model.vision_model = nn.Identity()
        model.visual_projection = nn.Identity()
    if is_sigmoid(model.config):
        model.vision_model = nn.Identity()
        model.logit_scale = model.logit_bias = None
    if hasattr(model, "pooler"):  # its output is not used
        model.pooler = None
    return model.requires_grad_(True)


def is_clip(model: Any) -> bool:
    """Whether a network is CLIP-like, so that a text's last token is its vector."""
    return hasattr(model, "text_projection")


def as_trained(texts: Sequence[str], model: Any) -> list[str]:
    """Return texts in the case that the encoder was trained on, where its tokenizer does not see to that itself."""
    return [text.lower() for text in texts] if is_sigmoid(model.config) else list(texts)


def collate_tokens(rows: Sequence[Sequence[int]], tokenizer: Any, model: Any) -> tuple[Tensor, Tensor]:
    """Put the token numbers of texts into one tensor [text, token]; and which of them are the text's own.

    SigLIP was trained on texts of full length, which its tokenizer pads; others have zeros behind the end of a text.
    """
    if is_sigmoid(model.config):
        return _pad(rows, count_positions(model), tokenizer)
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    present = torch.zeros_like(ids, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, : len(row)], present[index, : len(row)] = torch.tensor(row), True
    return ids, present


def _pad(rows: Sequence[Sequence[int]], length: int, tokenizer: Any) -> tuple[Tensor, Tensor]:
    """Pad to a length by the tokenizer's own token on its own side."""
    padding = [[tokenizer.pad_token_id] * (length - len(row)) for row in rows]
    before = tokenizer.padding_side == "left"
    ids = [[*pad, *row] if before else [*row, *pad] for row, pad in zip(rows, padding, strict=True)]
    present = [[False] * len(pad) + [True] * len(row) if before else [True] * len(row) + [False] * len(pad)
               for row, pad in zip(rows, padding, strict=True)]  # fmt: skip
    return torch.tensor(ids), torch.tensor(present)


def count_positions(model: Any) -> int:
    """Count the tokens that a network can read at once."""
    config = getattr(model.config, "text_config", model.config)
    before_first = getattr(getattr(model, "embeddings", None), "padding_idx", -1) + 1  # RoBERTa numbers from there
    return int(getattr(config, "max_position_embeddings", 512)) - before_first


@cache
def is_causal(name: str) -> bool:
    """Whether a token sees none behind it, as GPT's do, so that the first of them says nothing of a text."""
    if name == "sentence":
        return False
    model = load_encoder(name)[1]
    if is_clip(model) or is_sigmoid(model.config):
        return False
    with torch.no_grad():
        one, other = (model(input_ids=torch.tensor([[1, last]])).last_hidden_state[0, 0] for last in (2, 3))
    return bool((one == other).all())


def run_encoder(
    model: Any, ids: Tensor, present: Tensor, *, sentence: bool, summary: bool, layers: int
) -> tuple[Tensor, Tensor | None]:
    """Compute vectors of tokens [text, token, dim] and of each text [text, dim], or None for it.

    Args:
        ids, present: token numbers, and which are the text's own [text, token].
        sentence: a text's vector is the mean of its tokens, of unit length.
        summary: the first token stands for the text.
        layers: of a BERT-like network, put the last so many layers of a token side by side.
    """
    attention_mask = present.long()
    if is_clip(model):
        hidden = model.text_model(input_ids=ids, attention_mask=attention_mask).last_hidden_state
        values: Tensor = model.text_projection(hidden)
        return values, values[torch.arange(len(ids)), present.sum(1) - 1]
    if is_sigmoid(model.config):  # no mask: the last place is the text's vector, whatever token stands there
        hidden = model.text_model(input_ids=ids).last_hidden_state
        values = model.text_model.head(hidden)
        return values, values[:, -1]
    if layers > 1:
        states = model(input_ids=ids, attention_mask=attention_mask, output_hidden_states=True).hidden_states
        hidden = torch.cat(states[-layers:], dim=-1)
    else:
        hidden = model(input_ids=ids, attention_mask=attention_mask).last_hidden_state
    if not summary:
        return hidden, None
    if sentence:
        mean = (hidden * attention_mask[..., None]).sum(1) / attention_mask.sum(1, keepdim=True)
        return hidden, functional.normalize(mean, dim=-1)
    return hidden, hidden[:, 0]
