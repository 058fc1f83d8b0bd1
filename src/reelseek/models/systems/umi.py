"""Learning Unseen Modality Interaction (Zhang, Doughty, Snoek, NeurIPS 2023).

Each modality's tokens are reorganised into the same number of slots, projected into one space and summed over the
present modalities, so that the sum is defined for combinations that never occur in training. Two branches read one half
of the slots each: one learns from labels, the other from pseudo-labels of single modalities; their scores are averaged.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import zero_absent
from reelseek.library.tokens import Steps
from reelseek.models.batch import Batch, Rows, all_rows
from reelseek.models.blocks.arrange import TokenSequence, everything, own, pack_left, subsample
from reelseek.models.blocks.mix import Transformer
from reelseek.models.blocks.project import Affine, key, per_expert
from reelseek.models.embedding import Embedding
from reelseek.models.learned import LearnedModel, SystemConfig
from reelseek.models.losses import LossConfig, prototype_alignment
from reelseek.models.settings import STRICT

__all__ = ["UMI", "UMIConfig", "choose_pseudo_labels"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class UMIConfig(SystemConfig):
    """The reproduction's sizes for MSR-VTT.

    Args:
        slots: k*, the number of slots into which every modality's tokens are reorganised.
        classes: number of classes to predict instead of the text encoder's vector.
        reading: `paper` projects slots by one layer (its FC) and aligns its output; `released` has no such layer and
            embeds raw slots by LayerNorm-linear-LayerNorm; `reproduction` has both, one after the other, and scores
            by the supervised branch alone.
        over: the axis of the assignment's softmax: `slots` as released, or the `tokens` of a slot.
        prototypes, align: learned tokens and the weight of alignment to the nearest of them.
        pseudo: weight of the pseudo-labels' term, where a batch has them.
    """

    width: int = Field(default=256, ge=1)
    heads: int = 8
    head_dim: int | None = 64
    inner: int = 512
    reorganise_depth: int = Field(default=6, ge=0)
    depth: int = Field(default=6, ge=0)
    slots: int = Field(default=16, ge=2)
    most_steps: int = Field(default=64, ge=1)
    classes: int | None = None
    dropout: float = Field(default=0.0, ge=0, lt=1)
    reading: Literal["paper", "released", "reproduction"] = "paper"
    over: Literal["slots", "tokens"] = "slots"
    prototypes: int = Field(default=128, ge=1)
    align: float = Field(default=0.001, ge=0)
    pseudo: float = Field(default=1.0, ge=0)
    missing: Literal["mask", "refuse"] = "mask"
    loss: LossConfig = Field(
        default_factory=lambda: LossConfig("max_margin", {"margin": 0.09381161988446174, "diagonal": True})
    )


class Reorganisation(nn.Module):
    """Tokens of one modality -> `slots` weighted sums of its raw features (section 3.1)."""

    def __init__(self, dim: int, config: UMIConfig) -> None:
        super().__init__()
        self.embed = Affine(dim, config.width)
        self.position = nn.Parameter(torch.randn(config.most_steps, config.width) * 0.02)
        self.mix = _transformer(config, config.reorganise_depth)
        self.head = nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, config.slots))
        self.most, self.over = config.most_steps, config.over

    def assign(self, steps: Steps) -> Float[Tensor, "video step slot"]:
        """The assignment O: the share of each token in each slot; zero for absent tokens."""
        values = self.embed(steps.clean) + self.position[: steps.present.shape[1]]
        group = torch.zeros(values.shape[1], dtype=torch.long)
        scores = self.head(self.mix(TokenSequence(values, steps.present, group, host=steps.mask), everything(1)))
        if self.over == "slots":
            shares = scores.softmax(2)
        else:
            shares = scores.masked_fill(~steps.present[..., None], torch.finfo(scores.dtype).min).softmax(1)
        return zero_absent(steps.present[..., None], shares)

    def forward(self, steps: Steps) -> Float[Tensor, "video slot dim"]:
        steps = subsample(pack_left(steps), self.most)
        return self.assign(steps).transpose(1, 2) @ steps.clean


class UMI(LearnedModel):
    """arrange (resample to slots, sum) -> mix (own branch) -> pool (class token per branch) -> heads (text space)."""

    system = "umi"
    config: UMIConfig

    def __init__(self, config: UMIConfig) -> None:
        super().__init__(config)
        self.slots = ("supervised", "pseudo") if config.reading != "reproduction" else ("supervised",)
        width = config.width
        self.reorganise = per_expert({name: Reorganisation(dim, config) for name, dim in config.experts.items()})
        projected = config.reading != "released"
        if projected:
            self.fc = per_expert({name: nn.Linear(dim, width) for name, dim in config.experts.items()})
        if config.reading != "paper":
            self.embed = per_expert(
                {name: Affine(width if projected else dim, width) for name, dim in config.experts.items()}
            )
        self.unused = () if projected and config.align else ("prototypes",)
        self.prototypes = nn.Parameter(torch.randn(config.prototypes, width) * 0.02)
        self.cls = nn.Parameter(torch.randn(2, width) * 0.02)
        self.position = nn.Parameter(torch.randn(2 + config.slots, width) * 0.02)
        self.mix = _transformer(config, config.depth)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, config.classes or self.text.width))

    def features(self, steps: Mapping[str, Steps]) -> dict[str, Float[Tensor, "video slot dim"]]:
        """Each modality's slots in the common space."""
        features = {}
        for name, tracks in steps.items():
            slots = self.reorganise[key(name)](tracks)
            features[name] = self.fc[key(name)](slots) if self.config.reading != "released" else slots
        return features

    def predict(
        self, features: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " video"]]
    ) -> Float[Tensor, "video branch out"]:
        """Outputs of both branches from the sum of the present features."""
        total = torch.zeros(())
        for name, slots in features.items():
            embedded = slots if self.config.reading == "paper" else self.embed[key(name)](slots)
            total = total + zero_absent(present[name][:, None, None], embedded)
        values = torch.cat([self.cls.expand(len(total), -1, -1), total], 1) + self.position
        half = self.config.slots // 2
        branch = [0, 1, *([0] * half), *([1] * (self.config.slots - half))]
        host = torch.ones(values.shape[:2], dtype=torch.bool)
        token_present = (
            host
            if values.device.type == "cpu"
            else torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        )
        return self.head(self.mix(TokenSequence(values, token_present, torch.tensor(branch), host=host), own(2))[:, :2])

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        present = {name: tracks.videos.tensor for name, tracks in steps.items()}
        outputs = self.predict(self.features(steps), present)[:, : len(self.slots)]
        values = functional.normalize(outputs, dim=-1)
        any_present = torch.stack(list(present.values())).any(0)
        return Embedding.even(values, any_present[:, None].expand(-1, len(self.slots)))

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        """The text encoder's vectors in both branches: the text space is fixed."""
        rows = functional.normalize(self.text.pooled(texts), dim=-1)[:, None].expand(-1, len(self.slots), -1)
        return Embedding(
            rows, torch.ones(rows.shape[:2], dtype=torch.bool, device=rows.device), torch.ones_like(rows[..., 0])
        )

    def parts(self, batch: Batch) -> dict[str, Rows]:
        steps = self.inputs(batch.tokens)
        present = {name: tracks.videos.tensor for name, tracks in steps.items()}
        features = self.features(steps)
        means = {f"mean {name}": (slots.mean(1), steps[name].videos) for name, slots in features.items()}
        branches = functional.normalize(self.predict(features, present), dim=-1)
        labels = functional.normalize(self.text.pooled(batch.texts), dim=-1)
        return {"branches": all_rows(branches), "labels": all_rows(labels), **means}

    def terms_of(self, parts: Mapping[str, Rows], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Labels for one branch, pseudo-labels for the other (labels if the batch has none), and alignment."""
        branches, labels = parts["branches"][0], parts["labels"][0]
        pseudo = labels if batch.pseudo is None else functional.normalize(batch.pseudo, dim=-1)
        losses = {
            "supervised": self.score_loss(labels @ branches[:, 0].T, negatives=batch.negatives),
            "pseudo": self.config.pseudo * self.score_loss(pseudo @ branches[:, 1].T, negatives=batch.negatives),
        }
        if self.config.align and self.config.reading != "released":
            sides = [rows for name, rows in parts.items() if name.startswith("mean ")]
            means = torch.cat([values.index_select(0, mask.rows) for values, mask in sides])
            losses["align"] = self.config.align * prototype_alignment(means, self.prototypes)
        return losses


def choose_pseudo_labels(
    candidates: Mapping[str, Float[Tensor, "video dim"]],
    present: Mapping[str, Bool[Tensor, " video"]],
    truth: Float[Tensor, "video dim"],
) -> tuple[Float[Tensor, "video dim"], list[str | None]]:
    """Choose for each video, among the predictions of its present modalities, the one nearest the label by cosine.

    The reproduction chooses among all modalities, absent ones too; the paper among those of the sample.

    Returns:
        the pseudo-labels (the label itself where a video has no modality), and the modality of each.
    """
    names = list(candidates)
    rows = torch.stack([candidates[name] for name in names], 1)
    cosines = functional.cosine_similarity(rows, truth[:, None], dim=-1)
    available = torch.stack([present[name] for name in names], 1)
    best = cosines.masked_fill(~available, -torch.inf).argmax(1)
    any_available = available.any(1)
    labels = torch.where(any_available[:, None], rows[torch.arange(len(rows)), best], truth)
    return labels, [names[int(b)] if bool(ok) else None for b, ok in zip(best, any_available, strict=True)]


def _transformer(config: UMIConfig, depth: int) -> Transformer:
    return Transformer(
        depth, config.width, config.heads, config.inner,
        order="pre", head_dim=config.head_dim, qkv_bias=False, dropout=config.dropout,
    )  # fmt: skip
