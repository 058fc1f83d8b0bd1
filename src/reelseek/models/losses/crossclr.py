"""CrossCLR (Zolfaghari et al. 2021): negatives within a modality, and care for samples that resemble many others."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional

from reelseek.models.blocks.host_state import HostState

__all__ = ["CrossCLR", "CrossCLRConfig", "crossclr_published"]


def crossclr_published(
    x: Float[Tensor, "item dim"], y: Float[Tensor, "item dim"], *, temperature: float = 0.03, intra: float = 0.8
) -> Float[Tensor, ""]:
    """The one file its authors published: `intra` multiplies the logit, and a sample's similarity to itself is logit 0.

    It differs from the paper's equation, where intra multiplies the exponential and the sample itself is left out; it
    is here to compare with. Computed in float64, as published.
    """
    x, y = functional.normalize(x.double(), dim=-1), functional.normalize(y.double(), dim=-1)
    labels = torch.arange(len(x), device=x.device)
    others = 1 - torch.eye(len(x), dtype=x.dtype, device=x.device)
    terms = []
    for one, two in ((x, y), (y, x)):
        logits = torch.cat([one @ two.T / temperature, intra * (one @ one.T / temperature) * others], 1)
        terms.append(functional.cross_entropy(logits, labels))
    return (terms[0] + terms[1]) / 2


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CrossCLRConfig:
    """Args:
    temperature, intra: tau and lambda of equation 4.
    prune: gamma; a sample whose connectivity is above this part of the greatest one is no negative. None prunes none.
    sharpness: kappa; a sample's loss is weighted by `softmax(connectivity / sum / kappa)`. None weights all alike.
    queue: how many earlier samples are kept as negatives within a modality; 0 takes those of the batch.
    positives, positive_weight: K and beta of the supplement's equation 1: the K most similar influential samples of
        the batch are positives too, times beta.
    form: `paper`, or `released`: the authors' working copy, whose own-copy mask stands at the advanced pointer, whose
        pruned columns become logit 0 and whose lambda multiplies logits; only for comparing with it.
    """

    temperature: float = Field(default=0.03, gt=0)
    intra: float = Field(default=0.8, gt=0)
    prune: float | None = 0.9
    sharpness: float | None = Field(default=0.0035, gt=0)
    queue: int = Field(default=0, ge=0)
    positives: int = Field(default=0, ge=0)
    positive_weight: float = 0.15
    form: Literal["paper", "released"] = "paper"


class CrossCLR(HostState):
    """The loss of two modalities x and y, with its queue of earlier samples.

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
        x_input, y_input: what the encoders were given, pooled; connectivity is measured there.
        ids: which sample each row is, so that its own earlier copies are no negatives of it.
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
        if self.config.form == "released":  # what does not fit at the end is dropped
            places = torch.arange(start, min(size, start + len(x)), device=x.device)
        else:
            places = (start + torch.arange(min(size, len(x)), device=x.device)) % size
        rows = slice(0, len(places))
        for queue, values in ((self.queue_x, x), (self.queue_y, y), (self.input_x, x_input), (self.input_y, y_input)):
            queue[places] = values[rows].to(queue.dtype)
        # Rows without an id get one below zero that no other row in the queue has.
        self.ids[places] = -2 - places if ids is None else ids[rows].to(self.ids.device)
        self.state[1] = min(size, int(self.state[1]) + len(places))
        self.state[0] = (start + len(x)) % size

    def _direction(
        self, x: Tensor, y: Tensor, given: Tensor, queue: Tensor, inputs: Tensor, ids: Tensor | None
    ) -> Tensor:
        if self.config.form == "released":
            return self._released(x, y, given, queue, inputs)
        how = self.config
        inter = x @ y.T / how.temperature
        own = torch.eye(len(x), dtype=torch.bool, device=x.device)
        filled = int(self.state[1])
        if how.queue and filled:
            queue, inputs = queue[:filled], inputs[:filled]
            mean = inputs.mean(0)
            connected, of_queue = given @ mean, inputs @ mean
            intra, itself = x @ queue.T / how.temperature, self._own_copies(len(x), filled, ids)
        else:
            gram = (given @ given.T).masked_fill(own, 0)
            connected = of_queue = gram.sum(0) / max(1, len(x) - 1)
            intra, itself = x @ x.T / how.temperature, own
        intra = intra.masked_fill(itself | self._influential(of_queue)[None, :], -torch.inf)
        pruned = self._influential(connected)[None, :] & ~own
        negatives = inter.masked_fill(pruned, -torch.inf)
        below = torch.cat([negatives, intra + torch.tensor(how.intra, dtype=intra.dtype).log()], 1).logsumexp(1)
        above = inter.diagonal()
        if how.positives:
            above, below = self._more_positives(inter, given, connected, own, below)
        return (self._weights(connected) * (below - above)).sum()

    def _own_copies(self, items: int, filled: int, ids: Tensor | None) -> Tensor:
        """Which places of the queue hold a sample itself, now or from earlier [item, place]."""
        if ids is not None:
            return ids[:, None] == self.ids[None, :filled]
        own = torch.zeros(items, filled, dtype=torch.bool, device=self.ids.device)
        if self.training:
            kept = torch.arange(min(items, self.config.queue), device=own.device)
            own[kept, (int(self.state[0]) - items + kept) % self.config.queue] = True
        return own

    def _influential(self, connected: Tensor) -> Tensor:
        """Section 3.3: connectivity over its maximum, above gamma."""
        if self.config.prune is None:
            return torch.zeros_like(connected, dtype=torch.bool)
        top = connected.max()
        return (connected / top.clamp(min=1e-12) > self.config.prune) & (top > 0)

    def _weights(self, connected: Tensor) -> Tensor:
        """Equation 6, in a form that cannot overflow: exp(w / kappa) over its sum is a softmax."""
        if self.config.sharpness is None:
            return torch.full_like(connected, 1 / len(connected))
        connected = connected.clamp(min=0)  # less than nothing in common is nothing in common
        share = connected / connected.sum().clamp(min=1e-12)
        return (share / self.config.sharpness).softmax(0)

    def _more_positives(
        self, inter: Tensor, given: Tensor, connected: Tensor, own: Tensor, below: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Supplement, equation 1: `log(own + beta sum of positives)`; the denominator stays."""
        candidates = self._influential(connected)[None, :] & ~own
        near = (functional.normalize(given, dim=-1) @ functional.normalize(given, dim=-1).T).masked_fill(
            ~candidates, -torch.inf
        )
        best, index = near.topk(min(self.config.positives, len(given)), dim=1)
        extra = inter.gather(1, index).masked_fill(best == -torch.inf, -torch.inf)
        extra = extra + torch.tensor(self.config.positive_weight, dtype=extra.dtype).log()
        return torch.cat([inter.diagonal()[:, None], extra], 1).logsumexp(1), below

    def _released(self, x: Tensor, y: Tensor, given: Tensor, queue: Tensor, inputs: Tensor) -> Tensor:
        how, items = self.config, len(x)
        start = int(self.state[0])
        mask = torch.ones(items, how.queue, dtype=x.dtype, device=x.device)
        diagonal = torch.arange(min(items, how.queue - start), device=x.device)
        mask[diagonal, start + diagonal] = 0
        intra = (x @ queue.T / how.temperature) * mask
        keep, pruned, weights = self.derived(given, inputs)
        inter = x @ y.T / how.temperature
        own = torch.eye(items, dtype=torch.bool, device=x.device)
        inter = inter.masked_fill(pruned[None, :] & ~own, 0)
        others = (how.intra * intra).masked_fill(~keep[None, :], -torch.inf)  # a column that is not there
        logits = torch.cat([inter, others], 1).double()
        each = functional.cross_entropy(logits, torch.arange(items, device=x.device), reduction="none")
        return (weights * each).sum()

    def derived(self, given: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which places are kept as negatives, which samples are pruned, and the samples' weights, as released.

        By way of all products, as released: kappa magnifies what rounding the mean first would change.
        """
        assert self.config.prune is not None
        assert self.config.sharpness is not None
        queue = inputs.T.contiguous()
        connected, of_queue = (given @ queue).mean(1), (queue.T @ queue).mean(0)
        share = (connected / connected.sum()).double()
        return (
            of_queue / of_queue.max() < self.config.prune,
            connected / connected.max() > self.config.prune,
            (share / self.config.sharpness).softmax(0),
        )
