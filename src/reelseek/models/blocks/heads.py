"""Heads that turn pooled values into slots of an embedding."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.tokens import Steps
from reelseek.models.blocks.pool import NetVLAD
from reelseek.models.blocks.project import GatedUnit, per_expert
from reelseek.models.text import TextEncoder

__all__ = ["ExpertText", "MixtureWeights", "stack_padded"]


class MixtureWeights(nn.Module):
    """The weight of each slot for a caption: a softmax over one linear score per slot (Miech et al. 2018)."""

    def __init__(self, width: int, slots: int) -> None:
        super().__init__()
        self.scores = nn.Linear(width, slots)

    def forward(self, values: Float[Tensor, "item width"]) -> Float[Tensor, "item slot"]:
        weights: Tensor = self.scores(values).softmax(-1)
        return weights


def stack_padded(rows: Sequence[Float[Tensor, "item _"]]) -> Float[Tensor, "item slot dim"]:
    """Stack one row per slot, narrower rows padded with zeros (which change no dot product)."""
    width = max(row.shape[1] for row in rows)
    return torch.stack([functional.pad(row, (0, width - row.shape[1])) for row in rows], dim=1)


class ExpertText(nn.Module):
    """The text side of mixtures of experts: from a caption's vector one gated unit per expert, and weights.

    Args:
        width: of the text encoder's vectors.
        widths: of each expert's slot.
        clusters: of NetVLAD over a caption's tokens; 0 takes the encoder's pooled vector.
        ghosts, count_padding: see NetVLAD.

    Source: Miech et al. 2018, section 3; NetVLAD over words as MEE and CE, the encoder's vector as MMT.
    """

    def __init__(
        self, width: int, widths: Mapping[str, int], *, clusters: int = 0, ghosts: int = 0, count_padding: bool = False
    ) -> None:
        super().__init__()
        self.vlad = NetVLAD(width, clusters, ghosts=ghosts, count_padding=count_padding) if clusters else None
        pooled = self.vlad.width if self.vlad is not None else width
        self.heads = per_expert({name: GatedUnit(pooled, dim) for name, dim in widths.items()})
        self.weights = MixtureWeights(pooled, len(widths))

    def pooled(self, encoder: TextEncoder, texts: Sequence[str]) -> Float[Tensor, "text pooled"]:
        return encoder.pooled(texts) if self.vlad is None else self.vlad(encoder.words(texts))

    def pool(self, words: Steps) -> Float[Tensor, "text pooled"]:
        """NetVLAD of words that are already encoded."""
        assert self.vlad is not None
        return self.vlad(words)

    def forward(
        self, pooled: Float[Tensor, "text pooled"]
    ) -> tuple[Float[Tensor, "text slot dim"], Float[Tensor, "text slot"]]:
        """Slots and their weights."""
        return stack_padded([head(pooled) for head in self.heads.values()]), self.weights(pooled)
