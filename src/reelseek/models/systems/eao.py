"""Everything at Once (Shvetsova et al., CVPR 2022): one modality-agnostic fusion block, run on every subset.

The six passes of the paper (t, v, a, tv, ta, va) are one sequence of six views, each a group that attends to itself
alone. In the first block a token's queries, keys and values are computed once and gathered into each of its views.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from reelseek.errors import ModelError
from reelseek.library.mask import Mask, upload, zero_absent
from reelseek.library.tokens import Steps, with_any
from reelseek.models.batch import Batch, Rows
from reelseek.models.blocks.arrange import (
    Subsampling,
    concat_groups,
    expand_views,
    max_pool_steps,
    own,
    pack_left,
    subsample,
)
from reelseek.models.blocks.audio import AudioCNN
from reelseek.models.blocks.mix import Transformer
from reelseek.models.blocks.pool import masked_mean
from reelseek.models.blocks.project import GatedUnit, key, per_expert
from reelseek.models.embedding import Embedding
from reelseek.models.learned import SOUND_EXPERTS, LearnedModel, SystemConfig
from reelseek.models.losses import LossConfig
from reelseek.models.losses.combinatorial import View, pairs_of_views, term_name, weighted_losses
from reelseek.models.settings import STRICT
from reelseek.models.text import TextConfig

__all__ = ["BANDS", "EAO", "AudioConfig", "EAOConfig"]

Part = tuple[Float[Tensor, "item _ dim"], Mask]
TEXT = "text"
BANDS = 40  # mel bands of the expert `audio`, as the released systems have them


@dataclass(frozen=True, config=STRICT)
class AudioConfig:
    """Channels and residual blocks of the stages of the spectrogram network.

    The defaults are Everything at Once's six stages; AVLnet's four are (128, 128, 256, 512, 1024) and (2, 2, 2, 2).
    """

    widths: tuple[int, ...] = (128, 128, 256, 512, 1024, 2048, 4096)
    blocks: tuple[int, ...] = (2, 2, 1, 1, 1, 1)
    kernel: int = 9


@dataclass(frozen=True, config=STRICT, kw_only=True)
class EAOConfig(SystemConfig):
    """Sizes default to the paper's.

    Args:
        spectrograms: experts whose steps are frames of a spectrogram, each with its trainable network. None takes the
            expert `audio` if it is the log-mel one, 40 bands wide.
        depth: 0 is the ablation without a transformer.
        projection, head: `gated` units as published, or `linear`.
        shared_head: one head for all modalities; needed with `cls`.
        pool: `mean` over each modality's tokens, or the output of a class token (`cls`).
        positions: `none` as published, `learned` per place and modality, or `rotary`.
        fused: whether pairs of modalities are passed through the block together, or only one at a time.
        transformers: `shared` by all modalities as published, or one `per_modality` (supplement, C.2), which passes no
            two of them together: it needs `fused = false`.
        combinatorial: whether the loss has the terms of fused pairs; without it only single modalities are compared.
        weights: of the loss's terms, by name such as `text|audio` or `text|video+audio`; 1 where not named.
        missing: `token` puts a learned token in place of an absent modality, as published; the loss skips it.
        most_steps: tokens of one modality that the block sees at once.
        longer: treatment of longer tracks. `at_once` keeps the first; `nearest` and `max_pool` resample to
            `most_steps`; `clips` cuts the video into windows of `clip_seconds` and averages their embeddings.
        shift_seconds: in training, the audio of a clip (its spectrograms, else the expert `audio`) is shifted at random
            by up to this much, so that text and audio, which contain the same words, are not matched by these words
            alone (supplement, A.5).
        released_audio: let the audio network see padding, and count mask windows as released; only for comparing.
    """

    spectrograms: dict[str, AudioConfig] | None = None
    width: int = Field(default=4096, ge=1)
    depth: int = Field(default=1, ge=0)
    heads: int = 64
    inner: int = 4096
    embedding: int = 6144
    projection: Literal["gated", "linear"] = "gated"
    head: Literal["gated", "linear"] = "gated"
    shared_head: bool = False
    pool: Literal["mean", "cls"] = "mean"
    positions: Literal["none", "learned", "rotary"] = "none"
    fused: bool = True
    transformers: Literal["shared", "per_modality"] = "shared"
    combinatorial: bool = True
    weights: dict[str, float] = Field(default_factory=dict)
    missing: Literal["token", "mask", "refuse"] = "token"
    most_steps: int = Field(default=48, ge=1)
    longer: Literal["at_once", "nearest", "max_pool", "clips"] = "at_once"
    clip_seconds: float = Field(default=8.0, gt=0)
    shift_seconds: float = Field(default=0.0, ge=0)
    released_audio: bool = False
    text: TextConfig = Field(default_factory=lambda: TextConfig(most_tokens=20))
    loss: LossConfig = Field(default_factory=lambda: LossConfig("nce", {"temperature": 0.05}))

    @property
    def audio_networks(self) -> dict[str, AudioConfig]:
        """The spectrogram experts and their networks."""
        if self.spectrograms is None:
            return {"audio": AudioConfig()} if self.experts.get("audio") == BANDS else {}
        return self.spectrograms


class EAO(LearnedModel):
    """project (gated unit, LayerNorm) -> arrange (views) -> mix (own view) -> pool (mean) -> heads (one space)."""

    system = "eao"
    config: EAOConfig
    learns_uncaptioned = True

    def __init__(self, config: EAOConfig) -> None:
        super().__init__(config)
        self.slots = ("fused",)
        if config.pool == "cls" and not config.shared_head:
            raise ModelError("pool = cls has one output for all modalities, and needs shared_head = true")
        if config.transformers == "per_modality" and (config.fused or not config.depth):
            conflict = "fused = true" if config.fused else "depth = 0"
            raise ModelError(
                f"transformers = per_modality goes with fused = false and a depth of 1 or more; {conflict} is given"
            )
        unknown = sorted(set(config.audio_networks) - set(config.experts))
        if unknown:
            raise ModelError(f"spectrograms names {unknown[0]!r}, which is none of {', '.join(config.experts)}")
        wrong = sorted(set(config.weights) - {term_name(*pair) for pair in self.pairs()})
        if wrong:
            names = ", ".join(term_name(*pair) for pair in self.pairs())
            raise ModelError(f"weights names {wrong[0]!r}, which is no term of the loss; there are {names}")
        nets = config.audio_networks.items()
        self.audio = per_expert({e: AudioCNN(config.experts[e], c.widths, c.blocks, kernel=c.kernel) for e, c in nets})
        widths = config.experts | {e: c.widths[-1] for e, c in nets} | {TEXT: self.text.width}
        make: dict[str, Callable[[int, int], nn.Module]] = {"gated": _gated, "linear": nn.Linear}
        self.project = per_expert({name: make[config.projection](dim, config.width) for name, dim in widths.items()})
        self.norm = per_expert({name: nn.LayerNorm(config.width, 1e-6) for name in widths})
        self.stand_in = nn.Parameter(torch.zeros(config.width)) if config.missing == "token" else None
        self.cls = nn.Parameter(torch.zeros(config.width)) if config.pool == "cls" else None
        apart = config.transformers == "per_modality"
        self.mix = per_expert({name: _transformer(config) for name in widths}) if apart else _transformer(config)
        heads = ["any"] if config.shared_head else list(widths)
        self.heads = per_expert({name: make[config.head](config.width, config.embedding) for name in heads})
        if config.positions == "learned":
            places = {name: config.text.most_tokens + 2 if name == TEXT else config.most_steps for name in widths}
            self.place = nn.ParameterDict(
                {key(name): nn.Parameter(torch.zeros(most, config.width)) for name, most in places.items()}
            )
        for parameter in (self.stand_in, self.cls, *getattr(self, "place", nn.ParameterDict()).values()):
            if parameter is not None:
                nn.init.trunc_normal_(parameter, std=0.02)

    @property
    def step_by_step(self) -> Mapping[str, int]:
        # Tracks that are resampled later are read at up to four times as many steps; more would only cost memory.
        most = self.config.most_steps * (1 if self.config.longer == "at_once" else 4)
        strides = {name: 2 ** len(network.blocks) for name, network in self.config.audio_networks.items()}
        return {name: most * strides.get(name, 1) for name in self.experts}

    @property
    def shifts(self) -> Mapping[str, float]:
        sound = [*self.config.audio_networks] or [name for name in self.config.experts if name in SOUND_EXPERTS]
        return dict.fromkeys(sound, self.config.shift_seconds) if self.config.shift_seconds else {}

    # Tokens

    def project_tokens(self, name: str, steps: Steps) -> Part:
        """Tokens of one modality for the fusion block; the stand-in token in videos without any."""
        values = self.norm[key(name)](self.project[key(name)](steps.clean))
        present = steps.step_mask
        if self.stand_in is not None and not steps.videos.all:
            host = torch.zeros_like(steps.mask)
            host[:, 0] = ~steps.videos.host
            first = Mask.on(steps.device, host)
            values = torch.where(first.tensor[..., None], self.stand_in, values)
            present = present | first
        if self.config.positions == "learned":
            places = self.place[key(name)]
            if values.shape[1] > len(places):
                raise ModelError(f"{name} has {values.shape[1]} tokens, and learned positions for {len(places)}")
            values = values + places[: values.shape[1]]
        return values, present

    def tokens(self, steps: Mapping[str, Steps]) -> dict[str, Part]:
        """Tokens of every expert, long ones shortened."""
        parts = {}
        for name, tracks in steps.items():
            if key(name) in self.audio:
                tracks = self.listen(name, tracks)
            if self.config.longer == "max_pool":
                tracks = max_pool_steps(tracks, self.config.most_steps)
            else:
                method: Subsampling = "nearest" if self.config.longer == "nearest" else "first"
                tracks = subsample(tracks, self.config.most_steps, method)
            parts[name] = self.project_tokens(name, tracks)
        return parts

    def listen(self, name: str, frames: Steps) -> Steps:
        """Spectrogram frames -> tokens of the audio network."""
        net = self.audio[key(name)]
        assert isinstance(net, AudioCNN)
        if not self.config.released_audio:
            tokens: Steps = net(frames)
            return tokens
        values, present = net.features(frames.values), Mask.on(frames.device, net.token_mask(frames.mask))
        return Steps(values, present.tensor, frames.spans.new_zeros(*present.host.shape, 2), host=present.host)

    # Fusion

    def embed(self, parts: Mapping[str, Part], views: Sequence[Sequence[str]]) -> list[Float[Tensor, "item embedding"]]:
        """One embedding per view (a subset of modalities); not normalised where the view has a single output."""
        singles = list(dict.fromkeys(name for view in views for name in view))
        if self.config.fused:
            outputs = self._passes(parts, views, self.mix)
        else:
            unimodal = dict(zip(singles, self._apart(parts, singles), strict=True))
            outputs = [[unimodal[name][0] for name in view] for view in views]
        return [branches[0][0] if len(branches) == 1 else _average(branches) for branches in outputs]

    def _apart(self, parts: Mapping[str, Part], names: Sequence[str]) -> list[list[tuple[Tensor, Tensor]]]:
        """As `_passes`, for views of one modality."""
        if isinstance(self.mix, Transformer):
            return self._passes(parts, [[name] for name in names], self.mix)
        return [self._passes({name: parts[name]}, [[name]], self.mix[key(name)])[0] for name in names]

    def _passes(
        self, parts: Mapping[str, Part], views: Sequence[Sequence[str]], mix: nn.Module
    ) -> list[list[tuple[Tensor, Tensor]]]:
        """For each view the outputs of its heads, one per modality or the class token's, each with its presence."""
        names = list(parts)
        sequence = concat_groups(list(parts.values()))
        columns_of_view = [[names.index(name) for name in view] for view in views]
        if self.cls is not None:
            always = Mask.on(self.cls.device, torch.ones(len(sequence.values), 1, dtype=torch.bool))
            # The class token may come last: attention has no order, and the class token no position.
            token = self.cls.expand(len(sequence.values), 1, -1), always
            sequence = concat_groups([*parts.values(), token])
            columns_of_view = [[*view, len(names)] for view in columns_of_view]
        if self.config.positions == "rotary":
            lengths = [int(count) for count in torch.bincount(sequence.group)]
            sequence = replace(sequence, position=torch.cat([torch.arange(n) for n in lengths]))
        mixed = mix(expand_views(sequence, columns_of_view), own(len(views)))
        lengths = [int(count) for count in torch.bincount(sequence.group, minlength=len(names))]
        outputs: list[list[tuple[Tensor, Tensor]]] = []
        start = 0
        for view in columns_of_view:
            outputs.append([])
            present_of_view: list[Tensor] = []
            pooled_of_group: dict[int, tuple[Tensor, Tensor]] = {}
            for group in sorted(view):  # `expand_views` keeps columns in the order of the sequence
                columns = slice(start, start + lengths[group])
                start += lengths[group]
                if group == len(names):
                    pooled_of_group[group] = (mixed[:, columns.start], torch.stack(present_of_view, 1).any(1))
                    continue
                present = parts[names[group]][1].tensor
                present_of_view.append(present.any(1))
                pooled_of_group[group] = (masked_mean(mixed[:, columns], present), present_of_view[-1])
            for group in [len(names)] if self.cls is not None else view:
                pooled, present = pooled_of_group[group]
                head = self._head(names[group] if group < len(names) else "any")
                outputs[-1].append((head(pooled), present))
        return outputs

    def _head(self, name: str) -> nn.Module:
        return self.heads["any" if self.config.shared_head else key(name)]

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        present = with_any(steps.values()).tensor
        if self.config.longer == "clips":
            values = self._windows(steps)
        else:
            values = functional.normalize(self.embed(self.tokens(steps), [list(steps)])[0], dim=-1)
        return Embedding.even(values[:, None], present[:, None])

    def _windows(self, steps: Mapping[str, Steps]) -> Float[Tensor, "video dim"]:
        """The mean embedding of windows. A last window of 70 % or less is dropped unless it is the only one."""
        length = self.config.clip_seconds
        first = next(iter(steps.values()))
        ends = torch.stack([zero_absent(s.mask, s.mask_spans[..., 1]).amax(1) for s in steps.values()], 1).amax(1)
        counts = ((ends / length).floor() + ((ends % length) > 0.7 * length)).clamp(min=1)
        total = first.values.new_zeros(len(ends), self.config.embedding)
        for index in range(int(counts.max())):
            start = index * length
            cut = {}
            for name, tracks in steps.items():
                begins = tracks.mask_spans[..., 0]
                inside = Mask.on(tracks.device, tracks.mask & (begins < start + length) & (begins >= start))
                cut[name] = _trim(replace(tracks, present=inside.tensor, host=inside.host))
            counted = with_any(cut.values()).host & (index < counts)
            values = functional.normalize(self.embed(self.tokens(cut), [list(steps)])[0], dim=-1)
            total = total + zero_absent(upload([counted], values.device)[0][:, None], values)
        return functional.normalize(total, dim=-1)

    # Text and loss

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        return self.encode_words(self.text.words(texts))

    def encode_words(self, words: Steps) -> Embedding:
        values = functional.normalize(self.embed({TEXT: self.project_tokens(TEXT, words)}, [[TEXT]])[0], dim=-1)
        return Embedding.even(values[:, None], words.videos.tensor[:, None])

    def pairs(self) -> list[tuple[View, View]]:
        """Pairs of views that the loss compares."""
        return pairs_of_views((TEXT, *self.experts), fused=self.config.combinatorial)

    def parts(self, batch: Batch) -> dict[str, Rows]:
        """Every view that the loss compares; the mask of one of several modalities is that of the first of them."""
        steps = self.inputs(batch.tokens)
        words = self.text.words_or_none(batch.texts)
        tokens = {TEXT: self.project_tokens(TEXT, words), **self.tokens(steps)}
        masks = {TEXT: words.videos} | {name: tracks.videos for name, tracks in steps.items()}
        views = self._views()
        return {
            "+".join(view): (values, masks[view[0]])
            for view, values in zip(views, self.embed(tokens, views), strict=True)
        }

    def terms_of(self, parts: Mapping[str, Rows], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The weighted mean of the terms, each over the clips that have all of its modalities."""
        embedded = {view: parts["+".join(view)][0] for view in self._views()}
        masks = {name: parts[name][1] for name in (TEXT, *self.experts)}
        return weighted_losses(embedded, masks, self.pairs(), self.config.weights, self.score_loss, batch.alike)

    def _views(self) -> list[View]:
        return list(dict.fromkeys(view for pair in self.pairs() for view in pair))


def _transformer(config: EAOConfig) -> Transformer:
    return Transformer(
        config.depth, config.width, config.heads, config.inner,
        order="pre", norm=lambda width: nn.LayerNorm(width, 1e-6),
    )  # fmt: skip


def _gated(width_in: int, width_out: int) -> GatedUnit:
    return GatedUnit(width_in, width_out, batch_norm=False, unit=False)


def _average(parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Mean of the unit vectors of the present modalities."""
    present = torch.stack([mask for _, mask in parts], 1)[..., None]
    rows = torch.stack([functional.normalize(row, dim=-1, eps=1e-8) for row, _ in parts], 1)
    return zero_absent(present, rows).sum(1) / present.sum(1).clamp(min=1)


def _trim(steps: Steps) -> Steps:
    """Pack present steps to the left and drop the columns that no video uses."""
    steps = pack_left(steps)
    return steps.columns(max(1, int(steps.mask.sum(1).max())))
