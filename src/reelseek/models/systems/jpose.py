"""JPose (Wray et al., ICCV 2019): captions are split by part of speech; each part has a space of its own.

A list of verbs replaces the paper's tagger: words whose stem is on it are verbs, all others nouns.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import upload
from reelseek.library.tokens import Steps, with_any
from reelseek.models.batch import Batch, Rows, all_rows
from reelseek.models.blocks.pool import masked_mean
from reelseek.models.blocks.project import GatedUnit, apply_to_present
from reelseek.models.embedding import Embedding
from reelseek.models.learned import LearnedModel, SystemConfig
from reelseek.models.losses import triplet
from reelseek.models.settings import STRICT
from reelseek.models.words import split_words

__all__ = ["JPose", "JPoseConfig", "parts_of_speech"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class JPoseConfig(SystemConfig):
    """Args:
    width: of each part's space.
    margin: .1 in the paper, 1 in its code.
    video_weight, text_weight: of triplets whose anchor is a video, and whose anchor is a text; 1 and 2 as released,
        which adds triplets within either side and within each part of speech.
    """

    width: int = Field(default=256, ge=1)
    margin: float = Field(default=1.0, gt=0)
    video_weight: float = Field(default=1.0, ge=0)
    text_weight: float = Field(default=2.0, ge=0)
    missing: Literal["mask", "refuse"] = "mask"


@cache
def _verbs() -> frozenset[str]:
    return frozenset((files("reelseek.models") / "verbs.txt").read_text("utf-8").split())


def parts_of_speech(text: str) -> tuple[str, str]:
    """Split a caption into its verbs and everything else.

    >>> parts_of_speech("a man is cutting onions")
    ('is cutting', 'a man onions')
    """
    verbs: list[str] = []
    rest: list[str] = []
    for word in split_words(text):
        (verbs if _is_verb(word.lower()) else rest).append(word)
    return " ".join(verbs), " ".join(rest)


def _is_verb(word: str) -> bool:
    verbs = _verbs()
    stems = [word]
    for ending in ("ing", "ed", "es", "s", "d"):
        if word.endswith(ending):
            stem = word[: -len(ending)]
            stems += [stem, stem + "e", stem[:-1] if len(stem) > 2 and stem[-1] == stem[-2:-1] else stem]
    return any(stem in verbs for stem in stems if len(stem) > 1)


class JPose(LearnedModel):
    """pool (mean) -> heads (one gated unit per part of speech) -> one space, the parts concatenated."""

    system = "jpose"
    config: JPoseConfig

    def __init__(self, config: JPoseConfig) -> None:
        super().__init__(config)
        self.slots = ("verb", "noun")
        width = sum(config.experts.values())
        self.heads = nn.ModuleList(GatedUnit(width, config.width) for _ in self.slots)
        self.text_heads = nn.ModuleList(GatedUnit(self.text.width, config.width) for _ in self.slots)

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        rows = torch.cat([masked_mean(tracks.values, tracks.present) for tracks in steps.values()], 1)
        mask = with_any(steps.values())
        values = torch.stack([apply_to_present(head, rows, mask) for head in self.heads], 1)
        return Embedding.even(values, mask.tensor[:, None].expand(values.shape[:2]))

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        device = self.text.pooled(texts).device
        rows, present = [], []
        for part, head in zip(zip(*map(parts_of_speech, texts), strict=True), self.text_heads, strict=True):
            has_part = upload([torch.tensor([bool(words.strip()) for words in part])], device)[0]
            # Where a caption has no verb, the whole caption fills the slot, which is then absent.
            pooled = self.text.pooled(
                [words if words.strip() else text for words, text in zip(part, texts, strict=True)]
            )
            rows.append(head(pooled))
            present.append(has_part)
        values = torch.stack(rows, 1)
        return Embedding.even(values, torch.stack(present, 1))

    def parts(self, batch: Batch) -> dict[str, Rows]:
        texts, videos = self.encode_texts(batch.texts), self.encode_videos(batch.tokens)
        video = functional.normalize(videos.values.flatten(1), dim=-1)
        text = functional.normalize((texts.values * texts.present[..., None]).flatten(1), dim=-1)
        return {"text": all_rows(text), "video": all_rows(video)}

    def terms_of(self, parts: Mapping[str, Rows], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Triplets in the joint space of both parts, in squared distance, both ways."""
        text, video = parts["text"][0], parts["video"][0]
        margin, negatives = self.config.margin, batch.negatives
        return {
            "vt": self.config.video_weight * triplet(video, text, margin=margin, negatives=negatives),
            "tv": self.config.text_weight * triplet(text, video, margin=margin, negatives=negatives),
        }
