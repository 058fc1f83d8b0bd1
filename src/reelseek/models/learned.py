"""What systems that are trained have in common: standardised inputs, a text encoder, and the terms of a loss."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Literal

import pydantic.dataclasses
import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor

from reelseek.errors import ModelError
from reelseek.library.mask import upload
from reelseek.library.tokens import Steps, Tokens
from reelseek.models import parallel
from reelseek.models.batch import Batch, Rows, compared_parts
from reelseek.models.blocks.project import Inputs
from reelseek.models.embedding import Embedding
from reelseek.models.losses import LossConfig
from reelseek.models.model import RetrievalModel
from reelseek.models.settings import STRICT, refuse_switch
from reelseek.models.text import TextConfig, TextEncoder

__all__ = ["SOUND_EXPERTS", "LearnedModel", "SystemConfig"]

SOUND_EXPERTS = ("audio", "audio_net")
"""The experts that a system takes for sound where its settings name none."""


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT, kw_only=True)
class SystemConfig:
    """What every trained system is told.

    Args:
        experts: width of each expert's features, in the order of the slots.
        text: what captions are turned into first; every system takes every text side.
        loss: over its similarities; systems with losses of their own say what they do with it.
        missing: what becomes of an expert that a video lacks. `mask` leaves it out and weighs the rest alone; `refuse`
            raises an error, as systems do that were published without a way; `token` and `keep` where a system has
            them.
    """

    experts: dict[str, int] = Field(min_length=1)
    text: TextConfig = Field(default_factory=TextConfig)
    loss: LossConfig = Field(default_factory=LossConfig)
    missing: Literal["mask", "token", "keep", "refuse"] = "mask"
    _numbers = field_validator("*", mode="before")(refuse_switch)


class LearnedModel(RetrievalModel):
    """A system that is trained: standardised inputs, a text encoder, a loss. Systems fill in `encode`."""

    def __init__(self, config: SystemConfig) -> None:
        super().__init__()
        self.config = config
        self.slots = tuple(config.experts)
        self.inputs = Inputs(config.experts)
        self.text = TextEncoder(config.text)
        self.score_loss = config.loss.build()

    @property
    def experts(self) -> Mapping[str, int]:
        experts: Mapping[str, int] = self.config.experts
        return experts

    @abstractmethod
    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        """Embeddings from every expert's steps, absent ones among them; zeros stand where nothing is present."""

    def check(self, tokens: Tokens) -> None:
        """Refuse what the model was not built for, and videos that lack an expert where `missing` is `refuse`.

        Raises:
            ModelError: says what was given and what is wanted.
        """
        super().check(tokens)
        if self.config.missing != "refuse":
            return
        for name, steps in self.inputs.filled(tokens).items():
            lacking = len(steps.mask) - steps.videos.count
            if lacking:
                raise ModelError(
                    f"{self.system} as published needs every modality, and {lacking} of {len(steps.mask)} videos lack "
                    f"{name}; set model.missing to mask to go without"
                )

    def encode_videos(self, tokens: Tokens) -> Embedding:
        self.check(tokens)
        return self.check_embedding(self.encode(self.inputs(tokens)), "encode")

    def loss(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The terms of the clips that have any evidence; one that is zero where there are none.

        A process whose share of a batch has none keeps a clip of it, to take its part in what all processes compute.
        """
        self.check(batch.tokens)
        batch = batch.with_evidence(at_least=int(parallel.active() and self.training))
        with parallel.uncounted(nothing=not bool(batch.evident.any())):
            losses = self.terms(batch) if self.any_evidence(batch) else {}
        if not isinstance(losses, Mapping):
            raise ModelError(
                f"the terms of {self.system} gave a {type(losses).__name__}; wanted a dict of named scalars, such as "
                '{"nce": loss}'
            )
        if not losses:
            return {"nothing": torch.stack([(parameter * 0).sum() for parameter in self.parameters()]).sum()}
        return losses

    def parts(self, batch: Batch) -> dict[str, Rows]:
        """Embed a batch: all that `terms_of` compares, in rows of one for each clip, with the same names for any batch.

        Systems with a loss of their own give this and `terms_of`; several processes then share it, and gradient caching
        takes it in chunks.
        """
        raise NotImplementedError

    def terms_of(self, parts: Mapping[str, Rows], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The terms of the loss, of the parts of some clips.

        Args:
            batch: of the same clips, perhaps those of all processes: it holds their numbers and pseudo-labels alone.
        """
        raise NotImplementedError

    def shares(self, batch: Batch) -> bool:
        """Whether the clips of all processes are compared with each other."""
        return parallel.active() and self.training and not batch.local

    def any_evidence(self, batch: Batch) -> bool:
        """Whether there is something to learn from, in any of the processes that train together."""
        evident = int(batch.evident.sum())
        return (parallel.total_count(evident) if self.training else evident) > 0

    def terms(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The terms of the loss, each times its weight; every clip has some modality. None if no term has clips."""
        if self.has_parts:
            return self.compare_parts(self.parts(batch), batch)
        if batch.more_texts:
            return {self.config.loss.name: self._narrated(batch)}
        texts, videos = self.encode_texts(batch.texts), self.encode_videos(batch.tokens)
        return {self.config.loss.name: self.compare(texts, videos, batch, self.similarity)}

    def compare_parts(self, parts: Mapping[str, Rows], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The terms of the parts of a batch, among those of all processes where they are shared."""
        shared = self.shares(batch)
        if not shared and not batch.evident.any():
            return {"nothing": _nothing(values for values, _ in parts.values())}
        rows, batch = compared_parts(parts, batch, shared=shared)
        with parallel.replicated() if shared else nullcontext():
            losses = self.terms_of(rows, batch)
        if parallel.active() and not shared:  # another process may have terms that this one lacks
            losses = {**losses, "nothing": _nothing(values for values, _ in rows.values())}
        return losses

    def compare(
        self,
        texts: Embedding,
        videos: Embedding,
        batch: Batch,
        similarity: Callable[[Embedding, Embedding], Float[Tensor, "text video"]],
    ) -> Float[Tensor, ""]:
        """The loss of the captions and clips of a batch, among those of all processes where they are shared."""
        shared, alike, evident = self.shares(batch), batch.alike, batch.evident
        if not shared and not evident.any():
            return _nothing([similarity(texts, videos)])
        if shared:
            texts, videos, alike = texts.all_gather(), videos.all_gather(), parallel.all_gather(alike)
            evident = parallel.all_gather(evident)
        if not bool(evident.all()):
            rows = upload([evident.nonzero()[:, 0]], alike.device)[0]
            texts, videos, alike = texts[rows], videos[rows], alike[rows]
        with parallel.replicated() if shared else nullcontext():
            scores, negatives = similarity(texts, videos), alike[:, None] != alike[None, :]
            loss: Tensor = self.score_loss(scores, negatives=negatives)
            return loss

    def _narrated(self, batch: Batch) -> Float[Tensor, ""]:
        """The loss where several captions stand for a clip together."""
        captions = [batch.texts, *batch.more_texts]
        owners = torch.tensor([clip for texts in captions for clip, text in enumerate(texts) if text])
        texts = self.encode_texts([text for same in captions for text in same if text])
        owner = upload([owners], batch.video.device)[0]
        similarity = self.similarity(texts, self.encode_videos(batch.tokens))
        negatives = batch.negatives.index_select(0, owner)
        loss: Tensor = self.score_loss(similarity, video_of_text=owner, negatives=negatives)
        return loss

    @property
    def takes_narrations(self) -> bool:
        return self.config.loss.name == "mil_nce" and type(self).terms is LearnedModel.terms and not self.has_parts

    @property
    def has_parts(self) -> bool:
        """Whether the loss is more than one of the similarities, and is taken of `parts`."""
        return type(self).parts is not LearnedModel.parts

    @property
    def compares_only(self) -> bool:
        """Whether the loss is a function of embeddings alone, which may be made elsewhere."""
        return type(self).terms is LearnedModel.terms

    def fit_inputs(self, tokens: Tokens, texts: Sequence[Sequence[str]]) -> None:
        self.inputs.fit(tokens)


def _nothing(parts: Iterable[Tensor]) -> Float[Tensor, ""]:
    """Zero, whose backward pass goes through all that made some tensors.

    Processes wait for each other there, in layers that share batch statistics, though one may have nothing to learn.
    """
    return torch.stack([values.flatten()[:0].float().sum() for values in parts]).sum()
