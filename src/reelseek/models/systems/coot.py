"""COOT (Ging, Zolfaghari, Pirsiavash, Brox, NeurIPS 2020) and CrossCLR (Zolfaghari et al., ICCV 2021) on top of it.

Video and text have the same shape: a local transformer reads each clip or sentence, and the whole, whose vector is the
context; a global transformer reads the clips' vectors, and the context is a query over its output.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from reelseek.errors import ModelError
from reelseek.library.mask import Mask, upload
from reelseek.library.tokens import Steps
from reelseek.models.batch import Batch, Rows, all_rows
from reelseek.models.blocks.arrange import TokenSequence, align_experts, concat_parts, everything, pack_left, split_runs
from reelseek.models.blocks.mix import Layer, Transformer, UnbiasedLayerNorm
from reelseek.models.blocks.pool import WeightedPool, masked_max, masked_mean
from reelseek.models.embedding import Embedding
from reelseek.models.learned import LearnedModel, SystemConfig
from reelseek.models.losses import CrossCLR, CrossCLRConfig, LossConfig, cycle_consistency, max_margin
from reelseek.models.settings import STRICT

_SIDES = ("video", "text")

__all__ = ["COOT", "COOTConfig", "CrossCLRModel", "CrossCLRModelConfig", "Level", "hierarchy_loss"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class COOTConfig(SystemConfig):
    """Sizes default to the released ones for ActivityNet and YouCook2.

    Args:
        together: groups of experts whose features are concatenated ("+"); the groups are trained apart and their
            embeddings concatenated. None is one group of all experts.
        level: what `encode_videos` and `encode_texts` embed: a `clip` and a sentence, or a `video` and a paragraph,
            whose clips are runs of `clip_steps` steps and whose sentences end with a full stop.
        pooler: `attention` is the attention-aware one, `max` for LSMDC in CrossCLR.
        average: the global level's mean over clips: `masked`, or `released`, whose sum runs over padding too so that
            it depends on the batch; only for comparing with released weights.
        cycle: weight of cycle consistency; .01 for ActivityNet, .001 for YouCook2.
    """

    width: int = Field(default=384, ge=1)
    heads: int = 8
    global_heads: int | None = None
    inner: int = 384
    local_layers: int = Field(default=1, ge=1)
    global_layers: int = Field(default=1, ge=1)
    context_layers: int = Field(default=1, ge=1)
    pooler: Literal["attention", "max"] = "attention"
    pool_inner: int = 768
    pool_heads: int = 2
    dropout: float = Field(default=0.05, ge=0, lt=1)
    together: tuple[tuple[str, ...], ...] | None = None
    level: Literal["clip", "video"] = "clip"
    clip_steps: int = Field(default=8, ge=1)
    average: Literal["masked", "released"] = "masked"
    cycle: float = Field(default=0.001, ge=0)
    missing: Literal["mask", "refuse"] = "mask"
    loss: LossConfig = Field(default_factory=lambda: LossConfig("max_margin", {"margin": 0.2}))

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        return self.together or (tuple(self.experts),)


@dataclass(frozen=True, config={"arbitrary_types_allowed": True})
class Level:
    """One side of a hierarchy: parts (clips, sentences), wholes (videos, paragraphs) and their contexts."""

    parts: Tensor  # [part, dim]
    wholes: Tensor  # [whole, 2 dim]
    contexts: Tensor  # [whole, dim]
    grouped: Tensor  # [whole, part, dim], padded
    present: Tensor  # [whole, part]


def sinusoids(length: int, width: int) -> Float[Tensor, "place dim"]:
    """Position codes whose frequency falls with the raw index of the feature, as COOT releases them."""
    index = torch.arange(width)
    angles = torch.arange(length)[:, None] / 10000 ** (2 * index / width)
    return torch.where(index % 2 == 0, angles.sin(), angles.cos()).float()


class _Reader(nn.Module):
    """The common part of local and global readers: normalise, add positions, mix."""

    def __init__(self, width_in: int, config: COOTConfig, *, heads: int, layers: int) -> None:
        super().__init__()
        self.norm = UnbiasedLayerNorm(width_in)
        self.mix = Transformer(
            layers, config.width, heads, config.inner, order="post", norm=UnbiasedLayerNorm, dropout=config.dropout
        )
        self.register_buffer("positions", sinusoids(1000, config.width), persistent=False)
        self.positions: Tensor

    def encode_tokens(self, values: Tensor, present: Mask, also_compute: Tensor | None = None) -> Tensor:
        length = values.shape[1]
        if length > len(self.positions):
            raise ModelError(f"a sequence has {length} steps, and COOT positions for {len(self.positions)}; shorten it")
        group = torch.zeros(length, dtype=torch.long)
        sequence = TokenSequence(values + self.positions[:length], present.tensor, group, host=present.host)
        return self.mix(sequence, everything(1), also_compute)


class Local(_Reader):
    """Steps of a clip, or tokens of a sentence -> one vector (section 3.1 and attention-aware pooling)."""

    def __init__(self, width_in: int, config: COOTConfig) -> None:
        super().__init__(width_in, config, heads=config.heads, layers=config.local_layers)
        self.fc = nn.Linear(width_in, config.width)
        self.pool = (
            WeightedPool(config.width, config.pool_inner, config.pool_heads) if config.pooler == "attention" else None
        )

    def forward(self, steps: Steps) -> Float[Tensor, "item dim"]:
        steps = pack_left(steps)
        mixed = self.encode_tokens(functional.gelu(self.fc(self.norm(steps.clean))), steps.step_mask)
        return masked_max(mixed, steps.present) if self.pool is None else self.pool(mixed, steps.present)


class Global(_Reader):
    """Vectors of clips and a context -> the mean of their outputs, concatenated with what the context attends to."""

    def __init__(self, config: COOTConfig) -> None:
        heads = config.global_heads or config.heads
        super().__init__(config.width, config, heads=heads, layers=config.global_layers)
        self.average = config.average
        self.context = nn.ModuleList(
            Layer(config.width, heads, config.inner, order="post", norm=UnbiasedLayerNorm, dropout=config.dropout)
            for _ in range(config.context_layers)
        )

    def forward(
        self,
        parts: Float[Tensor, "whole part dim"],
        present: Mask,
        context: Float[Tensor, "whole dim"],
    ) -> Float[Tensor, "whole width"]:
        released = self.average == "released"
        mixed = self.encode_tokens(self.norm(parts), present, torch.ones_like(present.host) if released else None)
        if released:
            mean = mixed.sum(1) / present.tensor.sum(1, keepdim=True).clamp(min=1)
        else:
            mean = masked_mean(mixed, present.tensor)
        query = context[:, None]
        for layer in self.context:
            assert isinstance(layer, Layer)
            query = layer.cross(query, mixed, present)
        return torch.cat([mean, query[:, 0]], 1)


class _Side(nn.Module):
    """Local and global reader of video or of text."""

    def __init__(self, width_in: int, config: COOTConfig) -> None:
        super().__init__()
        self.local_reader = Local(width_in, config)
        self.global_reader = Global(config)

    def forward(self, wholes: Steps, parts: Steps, owner: Int[Tensor, " part"]) -> Level:
        """Args:
        owner: the whole that each part belongs to, in order, on the host.
        """
        rows, contexts = self.local_reader(parts), self.local_reader(wholes)
        grouped, present = _group_by_whole(rows, owner, len(contexts))
        return Level(rows, self.global_reader(grouped, present, contexts), contexts, grouped, present.tensor)


def _group_by_whole(
    rows: Float[Tensor, "part dim"], owner: Int[Tensor, " part"], wholes: int
) -> tuple[Float[Tensor, "whole place dim"], Mask]:
    """The parts of each whole side by side, and which places hold one."""
    counts = torch.bincount(owner, minlength=wholes)
    longest = max(1, int(counts.max()))
    present = Mask.on(rows.device, torch.arange(longest)[None, :] < counts[:, None])
    place = upload([owner * longest + _index_in_whole(owner)], rows.device)[0]
    grouped = rows.new_zeros(wholes * longest, rows.shape[1]).index_copy(0, place, rows)
    return grouped.unflatten(0, (wholes, longest)), present


def _index_in_whole(owner: Tensor) -> Tensor:
    """The index of each part within its whole."""
    same = owner[:, None] == owner[None, :]
    return same.tril(-1).sum(1)


class COOT(LearnedModel):
    """project (LayerNorm, MLP) -> mix (own clip) -> pool (attention) -> mix (full, context) -> pool (mean)."""

    system = "coot"
    joins_clips = True
    config: COOTConfig

    def __init__(self, config: COOTConfig) -> None:
        super().__init__(config)
        used = [name for group in config.groups for name in group]
        if sorted(used) != sorted(config.experts):
            raise ModelError(f"together names {', '.join(used)}; the experts are {', '.join(config.experts)}")
        self.slots = tuple("+".join(group) for group in config.groups)
        self.video = nn.ModuleList(_Side(sum(config.experts[e] for e in group), config) for group in config.groups)
        self.caption = nn.ModuleList(_Side(self.text.width, config) for _ in config.groups)
        for name, parameter in self.named_parameters():
            if ".norm" not in name and not name.startswith("text."):
                nn.init.trunc_normal_(parameter, std=0.01)

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        values, present = [], []
        for side, group in zip(self.video, self.config.groups, strict=True):
            tracks = align_experts(steps, group)
            values.append(self._embed(side, tracks, *split_runs(tracks, self.config.clip_steps)))
            present.append(tracks.videos.tensor)
        stacked = torch.stack(values, 1)
        return Embedding.even(stacked, torch.stack(present, 1))

    def _embed(self, side: nn.Module, wholes: Steps, parts: Steps, owner: Tensor) -> Tensor:
        assert isinstance(side, _Side)
        if self.config.level == "clip":
            return functional.normalize(side.local_reader(wholes), dim=-1)
        level: Level = side(wholes, parts, owner)
        return functional.normalize(level.wholes, dim=-1)

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        words = self.text.words(texts)
        sentences = [re.split(r"(?<=[.!?])\s+", text.strip()) for text in texts]
        owner = torch.tensor([index for index, group in enumerate(sentences) for _ in group])
        parts = (
            self.text.words([sentence for group in sentences for sentence in group])
            if self.config.level == "video"
            else words
        )
        values = torch.stack([self._embed(side, words, parts, owner) for side in self.caption], 1)
        present = words.videos.tensor[:, None].expand(len(texts), len(self.slots))
        return Embedding.even(values, present)

    def levels(self, batch: Batch, words: Steps) -> list[tuple[Level, Level]]:
        """Both sides of each group's hierarchy.

        A batch holds clips, those of a video next to each other; a video is the concatenation of its clips, a paragraph
        of their captions.

        Args:
            words: of the batch's texts.
        """
        steps = self.inputs(batch.tokens)
        owner = torch.unique(batch.video_numbers, return_inverse=True)[1]
        levels = []
        for index, group in enumerate(self.config.groups):
            clips = align_experts(steps, group)
            video = self.video[index](concat_parts(clips, owner), clips, owner)
            text = self.caption[index](concat_parts(words, owner), words, owner)
            levels.append((video, text))
        return levels

    def parts(self, batch: Batch) -> dict[str, Rows]:
        """Rows of clips and sentences; those of a video and its paragraph stand at its first clip."""
        order = batch.video_numbers.argsort(stable=True)
        batch = batch.rows(order)
        parts = self.ordered_parts(batch, self.text.words(batch.texts))
        back = order.argsort()
        index = upload([back], batch.video.device)[0]
        return {
            name: (values.index_select(0, index), Mask.on(values.device, mask.host.index_select(0, back)))
            for name, (values, mask) in parts.items()
        }

    def ordered_parts(self, batch: Batch, words: Steps) -> dict[str, Rows]:
        """The parts of a batch whose clips are in order of their videos.

        Args:
            words: of the batch's texts.
        """
        numbers = batch.video_numbers
        first = torch.cat([torch.ones(1, dtype=torch.bool), numbers[1:] != numbers[:-1]])
        mask = Mask.on(batch.video.device, first)
        parts: dict[str, Rows] = {}
        for slot, sides in zip(self.slots, self.levels(batch, words), strict=True):
            for side, level in zip(_SIDES, sides, strict=True):
                parts[f"{slot} {side} parts"] = all_rows(level.parts)
                for name, rows in (("wholes", level.wholes), ("contexts", level.contexts)):
                    spread = rows.new_zeros(len(first), rows.shape[1]).index_copy(0, mask.rows, rows)
                    parts[f"{slot} {side} {name}"] = (spread, mask)
        return parts

    def ordered_levels(
        self, parts: Mapping[str, Rows], batch: Batch
    ) -> tuple[dict[str, Rows], Int[Tensor, " clip"], list[tuple[Level, Level]]]:
        """Parts in order of their videos, the video of each clip on the host, and both sides of each hierarchy."""
        order = batch.video_numbers.argsort(stable=True)
        index = upload([order], batch.video.device)[0]
        ordered = {
            name: (values.index_select(0, index), Mask.on(values.device, mask.host.index_select(0, order)))
            for name, (values, mask) in parts.items()
        }
        owner = torch.unique(batch.video_numbers.index_select(0, order), return_inverse=True)[1]
        levels = []
        for slot in self.slots:
            video, text = (_level_of(ordered, f"{slot} {side}", owner) for side in _SIDES)
            levels.append((video, text))
        return ordered, owner, levels

    def terms_of(self, parts: Mapping[str, Rows], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The hierarchy's margins and its cycles, for each group of experts."""
        margin = float(self.config.loss.settings.get("margin", 0.2))
        losses: dict[str, Tensor] = {}
        for slot, (video, text) in zip(self.slots, self.ordered_levels(parts, batch)[2], strict=True):
            terms = hierarchy_loss(video, text, margin=margin)
            if self.config.cycle:
                one = cycle_consistency(video.grouped, video.present, text.grouped, text.present)
                two = cycle_consistency(text.grouped, text.present, video.grouped, video.present)
                terms["cycle"] = self.config.cycle * (one + two)
            losses |= {f"{slot}.{name}": value for name, value in terms.items()}
        return losses


