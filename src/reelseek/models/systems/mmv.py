"""Self-Supervised MultiModal Versatile Networks (Alayrac et al., NeurIPS 2020): an embedding graph of spaces.

Vision and audio share a fine space; a head maps it to a coarse space shared with text. All modalities can be compared
in the coarse space, also those that never occur together in training.
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
from reelseek.library.mask import Mask, upload
from reelseek.library.tokens import Steps, with_any
from reelseek.models.batch import Batch
from reelseek.models.blocks.pool import masked_mean
from reelseek.models.blocks.project import RowNorm, apply_to_present
from reelseek.models.blocks.readers import WordMax
from reelseek.models.embedding import Embedding
from reelseek.models.learned import SOUND_EXPERTS, LearnedModel, SystemConfig
from reelseek.models.losses import LossConfig, info_nce, mil_nce
from reelseek.models.settings import STRICT

__all__ = ["MMV", "MMVConfig"]

Rows = tuple[Float[Tensor, "item _"], Mask]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class MMVConfig(SystemConfig):
    """Args:
    audio: the audio expert; None takes the expert `audio` or `audio_net`, if there is one. All others are vision,
        concatenated.
    graph: `fine_and_coarse` (FAC) chains vision -> fine -> coarse; `shared` has one space for all three; `disjoint`
        one space per pair, from separate heads, so that text and audio are not comparable.
    fine, coarse: widths of the space of vision and audio, and of the one with text.
    words: width of the layer of words before their maximum.
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
    def audio_expert(self) -> str | None:
        return self.audio or next((name for name in SOUND_EXPERTS if name in self.experts), None)

    @property
    def vision_experts(self) -> tuple[str, ...]:
        return tuple(name for name in self.experts if name != self.audio_expert)


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
    learns_uncaptioned = True

    def __init__(self, config: MMVConfig) -> None:
        super().__init__(config)
        if not config.vision_experts:
            raise ModelError("mmv needs at least one expert besides the audio one")
        self.comparable = config.audio_expert is not None and config.graph != "disjoint"
        self.slots = ("vision", "audio") if self.comparable else ("vision",)
        vision_width = sum(config.experts[name] for name in config.vision_experts)
        audio_width = config.experts[config.audio_expert] if config.audio_expert else 0
        self.words = WordMax(self.text.width, config.words)
        fine, coarse = config.fine, config.coarse
        if config.graph == "shared":
            self.vision = _vision_head(vision_width, fine)
            self.text_head = nn.Linear(config.words, fine)
        else:
            self.text_head = nn.Linear(config.words, coarse)
            if config.graph == "disjoint":
                self.vision_text = _vision_head(vision_width, coarse)
            else:
                self.coarsen = _Normed(fine, coarse)
            if config.audio_expert or config.graph == "fine_and_coarse":
                self.vision = _vision_head(vision_width, fine)
        if config.audio_expert:
            self.hear = nn.Linear(audio_width, fine)

    @property
    def takes_narrations(self) -> bool:
        return True

    def fine_space(self, steps: Mapping[str, Steps]) -> dict[str, Rows]:
        """Vision and audio in the fine space, not normalised."""
        vision, mask = self._pool_vision(steps)
        spaces: dict[str, Rows] = {}
        if self.config.audio_expert or self.config.graph != "disjoint":
            spaces["vision"] = (apply_to_present(self.vision, vision, mask), mask)
        if self.config.audio_expert:
            audio = steps[self.config.audio_expert]
            spaces["audio"] = (self.hear(masked_mean(audio.values, audio.present)), audio.videos)
        return spaces

    def _pool_vision(self, steps: Mapping[str, Steps]) -> Rows:
        rows = torch.cat(
            [masked_mean(steps[name].values, steps[name].present) for name in self.config.vision_experts], 1
        )
        return rows, with_any(steps[name] for name in self.config.vision_experts)

    def text_space(self, steps: Mapping[str, Steps], fine: Mapping[str, Rows]) -> dict[str, Rows]:
        """Vision, and audio if the graph has it there, in the space of text.

        In training audio does not pass through the head that it shares with vision: its statistics are of vision.
        """
        if self.config.graph == "shared":
            return dict(fine)
        if self.config.graph == "disjoint":
            vision, mask = self._pool_vision(steps)
            return {"vision": (apply_to_present(self.vision_text, vision, mask), mask)}
        names = ["vision"] if self.training else list(fine)
        return {
            name: (apply_to_present(self.coarsen, fine[name][0].relu(), fine[name][1]), fine[name][1]) for name in names
        }

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        spaces = self.text_space(steps, self.fine_space(steps))
        slots = [name for name in self.slots if name in spaces]
        values = functional.normalize(torch.stack([spaces[name][0] for name in slots], 1), dim=-1)
        present = torch.stack([spaces[name][1].tensor for name in slots], 1)
        return Embedding.even(values, present)

    def read(self, words: Steps) -> Rows:
        """Texts in their space, not normalised."""
        return self.text_head(self.words(words)), words.videos

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        values, mask = self.read(self.text.words(texts))
        rows = functional.normalize(values, dim=-1)[:, None].expand(-1, len(self.slots), -1)
        return Embedding.even(rows, mask.tensor[:, None].expand(rows.shape[:2]))

    def parts(self, batch: Batch) -> dict[str, Rows]:
        steps = self.inputs(batch.tokens)
        fine = self.fine_space(steps)
        coarse = self.text_space(steps, fine)
        fine_parts = {f"fine {name}": rows for name, rows in fine.items()}
        captions = (batch.texts, *batch.more_texts)
        texts = {f"text {number}": self.read(self.text.words_or_none(same)) for number, same in enumerate(captions)}
        return {**fine_parts, "coarse vision": coarse["vision"], **texts}

    def terms_of(self, parts: Mapping[str, Rows], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """NCE of vision with audio and MIL-NCE of vision with text, each over the clips that have both."""
        losses: dict[str, Tensor] = {}
        if "fine audio" in parts:
            pair = _scores(parts["fine vision"], parts["fine audio"], batch)
            if pair is not None:
                nce = info_nce(pair[0], temperature=self.config.temperature, negatives=pair[1])
                losses["vision|audio"] = self.config.audio_weight * nce
        texts = [rows for name, rows in parts.items() if name.startswith("text ")]
        narrated = self._narrations(texts, parts["coarse vision"], batch)
        if narrated is not None:
            losses["vision|text"] = self.config.text_weight * narrated
        return losses

    def _narrations(self, texts: Sequence[Rows], vision: Rows, batch: Batch) -> Float[Tensor, ""] | None:
        """MIL-NCE of the clips that have sight and a caption; None for fewer than two."""
        both = texts[0][1] & vision[1]
        if both.count < 2:
            return None
        video = functional.normalize(vision[0].index_select(0, both.rows), dim=-1)
        # Every caption that there is of these clips, and which of them it is of.
        present = Mask.on(video.device, torch.cat([(mask.host & both.host) for _, mask in texts]))
        owner = (both.host.cumsum(0) - 1).repeat(len(texts))[present.host]
        owners = upload([owner], video.device)[0]
        words = functional.normalize(torch.cat([values for values, _ in texts]).index_select(0, present.rows), dim=-1)
        return mil_nce(
            words @ video.T, video_of_text=owners, temperature=self.config.temperature,
            negatives=batch.negatives_among(both.rows).index_select(0, owners),
        )  # fmt: skip


def _scores(one: Rows, two: Rows, batch: Batch) -> tuple[Tensor, Tensor] | None:
    """Cosines of the rows that both have and which pairs are negatives; None for fewer than two rows."""
    both = one[1] & two[1]
    if both.count < 2:
        return None
    x, y = (functional.normalize(values.index_select(0, both.rows), dim=-1) for values in (one[0], two[0]))
    return x @ y.T, batch.negatives_among(both.rows)
