"""A BERT encoder's forward pass on plain tensors: what embedding sentences needs of transformers, which takes seconds
to import. The same operations in the same order, so that the numbers are the same.

Source: Devlin et al., "BERT", 2019; Wang et al., "MiniLM", 2020.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

__all__ = ["BertEncoder"]


class BertEncoder:
    """The last hidden states of a BERT, on the CPU and without gradients.

    Args:
        folder: holds config.json and model.safetensors of a `BertModel`.

    Raises:
        KeyError: the weights are those of another model.
    """

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        self._layers = int(config["num_hidden_layers"])
        self._heads = int(config["num_attention_heads"])
        self._epsilon = float(config["layer_norm_eps"])
        weights = load_file(folder / "model.safetensors")
        self._weights = {name.removeprefix("bert."): tensor.float() for name, tensor in weights.items()}
        self._linear("encoder.layer.0.attention.self.query", torch.zeros(1, int(config["hidden_size"])))

    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode tokens.

        Args:
            ids: whole numbers [text, token].
            mask: the same shape, 1 where there is a token, 0 where a row is padded.

        Returns:
            Hidden states [text, token, dim].
        """
        allowed = None if bool(mask.all()) else mask.bool()[:, None, None, :].expand(-1, -1, ids.shape[1], -1)
        weights = self._weights
        words = functional.embedding(ids, weights["embeddings.word_embeddings.weight"])
        types = functional.embedding(torch.zeros_like(ids), weights["embeddings.token_type_embeddings.weight"])
        positions = functional.embedding(
            torch.arange(ids.shape[1])[None], weights["embeddings.position_embeddings.weight"]
        )
        hidden = self._norm("embeddings.LayerNorm", words + types + positions)
        for layer in range(self._layers):
            hidden = self._layer(f"encoder.layer.{layer}", hidden, allowed)
        return hidden

    def _layer(self, name: str, hidden: Tensor, allowed: Tensor | None) -> Tensor:
        query, key, value = (
            self._linear(f"{name}.attention.self.{part}", hidden)
            .view(*hidden.shape[:-1], self._heads, -1)
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        mixed = mixed.transpose(1, 2).reshape(hidden.shape)
        attended = self._norm(
            f"{name}.attention.output.LayerNorm", self._linear(f"{name}.attention.output.dense", mixed) + hidden
        )
        wide = functional.gelu(self._linear(f"{name}.intermediate.dense", attended))
        return self._norm(f"{name}.output.LayerNorm", self._linear(f"{name}.output.dense", wide) + attended)

    def _linear(self, name: str, values: Tensor) -> Tensor:
        return functional.linear(values, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, name: str, values: Tensor) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(values, weight.shape, weight, bias, self._epsilon)