def _level_of(parts: Mapping[str, Rows], side: str, owner: Int[Tensor, " clip"]) -> Level:
    """One side of a hierarchy, of parts in order of their videos."""
    rows = parts[f"{side} parts"][0]
    sparse = (parts[f"{side} {name}"] for name in ("wholes", "contexts"))
    wholes, contexts = (values.index_select(0, mask.rows) for values, mask in sparse)
    grouped, present = _group_by_whole(rows, owner, len(wholes))
    return Level(rows, wholes, contexts, grouped, present.tensor)


def hierarchy_loss(video: Level, text: Level, *, margin: float) -> dict[str, Float[Tensor, ""]]:
    """Max-margin at clip, video and context level, and half of it within each modality; all weighted 1 (equation 5)."""

    def ranked(x: Tensor, y: Tensor) -> Tensor:
        scores = functional.normalize(x, dim=-1) @ functional.normalize(y, dim=-1).T
        # Published as a sum over n * n, to which the diagonal adds nothing.
        return max_margin(scores, margin=margin) * (2 * (len(x) - 1) / len(x))

    def within(x: Tensor, y: Tensor) -> Tensor:
        return (ranked(x, x) + ranked(y, y)) / 2

    return {
        "high": ranked(video.wholes, text.wholes),
        "low": ranked(video.parts, text.parts),
        "context": ranked(video.contexts, text.contexts),
        "high_internal": within(video.wholes, text.wholes),
        "low_internal": within(video.parts, text.parts),
    }


