"""MMT: a transformer over the features of all experts, one aggregate token an expert.

Source: Gabeur et al. 2020, "Multi-modal Transformer for Video Retrieval", section 3. Held against recorded numbers of
the released code, with which it agrees where `missing="keep"` and `longer="published"`.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from reelseek.errors import ModelError
from reelseek.library.tokens import Steps, Tokens
from reelseek.models.blocks.arrange import Arranged, everything, masked_max, may_attend, thin
from reelseek.models.blocks.heads import GatedUnit, MixtureWeights
from reelseek.models.blocks.linear import LinearSlot, side_by_side
from reelseek.models.blocks.mix import PostNormTransformer
from reelseek.models.model import Embedding, RetrievalModel
from reelseek.models.text import text_features, text_width

__all__ = ["MMT", "MMTConfig"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class MMTConfig:
    """Sizes default to the paper's for MSR-VTT; the text side, its start and the treatment of absence are ours.

    Args:
        experts: width of each expert's features, in the order of the slots.
        positions: seconds that a position embedding tells apart; later steps share the last.
        missing: `mask` leaves absent experts out of the similarity; `keep` scores them, as the released code does.
        longer: which steps of a long track are kept, see `thin`.
        text: `sentence`, or the folder or hub name of a BERT-like encoder, frozen.
        linear: add a slot beside the experts': a ridge regression from mean features to the text encoder's space, in
            closed form. It is not in the paper; a few hundred clips suffice for it, a transformer needs thousands.
        text_start: `isometry` begins the text side as a rotation of the encoder's space, which holds what is known of
            captions that were never seen in training; `random` as the released code.
    """

    experts: dict[str, int]
    width: int = 512
    depth: int = 4
    heads: int = 4
    inner: int = 3072
    positions: int = Field(default=32, ge=2)
    most_steps: int = Field(default=30, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    missing: Literal["mask", "keep"] = "mask"
    longer: Literal["even", "published"] = "even"
    text: str = "sentence"
    text_dim: int | None = None
    text_start: Literal["isometry", "random"] = "isometry"
    linear: bool = False


class MMT(RetrievalModel):
    """project (linear, unit length) -> arrange ([CLS], aggregate and steps a expert) -> mix (full) -> heads."""

    system = "mmt"

    def __init__(self, config: MMTConfig) -> None:
        super().__init__()
        if not config.experts:
            raise ModelError("mmt needs at least one expert")
        self.config = config
        self.names = tuple(config.experts)
        self.slots = (*self.names, "linear") if config.linear else self.names
        text_dim = config.text_dim or text_width(config.text)
        self.project = nn.ModuleDict({_key(e): nn.Linear(dim, config.width) for e, dim in config.experts.items()})
        for name, dim in config.experts.items():  # what `fit_inputs` learns; identity until then, as released
            self.register_buffer(f"shift_{_key(name)}", torch.zeros(dim))
            self.register_buffer(f"scale_{_key(name)}", torch.ones(dim))
        self.position = nn.Embedding(config.positions, config.width)
        self.expert = nn.Embedding(len(self.names) + 1, config.width)  # 0 is [CLS]
        self.norm = nn.LayerNorm(config.width, 1e-12)
        self.mix = PostNormTransformer(
            depth=config.depth, width=config.width, heads=config.heads, inner=config.inner, dropout=config.dropout
        )
        self.text_heads = nn.ModuleDict({_key(e): GatedUnit(text_dim, config.width) for e in self.names})
        self.text_weights = MixtureWeights(text_dim, len(self.names))
        if config.linear:
            self.linear = LinearSlot(config.experts, text_dim)
        for table in (self.position, self.expert):
            nn.init.normal_(table.weight, std=0.02)
        if config.text_start == "isometry":
            for unit in self.text_heads.values():
                assert isinstance(unit, GatedUnit)
                nn.init.orthogonal_(unit.fc.weight)
                nn.init.zeros_(unit.fc.bias)
                nn.init.normal_(unit.gate.weight, std=0.02)

    @property
    def experts(self) -> Mapping[str, int]:
        return self.config.experts

    # Video side

    def arrange(self, tokens: Tokens) -> tuple[Arranged, Tensor]:
        """[CLS], then for each expert its aggregate and its steps; with each token's position [video, token]."""
        first = next(iter(tokens.values()))
        videos, device = len(first.present), first.values.device
        values = [torch.zeros(videos, 1, self.config.width, device=device)]
        present = [torch.ones(videos, 1, dtype=torch.bool, device=device)]
        positions = [torch.zeros(videos, 1, dtype=torch.long, device=device)]
        groups = [0]
        for index, name in enumerate(self.names, 1):
            steps = tokens.get(name) or _nothing(videos, self.experts[name], device)
            full, steps = steps, thin(steps, self.config.most_steps, self.config.longer)
            inputs = torch.cat([masked_max(full)[:, None], steps.clean], dim=1)
            inputs = (inputs - getattr(self, f"shift_{_key(name)}")) * getattr(self, f"scale_{_key(name)}")
            values.append(functional.normalize(self.project[_key(name)](inputs), dim=-1))
            present += [full.present.any(1, keepdim=True), steps.present]
            positions += [torch.zeros(videos, 1, dtype=torch.long, device=device), self._positions(steps)]
            groups += [index] * (1 + steps.present.shape[1])
        return Arranged(torch.cat(values, 1), torch.cat(present, 1), torch.tensor(groups, device=device)), torch.cat(
            positions, 1
        )

    def _positions(self, steps: Steps) -> Tensor:
        """0 is [CLS] and aggregates, 1 an unknown time, 2 the first second (section 3.2, temporal embeddings)."""
        middle = steps.spans.mean(-1)
        known = steps.present & (middle >= 0)
        position = torch.where(known, middle + 2, torch.ones(()))
        return position.clamp(0, self.config.positions - 1).long()

    @torch.no_grad()
    def fit_inputs(self, tokens: Tokens, texts: Sequence[Sequence[str]]) -> None:
        """Bring each expert's features to zero mean and unit deviation, and fit the linear slot if there is one."""
        for name, steps in tokens.items():
            there = steps.values[steps.present]
            if len(there) > 1:
                getattr(self, f"shift_{_key(name)}").copy_(there.mean(0))
                deviation = there.std(0)
                usual = deviation.mean().clamp(min=1e-6)
                getattr(self, f"scale_{_key(name)}").copy_(1 / (deviation + 0.1 * usual))
        self.refit(tokens, texts)

    @torch.no_grad()
    def refit(self, tokens: Tokens, texts: Sequence[Sequence[str]]) -> None:
        if self.config.linear:
            features = text_features(self.config.text, [text for some in texts for text in some])
            parts = torch.split(features, [len(some) for some in texts])
            self.linear.fit(self.means(tokens), torch.stack([part.mean(0) for part in parts]))

    def choices(self) -> Mapping[str, Sequence[float]]:
        return {"linear.share": (0.0, 0.25, 0.5, 0.75, 1.0)} if self.config.linear else {}

    def encode_rows(self, tokens: Tokens) -> tuple[Tensor, Arranged]:
        """Mixed values of every token that the aggregates need, with what went in."""
        arranged, positions = self.arrange(tokens)
        values = self.norm(arranged.values + self.position(positions) + self.expert(arranged.group))
        rate = self.config.dropout
        values = functional.dropout(values, rate, self.training)
        return self.mix(values, may_attend(arranged, everything(len(self.names) + 1))), arranged

    def encode_videos(self, tokens: Tokens) -> Embedding:
        self.check(tokens)
        mixed, arranged = self.encode_rows(tokens)
        starts = [int((arranged.group == index).nonzero()[0, 0]) for index in range(1, len(self.names) + 1)]
        values = functional.normalize(mixed[:, starts], dim=-1)
        present = arranged.present[:, starts]
        if self.config.missing == "keep":
            present = torch.ones_like(present)
        if self.config.linear:
            row, there = self.linear(self.means(tokens))
            values, present = side_by_side(values, row), torch.cat([present, there[:, None]], 1)
        return Embedding(values, present, torch.ones_like(values[..., 0]))

    def means(self, tokens: Tokens) -> dict[str, tuple[Tensor, Tensor]]:
        """For each expert the mean of its scaled steps [video, dim], and where there is one [video]."""
        found = {}
        for name, steps in tokens.items():
            there = steps.present[..., None].to(steps.values.dtype)
            mean = (steps.clean * there).sum(1) / there.sum(1).clamp(min=1)
            mean = (mean - getattr(self, f"shift_{_key(name)}")) * getattr(self, f"scale_{_key(name)}")
            present = steps.present.any(1)
            found[name] = torch.where(present[:, None], mean, torch.zeros(())), present
        return found

    # Text side

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        features = text_features(self.config.text, texts)
        return self.encode_text_features(features.to(self.position.weight.device))

    def encode_text_features(self, features: Float[Tensor, "text width"]) -> Embedding:
        """The text side after its frozen encoder."""
        dropped = functional.dropout(features, self.config.dropout, self.training)
        values = torch.stack([self.text_heads[_key(name)](dropped) for name in self.names], dim=1)
        weights = self.text_weights(dropped)
        if self.config.linear:
            values = side_by_side(values, self.linear.encode_text(features))
            # While training the transformer's slots learn alone: on the clips it was fitted to, a closed form is too
            # good to leave them anything.
            share = torch.zeros(()) if self.training else self.linear.share
            weights = torch.cat([(1 - share) * weights, share.expand(len(weights), 1)], dim=1)
        present = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        return Embedding(values, present, weights)


def _key(expert: str) -> str:
    """A module's name: torch allows no dots."""
    return expert.replace(".", "__")


def _nothing(videos: int, dim: int, device: torch.device) -> Steps:
    return Steps(
        torch.zeros(videos, 1, dim, device=device),
        torch.zeros(videos, 1, dtype=torch.bool, device=device),
        torch.zeros(videos, 1, 2, device=device),
    )
