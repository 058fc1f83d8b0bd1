"""AVLnet (Rouditchenko et al., Interspeech 2021) and MCN (Chen et al., ICCV 2021) on its towers.

Pooled video, a spectrogram network and words share one space, compared by raw dot products with masked margin softmax.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from reelseek.errors import ModelError
from reelseek.library.mask import Mask, zero_absent
from reelseek.library.tokens import Steps, with_any
from reelseek.models.batch import Batch, all_rows
from reelseek.models.blocks.audio import AudioCNN
from reelseek.models.blocks.host_state import HostState
from reelseek.models.blocks.pool import masked_max, masked_mean
from reelseek.models.blocks.project import GatedUnit
from reelseek.models.blocks.readers import WordMax
from reelseek.models.embedding import Embedding
from reelseek.models.learned import SOUND_EXPERTS, LearnedModel, SystemConfig
from reelseek.models.losses import LossConfig
from reelseek.models.settings import STRICT
from reelseek.models.systems.eao import BANDS, AudioConfig

__all__ = ["MCN", "AVLnet", "AVLnetConfig", "MCNConfig"]

Rows = tuple[Float[Tensor, "item _"], Mask]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class AVLnetConfig(SystemConfig):
    """Args:
    audio: the audio expert; None takes the expert `audio` or `audio_net`, if there is one. All others are video,
        concatenated.
    spectrogram: the network over its frames; None averages its features; `auto` takes the published network if the
        expert is a spectrogram of 40 bands.
    width: of the space; 4096, and 6144 for MSR-VTT with text.
    form: `tri` compares all three pairs and ranks by text with audio plus video; `fused` makes one embedding of text
        and audio, and ranks videos by it.
    missing: `refuse` as published, where videos without sound count as misses.
    """

    audio: str | None = None
    spectrogram: AudioConfig | Literal["auto"] | None = "auto"
    width: int = Field(default=4096, ge=1)
    form: Literal["tri", "fused"] = "tri"
    missing: Literal["mask", "refuse"] = "mask"
    loss: LossConfig = Field(default_factory=lambda: LossConfig("mms", {"margin": 0.001}))

    @property
    def audio_expert(self) -> str | None:
        return self.audio or next((name for name in SOUND_EXPERTS if name in self.experts), None)

    @property
    def audio_network(self) -> AudioConfig | None:
        """The network over the audio expert, if that is a spectrogram."""
        if self.spectrogram != "auto":
            return self.spectrogram
        bands = self.experts[self.audio_expert] if self.audio_expert else 0
        return AudioConfig((128, 128, 256, 512, 1024), (2, 2, 2, 2)) if bands == BANDS else None

    @property
    def video_experts(self) -> tuple[str, ...]:
        return tuple(name for name in self.experts if name != self.audio_expert)


class AVLnet(LearnedModel):
    """pool (max; network and mean; words' max) -> heads (gated units into one space) -> plain dot products, summed."""

    system = "avlnet"
    renormalise = False
    config: AVLnetConfig

    def __init__(self, config: AVLnetConfig) -> None:
        super().__init__(config)
        if config.audio is not None and config.audio not in config.experts:
            raise ModelError(f"audio names {config.audio!r}, which is none of {', '.join(config.experts)}")
        self.fused = config.form == "fused" and config.audio_expert is not None
        if self.fused and not config.video_experts:
            raise ModelError("avlnet's fused form ranks videos: name an expert besides the audio one")
        towers = (("video", config.video_experts), ("audio", config.audio_expert and not self.fused))
        self.slots = tuple(name for name, used in towers if used)
        width = config.width
        part = width // 2 if self.fused else width
        if config.video_experts:
            self.video_head = _gated(sum(config.experts[name] for name in config.video_experts), width)
        if config.audio_expert:
            network = config.audio_network
            dim = config.experts[config.audio_expert]
            self.audio_net = AudioCNN(dim, network.widths, network.blocks, kernel=network.kernel) if network else None
            audio_width = network.widths[-1] if network else dim
            self.audio_head = nn.Sequential(_gated(audio_width, audio_width), nn.Linear(audio_width, part))
        self.words = WordMax(self.text.width, part)
        self.text_head: nn.Module = nn.Identity() if self.fused else _gated(width, width)
        if self.fused:
            self.fuse = _gated(2 * part, width)

    @property
    def step_by_step(self) -> Mapping[str, int]:
        expert = self.config.audio_expert
        return {expert: 3072} if expert and self.config.audio_network else {}

    def towers(self, steps: Mapping[str, Steps]) -> dict[str, Rows]:
        """Embeddings of video and of audio, each with the mask of clips that have it."""
        towers: dict[str, Rows] = {}
        if self.config.video_experts:
            rows = [masked_max(steps[name].values, steps[name].present) for name in self.config.video_experts]
            mask = with_any(steps[name] for name in self.config.video_experts)
            towers["video"] = (self.video_head(torch.cat(rows, 1)), mask)
        if self.config.audio_expert:
            audio = steps[self.config.audio_expert]
            mask = audio.videos
            if self.audio_net is not None:
                audio = self.audio_net(audio)
            towers["audio"] = (self.audio_head(masked_mean(audio.values, audio.present)), mask)
        return towers

    def read(self, words: Steps) -> Rows:
        """Embeddings of texts, with the mask of texts that have a word."""
        return self.text_head(self.words(words)), words.videos

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        towers = self.towers(steps)
        values = torch.stack([towers[slot][0] for slot in self.slots], 1)
        present = torch.stack([towers[slot][1].tensor for slot in self.slots], 1)
        return Embedding.even(values, present)

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        values, mask = self.read(self.text.words(texts))
        if self.fused:  # a query has no audio
            values = self.fuse(torch.cat([values, torch.zeros_like(values)], 1))
        rows = values[:, None].expand(-1, len(self.slots), -1)
        return Embedding.even(rows, mask.tensor[:, None].expand(rows.shape[:2]))

    def parts(self, batch: Batch) -> dict[str, Rows]:
        parts = {**self.towers(self.inputs(batch.tokens)), "text": self.read(self.text.words(batch.texts))}
        if self.fused:
            (text, has_text), (audio, has_audio) = parts.pop("text"), parts.pop("audio")
            sound = zero_absent(has_audio.tensor[:, None], audio)
            parts["text+audio"] = (self.fuse(torch.cat([text, sound], 1)), has_text)
        return parts

    def terms_of(self, parts: Mapping[str, Rows], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        return self.pairs(parts, batch)

    def pairs(self, parts: Mapping[str, Rows], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The loss of every pair of modalities, over the clips that have both."""
        losses: dict[str, Tensor] = {}
        for one, two in combinations(parts, 2):
            (x, x_mask), (y, y_mask) = parts[one], parts[two]
            both = x_mask & y_mask
            if both.count > 1:
                scores = x.index_select(0, both.rows) @ y.index_select(0, both.rows).T
                losses[f"{one}|{two}"] = self.score_loss(scores, negatives=batch.negatives_among(both.rows))
        return losses


@dataclass(frozen=True, config=STRICT, kw_only=True)
class MCNConfig(AVLnetConfig):
    """Args:
    clusters, queue: k-means over the mean embeddings of the latest `queue` clips.
    temperature: of the contrast of each modality with the clip's centroid.
    reconstruction: weight of rebuilding each modality's pooled input from its embedding.
    """

    clusters: int = Field(default=256, ge=2)
    queue: int = Field(default=2048, ge=2)
    temperature: float = Field(default=0.1, gt=0)
    reconstruction: float = Field(default=50.0, ge=0)


class MCN(HostState, AVLnet):
    """AVLnet's three towers with a contrast of each modality with the centroid of its clip's cluster."""

    system = "mcn"
    config: MCNConfig

    def __init__(self, config: MCNConfig) -> None:
        super().__init__(config)
        self.register_buffer("recent", torch.zeros(config.queue, config.width))
        self.register_buffer("centroids", torch.zeros(config.clusters, config.width))
        self.register_buffer("state", torch.zeros(2, dtype=torch.long))  # next place, places filled
        self.recent: Tensor
        self.centroids: Tensor
        self.state: Tensor
        if config.video_experts:
            self.rebuild = nn.Linear(config.width, sum(config.experts[name] for name in config.video_experts))

    def parts(self, batch: Batch) -> dict[str, Rows]:
        """The towers, and the pooled inputs that are rebuilt, with 1 where their expert is present."""
        steps = self.inputs(batch.tokens)
        parts = {**self.towers(steps), "text": self.read(self.text.words(batch.texts))}
        if self.config.video_experts and self.config.reconstruction:
            tracks = [steps[name] for name in self.config.video_experts]
            pooled = torch.cat([masked_max(track.values, track.present) for track in tracks], 1)
            observed = [track.present.any(1, keepdim=True).expand(-1, track.values.shape[2]) for track in tracks]
            parts |= {"pooled": all_rows(pooled), "observed": all_rows(torch.cat(observed, 1).to(pooled.dtype))}
        return parts

    def terms_of(self, parts: Mapping[str, Rows], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Pairs of modalities, each with its centroid, and reconstruction, over the present experts alone."""
        inputs = {name: rows for name, (rows, _) in parts.items() if name in ("pooled", "observed")}
        parts = {name: rows for name, rows in parts.items() if name not in inputs}
        losses = self.pairs(parts, batch)
        present = torch.stack([mask.tensor for _, mask in parts.values()], 1)[..., None]
        unit = torch.stack([functional.normalize(row, dim=-1) for row, _ in parts.values()], 1)
        mean = zero_absent(present, unit).sum(1) / present.sum(1).clamp(min=1)
        if self.training:
            self._cluster(mean.detach())
        if int(self.state[1]) >= self.config.clusters:
            nearest = (functional.normalize(mean, dim=-1) @ self.centroids.T).argmax(1).detach()
            for index, (name, (_, mask)) in enumerate(parts.items()):
                if mask.count:
                    rows = unit[:, index].index_select(0, mask.rows)
                    logits = rows @ self.centroids.T / self.config.temperature
                    losses[f"cluster.{name}"] = functional.cross_entropy(logits, nearest.index_select(0, mask.rows))
        if inputs:
            observed = inputs["observed"] > 0.5
            error = zero_absent(observed, self.rebuild(parts["video"][0]) - inputs["pooled"]).square()
            losses["reconstruction"] = self.config.reconstruction * error.sum() / observed.sum().clamp(min=1)
        return losses

    @torch.no_grad()
    def _cluster(self, means: Tensor) -> None:
        """Put the batch into the queue, and move the centroids by one round of spherical k-means."""
        size, start = self.config.queue, int(self.state[0])
        rows = functional.normalize(means, dim=-1)[:size]
        self.recent[(start + torch.arange(len(rows), device=rows.device)) % size] = rows
        before = int(self.state[1])
        self.state[0], self.state[1] = (start + len(rows)) % size, min(size, before + len(rows))
        filled = self.recent[: int(self.state[1])]
        if len(filled) < self.config.clusters:
            return
        if before < self.config.clusters:
            self.centroids.copy_(filled[: self.config.clusters])
        nearest = (filled @ self.centroids.T).argmax(1)
        sums = torch.zeros_like(self.centroids).index_add_(0, nearest, filled)
        counts = torch.zeros_like(self.centroids[:, 0]).index_add_(0, nearest, torch.ones_like(filled[:, 0]))
        moved = functional.normalize(sums, dim=-1)
        self.centroids.copy_(torch.where(counts[:, None] > 0, moved, self.centroids))


def _gated(width_in: int, width_out: int) -> GatedUnit:
    return GatedUnit(width_in, width_out, batch_norm=False, unit=False)
