"""A sequence -> one vector, the same for video steps and for words: readers by name, for systems that differ in them.

A reader takes `Steps` and returns `[item, width]`; text is one more modality.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.tokens import Steps
from reelseek.models.blocks.arrange import TokenSequence, everything, pack_left
from reelseek.models.blocks.mix import Transformer
from reelseek.models.blocks.pool import BiGRU, ConvMax, masked_max, masked_mean

__all__ = ["READERS", "Dual", "LastState", "Max", "Mean", "Reader", "Residual", "WordMax"]


class Reader(nn.Module):
    """Attributes:
    width: of its output.
    """

    width: int


class Mean(Reader):
    """The mean of present steps."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, steps: Steps) -> Float[Tensor, "item dim"]:
        return masked_mean(steps.values, steps.present)


class Max(Mean):
    """The maximum of present steps (HowTo100M, AVLnet)."""

    def forward(self, steps: Steps) -> Float[Tensor, "item dim"]:
        return masked_max(steps.values, steps.present)


class WordMax(Reader):
    """Linear, ReLU, maximum over words (HowTo100M, MIL-NCE, AVLnet)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, hidden)
        self.width = hidden

    def forward(self, steps: Steps) -> Float[Tensor, "item dim"]:
        return masked_max(self.fc(steps.clean).relu(), steps.present)


class LastState(Reader):
    """The last state of a GRU (VSE)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gru = BiGRU(width, hidden, both=False)
        self.width = hidden

    def forward(self, steps: Steps) -> Float[Tensor, "item dim"]:
        last = self.gru.last(pack_left(steps))
        return last * steps.present.any(1, keepdim=True)


class Dual(Reader):
    """Three levels concatenated: mean, mean state of a bidirectional GRU, and convolutions over its states.

    Source: Dong et al. 2019 (Dual Encoding), section 3.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gru = BiGRU(width, hidden, both=True)
        self.conv = ConvMax(self.gru.width, hidden)
        self.width = width + self.gru.width + self.conv.width

    def forward(self, steps: Steps) -> Float[Tensor, "item dim"]:
        steps = pack_left(steps)
        states = self.gru.states(steps)
        parts = [
            masked_mean(steps.values, steps.present),
            masked_mean(states, steps.present),
            self.conv(states, steps.present),
        ]
        return torch.cat(parts, 1)


class Residual(Reader):
    """Frames plus the output of a four-layer transformer over them, normalised and averaged.

    Args:
        released: QuickGELU and an epsilon of 1e-12 in the transformer, as CLIP4Clip and DRL have them.

    Source: Luo et al. 2022 (CLIP4Clip), section 3.3, "sequential type".
    """

    def __init__(self, width: int, hidden: int, *, depth: int = 4, places: int = 128, released: bool = False) -> None:
        super().__init__()
        heads = max(1, width // 64)
        while width % heads:
            heads -= 1
        self.position = nn.Embedding(places, width)
        norm = partial(nn.LayerNorm, eps=1e-12) if released else nn.LayerNorm
        self.mix = Transformer(depth, width, heads, 4 * width, order="pre", norm=norm, quick=released)
        self.width = width
        nn.init.normal_(self.position.weight, std=0.01)

    def forward(self, steps: Steps) -> Float[Tensor, "item dim"]:
        steps = pack_left(steps)
        return masked_mean(functional.normalize(self.mixed(steps), dim=-1), steps.present)

    def mixed(self, steps: Steps) -> Float[Tensor, "item step dim"]:
        """Frames plus the transformer's output; present steps must be packed to the left."""
        values = steps.clean
        length = values.shape[1]
        position = torch.arange(length, device=values.device).clamp(max=self.position.num_embeddings - 1)
        group = torch.zeros(length, dtype=torch.long)
        sequence = TokenSequence(values + self.position(position), steps.present, group, host=steps.mask)
        return values + self.mix(sequence, everything(1))


READERS: dict[str, Callable[[int, int], Reader]] = {
    "mean": Mean,
    "max": Max,
    "word_max": WordMax,
    "last_state": LastState,
    "dual": Dual,
    "residual": Residual,
    "residual_released": partial(Residual, released=True),
}
