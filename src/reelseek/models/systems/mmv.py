"""Self-Supervised MultiModal Versatile Networks (Alayrac et al., NeurIPS 2020): an embedding graph of spaces.

Vision and audio meet in a fine space; a head goes on from there to a coarse space in which text is. All modalities can
be compared in the coarse space, also those that were never seen together in training.
"""

from collections.abc import Mapping, Sequence
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
from reelseek.models.blocks.pool import masked_mean
from reelseek.models.blocks.project import RowNorm, present_rows
from reelseek.models.blocks.readers import WordMax
from reelseek.models.losses import LossConfig, info_nce, mil_nce
from reelseek.models.model import STRICT, Batch, Embedding, LearnedModel, SystemConfig

__all__ = ["MMV", "MMVConfig"]

Rows = tuple[Float[Tensor, "item _"], Mask]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class MMVConfig(SystemConfig):
    """Args:
    audio: the expert of sound; None takes the one called so, if there is one. All others are vision, concatenated.
    graph: `fine_and_coarse` (FAC) chains vision -> fine -> coarse; `shared` has one space for all three; `disjoint`
        one space for each pair, from heads of its own, so that text and audio never meet.
    fine, coarse: widths of the space of vision and audio, and of the one with text.
    words: width of the words' layer before their maximum.
    temperature: of both losses.
    audio_weight, text_weight: of vision with audio (NCE) and of vision with text (MIL-NCE).
    """

    audio: str | None = None
    graph: Literal["fine_and_coarse", "shared", "disjoint"] = "fine_and_coarse"
    fine: int = 512
    coarse: int = 256
    words: int = 2048
    temperature: float = Field(default=0.07, gt=0)
    audio_weight: float = Field(default=1.0, ge=0)
    text_weight: float = Field(default=1.0, ge=0)
    missing: Literal["mask", "refuse"] = "mask"
    loss: LossConfig = Field(default_factory=lambda: LossConfig("mil_nce", {"temperature": 0.07}))

    @property
    def sound(self) -> str | None:
        return self.audio or ("audio" if "audio" in self.experts else None)

    @property
    def seen(self) -> tuple[str, ...]:
        return tuple(name for name in self.experts if name != self.sound)


class _Normed(nn.Sequential):
    """Linear and batch normalisation."""

    def __init__(self, width_in: int, width_out: int, *, bias: bool = True) -> None:
        super().__init__(nn.Linear(width_in, width_out, bias=bias), RowNorm(width_out, momentum=0.1))


def _vision_head(width: int, out: int) -> nn.Module:
    """Released: linear 512, BN, ReLU, linear without bias, BN."""
    return nn.Sequential(_Normed(width, 512), nn.ReLU(), _Normed(512, out, bias=False))


class MMV(LearnedModel):
    """pool (mean; words' max) -> heads (a graph: vision -> fine -> coarse, audio -> fine -> coarse, text -> coarse)."""

    system = "mmv"
    config: MMVConfig

    def __init__(self, config: MMVConfig) -> None:
        super().__init__(config)
        if not config.seen:
            raise ModelError("mmv needs at least one expert beside sound")
        self.comparable = config.sound is not None and config.graph != "disjoint"
        self.slots = ("vision", "audio") if self.comparable else ("vision",)
        seen = sum(config.experts[name] for name in config.seen)
        heard = config.experts[config.sound] if config.sound else 0
        self.words = WordMax(self.text.width, config.words)
        fine, coarse = config.fine, config.coarse
        if config.graph == "shared":
            self.vision = _vision_head(seen, fine)
            self.text_head = nn.Linear(config.words, fine)
        else:
            self.text_head = nn.Linear(config.words, coarse)
            if config.graph == "disjoint":
                self.vision_text = _vision_head(seen, coarse)
            else:
                self.coarsen = _Normed(fine, coarse)
            if config.sound or config.graph == "fine_and_coarse":
                self.vision = _vision_head(seen, fine)
        if config.sound:
            self.hear = nn.Linear(heard, fine)

    def fine_space(self, steps: Mapping[str, Steps]) -> dict[str, Rows]:
        """Vision and audio where they meet, not normalised."""
        seen, there = self._seen(steps)
        found: dict[str, Rows] = {}
        if self.config.sound or self.config.graph != "disjoint":
            found["vision"] = (present_rows(self.vision, seen, there), there)
        if self.config.sound:
            heard = steps[self.config.sound]
            found["audio"] = (self.hear(masked_mean(heard.values, heard.present)), heard.videos)
        return found

    def _seen(self, steps: Mapping[str, Steps]) -> Rows:
        rows = torch.cat([masked_mean(steps[name].values, steps[name].present) for name in self.config.seen], 1)
        return rows, with_any(steps[name] for name in self.config.seen)

    def text_space(self, steps: Mapping[str, Steps], fine: Mapping[str, Rows]) -> dict[str, Rows]:
        """Vision, and audio where the graph leads it there, in the space of text.

        In training audio does not pass through the head that it shares with vision, whose statistics are vision's.
        """
        if self.config.graph == "shared":
            return dict(fine)
        if self.config.graph == "disjoint":
            seen, there = self._seen(steps)
            return {"vision": (present_rows(self.vision_text, seen, there), there)}
        names = ["vision"] if self.training else list(fine)
        return {
            name: (present_rows(self.coarsen, fine[name][0].relu(), fine[name][1]), fine[name][1]) for name in names
        }

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        found = self.text_space(steps, self.fine_space(steps))
        slots = [name for name in self.slots if name in found]
        values = functional.normalize(torch.stack([found[name][0] for name in slots], 1), dim=-1)
        present = torch.stack([found[name][1].tensor for name in slots], 1)
        return Embedding.even(values, present)

    def read(self, words: Steps) -> Rows:
        """Texts in their space, not normalised."""
        return self.text_head(self.words(words)), words.videos

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        values, there = self.read(self.text.words(texts))
        rows = functional.normalize(values, dim=-1)[:, None].expand(-1, len(self.slots), -1)
        return Embedding.even(rows, there.tensor[:, None].expand(rows.shape[:2]))

    def terms(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """NCE of vision with audio and MIL-NCE of vision with text; a clip without one has no part in its term."""
        steps = self.inputs(batch.tokens)
        fine = self.fine_space(steps)
        coarse = self.text_space(steps, fine)
        text = self.read(self.text.words(batch.texts))
        found: dict[str, Tensor] = {}
        if "audio" in fine:
            pair = _scores(fine["vision"], fine["audio"], batch)
            if pair is not None:
                nce = info_nce(pair[0], temperature=self.config.temperature, negatives=pair[1])
                found["vision|audio"] = self.config.audio_weight * nce
        pair = _scores(text, coarse["vision"], batch)
        if pair is not None:
            nce = mil_nce(pair[0], temperature=self.config.temperature, negatives=pair[1])
            found["vision|text"] = self.config.text_weight * nce
        return found


def _scores(one: Rows, two: Rows, batch: Batch) -> tuple[Tensor, Tensor] | None:
    """Cosines of the rows that both have, if there are two of them, and which pairs are negatives."""
    both = one[1] & two[1]
    if both.count < 2:
        return None
    x, y = (functional.normalize(each.index_select(0, both.rows), dim=-1) for each in (one[0], two[0]))
    return x @ y.T, batch.negatives_among(both.rows)
