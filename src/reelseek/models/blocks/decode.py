"""A small text decoder: from one vector, how likely a sentence is, word by word."""

from collections.abc import Sequence
from zlib import crc32

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from reelseek.models.words import split_words

__all__ = ["SentenceDecoder"]

_PAD, _BEGIN, _END, _SPECIAL = 0, 1, 2, 3


class SentenceDecoder(nn.Module):
    """A GRU that begins with the vector and reads it beside every word.

    It measures sentences and never writes one, so that it needs no vocabulary: a word has the number of its hash, in
    lower case.

    Args:
        width: of the vector.
        hidden: of the GRU, and of the vectors of words.
        buckets: how many numbers words may have.
        most_words: later words of a sentence are left out.
    """

    def __init__(self, width: int, hidden: int, *, buckets: int, most_words: int) -> None:
        super().__init__()
        self.buckets, self.most_words = buckets, most_words
        self.words = nn.Embedding(_SPECIAL + buckets, hidden)
        self.begin = nn.Linear(width, hidden)
        self.gru = nn.GRU(hidden + width, hidden)
        self.bias = nn.Parameter(torch.zeros(_SPECIAL + buckets))
        nn.init.normal_(self.words.weight, std=hidden**-0.5)

    def numbers(self, texts: Sequence[str]) -> Int[Tensor, "text place"]:
        """The numbers of words and of the sentence's end, padded with 0; on the host, equally many for any texts."""
        numbers = torch.full((len(texts), self.most_words + 1), _PAD)
        for row, text in enumerate(texts):
            words = split_words(text.lower())[: self.most_words]
            hashed = [_SPECIAL + crc32(word.encode()) % self.buckets for word in words]
            numbers[row, : len(words) + 1] = torch.tensor([*hashed, _END])
        return numbers

    def forward(self, vectors: Float[Tensor, "text dim"], numbers: Int[Tensor, "text place"]) -> Float[Tensor, " text"]:
        """The mean negative logarithm of each word's probability, the end of the sentence among them."""
        targets = numbers.T  # places first, as the GRU reads
        before = torch.cat([torch.full_like(targets[:1], _BEGIN), targets[:-1]])
        beside = vectors.expand(len(targets), -1, -1)
        states, _ = self.gru(torch.cat([self.words(before), beside], 2), self.begin(vectors).tanh()[None])
        logits = functional.linear(states, self.words.weight, self.bias).float()
        losses = functional.cross_entropy(logits.transpose(1, 2), targets, ignore_index=_PAD, reduction="none")
        return losses.sum(0) / (targets != _PAD).sum(0)
