"""Joint embeddings: each side is pooled into one vector and projected into one common space, or several.

Most baselines of the papers are of this form, with different readers and heads: VSE and VSE++ (Faghri et al. 2018),
Multi Cues (Mithun et al. 2018), Dual Encoding (Dong et al. 2019), HT (Miech et al. 2019), E2E's heads on frozen
features (Miech et al. 2020), CLIP4Clip (Luo et al. 2022). `systems/__init__.py` has their settings.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from reelseek.errors import ModelError
from reelseek.library.mask import Mask
from reelseek.library.tokens import Steps, with_any
from reelseek.models.batch import Batch, Rows, all_rows
from reelseek.models.blocks.arrange import subsample
from reelseek.models.blocks.heads import stack_padded
from reelseek.models.blocks.project import GatedUnit, RowNorm, apply_to_present
from reelseek.models.blocks.readers import READERS, Reader
from reelseek.models.embedding import Embedding
from reelseek.models.learned import LearnedModel, SystemConfig
from reelseek.models.losses import regression
from reelseek.models.settings import STRICT

__all__ = ["HEADS", "W2VV", "Joint", "JointConfig"]


class _NormedLinear(nn.Sequential):
    """Linear and batch normalisation (Dual Encoding)."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__(nn.Linear(width_in, width_out), RowNorm(width_out))


class _Identity(nn.Module):
    """The identity; both sides must already share one space."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        if width_in != width_out:
            raise ModelError(
                f"the identity head keeps a width of {width_in}, and the other side has {width_out}; "
                "choose a text encoder of that width, or another text_head"
            )

    def forward(self, values: Tensor) -> Tensor:
        return values


class _Perceptron(nn.Sequential):
    """Linear, ReLU, linear (Word2VisualVec)."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__(nn.Linear(width_in, width_out), nn.ReLU(), nn.Linear(width_out, width_out))


def _gated(width_in: int, width_out: int) -> GatedUnit:
    return GatedUnit(width_in, width_out, batch_norm=False, unit=False)


HEADS: dict[str, Callable[[int, int], nn.Module]] = {
    "linear": nn.Linear,
    "gated": _gated,
    "normed": _NormedLinear,
    "perceptron": _Perceptron,
    "identity": _Identity,
}
_Read = Literal["mean", "max", "word_max", "last_state", "dual", "residual", "residual_released"]
_Head = Literal["linear", "gated", "normed", "perceptron", "identity"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class JointConfig(SystemConfig):
    """Args:
    spaces: the experts of each space, read and then concatenated; None has one space for all.
    width: of a space; ignored by the identity head.
    video, text_reader: how a sequence becomes a vector, see READERS; None takes the text encoder's pooled vector.
    hidden: hidden width of readers that have one.
    most_steps: steps of each expert that are read, at equal distances (12 in CLIP4Clip); None reads all.
    head, text_head: from the vector into the space, see HEADS.
    unit: normalise embeddings to unit length; without it similarity is a plain dot product.
    """

    spaces: tuple[tuple[str, ...], ...] | None = None
    width: int = Field(default=1024, ge=1)
    video: _Read = "mean"
    text_reader: _Read | None = None
    hidden: int = 1024
    most_steps: int | None = Field(default=None, ge=1)
    head: _Head = "linear"
    text_head: _Head = "linear"
    unit: bool = True
    missing: Literal["mask", "refuse"] = "mask"

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        return self.spaces or (tuple(self.experts),)


class Joint(LearnedModel):
    """pool (one reader per side) -> heads (one per space) -> similarity."""

    system = "joint"
    config: JointConfig

    def __init__(self, config: JointConfig) -> None:
        super().__init__(config)
        used = [name for group in config.groups for name in group]
        unknown = sorted(set(used) - set(config.experts)) or sorted(set(config.experts) - set(used))
        if unknown:
            raise ModelError(
                f"spaces and experts disagree on {unknown[0]!r}; the experts are {', '.join(config.experts)}"
            )
        self.slots = tuple("+".join(group) for group in config.groups)
        self.renormalise = config.unit
        read = READERS[config.video]
        spaces = [[read(config.experts[name], config.hidden) for name in group] for group in config.groups]
        self.read = nn.ModuleList(nn.ModuleList(readers) for readers in spaces)
        self.heads = nn.ModuleList(
            HEADS[config.head](sum(reader.width for reader in readers), self._width(readers)) for readers in spaces
        )
        self.text_read: nn.ModuleList | None = None
        width = self.text.width
        if config.text_reader is not None:
            readers = [READERS[config.text_reader](width, config.hidden) for _ in spaces]
            self.text_read, width = nn.ModuleList(readers), readers[0].width
        self.text_heads = nn.ModuleList(HEADS[config.text_head](width, self._width(readers)) for readers in spaces)

    def _width(self, readers: Sequence[Reader]) -> int:
        """Width of the space that these readers project into."""
        read_width = sum(reader.width for reader in readers)
        return read_width if self.config.head == "identity" else self.config.width

    def read_videos(self, steps: Mapping[str, Steps]) -> list[tuple[Float[Tensor, "video read"], Mask]]:
        """For each space the output of its readers, and the mask of videos that have any of its experts."""
        spaces = []
        if self.config.most_steps is not None:
            steps = {name: subsample(track, self.config.most_steps) for name, track in steps.items()}
        for group, readers in zip(self.config.groups, self.read, strict=True):
            assert isinstance(readers, nn.ModuleList)
            rows = torch.cat([reader(steps[name]) for name, reader in zip(group, readers, strict=True)], 1)
            spaces.append((rows, with_any(steps[name] for name in group)))
        return spaces

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        spaces = self.read_videos(steps)
        rows = [apply_to_present(head, values, mask) for head, (values, mask) in zip(self.heads, spaces, strict=True)]
        return self._embedding(rows, torch.stack([mask.tensor for _, mask in spaces], 1))

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        if self.text_read is None:
            pooled = self.text.pooled(texts)
            rows = [head(pooled) for head in self.text_heads]
            present = torch.ones(len(texts), 1, dtype=torch.bool, device=pooled.device)
        else:
            words = self.text.words(texts)
            rows = [head(reader(words)) for head, reader in zip(self.text_heads, self.text_read, strict=True)]
            present = words.videos.tensor[:, None]
        return self._embedding(rows, present.expand(len(texts), len(rows)))

    def _embedding(self, rows: Sequence[Tensor], present: Tensor) -> Embedding:
        values = stack_padded(rows)
        if self.config.unit:
            values = functional.normalize(values, dim=-1)
        return Embedding.even(values, present)


class W2VV(Joint):
    """Word2VisualVec (Dong, Li, Snoek 2018): predict the video's frozen pooled feature from text; no negatives."""

    system = "w2vv"

    def parts(self, batch: Batch) -> dict[str, Rows]:
        videos = self.read_videos(self.inputs(batch.tokens))
        sides = {f"video {slot}": rows for slot, rows in zip(self.slots, videos, strict=True)}
        return {"text": all_rows(self.encode_texts(batch.texts).values), **sides}

    def terms_of(self, parts: Mapping[str, Rows], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        losses = {}
        for index, slot in enumerate(self.slots):
            rows, mask = parts[f"video {slot}"]
            if mask.count:
                target = rows.index_select(0, mask.rows)
                target = functional.normalize(target, dim=-1) if self.config.unit else target
                predicted = parts["text"][0][:, index].index_select(0, mask.rows)
                losses[self.slots[index]] = regression(predicted, target)
        return losses
