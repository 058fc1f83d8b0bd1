"""Embeddings with a slot for each part of the evidence, and the similarity of captions and videos by their slots."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from reelseek.library.mask import zero_absent
from reelseek.models import parallel

__all__ = ["Embedding", "contributions", "mean_of_slots", "similarity"]


@dataclass(frozen=True)
class Embedding:
    """Vectors, one a slot; a slot without evidence is not present.

    `weights` say how much each slot matters: captions set them, videos leave them at 1.
    """

    values: Float[Tensor, "item slot dim"]
    present: Bool[Tensor, "item slot"]
    weights: Float[Tensor, "item slot"]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice | Int[Tensor, " row"]) -> "Embedding":
        """Some of the items, in that order."""
        return Embedding(self.values[rows], self.present[rows], self.weights[rows])

    @classmethod
    def even(cls, values: Tensor, present: Tensor | None = None) -> "Embedding":
        """Slots that weigh the same; all of them present if not said otherwise."""
        ones = torch.ones_like(values[..., 0])
        return cls(values, ones > 0 if present is None else present, ones)

    def all_gather(self) -> "Embedding":
        """The items of all processes that train together."""
        return Embedding(*(parallel.all_gather(part) for part in (self.values, self.present, self.weights)))

    def to(self, device: torch.device | str) -> "Embedding":
        """The same on a device."""
        return Embedding(self.values.to(device), self.present.to(device), self.weights.to(device))

    @property
    def flat(self) -> Float[Tensor, "item width"]:
        """Slots side by side, zeros where one is not present."""
        return zero_absent(self.present[..., None], self.values).flatten(1)

    @classmethod
    def concat(cls, parts: Sequence["Embedding"]) -> "Embedding":
        """Items of several embeddings in one."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in ("values", "present", "weights")))


def similarity(texts: Embedding, videos: Embedding, *, renormalise: bool = True) -> Float[Tensor, "text video"]:
    """`sum_s w_s p_s <t_s, v_s>`, divided by `sum_s w_s p_s` if `renormalise`; 0 where no slot is present.

    Source: Miech et al. 2018 (MEE); Gabeur et al. 2020, section 3.3. Plain sums serve systems whose slots are evidence
    that adds up.
    """
    weights = (texts.weights * texts.present).float()
    values = zero_absent(videos.present[..., None], videos.values.float() * videos.weights.float()[..., None])
    scores = (weights[..., None] * texts.values.float()).flatten(1) @ values.flatten(1).T
    if not renormalise:
        return scores
    total = weights @ (videos.present.float() * videos.weights.float()).T
    return zero_absent(total > 0, scores / total.clamp(min=1e-12))


def contributions(texts: Embedding, videos: Embedding, *, renormalise: bool = True) -> Float[Tensor, "text video slot"]:
    """What each slot adds to `similarity`: they sum to it."""
    weights = (texts.weights * texts.present).float()[:, None] * (videos.weights * videos.present).float()[None]
    values = zero_absent(videos.present[..., None], videos.values.float())
    terms = (texts.values.float()[:, None] * values[None]).sum(-1) * weights
    if not renormalise:
        return terms
    total = weights.sum(-1, keepdim=True)
    return zero_absent(total > 0, terms / total.clamp(min=1e-12))


def mean_of_slots(embedding: Embedding) -> Embedding:
    """One slot: the mean of those that are present, of unit length."""
    present = embedding.present[..., None]
    mean = zero_absent(present, embedding.values.float()).sum(1) / present.sum(1).clamp(min=1)
    return Embedding.even(functional.normalize(mean, dim=-1)[:, None], embedding.present.any(1, keepdim=True))
