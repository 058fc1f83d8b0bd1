"""The one face of every system: tokens and texts in, embeddings out, similarity between them."""

import json
import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pydantic.dataclasses
import torch
from jaxtyping import Bool, Float, Int
from pydantic import ConfigDict, Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from reelseek.errors import ModelError, suggest
from reelseek.library.files import write_whole
from reelseek.library.mask import Mask, upload, zero_absent
from reelseek.library.tokens import Steps, Tokens
from reelseek.models import parallel
from reelseek.models.blocks.mix import Plan
from reelseek.models.blocks.project import Inputs
from reelseek.models.losses import LossConfig
from reelseek.models.settings import refuse_switch
from reelseek.models.text import TextConfig, TextEncoder, refuse_features, takes_one_text
from reelseek.models.weights import read_saved, write_errors, write_saved

__all__ = [
    "SOUND_EXPERTS",
    "STRICT",
    "Batch",
    "Embedding",
    "LearnedModel",
    "RetrievalModel",
    "Rows",
    "SystemConfig",
    "all_rows",
    "compared_parts",
    "embedding_of",
    "embedding_rows",
    "load_model",
    "similarity",
]

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
SOUND_EXPERTS = ("audio", "audio_net")
"""The experts that a system takes for sound where its settings name none."""


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


Rows = tuple[Tensor, Mask]  # values with a row for each clip, and which clips have one


def compared_parts(parts: Mapping[str, Rows], batch: "Batch", *, shared: bool) -> "tuple[dict[str, Rows], Batch]":
    """The rows and the clips that a loss compares: those with evidence, of all processes where they are shared."""
    evident, rows = batch.evident, dict(parts)
    if shared:
        evident = parallel.all_gather(evident)
        for name, (values, mask) in parts.items():
            rows[name] = parallel.all_gather(values), Mask.on(values.device, parallel.all_gather(mask.host))
        batch = batch.all_gather()
    if bool(evident.all()):
        return rows, batch
    selected = evident.nonzero()[:, 0]
    for name, (values, mask) in rows.items():
        index = upload([selected], values.device)[0]
        rows[name] = values.index_select(0, index), Mask.on(values.device, mask.host.index_select(0, selected))
    return rows, batch.rows(selected)


def all_rows(values: Tensor) -> Rows:
    """Rows of which none is absent."""
    return values, Mask.on(values.device, torch.ones(len(values), dtype=torch.bool))


def embedding_rows(name: str, embedding: Embedding) -> dict[str, Rows]:
    """An embedding with even weights as parts: its values, and as numbers which of its slots are present."""
    present = embedding.present.to(embedding.values.dtype)
    return {name: all_rows(embedding.values), f"{name} present": all_rows(present)}


def embedding_of(parts: Mapping[str, Rows], name: str) -> Embedding:
    """The embedding that `embedding_rows` put among parts."""
    return Embedding.even(parts[name][0], parts[f"{name} present"][0] > 0.5)


