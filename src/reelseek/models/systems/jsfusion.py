"""JSFusion (Yu, Kim, Kim, ECCV 2018): every frame meets every word, and convolutions over that grid give one score.

No embedding of a video alone orders videos by that score. Search finds candidates by coarse embeddings, from a linear
head on the mean frame and one on the mean word, and scores those again. The coarse heads are ours: they learn by a loss
of their own from detached features, so that the published network's gradients are what they are without them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import Mask, upload, zero_absent
from reelseek.library.tokens import Steps
from reelseek.models.batch import Batch, Rows, embedding_of, embedding_rows
from reelseek.models.blocks.arrange import align_experts, exactly
from reelseek.models.blocks.pool import masked_mean, recurrent_states
from reelseek.models.blocks.project import RowNorm, apply_to_present
from reelseek.models.embedding import Embedding, similarity
from reelseek.models.learned import LearnedModel, SystemConfig
from reelseek.models.losses import LossConfig, info_nce
from reelseek.models.settings import STRICT
from reelseek.models.text import TextConfig

__all__ = ["Decoder", "JSFusion", "JSFusionConfig", "JointTensor"]

_LEAK = 0.2  # slope of the leaky ReLU, which the released code leaves at TensorFlow's default
_COARSE_TEMPERATURE = 0.05
_LEAST = 7  # three convolutions of three, the last one of stride two, need so many frames and words


@dataclass(frozen=True, config=STRICT, kw_only=True)
class JSFusionConfig(SystemConfig):
    """Sizes default to the released code's for LSMDC.

    Args:
        width: of frames, of words and of their joint tensor.
        channels: of the convolutions over frames in time; half of them gate the other half.
        hidden: states of the recurrent reader of words, for each direction.
        decoded: channels of the convolutions over frames and words.
        scorer: widths of the layers from there to the score.
        coarse: width of the embeddings by which search finds candidates.
        most_steps: frames of a video, at equal distances.
        dropout: before and after the reader of words.
        candidates: clips that a search scores again; None takes as many as recall needs.
        loss: margin 10 over each video's other texts, as released; `max_margin` takes both directions.
    """

    width: int = Field(default=512, ge=1)
    channels: int = Field(default=2048, ge=2, multiple_of=2)
    hidden: int = Field(default=512, ge=1)
    decoded: int = Field(default=256, ge=1)
    scorer: tuple[int, ...] = (256, 256, 128)
    coarse: int = Field(default=256, ge=1)
    most_steps: int = Field(default=40, ge=1)
    dropout: float = Field(default=0.5, ge=0, lt=1)
    candidates: int | None = Field(default=None, ge=1)
    missing: Literal["mask", "refuse"] = "mask"
    text: TextConfig = Field(default_factory=lambda: TextConfig(most_tokens=40))
    loss: LossConfig = Field(default_factory=lambda: LossConfig("video_max_margin", {"margin": 10.0}))


class _Dense(nn.Sequential):
    """Linear, batch normalisation, an activation. The linear's bias would be normalised away."""

    def __init__(self, width_in: int, width_out: int, active: Callable[[], nn.Module]) -> None:
        super().__init__(nn.Linear(width_in, width_out, bias=False), RowNorm(width_out), active())


def _leaky() -> nn.Module:
    return nn.LeakyReLU(_LEAK)


