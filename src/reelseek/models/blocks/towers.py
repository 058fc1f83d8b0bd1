"""One tower for each modality, all of them into one space."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.tokens import Steps
from reelseek.models.blocks.arrange import concat_groups, own
from reelseek.models.blocks.mix import Transformer
from reelseek.models.blocks.pool import masked_mean
from reelseek.models.blocks.project import key, per_expert

__all__ = ["Towers"]


class Towers(nn.Module):
    """linear -> transformer over the modality's own steps -> mean -> linear -> unit length, with weights of its own.

    Args:
        experts: width of each modality's steps.
        embedding: width of the space that the towers share.
    """

    def __init__(
        self,
        experts: Mapping[str, int],
        *,
        width: int,
        depth: int,
        heads: int,
        inner: int,
        embedding: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.project = per_expert({name: nn.Linear(dim, width) for name, dim in experts.items()})
        self.mix = per_expert(
            {name: Transformer(depth, width, heads, inner, order="pre", dropout=dropout) for name in experts}
        )
        self.heads = per_expert({name: nn.Linear(width, embedding) for name in experts})

    def forward(
        self, steps: Mapping[str, Steps]
    ) -> tuple[Float[Tensor, "video modality dim"], Bool[Tensor, "video modality"]]:
        """Unit vectors of the modalities, and which of them a video has."""
        rows = []
        for name, track in steps.items():
            sequence = concat_groups([(self.project[key(name)](track.clean), track.step_mask)])
            pooled = masked_mean(self.mix[key(name)](sequence, own(1)), track.present)
            rows.append(functional.normalize(self.heads[key(name)](pooled), dim=-1))
        return torch.stack(rows, 1), torch.stack([track.videos.tensor for track in steps.values()], 1)