@dataclass(frozen=True)
class Batch:
    """Clips with a caption each.

    Attributes:
        video: numbers the videos that they come from.
        clip: numbers the clips of the whole training split, the same in every epoch.
        pseudo: what another model would have predicted for each clip (UMI's second branch).
        more_texts: further candidates for captions (MIL-NCE), a sequence [clip] for each; '' where a clip has fewer.
        apart: another clip of the same video is a negative too; by default it is none.
        local: compare with the clips of this process alone, where several train together.
        host_video: `video` on the host, where that is on a device.
        plans: attention plans of these clips that were made before the step, see `models.planning`.
    """

    tokens: Tokens
    texts: Sequence[str]
    video: Int[Tensor, " clip"]
    clip: Int[Tensor, " clip"] | None = None
    pseudo: Float[Tensor, "clip dim"] | None = None
    more_texts: Sequence[Sequence[str]] = ()
    apart: bool = False
    local: bool = False
    host_video: Int[Tensor, " clip"] | None = None
    plans: Mapping[bytes, Plan] | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The same on a device; the host keeps what it decides by, and does not wait for the copy."""
        device = torch.device(device)
        away = device.type != "cpu"
        video = self.video.to(device, non_blocking=away)
        clip, pseudo = (
            part if part is None else part.to(device, non_blocking=away) for part in (self.clip, self.pseudo)
        )
        tokens = {name: steps.to(device) for name, steps in self.tokens.items()}
        plans = None if self.plans is None else {key: plan.to(device) for key, plan in self.plans.items()}
        return replace(
            self, tokens=tokens, video=video, clip=clip, pseudo=pseudo, host_video=self.video_numbers, plans=plans
        )

    @property
    def video_numbers(self) -> Int[Tensor, " clip"]:
        """`video` on the host."""
        if self.video.device.type == "cpu":
            return self.video
        return self.video.cpu() if self.host_video is None else self.host_video

    def videos(self, expert: str) -> Mask:
        """Which clips have an expert."""
        if expert in self.tokens:
            return self.tokens[expert].videos
        device = next(iter(self.tokens.values())).device
        return Mask.on(device, torch.zeros(len(self.texts), dtype=torch.bool))

    @property
    def evident(self) -> Bool[Tensor, " clip"]:
        """Which clips have at least one step of some modality, on the host."""
        return torch.stack([steps.videos.host for steps in self.tokens.values()]).any(0)

    def with_evidence(self, at_least: int = 0) -> "Batch":
        """The clips that have evidence: nothing can be learnt from the others.

        Args:
            at_least: so many clips; where fewer have evidence, the first of the others stay as well.
        """
        selected = self.evident
        others = (~selected).nonzero()[:, 0]
        selected[others[: max(0, at_least - len(selected) + len(others))]] = True
        if bool(selected.all()):
            return self
        return self.rows(selected.nonzero()[:, 0])

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, rows: "slice | Sequence[int] | Tensor") -> "Batch":
        """Return some of the clips: a slice, their numbers, or a mask."""
        return self.rows(torch.arange(len(self))[rows])

    @classmethod
    def concat(cls, parts: Sequence["Batch"]) -> "Batch":
        """Collate batches of the same experts, on the host, into one; steps are padded to the longest."""
        first = parts[0]
        clips = [part.clip for part in parts if part.clip is not None]
        pseudo = [part.pseudo for part in parts if part.pseudo is not None]
        return replace(
            first,
            tokens={name: Steps.concat([part.tokens[name] for part in parts]) for name in first.tokens},
            texts=[text for part in parts for text in part.texts],
            more_texts=[
                [text for texts in same for text in texts]
                for same in zip(*(part.more_texts for part in parts), strict=True)
            ],
            video=torch.cat([part.video for part in parts]),
            clip=torch.cat(clips) if first.clip is not None else None,
            pseudo=torch.cat(pseudo) if first.pseudo is not None else None,
            host_video=None,
            plans=None,
        )

    def rows(self, selected: Int[Tensor, " selected"]) -> "Batch":
        """Some of the clips, in that order, by their numbers on the host."""
        tokens = {name: steps.rows(selected) for name, steps in self.tokens.items()}
        index = upload([selected], self.video.device)[0]
        video = self.video.index_select(0, index)
        clip = None if self.clip is None else self.clip.index_select(0, index)
        pseudo = self.pseudo
        if pseudo is not None:
            pseudo = pseudo.index_select(0, upload([selected], pseudo.device)[0])
        texts, *more_texts = ([texts[row] for row in selected.tolist()] for texts in (self.texts, *self.more_texts))
        numbers = self.video_numbers.index_select(0, selected)
        return replace(
            self, tokens=tokens, texts=texts, more_texts=more_texts, video=video, clip=clip, pseudo=pseudo,
            host_video=numbers, plans=None,
        )  # fmt: skip

    @property
    def alike(self) -> Int[Tensor, " clip"]:
        """Clips that share a number are no negatives of each other's captions: those of a video, or copies of a clip.

        Raises:
            ValueError: clips are to be told apart and have no numbers.
        """
        if self.apart and self.clip is None:
            raise ValueError("apart: a batch that tells the clips of a video apart needs their numbers")
        return self.clip if self.apart and self.clip is not None else self.video

    def all_gather(self) -> "Batch":
        """The clips of all processes that train together, without their features and captions."""
        video = parallel.all_gather(self.video)
        clip, pseudo = (None if part is None else parallel.all_gather(part) for part in (self.clip, self.pseudo))
        texts = ("",) * len(video)
        return replace(
            self, tokens={}, texts=texts, more_texts=(), video=video, clip=clip, pseudo=pseudo, host_video=None
        )

    @property
    def negatives(self) -> Bool[Tensor, "text clip"]:
        return self.alike[:, None] != self.alike[None, :]

    def negatives_among(self, rows: Int[Tensor, " row"]) -> Bool[Tensor, "row row"]:
        """`negatives` of some clips, by their numbers beside the other tensors."""
        alike = self.alike.index_select(0, rows)
        return alike[:, None] != alike[None, :]


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


class RetrievalModel(nn.Module):
    """What every system is: `encode_videos`, `encode_texts`, `similarity`, `save`; called with a batch, its loss terms.

    Where texts are taken, one string is one text, in the systems of other packages too.

    A system whose slots meet in dot products has nothing to say of `similarity`, and is searched by an index that
    orders clips exactly. One that compares in a way of its own (X-Pool, JSFusion) overrides it, and is `pairwise`:
    search finds candidates by the dot product of coarse embeddings and scores those again by `similarity`. The slots of
    its embeddings may be steps or words, always the same number of them, with `present` telling which are real.

    Attributes:
        system: its name in SYSTEMS.
        config: a frozen dataclass that rebuilds it.
        slots: names of the slots, usually experts.
        slots_apart: each slot is made of the expert of its name alone, so that leaving the expert out of a video is
            leaving out its slot.
        candidates: how many clips a search scores again by a pairwise `similarity`; None takes as many as a recall of
            .99 needs, which is measured when an index is built.
        renormalise: how `similarity` treats absent slots.
        text_side: what names of parameters of the text side begin with; they may learn at a rate of their own.
        unused: parameters that no loss reaches, by what their names begin with.
        learns_uncaptioned: whether its loss has terms of clips without captions (sight with sound).
        joins_clips: its loss reads the clips of a video together, so that they stay in one process and one chunk.
        record: what was written beside its weights of how it was trained; empty for one that was not loaded.
        embeds_sentences: whether it compares queries with a library's lines as they are, in one encoder's space.
    """

    embeds_sentences: bool = False
    slots_apart: bool = False
    joins_clips: bool = False
    candidates: int | None = None
    learns_uncaptioned: bool = False
    system: str = ""
    text_side: tuple[str, ...] = ("text", "caption", "words")
    unused: tuple[str, ...] = ()
    renormalise: bool = True
    slots: tuple[str, ...] = ()
    config: Any = None
    record: Mapping[str, Any] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in ("encode_texts", "reads"):
            if name in vars(cls):
                setattr(cls, name, takes_one_text(vars(cls)[name]))

    @property
    def takes_narrations(self) -> bool:
        """Whether its loss takes several captions for one clip, of which one may be right (MIL-NCE)."""
        return False

    @property
    def compares_only(self) -> bool:
        """Whether the loss is a function of embeddings alone, which may be made elsewhere."""
        return False

    @property
    def step_by_step(self) -> Mapping[str, int]:
        """Experts whose steps it wants as they are and not averaged, and how many of them."""
        return {}

    @property
    def shifts(self) -> Mapping[str, float]:
        """Experts that are read earlier or later by so many seconds while it is trained."""
        return {}

    @property
    @abstractmethod
    def experts(self) -> Mapping[str, int]:
        """The experts it can take and their dims."""

    @abstractmethod
    def encode_videos(self, tokens: Tokens) -> Embedding:
        """Embeddings of videos (or clips) from any subset of its experts.

        Raises:
            ModelError: an expert it was not built for, or features of another width.
        """

    @abstractmethod
    def encode_texts(self, texts: str | Sequence[str]) -> Embedding:
        """Embeddings of captions or queries; a string is one of them.

        Raises:
            ModelError: a text is empty.
        """

    @takes_one_text
    def reads(self, texts: str | Sequence[str]) -> Bool[Tensor, " text"]:
        """Which texts its text side can read; the vectors of the others say nothing of what they mean."""
        encoder = getattr(self, "text", None)
        if isinstance(encoder, TextEncoder):
            return encoder.reads(texts)
        refuse_features(texts)
        return torch.ones(len(texts), dtype=torch.bool)

    def forward(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The terms of `loss`: what `DistributedDataParallel` and `torch.compile` call.

        >>> shared = DistributedDataParallel(model)  # doctest: +SKIP
        >>> sum(shared(batch).values()).backward()  # doctest: +SKIP
        """
        return self.loss(batch)

    def loss(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Terms whose sum a training step makes smaller, each times its weight."""
        raise ModelError(f"{self.system} is not trained")

    def fit_inputs(self, tokens: Tokens, texts: Sequence[Sequence[str]]) -> None:
        """Learn what is known in closed form from training clips and their captions, before the first step."""

    def refit(self, tokens: Tokens, texts: Sequence[Sequence[str]]) -> None:
        """Fit the closed form again, to all training clips, once the best epoch has been chosen on some of them."""

    def choices(self) -> Mapping[str, Sequence[float]]:
        """State of one number each that is chosen on validation clips after every epoch, with what may be chosen."""
        return {}

    def calibrate(
        self, texts: Sequence[str], videos: Embedding, owner: Int[Tensor, " text"]
    ) -> Mapping[str, float | Tensor]:
        """State, by name, at the values under which validation clips rank best; taken after every epoch.

        Args:
            texts: captions of the validation clips.
            videos: embeddings of the clips.
            owner: the clip of each caption.
        """
        return {}

    def similarity(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "text video"]:
        """Higher is nearer. The one score: training, evaluation and search all rank by it."""
        return similarity(texts, videos, renormalise=self.renormalise)

    @property
    def pairwise(self) -> bool:
        """Whether `similarity` is the system's own, and not the weighted dot product of slots."""
        return type(self).similarity is not RetrievalModel.similarity

    def contributions(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "text video slot"]:
        """What each slot adds to `similarity`, of a system that is not pairwise."""
        return contributions(texts, videos, renormalise=self.renormalise)

    def coarse_texts(self, texts: Embedding) -> Embedding:
        """What the candidates of a search are found by, in dot products with `coarse_videos`."""
        return mean_of_slots(texts) if self.pairwise else texts

    def coarse_videos(self, videos: Embedding) -> Embedding:
        """See `coarse_texts`; as many slots, and as wide."""
        return mean_of_slots(videos) if self.pairwise else videos

    def check(self, tokens: Tokens) -> None:
        """Refuse what the model was not built for.

        Raises:
            ModelError: says what was given and what is wanted.
        """
        widths = self.experts
        if not tokens:
            raise ModelError(f"{self.system} was given no features; it takes {', '.join(widths)}")
        for name, steps in tokens.items():
            if name not in widths:
                raise ModelError(f"{self.system} was not built for {name!r}; it takes {', '.join(widths)}")
            if steps.values.shape[2] != widths[name]:
                raise ModelError(
                    f"{self.system} wants {name} of width {widths[name]}, and was given width {steps.values.shape[2]}"
                )

    def check_embedding(self, embedding: Any, method: str) -> Embedding:
        """Return what a method of this model gave, if clips can be compared by it.

        Raises:
            ModelError: it is no embedding, or has another number of slots than `slots` has names.
        """
        if not isinstance(embedding, Embedding):
            raise ModelError(
                f"the {method} of {self.system} gave a {type(embedding).__name__}; wanted an Embedding, such as "
                "Embedding.even(values, present)"
            )
        count = embedding.values.shape[1]
        if not self.pairwise and count != len(self.slots):
            raise ModelError(
                f"the {method} of {self.system} gave embeddings with {count} slots, and its `slots` names "
                f"{len(self.slots)} ({', '.join(self.slots)}); give `slots` one name for each"
            )
        return embedding

    @property
    def fingerprint(self) -> str:
        """Names the system and its exact weights and configuration; embeddings of two fingerprints never meet."""
        import hashlib

        digest = hashlib.sha256(json.dumps(_plain(self.config), sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return f"{self.system}:{digest.hexdigest()[:16]}"

    def save(self, path: str | os.PathLike[str], *, card: str = "", about: Mapping[str, Any] | None = None) -> None:
        """Write config.json, model.safetensors and a card; each appears whole or not at all.

        A save over another model that is interrupted leaves two files that `load_model` refuses to pair.

        Raises:
            ModelError: one of them cannot be written.
        """
        folder = Path(path)
        from reelseek.models.systems import SYSTEMS

        package = SYSTEMS.package(self.system)
        config = {"format": 1, "system": self.system, "config": _plain(self.config), **(about or {})}
        config |= {"package": package} if package else {}
        write_saved(folder, self.state_dict(), config)
        with write_errors(folder / "README.md"):
            write_whole(folder / "README.md", card or f"# {self.system}\n\nA Reelseek retrieval model.\n")


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
        batch = batch.with_evidence(at_least=int(self.shares(batch)))
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
        """Whether there is something to learn from: in any process, or in every one if each compares its own clips."""
        evident = bool(batch.evident.any())
        return parallel.total_count(int(evident)) > 0 if self.shares(batch) else parallel.all_true(evident)

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
        rows, batch = compared_parts(parts, batch, shared=shared)
        with parallel.replicated() if shared else nullcontext():
            return self.terms_of(rows, batch)

    def compare(
        self,
        texts: Embedding,
        videos: Embedding,
        batch: Batch,
        similarity: Callable[[Embedding, Embedding], Float[Tensor, "text video"]],
    ) -> Float[Tensor, ""]:
        """The loss of the captions and clips of a batch, among those of all processes where they are shared."""
        shared, alike, evident = self.shares(batch), batch.alike, batch.evident
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


def _plain(config: Any) -> Any:
    return asdict(config) if is_dataclass(config) and not isinstance(config, type) else config


def load_model(path: "RetrievalModel | str | os.PathLike[str]", **settings: Any) -> RetrievalModel:
    """A model from its folder, or an untrained system by name; a model is given back as it is.

    Args:
        path: a folder with config.json and model.safetensors, or a name in SYSTEMS that needs no training.
        settings: given to the system's configuration when it is built by name.

    Raises:
        ModelError: neither; or the folder's files do not fit together, or a weight is NaN or infinite.
    """
    from reelseek.models.systems import SYSTEMS

    if isinstance(path, RetrievalModel):
        return path
    folder = Path(path)
    if not folder.is_dir() and str(path) in SYSTEMS and SYSTEMS[str(path)].trained is False:
        return SYSTEMS[str(path)].build(settings)
    if not (folder / "config.json").is_file():
        names = ", ".join(name for name, system in SYSTEMS.items() if not system.trained)
        raise ModelError(
            f"{folder} is not a model: no config.json there, nor a system that needs no training ({names})"
            f"{suggest(str(path), SYSTEMS)}"
        )
    try:
        config, weights = read_saved(folder)
        if "system" not in config or "config" not in config:
            raise ModelError("its config.json names no system and configuration; is it a folder of another project?")
        system = SYSTEMS.of_saved(config["system"], str(config.get("package", "")))
        model = system.build(config["config"])
        model.load_state_dict(weights)
        model.record = {key: value for key, value in config.items() if key not in ("format", "system", "config")}
    except Exception as error:  # safetensors and torch have no common root for a damaged or foreign file
        raise ModelError(f"{folder} cannot be loaded: {error}") from error
    return model.eval()
