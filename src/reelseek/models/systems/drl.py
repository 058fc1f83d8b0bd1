"""Disentangled representation learning (DRL, Wang et al. 2022): every word looks for its step, every step for its word.

Which words and steps count is learned, and a term of the loss makes channels of matched tokens say the same, each
something else. No index of vectors orders videos by such a score; search finds candidates by the mean of a video's
steps, and scores those again. TS2-Net's shift and selection of steps (Liu et al., ECCV 2022) can be switched on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from reelseek.library.mask import Mask
from reelseek.library.tokens import Steps
from reelseek.models.batch import Batch, Rows, embedding_of, embedding_rows
from reelseek.models.blocks.arrange import exactly
from reelseek.models.blocks.interact import channel_decorrelation, match_tokens, weighted_interaction
from reelseek.models.blocks.project import key, per_expert
from reelseek.models.blocks.readers import Residual
from reelseek.models.blocks.shift import TokenSelection, shift_steps
from reelseek.models.embedding import Embedding
from reelseek.models.learned import LearnedModel, SystemConfig
from reelseek.models.losses import LossConfig
from reelseek.models.settings import STRICT
from reelseek.models.text import TextConfig

__all__ = ["DRL", "DRLConfig"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class DRLConfig(SystemConfig):
    """Args:
    width: of the space of words and steps.
    depth: of the transformer over the steps of an expert, which is added to them.
    released: as released weights expect: QuickGELU and an epsilon of 1e-12 in the transformer, and the first token of
        CLIP's text side is a word, too, which is the same for every text.
    most_steps: steps of each expert, at equal distances.
    shift: share of a step's features that comes from its neighbours (TS2-Net); 0 shifts none.
    select: how many of each expert's steps are compared, those that a scorer ranks highest (TS2-Net); None takes all.
    decorrelate: weight of channel decorrelation (.001 as released).
    diagonal, off_diagonal: weights in it of a channel's correlation with itself and with others; 1 and .06 are defaults
        of the released code, whose scripts for MSR-VTT set .14 (ViT-B/32) or .11 (ViT-B/16), and 0.
    candidates: clips that a search scores again; None takes as many as recall needs.
    loss: a `temperature` in its settings is where the learned one begins; CLIP's own is .01.
    """

    width: int = Field(default=512, ge=2)
    depth: int = Field(default=4, ge=0)
    released: bool = False
    most_steps: int = Field(default=12, ge=1)
    shift: float = Field(default=0.0, ge=0, le=1)
    select: int | None = Field(default=None, ge=1)
    decorrelate: float = Field(default=0.001, ge=0)
    diagonal: float = Field(default=1.0, ge=0)
    off_diagonal: float = Field(default=0.06, ge=0)
    candidates: int | None = Field(default=None, ge=1)
    missing: Literal["mask", "refuse"] = "mask"
    text: TextConfig = Field(default_factory=lambda: TextConfig(most_tokens=32))
    loss: LossConfig = Field(default_factory=lambda: LossConfig("info_nce", {"temperature": 0.01}))


class DRL(LearnedModel):
    """project -> frames + transformer, own expert -> weighted token-wise interaction with words; decorrelation."""

    system = "drl"
    config: DRLConfig

    def __init__(self, config: DRLConfig) -> None:
        super().__init__(config)
        self.slots = ("steps",)
        self.candidates = config.candidates
        self.project = per_expert({name: nn.Linear(dim, config.width) for name, dim in config.experts.items()})
        self.mix = per_expert(
            {name: Residual(config.width, 0, depth=config.depth, released=config.released) for name in config.experts}
        )
        self.select = per_expert(
            {name: TokenSelection(config.width, config.select) for name in config.experts if config.select}
        )
        self.project_words = nn.Linear(self.text.width, config.width)
        self.step_weight, self.word_weight = (_scorer(config.width) for _ in range(2))
        self.score_loss = config.loss.build_learned()

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        """Steps as they stand in the common space: what a text makes of them is for `similarity`."""
        tracks = []
        for name, track in steps.items():
            frames = exactly(track, self.config.most_steps)
            frames = shift_steps(frames.with_values(self.project[key(name)](frames.clean)), self.config.shift)
            mix = self.mix[key(name)]
            assert isinstance(mix, Residual)
            frames = frames.with_values(mix.mixed(frames))
            tracks.append(self.select[key(name)](frames) if self.config.select else frames)
        values, present = (torch.cat(parts, 1) for parts in zip(*((t.clean, t.present) for t in tracks), strict=True))
        return Embedding.even(values, present)

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        # As many places as the longest text may take, with a first and a last token that some encoders add.
        words = self.text.words(texts)
        if self.config.released:
            words = _with_first(words)
        words = exactly(words, self.config.text.most_tokens + 2)
        return Embedding.even(words.with_values(self.project_words(words.clean)).clean, words.present)

    def similarity(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "text video"]:
        """The weighted interaction of words and steps, in [-1, 1]; 0 where there are none."""
        words, steps = texts.values.float(), videos.values.float()
        word_logits, step_logits = self.word_weight(words)[..., 0], self.step_weight(steps)[..., 0]
        return weighted_interaction(words, texts.present, word_logits, steps, videos.present, step_logits)

    def parts(self, batch: Batch) -> dict[str, Rows]:
        texts, videos = self.encode_texts(batch.texts), self.encode_videos(batch.tokens)
        return {**embedding_rows("text", texts), **embedding_rows("video", videos)}

    def terms_of(self, parts: Mapping[str, Rows], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """InfoNCE over the scores, and the decorrelation of each text's tokens and of its own video's."""
        texts, videos = embedding_of(parts, "text"), embedding_of(parts, "video")
        scores = self.similarity(texts, videos)
        losses = {self.config.loss.name: self.score_loss(scores, negatives=batch.negatives)}
        if self.config.decorrelate:
            words, steps = (texts.values, texts.present), (videos.values, videos.present)
            sides = (match_tokens(*words, *steps), match_tokens(*steps, *words))
            term = channel_decorrelation(sides, diagonal=self.config.diagonal, off_diagonal=self.config.off_diagonal)
            losses["decorrelation"] = self.config.decorrelate * term
        return losses


def _with_first(words: Steps) -> Steps:
    """Texts with the token before their first word, which CLIP has at place 0; of a text that begins later, nothing."""
    host = words.mask.clone()
    if host.shape[1] > 1:
        host[:, 0] |= host[:, 1]
    mask = Mask.on(words.device, host)
    return replace(words, present=mask.tensor, host=mask.host)


def _scorer(width: int) -> nn.Module:
    """Tokens -> the logit of their weight."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
