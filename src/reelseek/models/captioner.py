"""MART, the memory-augmented recurrent transformer (Lei et al., ACL 2020): one sentence per clip, with a memory.

Every layer attends to a clip's features, to the words so far and to a memory of the previous clips. The features may be
embeddings of any retrieval model, as Ging et al. 2020 and Zolfaghari et al. 2021 do it with COOT's and CrossCLR's.
"""

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from reelseek.models.blocks.mix import Attention
from reelseek.models.settings import STRICT
from reelseek.models.systems.coot import sinusoids

__all__ = ["Captioner", "CaptionerConfig", "Memory"]

PAD, BEGIN, END, UNKNOWN = 0, 1, 2, 3  # special tokens
_SPECIAL = 4


@dataclass(frozen=True, config=STRICT, kw_only=True)
class CaptionerConfig:
    """Sizes default to a small model; the released one is 768 wide with 12 heads, 2 layers and 1 memory cell.

    Args:
        inputs: width of the features.
        words: the vocabulary, without special tokens.
        inner: width of the feed-forward net of a layer.
        memory: number of memory cells passed from clip to clip; 0 writes each sentence independently.
        most_words: longer sentences are truncated.
    """

    inputs: int = Field(ge=1)
    words: tuple[str, ...] = Field(min_length=1)
    width: int = 192
    heads: int = 6
    layers: int = Field(default=2, ge=1)
    inner: int = 192
    memory: int = Field(default=1, ge=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    most_words: int = Field(default=22, ge=1)


class _Memory(nn.Module):
    """Cells [clip, cell, dim], initialised from the first clip's features and updated by gates (equations 3 to 7)."""

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        self.cells = config.memory
        self.begin = nn.Sequential(nn.Linear(config.width, config.width), nn.LayerNorm(config.width))
        self.places = nn.Parameter(torch.randn(config.memory, config.width) * 0.02)
        self.read = Attention(config.width, config.heads, dropout=config.dropout)
        self.new, self.gate = (nn.Linear(2 * config.width, config.width) for _ in range(2))

    def initial(self, rows: Tensor, present: Tensor) -> Tensor:
        count = present.sum(1, keepdim=True).clamp(min=1)
        mean = (rows * present[..., None]).sum(1) / count
        return self.begin(mean)[:, None] + self.places

    def forward(self, memory: Tensor, rows: Tensor, present: Tensor) -> Tensor:
        summary = self.read.read(memory, rows, present[:, None].expand(-1, self.cells, -1))
        both = torch.cat([memory, summary], 2)
        gate = torch.sigmoid(self.gate(both))
        return (1 - gate) * torch.tanh(self.new(both)) + gate * memory


class _Layer(nn.Module):
    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        width = config.width
        self.attend = Attention(width, config.heads, dropout=config.dropout)
        self.up, self.down = nn.Linear(width, config.inner), nn.Linear(config.inner, width)
        self.remember = Attention(width, config.heads, dropout=config.dropout) if config.memory else None
        self.memory = _Memory(config) if config.memory else None
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.drop = nn.Dropout(config.dropout)

    def forward(
        self, rows: Tensor, allowed: Tensor, present: Tensor, steps: int, memory: Tensor | None, started: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Outputs of this layer, and the memory for the next clip."""
        rows = self.norms[0](rows + self.drop(self.attend.read(rows, rows, allowed)))
        if self.remember is not None and self.memory is not None:
            feature_present = present.clone()
            feature_present[:, steps:] = False
            before = self.memory.initial(rows, feature_present)
            if memory is not None:
                before = torch.where(started, memory, before)
            keys = torch.cat([before, rows], 1)
            always = torch.ones(*allowed.shape[:2], before.shape[1], dtype=torch.bool, device=rows.device)
            rows = self.norms[1](rows + self.drop(self.remember.read(rows, keys, torch.cat([always, allowed], 2))))
            clip_present = feature_present.any(1)[:, None, None]  # an absent clip changes nothing
            memory = torch.where(clip_present, self.memory(before, rows, present), before)
        return self.norms[2](rows + self.drop(self.down(functional.gelu(self.up(rows))))), memory


@dataclasses.dataclass(frozen=True)
class Memory:
    """The state passed from clip to clip: cells [video, cell, dim] of each layer, and which videos have had a clip."""

    cells: tuple[Tensor | None, ...]
    started: Tensor

    def select(self, rows: Int[Tensor, " row"]) -> "Memory":
        """The memory of these videos, in this order."""
        return Memory(tuple(None if cells is None else cells[rows] for cells in self.cells), self.started[rows])


class Captioner(nn.Module):
    """Features of the clips of a video, in order -> one sentence per clip."""

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("shift", torch.zeros(config.inputs))
        self.register_buffer("scale", torch.ones(config.inputs))
        self.shift: Tensor
        self.scale: Tensor
        self.features = nn.Sequential(
            nn.LayerNorm(config.inputs), nn.Dropout(config.dropout), nn.Linear(config.inputs, config.width),
            nn.LayerNorm(config.width),
        )  # fmt: skip
        self.embed = nn.Embedding(len(config.words) + _SPECIAL, config.width, padding_idx=PAD)
        self.kind = nn.Embedding(2, config.width)
        self.enter = nn.Sequential(nn.LayerNorm(config.width), nn.Dropout(config.dropout))
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.out = nn.Sequential(nn.Linear(config.width, config.width), nn.GELU(), nn.LayerNorm(config.width))
        self.bias = nn.Parameter(torch.zeros(len(config.words) + _SPECIAL))
        self.register_buffer("positions", sinusoids(1000, config.width), persistent=False)
        self.positions: Tensor
        nn.init.normal_(self.embed.weight, std=0.02)
        self._number = {word: place for place, word in enumerate(config.words, _SPECIAL)}

    @torch.no_grad()
    def fit(self, features: Float[Tensor, "... dim"], present: Bool[Tensor, "..."]) -> None:
        """Learn each feature's mean and deviation: standardised features show how clips differ."""
        values = features[present]
        if len(values) > 1:
            self.shift.copy_(values.mean(0))
            self.scale.copy_(1 / values.std(0).clamp(min=1e-3 * float(values.std()) + 1e-8))

    def numbers(self, words: Sequence[str]) -> list[int]:
        """Encode a sentence as token numbers, from BEGIN to END."""
        tokens = [self._number.get(word, UNKNOWN) for word in words[: self.config.most_words]]
        return [BEGIN, *tokens, END]

    def text(self, numbers: Sequence[int]) -> str:
        """Decode token numbers to words, up to END."""
        words = []
        for number in numbers:
            if number == END:
                break
            if number >= _SPECIAL:
                words.append(self.config.words[number - _SPECIAL])
        return " ".join(words)

    def forward(
        self,
        features: Float[Tensor, "video step dim"],
        present: Bool[Tensor, "video step"],
        words: Int[Tensor, "video word"],
        memory: "Memory | None" = None,
    ) -> tuple[Float[Tensor, "video word vocabulary"], "Memory"]:
        """Process one clip of each video: logits of the next word at each word, and the memory for the next clip.

        Args:
            words: token numbers from BEGIN on, padded with PAD.
            memory: of the previous clips; None at the first clip.
        """
        steps, length = features.shape[1], words.shape[1]
        feature_rows = (
            self.features((features - self.shift) * self.scale) + self.kind.weight[0] + self.positions[:steps]
        )
        word_rows = self.embed(words) + self.kind.weight[1] + self.positions[:length]
        rows = self.enter(torch.cat([feature_rows, word_rows], 1))
        token_present = torch.cat([present, words != PAD], 1)
        allowed = self._attention_mask(token_present, steps)
        clip_present = present.any(1)
        started = torch.zeros_like(clip_present) if memory is None else memory.started
        cells: list[Tensor | None] = []
        for index, layer in enumerate(self.layers):
            previous = None if memory is None else memory.cells[index]
            rows, updated = layer(rows, allowed, token_present, steps, previous, started[:, None, None])
            cells.append(updated)
        scores = functional.linear(self.out(rows[:, steps:]), self.embed.weight, self.bias)
        return scores, Memory(tuple(cells), started | clip_present)

    @staticmethod
    def _attention_mask(present: Bool[Tensor, "video token"], steps: int) -> Bool[Tensor, "video token token"]:
        """Features attend to features; a word attends to features and to the words up to itself (causal)."""
        tokens = present.shape[1]
        order = torch.ones(tokens, tokens, dtype=torch.bool, device=present.device).tril()
        order[:steps] = False
        order[:, :steps] = True
        return order & present[:, None]

    @torch.inference_mode()
    def write(
        self,
        features: Float[Tensor, "video clip step dim"],
        present: Bool[Tensor, "video clip step"],
        *,
        beam: int = 1,
    ) -> list[list[str]]:
        """Write one sentence per clip of each video, in order; an empty one for a clip without any features.

        Args:
            beam: width of the beam search; 1 is greedy decoding. Of several hypotheses, the one with the highest mean
                log-probability per word is returned.
        """
        videos, clips = features.shape[:2]
        memory: Memory | None = None
        sentences: list[list[str]] = [[] for _ in range(videos)]
        for clip in range(clips):
            clip_features, clip_steps = features[:, clip], present[:, clip]
            best = self._beam_search(clip_features, clip_steps, memory, beam)
            words, clip_present = best[:, 1:].cpu().tolist(), clip_steps.any(1).cpu().tolist()
            for video in range(videos):
                sentences[video].append(self.text(words[video]) if clip_present[video] else "")
            memory = self(clip_features, clip_steps, best, memory)[1]
        return sentences

    def _beam_search(self, features: Tensor, present: Tensor, memory: Memory | None, beam: int) -> Tensor:
        """The best sentence of each video, from BEGIN to END, padded with PAD."""
        videos = len(features)
        video_of_beam = torch.arange(videos, device=features.device).repeat_interleave(beam)
        features, present = features[video_of_beam], present[video_of_beam]
        beam_memory = None if memory is None else memory.select(video_of_beam)
        words = torch.full((videos * beam, 1), BEGIN, device=features.device)
        scores = torch.full((videos, beam), -torch.inf, device=features.device)
        scores[:, 0] = 0.0
        ended = torch.zeros(videos * beam, dtype=torch.bool, device=features.device)
        for length in range(self.config.most_words + 1):
            logits = self(features, present, words, beam_memory)[0][:, -1]
            for word in (PAD, BEGIN, UNKNOWN, *([END] if length == 0 else [])):  # a list would be copied to the device
                logits[:, word] = -torch.inf
            if length == self.config.most_words:  # the longest sentence: only END may follow
                logits[:, _SPECIAL:] = -torch.inf
            log_probs = logits.log_softmax(-1)
            log_probs[ended] = -torch.inf
            log_probs[ended, PAD] = 0.0  # a finished hypothesis is only padded
            totals = (scores.flatten()[:, None] + log_probs).view(videos, -1)
            scores, indices = totals.topk(beam, dim=1)
            hypotheses = indices // log_probs.shape[1] + beam * torch.arange(videos, device=features.device)[:, None]
            rows, next_words = hypotheses.flatten(), (indices % log_probs.shape[1]).flatten()
            words = torch.cat([words[rows], next_words[:, None]], 1)
            ended = ended[rows] | (next_words == END)
            if bool(ended.all()):
                break
        lengths = (words != PAD).sum(1).view(videos, beam) - 1  # BEGIN was not predicted
        best = (scores / lengths).argmax(1) + beam * torch.arange(videos, device=features.device)
        return words[best]
