"""MART, the memory-augmented recurrent transformer (Lei et al., ACL 2020): a sentence a clip, each knowing the last.

Every layer reads a clip's features and the words so far, and beside them a memory of the clips before. The features may
be embeddings of any retrieval model, as Ging et al. 2020 and Zolfaghari et al. 2021 do it with COOT's and CrossCLR's.
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
from reelseek.models.model import STRICT
from reelseek.models.systems.coot import sinusoids

__all__ = ["Captioner", "CaptionerConfig", "Memory"]

PAD, BEGIN, END, UNKNOWN = 0, 1, 2, 3  # places of the words that are none
_SPECIAL = 4


@dataclass(frozen=True, config=STRICT, kw_only=True)
class CaptionerConfig:
    """Sizes default to a small model; the released one is 768 wide with 12 heads, 2 layers and 1 memory cell.

    Args:
        inputs: width of the features.
        words: the vocabulary, without the words that are none.
        inner: width within a layer.
        memory: cells that go from clip to clip; 0 writes each sentence by itself.
        most_words: longer sentences are cut.
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
    """Cells [clip, cell, dim] that are begun from the first clip's features and updated by gates (equation 3 to 7)."""

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        self.cells = config.memory
        self.begin = nn.Sequential(nn.Linear(config.width, config.width), nn.LayerNorm(config.width))
        self.places = nn.Parameter(torch.randn(config.memory, config.width) * 0.02)
        self.read = Attention(config.width, config.heads, dropout=config.dropout)
        self.new, self.gate = (nn.Linear(2 * config.width, config.width) for _ in range(2))

    def first(self, rows: Tensor, features: Tensor) -> Tensor:
        count = features.sum(1, keepdim=True).clamp(min=1)
        mean = (rows * features[..., None]).sum(1) / count
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
        self, rows: Tensor, allowed: Tensor, present: Tensor, steps: int, memory: Tensor | None, begun: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Rows after this layer, and the memory for the next clip."""
        rows = self.norms[0](rows + self.drop(self.attend.read(rows, rows, allowed)))
        if self.remember is not None and self.memory is not None:
            features = present.clone()
            features[:, steps:] = False
            before = self.memory.first(rows, features)
            if memory is not None:
                before = torch.where(begun, memory, before)
            keys = torch.cat([before, rows], 1)
            always = torch.ones(*allowed.shape[:2], before.shape[1], dtype=torch.bool, device=rows.device)
            rows = self.norms[1](rows + self.drop(self.remember.read(rows, keys, torch.cat([always, allowed], 2))))
            there = features.any(1)[:, None, None]  # a clip that is not there changes nothing
            memory = torch.where(there, self.memory(before, rows, present), before)
        return self.norms[2](rows + self.drop(self.down(functional.gelu(self.up(rows))))), memory


@dataclasses.dataclass(frozen=True)
class Memory:
    """What goes from clip to clip: cells [video, cell, dim] of each layer, and which videos have had a clip yet."""

    cells: tuple[Tensor | None, ...]
    begun: Tensor

    def rows(self, chosen: Int[Tensor, " row"]) -> "Memory":
        """Of some videos, in that order."""
        return Memory(tuple(None if cells is None else cells[chosen] for cells in self.cells), self.begun[chosen])


class Captioner(nn.Module):
    """Features of the clips of a video, in order -> a sentence for each."""

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
        """Learn each feature's mean and deviation: what all clips have in common would drown what tells them apart."""
        there = features[present]
        if len(there) > 1:
            self.shift.copy_(there.mean(0))
            self.scale.copy_(1 / there.std(0).clamp(min=1e-3 * float(there.std()) + 1e-8))

    def numbers(self, words: Sequence[str]) -> list[int]:
        """A sentence as numbers, between its begin and its end."""
        known = [self._number.get(word, UNKNOWN) for word in words[: self.config.most_words]]
        return [BEGIN, *known, END]

    def text(self, numbers: Sequence[int]) -> str:
        """A sentence of numbers as words, up to its end."""
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
        """One clip of each video: scores of the word after each word, and the memory for the next clip.

        Args:
            words: from BEGIN on, PAD behind the end.
            memory: of the clips before; None at the first clip.
        """
        steps, length = features.shape[1], words.shape[1]
        seen = self.features((features - self.shift) * self.scale) + self.kind.weight[0] + self.positions[:steps]
        said = self.embed(words) + self.kind.weight[1] + self.positions[:length]
        rows = self.enter(torch.cat([seen, said], 1))
        there = torch.cat([present, words != PAD], 1)
        allowed = self._allowed(there, steps)
        alive = present.any(1)
        begun = torch.zeros_like(alive) if memory is None else memory.begun
        cells: list[Tensor | None] = []
        for place, layer in enumerate(self.layers):
            old = None if memory is None else memory.cells[place]
            rows, kept = layer(rows, allowed, there, steps, old, begun[:, None, None])
            cells.append(kept)
        scores = functional.linear(self.out(rows[:, steps:]), self.embed.weight, self.bias)
        return scores, Memory(tuple(cells), begun | alive)

    @staticmethod
    def _allowed(there: Bool[Tensor, "video token"], steps: int) -> Bool[Tensor, "video token token"]:
        """Features read features; a word reads features and the words up to itself."""
        tokens = there.shape[1]
        order = torch.ones(tokens, tokens, dtype=torch.bool, device=there.device).tril()
        order[:steps] = False
        order[:, :steps] = True
        return order & there[:, None]

    @torch.inference_mode()
    def write(
        self,
        features: Float[Tensor, "video clip step dim"],
        present: Bool[Tensor, "video clip step"],
        *,
        beam: int = 1,
    ) -> list[list[str]]:
        """Sentences of each video's clips, in order; an empty one for a clip without any features.

        Args:
            beam: hypotheses that are followed; 1 takes the likeliest word each time. Of several, the sentence with the
                highest mean log-probability a word is taken.
        """
        videos, clips = features.shape[:2]
        memory: Memory | None = None
        told: list[list[str]] = [[] for _ in range(videos)]
        for clip in range(clips):
            seen, there = features[:, clip], present[:, clip]
            best = self._search(seen, there, memory, beam)
            alive = there.any(1)
            for video in range(videos):
                told[video].append(self.text(best[video, 1:].tolist()) if bool(alive[video]) else "")
            memory = self(seen, there, best, memory)[1]
        return told

    def _search(self, seen: Tensor, there: Tensor, memory: Memory | None, beam: int) -> Tensor:
        """The sentence of each video, from BEGIN to END, PAD behind."""
        videos = len(seen)
        wide = torch.arange(videos, device=seen.device).repeat_interleave(beam)
        seen, there = seen[wide], there[wide]
        kept = None if memory is None else memory.rows(wide)
        words = torch.full((videos * beam, 1), BEGIN, device=seen.device)
        scores = torch.full((videos, beam), -torch.inf, device=seen.device)
        scores[:, 0] = 0.0
        ended = torch.zeros(videos * beam, dtype=torch.bool, device=seen.device)
        for place in range(self.config.most_words + 1):
            logits = self(seen, there, words, kept)[0][:, -1]
            logits[:, [PAD, BEGIN, UNKNOWN, *([END] if place == 0 else [])]] = -torch.inf
            if place == self.config.most_words:  # as long as a sentence may be
                logits[:, _SPECIAL:] = -torch.inf
            step = logits.log_softmax(-1)
            step[ended] = -torch.inf
            step[ended, PAD] = 0.0  # what has ended stays as it is
            total = (scores.flatten()[:, None] + step).view(videos, -1)
            scores, chosen = total.topk(beam, dim=1)
            row = (chosen // step.shape[1] + beam * torch.arange(videos, device=seen.device)[:, None]).flatten()
            word = (chosen % step.shape[1]).flatten()
            words = torch.cat([words[row], word[:, None]], 1)
            ended = ended[row] | (word == END)
            if bool(ended.all()):
                break
        lengths = (words != PAD).sum(1).view(videos, beam) - 1  # what it began with was not guessed
        best = (scores / lengths).argmax(1) + beam * torch.arange(videos, device=seen.device)
        return words[best]