class _Frames(nn.Module):
    """Frames beside what three gated convolutions in time make of them (section 3.1).

    What stands where no frame is is zero before each convolution, which the released code ensures before the first one
    alone.
    """

    def __init__(self, width_in: int, config: JSFusionConfig) -> None:
        super().__init__()
        widths = (width_in, config.channels, config.channels, config.channels)
        self.convs = nn.ModuleList(nn.Conv1d(before, after, 3, padding=1) for before, after in pairwise(widths))
        self.head = _Dense(config.channels // 2 + width_in, config.width, nn.Tanh)

    def forward(self, steps: Steps) -> Float[Tensor, "video frame dim"]:
        present, values = steps.present[:, None], steps.clean.transpose(1, 2)
        for conv in self.convs:
            values = zero_absent(present, conv(values).relu())
        passed, gate = values.chunk(2, dim=1)
        return _in_rows(self.head, torch.cat([(passed * gate.sigmoid()).transpose(1, 2), steps.clean], 2), steps)


class _Words(nn.Module):
    """Words after a recurrent reader in both directions, which reads real words alone (section 3.1)."""

    def __init__(self, width_in: int, config: JSFusionConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.lstm = nn.LSTM(width_in, config.hidden, batch_first=True, bidirectional=True)
        self.head = _Dense(2 * config.hidden, config.width, nn.Tanh)

    def forward(self, steps: Steps) -> Float[Tensor, "text word dim"]:
        dropped = steps.with_values(functional.dropout(steps.clean, self.dropout, self.training))
        states = functional.dropout(recurrent_states(self.lstm, dropped), self.dropout, self.training)
        return _in_rows(self.head, states, steps)


def _in_rows(unit: nn.Module, values: Float[Tensor, "item step _"], steps: Steps) -> Float[Tensor, "item step dim"]:
    """`unit` of every step that is present, zeros elsewhere."""
    rows = apply_to_present(unit, values.flatten(0, 1), Mask(steps.present.flatten(), steps.mask.flatten()))
    return zero_absent(steps.present[..., None], rows.unflatten(0, steps.present.shape))


@plain_dataclass(frozen=True)
class _Grid:
    """Where the frames of each video meet the words of each text: a grid a pair, text after text.

    Attributes:
        frame, word, cell: the frame and the word of each meeting among those of the block, and its place in the grids.
        shape: [pair, frame, word] of the grids, no larger than the longest video and text need.
        frames, words: how many each pair has.
        pairs: which pairs meet at all.
    """

    frame: Int[Tensor, " meeting"]
    word: Int[Tensor, " meeting"]
    cell: Int[Tensor, " meeting"]
    shape: tuple[int, int, int]
    frames: Int[Tensor, " pair"]
    words: Int[Tensor, " pair"]
    pairs: Mask

    @classmethod
    def of(cls, texts: Embedding, videos: Embedding) -> "_Grid":
        """Lay the grids out on the host, which waits for a device once, to learn who is present."""
        device = videos.values.device
        words, frames = _on_host(texts.present, videos.present)
        of_word, of_frame = words.sum(1), frames.sum(1)
        high, wide = (max(_LEAST, int(counts.max()) if len(counts) else 0) for counts in (of_frame, of_word))
        meet = _cut(words, wide)[:, None, None, :] & _cut(frames, high)[None, :, :, None]
        text, video, frame, word = meet.nonzero().unbind(1)
        numbers = [
            video * frames.shape[1] + frame, text * words.shape[1] + word, meet.flatten().nonzero()[:, 0],
            of_frame.repeat(len(words)), of_word.repeat_interleave(len(frames)),
        ]  # fmt: skip
        one, two, cell, frame_counts, word_counts = upload(numbers, device)
        pairs = Mask.on(device, meet.flatten(2).any(2).flatten())
        return cls(one, two, cell, (len(pairs.host), high, wide), frame_counts, word_counts, pairs)


def _on_host(one: Tensor, two: Tensor) -> tuple[Tensor, Tensor]:
    if one.device.type == "cpu":
        return one, two
    first, second = torch.cat([one.flatten(), two.flatten()]).cpu().split([one.numel(), two.numel()])
    return first.view(one.shape), second.view(two.shape)


def _cut(present: Tensor, places: int) -> Tensor:
    """So many places, which is enough for all that are present."""
    return functional.pad(present[:, :places], (0, max(0, places - present.shape[1])))


class JointTensor(nn.Module):
    """A vector for each frame and word: two layers of their product, times a gate of the same product (section 3.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(_Dense(width, width, nn.Tanh), _Dense(width, 1, nn.Sigmoid))
        self.value = nn.Sequential(_Dense(width, width, nn.Tanh), _Dense(width, width, nn.Tanh))

    def forward(
        self, frames: Float[Tensor, "meeting dim"], words: Float[Tensor, "meeting dim"]
    ) -> Float[Tensor, "meeting dim"]:
        product = frames * words
        joint: Tensor = self.value(product) * self.gate(product)
        return joint


class Decoder(nn.Module):
    """Grids of vectors -> scores: three gated convolutions, the mean of what is valid, a perceptron (section 3.3).

    A convolution takes no padding, and what it gives is valid where its window holds nothing but frames and words; of
    fewer than it needs it gives one place. The released code normalises the score over a batch too, which puts the
    margin of 10 out of its reach; here it is a plain linear layer.
    """

    def __init__(self, config: JSFusionConfig) -> None:
        super().__init__()
        widths = (config.width, config.decoded, config.decoded)
        # The last channel of each is the gate of the others.
        self.convs = nn.ModuleList(
            nn.Conv2d(width, config.decoded + 1, 3, stride=stride)
            for width, stride in zip(widths, (1, 1, 2), strict=True)
        )
        layers = (config.decoded, *config.scorer)
        self.dense = nn.Sequential(*(_Dense(before, after, _leaky) for before, after in pairwise(layers)))
        self.score = nn.Linear(layers[-1], 1)

    def forward(self, meetings: Float[Tensor, "meeting dim"], grid: _Grid) -> Float[Tensor, " pair"]:
        pairs, high, wide = grid.shape
        flat = meetings.new_zeros(pairs * high * wide, meetings.shape[1]).index_copy(0, grid.cell, meetings)
        values = flat.view(pairs, high, wide, meetings.shape[1]).permute(0, 3, 1, 2)
        frames, words = grid.frames, grid.words
        for conv, stride in zip(self.convs, (1, 1, 2), strict=True):
            out = conv(values)
            frames, words = (((counts - 3) // stride + 1).clamp(min=1) for counts in (frames, words))
            valid = _first(frames, out.shape[2])[:, None, :, None] & _first(words, out.shape[3])[:, None, None, :]
            gated = functional.leaky_relu(out[:, :-1], _LEAK) * out[:, -1:].sigmoid()
            values = zero_absent(valid, gated)
        mean = values.float().sum((2, 3)) / (frames * words)[:, None]
        return zero_absent(grid.pairs.tensor, self.score(apply_to_present(self.dense, mean, grid.pairs))[:, 0].float())


def _first(counts: Int[Tensor, " pair"], places: int) -> Tensor:
    """True in so many places from the first [pair, place]."""
    return torch.arange(places, device=counts.device) < counts[:, None]


class JSFusion(LearnedModel):
    """experts side by side -> convolutions in time; words -> LSTM; a grid of both -> convolutions -> score."""

    system = "jsfusion"
    config: JSFusionConfig

    def __init__(self, config: JSFusionConfig) -> None:
        super().__init__(config)
        self.slots = ("coarse",)
        self.candidates = config.candidates
        self.frames = _Frames(sum(config.experts.values()), config)
        self.words = _Words(self.text.width, config)
        self.joint = JointTensor(config.width)
        self.decoder = Decoder(config)
        self.coarse_frames = nn.Linear(config.width, config.coarse)
        self.coarse_words = nn.Linear(config.width, config.coarse)

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        frames = exactly(align_experts(steps, list(steps)), self.config.most_steps)
        return Embedding.even(self.frames(frames), frames.present)

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        # As many places as the longest text may take, with a first and a last token that some encoders add.
        words = exactly(self.text.words(texts), self.config.text.most_tokens + 2)
        return Embedding.even(self.words(words), words.present)

    def similarity(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "text video"]:
        """The network's score of every pair, of any size and sign; 0 where a video has no frame or a text no word."""
        grid = _Grid.of(texts, videos)
        frames = videos.values.float().flatten(0, 1).index_select(0, grid.frame)
        words = texts.values.float().flatten(0, 1).index_select(0, grid.word)
        return self.decoder(self.joint(frames, words), grid).view(len(texts), len(videos))

    def coarse_texts(self, texts: Embedding) -> Embedding:
        return _coarse(self.coarse_words, texts)

    def coarse_videos(self, videos: Embedding) -> Embedding:
        return _coarse(self.coarse_frames, videos)

    def parts(self, batch: Batch) -> dict[str, Rows]:
        texts, videos = self.encode_texts(batch.texts), self.encode_videos(batch.tokens)
        return {**embedding_rows("text", texts), **embedding_rows("video", videos)}

    def terms_of(self, parts: Mapping[str, Rows], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The loss of the network's scores, and that of the coarse heads, which learns from detached embeddings."""
        texts, videos = embedding_of(parts, "text"), embedding_of(parts, "video")
        scores = self.similarity(texts, videos)
        coarse = similarity(self.coarse_texts(_detached(texts)), self.coarse_videos(_detached(videos)))
        return {
            self.config.loss.name: self.score_loss(scores, negatives=batch.negatives),
            "coarse": info_nce(coarse, temperature=_COARSE_TEMPERATURE, negatives=batch.negatives),
        }


def _coarse(head: nn.Linear, side: Embedding) -> Embedding:
    rows = head(masked_mean(side.values.float(), side.present)).float()
    return Embedding.even(functional.normalize(rows, dim=-1)[:, None], side.present.any(1, keepdim=True))


def _detached(side: Embedding) -> Embedding:
    return Embedding(side.values.detach(), side.present, side.weights)
