"""CrossCLR (Zolfaghari et al. 2021): negatives within a modality, and weights for samples that resemble many others."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional

from reelseek.models.blocks.host_state import HostState
from reelseek.models.settings import STRICT

__all__ = ["CrossCLR", "CrossCLRConfig", "crossclr_published"]


def crossclr_published(
    x: Float[Tensor, "item dim"], y: Float[Tensor, "item dim"], *, temperature: float = 0.03, intra: float = 0.8
) -> Float[Tensor, ""]:
    """The one file its authors published: `intra` multiplies the logit, and a sample's similarity to itself is logit 0.

    It differs from the paper's equation, where intra multiplies the exponential and the sample itself is left out; only
    for comparing with it. Computed in float64, as published.
    """
    x, y = functional.normalize(x.double(), dim=-1), functional.normalize(y.double(), dim=-1)
    labels = torch.arange(len(x), device=x.device)
    others = 1 - torch.eye(len(x), dtype=x.dtype, device=x.device)
    terms = []
    for one, two in ((x, y), (y, x)):
        logits = torch.cat([one @ two.T / temperature, intra * (one @ one.T / temperature) * others], 1)
        terms.append(functional.cross_entropy(logits, labels))
    return (terms[0] + terms[1]) / 2


@dataclass(frozen=True, config=STRICT)
class CrossCLRConfig:
    """Args:
    temperature, intra: tau and lambda of equation 4.
    prune: gamma; a sample whose connectivity is above this share of the maximum is no negative. None prunes none.
    sharpness: kappa; a sample's loss is weighted by `softmax(connectivity / sum / kappa)`. None gives equal weights.
    queue: number of earlier samples kept as negatives within a modality; 0 takes those of the batch.
    positives, positive_weight: K and beta of the supplement's equation 1: the K most similar influential samples of
        the batch are positives too, times beta.
    form: `paper`, whose lambda multiplies exponentials (equation 4); `algorithm`, whose lambda multiplies logits
        (algorithm 1 of the supplement); or `released`: the authors' working copy, whose own-copy mask stands at the
        advanced pointer, whose pruned columns become logit 0 and whose lambda multiplies logits; only for comparing
        with it.
    """

    temperature: float = Field(default=0.03, gt=0)
    intra: float = Field(default=0.8, gt=0)
    prune: float | None = 0.9
    sharpness: float | None = Field(default=0.0035, gt=0)
    queue: int = Field(default=0, ge=0)
    positives: int = Field(default=0, ge=0)
    positive_weight: float = 0.15
    form: Literal["paper", "algorithm", "released"] = "paper"


class CrossCLR(HostState):
    """The loss of two modalities x and y, with a queue of earlier samples.

    Args:
        dims: widths of embeddings of x and y (equal) and of the inputs of x and of y.
    """

    def __init__(self, config: CrossCLRConfig, dims: tuple[int, int, int]) -> None:
        super().__init__()
        self.config = config
        size = config.queue
        self.register_buffer("queue_x", torch.zeros(size, dims[0]))
        self.register_buffer("queue_y", torch.zeros(size, dims[0]))
        self.register_buffer("input_x", torch.zeros(size, dims[1]))
        self.register_buffer("input_y", torch.zeros(size, dims[2]))
        self.register_buffer("ids", torch.full((size,), -1))
        self.register_buffer("state", torch.zeros(2, dtype=torch.long))  # next place, places filled
        self.queue_x: Tensor
        self.queue_y: Tensor
        self.input_x: Tensor
        self.input_y: Tensor
        self.ids: Tensor
        self.state: Tensor

    def forward(
        self,
        x: Float[Tensor, "item dim"],
        y: Float[Tensor, "item dim"],
        x_input: Float[Tensor, "item _"],
        y_input: Float[Tensor, "item _"],
        ids: Int[Tensor, " item"] | None = None,
    ) -> Float[Tensor, ""]:
        """Args:
        x_input, y_input: pooled inputs of the encoders, on which connectivity is measured.
        ids: the sample of each row, so that its earlier copies are no negatives of it.
        """
        x, y = functional.normalize(x, dim=-1), functional.normalize(y, dim=-1)
        x_input, y_input = x_input.detach(), y_input.detach()
        if self.config.queue and self.training:
            self._enqueue(x.detach(), y.detach(), x_input, y_input, ids)
        one = self._direction(x, y, x_input, self.queue_x, self.input_x, ids)
        two = self._direction(y, x, y_input, self.queue_y, self.input_y, ids)
        return (one + two) / 2

    @torch.no_grad()
    def _enqueue(self, x: Tensor, y: Tensor, x_input: Tensor, y_input: Tensor, ids: Tensor | None) -> None:
        size, start = self.config.queue, int(self.state[0])
        if self.config.form == "released":  # rows that do not fit at the end are dropped
            places = torch.arange(start, min(size, start + len(x)), device=x.device)
        else:
            places = (start + torch.arange(min(size, len(x)), device=x.device)) % size
        rows = slice(0, len(places))
        for queue, values in ((self.queue_x, x), (self.queue_y, y), (self.input_x, x_input), (self.input_y, y_input)):
            queue[places] = values[rows].to(queue.dtype)
        # Rows without an id get a unique one below zero.
        self.ids[places] = -2 - places if ids is None else ids[rows].to(self.ids.device)
        self.state[1] = min(size, int(self.state[1]) + len(places))
        self.state[0] = (start + len(x)) % size

    def _direction(
        self, x: Tensor, y: Tensor, encoder_input: Tensor, queue: Tensor, inputs: Tensor, ids: Tensor | None
    ) -> Tensor:
        if self.config.form == "released":
            return self._released(x, y, encoder_input, queue, inputs)
        config = self.config
        inter = x @ y.T / config.temperature
        diagonal = torch.eye(len(x), dtype=torch.bool, device=x.device)
        filled = int(self.state[1])
        if config.queue and filled:
            queue, inputs = queue[:filled], inputs[:filled]
            mean = inputs.mean(0)
            connectivity, queue_connectivity = encoder_input @ mean, inputs @ mean
            intra, same_sample = x @ queue.T / config.temperature, self._same_sample(len(x), filled, ids)
        else:
            gram = (encoder_input @ encoder_input.T).masked_fill(diagonal, 0)
            connectivity = queue_connectivity = gram.sum(0) / max(1, len(x) - 1)
            intra, same_sample = x @ x.T / config.temperature, diagonal
        intra = intra.masked_fill(same_sample | self._influential(queue_connectivity)[None, :], -torch.inf)
        pruned = self._influential(connectivity)[None, :] & ~diagonal
        negatives = inter.masked_fill(pruned, -torch.inf)
        if config.form == "algorithm":
            weighted_intra = config.intra * intra
        else:
            weighted_intra = intra + torch.tensor(config.intra, dtype=intra.dtype).log()
        log_denominator = torch.cat([negatives, weighted_intra], 1).logsumexp(1)
        log_numerator = inter.diagonal()
        if config.positives:
            log_numerator = self._log_positives(inter, encoder_input, connectivity, diagonal)
        return (self._weights(connectivity) * (log_denominator - log_numerator)).sum()

    def _same_sample(self, items: int, filled: int, ids: Tensor | None) -> Tensor:
        """Which places of the queue hold the same sample, from this step or an earlier one [item, place]."""
        if ids is not None:
            return ids[:, None] == self.ids[None, :filled]
        same_sample = torch.zeros(items, filled, dtype=torch.bool, device=self.ids.device)
        if self.training:
            rows = torch.arange(min(items, self.config.queue), device=same_sample.device)
            same_sample[rows, (int(self.state[0]) - items + rows) % self.config.queue] = True
        return same_sample

    def _influential(self, connectivity: Tensor) -> Tensor:
        """Section 3.3: connectivity over its maximum, above gamma."""
        if self.config.prune is None:
            return torch.zeros_like(connectivity, dtype=torch.bool)
        top = connectivity.max()
        return (connectivity / top.clamp(min=1e-12) > self.config.prune) & (top > 0)

    def _weights(self, connectivity: Tensor) -> Tensor:
        """Equation 6, in a form that cannot overflow: exp(w / kappa) over its sum is a softmax."""
        if self.config.sharpness is None:
            return torch.full_like(connectivity, 1 / len(connectivity))
        connectivity = connectivity.clamp(min=0)  # a negative connectivity counts as none
        share = connectivity / connectivity.sum().clamp(min=1e-12)
        return (share / self.config.sharpness).softmax(0)

    def _log_positives(self, inter: Tensor, encoder_input: Tensor, connectivity: Tensor, diagonal: Tensor) -> Tensor:
        """Supplement, equation 1: `log(positive + beta sum of more positives)`, the numerator."""
        candidates = self._influential(connectivity)[None, :] & ~diagonal
        unit = functional.normalize(encoder_input, dim=-1)
        cosines = (unit @ unit.T).masked_fill(~candidates, -torch.inf)
        best, index = cosines.topk(min(self.config.positives, len(encoder_input)), dim=1)
        extra = inter.gather(1, index).masked_fill(best == -torch.inf, -torch.inf)
        extra = extra + torch.tensor(self.config.positive_weight, dtype=extra.dtype).log()
        return torch.cat([inter.diagonal()[:, None], extra], 1).logsumexp(1)

    def _released(self, x: Tensor, y: Tensor, encoder_input: Tensor, queue: Tensor, inputs: Tensor) -> Tensor:
        config, items = self.config, len(x)
        start = int(self.state[0])
        mask = torch.ones(items, config.queue, dtype=x.dtype, device=x.device)
        diagonal = torch.arange(min(items, config.queue - start), device=x.device)
        mask[diagonal, start + diagonal] = 0
        intra = (x @ queue.T / config.temperature) * mask
        keep, pruned, weights = self.released_selection(encoder_input, inputs)
        inter = x @ y.T / config.temperature
        on_diagonal = torch.eye(items, dtype=torch.bool, device=x.device)
        inter = inter.masked_fill(pruned[None, :] & ~on_diagonal, 0)
        others = (config.intra * intra).masked_fill(~keep[None, :], -torch.inf)  # a dropped column
        logits = torch.cat([inter, others], 1).double()
        losses = functional.cross_entropy(logits, torch.arange(items, device=x.device), reduction="none")
        return (weights * losses).sum()

    def released_selection(self, encoder_input: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which places are kept as negatives, which samples are pruned, and the samples' weights, as released.

        Means are taken over all products, as released: kappa would magnify the rounding of a mean taken first.
        """
        assert self.config.prune is not None
        assert self.config.sharpness is not None
        queue = inputs.T.contiguous()
        connectivity, queue_connectivity = (encoder_input @ queue).mean(1), (queue.T @ queue).mean(0)
        share = (connectivity / connectivity.sum()).double()
        return (
            queue_connectivity / queue_connectivity.max() < self.config.prune,
            connectivity / connectivity.max() > self.config.prune,
            (share / self.config.sharpness).softmax(0),
        )