@dataclass(frozen=True, config=STRICT, kw_only=True)
class CrossCLRModelConfig(COOTConfig):
    """CrossCLR's settings of table 1 of its supplement, for YouCook2; LSMDC has width 768, 16 heads, a max pooler,
    dropout .01, kappa .0055, lambda .65 and a queue of 3,000.

    Args:
        local: the loss of clips and sentences.
        everywhere: the loss of videos and paragraphs, times `global_weight`.
    """

    local: CrossCLRConfig = Field(default_factory=lambda: CrossCLRConfig(queue=5000))
    everywhere: CrossCLRConfig = Field(default_factory=CrossCLRConfig)
    global_weight: float = Field(default=0.6, ge=0)


class CrossCLRModel(COOT):
    """COOT without its losses: CrossCLR of clips and sentences, and of videos and paragraphs."""

    system = "crossclr"
    config: CrossCLRModelConfig

    def __init__(self, config: CrossCLRModelConfig) -> None:
        super().__init__(config)
        inputs = [sum(config.experts[e] for e in group) for group in config.groups]
        self.local_loss = nn.ModuleList(CrossCLR(config.local, (config.width, dim, self.text.width)) for dim in inputs)
        self.global_loss = nn.ModuleList(
            CrossCLR(config.everywhere, (2 * config.width, dim, self.text.width)) for dim in inputs
        )

    def ordered_parts(self, batch: Batch, words: Steps) -> dict[str, Rows]:
        """The hierarchy's parts, and the pooled inputs of each side, on which connectivity is measured."""
        parts = super().ordered_parts(batch, words)
        parts["text input"] = all_rows(functional.normalize(masked_mean(words.values, words.present), dim=-1).detach())
        # Of raw features: standardised ones have mean zero, to which nothing is near.
        raw = {name: masked_mean(s.values, s.present) for name, s in self.inputs.filled(batch.tokens).items()}
        for slot, group in zip(self.slots, self.config.groups, strict=True):
            parts[f"{slot} input"] = all_rows(functional.normalize(torch.cat([raw[e] for e in group], 1), dim=-1))
        return parts

    def terms_of(self, parts: Mapping[str, Rows], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """CrossCLR of clips and sentences, and of videos and paragraphs where there are several."""
        ordered, owner, levels = self.ordered_levels(parts, batch)
        clip = batch.clip
        if clip is not None:
            clip = clip.index_select(0, upload([batch.video_numbers.argsort(stable=True)], clip.device)[0])
        text_input = ordered["text input"][0]
        losses: dict[str, Tensor] = {}
        for index, (video, text) in enumerate(levels):
            slot = self.slots[index]
            clip_input = ordered[f"{slot} input"][0]
            local = self.local_loss[index](video.parts, text.parts, clip_input, text_input, clip)
            losses[f"{slot}.local"] = local
            if len(video.wholes) > 1:
                mean = [_mean_by(owner, rows, len(video.wholes)) for rows in (clip_input, text_input)]
                everywhere = self.global_loss[index](video.wholes, text.wholes, *mean)
                losses[f"{slot}.global"] = self.config.global_weight * everywhere
        return losses


def _mean_by(owner: Tensor, rows: Tensor, wholes: int) -> Tensor:
    index, counts = upload([owner, torch.bincount(owner, minlength=wholes).clamp(min=1)], rows.device)
    return rows.new_zeros(wholes, rows.shape[1]).index_add(0, index, rows) / counts[:, None]
