"""Pooling: many steps of one modality -> one vector."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import Mask, upload, zero_absent
from reelseek.library.tokens import Steps
from reelseek.models.blocks.mix import Attention
from reelseek.models.blocks.project import RowNorm

__all__ = ["BiGRU", "ConvMax", "NetVLAD", "QueryPool", "WeightedPool", "masked_max", "masked_mean", "recurrent_states"]


def masked_max(
    values: Float[Tensor, "video step dim"], present: Bool[Tensor, "video step"]
) -> Float[Tensor, "video dim"]:
    """Maximum over present steps, zeros where there are none."""
    lowest = values.new_full((), torch.finfo(values.dtype).min)
    best = torch.where(present[..., None], values, lowest).amax(1)
    return zero_absent(present.any(1, keepdim=True), best)


def masked_mean(
    values: Float[Tensor, "video step dim"], present: Bool[Tensor, "video step"]
) -> Float[Tensor, "video dim"]:
    """Mean over present steps, zeros where there are none."""
    total = zero_absent(present[..., None], values).sum(1)
    return total / present.sum(1, keepdim=True).clamp(min=1).to(values.dtype)


class NetVLAD(nn.Module):
    """Residuals to learned clusters, softly assigned; `ghosts` are clusters whose residuals are dropped.

    Args:
        count_padding: padding counts as steps of zeros, as CE and MEE release it. It makes an embedding depend on the
            padding of its batch, so it is for comparing with their checkpoints only.

    Source: Arandjelovic et al. 2016; ghosts from Zhong et al. 2018, as Liu et al. 2019 use them.
    """

    def __init__(self, width: int, clusters: int, *, ghosts: int = 0, count_padding: bool = False) -> None:
        super().__init__()
        self.clusters = nn.Parameter(torch.randn(width, clusters + ghosts) / width**0.5)
        self.centres = nn.Parameter(torch.randn(width, clusters) / width**0.5)
        self.norm = RowNorm(clusters + ghosts)
        self.count_padding = count_padding
        self.width = width * clusters

    def forward(self, steps: Steps) -> Float[Tensor, "video dim"]:
        """Unit vectors, feature-major; zeros where there is no step."""
        values = steps.clean
        flat, clusters = values.flatten(0, 1), self.centres.shape[1]
        rows = flat if self.count_padding else flat.index_select(0, steps.step_mask.rows)
        shares = self.norm(rows @ self.clusters).softmax(-1)[:, :clusters].to(values.dtype)
        if not self.count_padding:
            shares = shares.new_zeros(len(flat), clusters).index_copy(0, steps.step_mask.rows, shares)
        shares = shares.unflatten(0, values.shape[:2])
        residuals = values.transpose(1, 2) @ shares - shares.sum(1, keepdim=True) * self.centres
        return functional.normalize(functional.normalize(residuals, dim=1).flatten(1), dim=-1)


class WeightedPool(nn.Module):
    """COOT's attention-aware pooling: for each feature a softmax over time, from one two-layer net per head.

    Source: Ging et al. 2020, section 3.2.
    """

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        if width % heads or inner % heads:
            raise ValueError(f"widths of {width} and {inner} cannot be divided among {heads} heads")
        self.weight1 = nn.Parameter(torch.empty(heads, width, inner // heads))
        self.bias1 = nn.Parameter(torch.empty(heads, inner // heads))
        self.weight2 = nn.Parameter(torch.empty(heads, inner // heads, width // heads))
        self.bias2 = nn.Parameter(torch.empty(heads, width // heads))
        for parameter in self.parameters():
            nn.init.trunc_normal_(parameter, std=0.01)

    def forward(
        self, values: Float[Tensor, "video step dim"], present: Bool[Tensor, "video step"]
    ) -> Float[Tensor, "video dim"]:
        inner = torch.einsum("vsd,hdi->vshi", values, self.weight1) + self.bias1
        scores = (torch.einsum("vshi,hio->vsho", functional.gelu(inner), self.weight2) + self.bias2).flatten(2)
        scores = scores.masked_fill(~present[..., None], torch.finfo(scores.dtype).min)
        return zero_absent(present[..., None], values * scores.softmax(1)).sum(1)


class QueryPool(nn.Module):
    """One learned query reads the tokens of a stream (Zorro, section 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)

    def forward(
        self, values: Float[Tensor, "video step dim"], present: Mask | Bool[Tensor, "video step"]
    ) -> Float[Tensor, "video dim"]:
        query = self.query.repeat(len(values), 1, 1)
        return self.attention.cross(query, self.norm(values), present)[:, 0]


def recurrent_states(network: nn.RNNBase, steps: Steps) -> Float[Tensor, "video step dim"]:
    """States of every step, zeros where absent. Present steps must be packed to the left.

    Args:
        network: reads batches first.
    """
    # Sorted by length on the host; left to itself, PyTorch copies the order to the device and waits for it.
    lengths, order = steps.mask.sum(1).clamp(min=1).sort(descending=True)
    sorted_rows, back = upload([order, order.argsort()], steps.device)
    packed = nn.utils.rnn.pack_padded_sequence(steps.clean.index_select(0, sorted_rows), lengths, batch_first=True)
    states, _ = nn.utils.rnn.pad_packed_sequence(network(packed)[0], batch_first=True, total_length=steps.mask.shape[1])
    return zero_absent(steps.present[..., None], states.index_select(0, back))


class BiGRU(nn.Module):
    """A recurrent network over the present steps, which must be packed to the left.

    Args:
        both: bidirectional, to average over steps (Dual Encoding); else one direction, for its last state (VSE).
    """

    def __init__(self, width: int, hidden: int, *, both: bool) -> None:
        super().__init__()
        self.gru = nn.GRU(width, hidden, batch_first=True, bidirectional=both)
        self.width = hidden * (2 if both else 1)

    def states(self, steps: Steps) -> Float[Tensor, "video step dim"]:
        """States of every step, zeros where absent. Present steps must be packed to the left."""
        return recurrent_states(self.gru, steps)

    def last(self, steps: Steps) -> Float[Tensor, "video dim"]:
        """The state after the last present step."""
        states = self.states(steps)
        place = (steps.present.sum(1) - 1).clamp(min=0)
        return states[torch.arange(len(states), device=states.device), place]


class ConvMax(nn.Module):
    """Convolutions of several lengths over steps, each followed by ReLU and a maximum (Dual Encoding, section 3.3)."""

    def __init__(self, width: int, channels: int, lengths: tuple[int, ...] = (2, 3, 4, 5)) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(width, channels, length, padding=length - 1) for length in lengths)
        self.width = channels * len(lengths)

    def forward(
        self, values: Float[Tensor, "video step dim"], present: Bool[Tensor, "video step"]
    ) -> Float[Tensor, "video channels"]:
        counts = present.sum(1)
        maxima = []
        for conv in self.convs:
            assert isinstance(conv, nn.Conv1d)
            out = conv(values.transpose(1, 2)).relu()
            # Windows that overlap at least one step; those beyond see padding alone.
            reach = counts + conv.kernel_size[0] - 1
            inside = torch.arange(out.shape[2], device=out.device)[None, :] < reach[:, None]
            maxima.append(zero_absent(inside[:, None], out).amax(2))
        return torch.cat(maxima, 1) * (counts > 0)[:, None]
