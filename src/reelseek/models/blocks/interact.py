"""Words of a text against steps of a video, token by token."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from reelseek.library.mask import zero_absent

__all__ = ["TokenMatches", "channel_decorrelation", "match_tokens", "weighted_interaction"]


@dataclass(frozen=True)
class TokenMatches:
    """Tokens of all items, the nearest token of the other side beside each, and which of them are real.

    What stands beside a token that is not used may be anything.
    """

    tokens: Float[Tensor, "token dim"]
    best: Float[Tensor, "token dim"]
    used: Bool[Tensor, " token"]


def weighted_interaction(
    words: Float[Tensor, "text word dim"],
    words_present: Bool[Tensor, "text word"],
    word_logits: Float[Tensor, "text word"],
    steps: Float[Tensor, "video step dim"],
    steps_present: Bool[Tensor, "video step"],
    step_logits: Float[Tensor, "video step"],
) -> Float[Tensor, "text video"]:
    """The mean of two sums: each word's best cosine with a step, and each step's with a word, weighted by a softmax.

    Args:
        word_logits, step_logits: of the softmax over the words of a text, and over the steps of a video.

    Returns:
        scores in [-1, 1]; 0 where a text has no word or a video no step.

    Source: Wang et al. 2022 (Disentangled Representation Learning for Text-Video Retrieval), and its released code, in
    which padding has a cosine of 0 instead of none.
    """
    lowest = torch.finfo(torch.float32).min
    words, steps = (functional.normalize(values.float(), dim=-1) for values in (words, steps))
    cosines = torch.einsum("twd,vsd->tvws", words, steps)
    best_of_word = cosines.masked_fill(~steps_present[None, :, None], lowest).amax(3)
    best_of_step = cosines.masked_fill(~words_present[:, None, :, None], lowest).amax(2)
    of_words = (zero_absent(words_present[:, None], best_of_word) * _shares(word_logits, words_present)[:, None]).sum(2)
    of_steps = (zero_absent(steps_present[None], best_of_step) * _shares(step_logits, steps_present)[None]).sum(2)
    comparable = words_present.any(1)[:, None] & steps_present.any(1)[None]
    return zero_absent(comparable, (of_words + of_steps) / 2)


def _shares(logits: Float[Tensor, "item token"], present: Bool[Tensor, "item token"]) -> Float[Tensor, "item token"]:
    return logits.float().masked_fill(~present, torch.finfo(torch.float32).min).softmax(1)


def match_tokens(
    one: Float[Tensor, "item token dim"],
    one_present: Bool[Tensor, "item token"],
    two: Float[Tensor, "item other dim"],
    two_present: Bool[Tensor, "item other"],
) -> TokenMatches:
    """Every token of `one`, and beside it the token of `two`'s same item with the highest cosine."""
    one, two = (functional.normalize(values.float(), dim=-1) for values in (one, two))
    cosines = torch.einsum("nad,nbd->nab", one, two).masked_fill(~two_present[:, None], -torch.inf)
    best = two.gather(1, cosines.argmax(2)[..., None].expand(-1, -1, two.shape[2]))
    used = one_present & two_present.any(1, keepdim=True)
    return TokenMatches(one.flatten(0, 1), best.flatten(0, 1), used.flatten())


def channel_decorrelation(
    sides: Sequence[TokenMatches], *, diagonal: float = 1.0, off_diagonal: float = 0.06
) -> Float[Tensor, ""]:
    """Make a channel of a text's tokens correlate with the same channel of their matches, and with no other.

    `diagonal sum_i (1 - C_ii)^2 + off_diagonal sum_(i != j) C_ij^2`, where C is the mean of the correlation matrices of
    words with their best steps and of steps with their best words. Fewer than two tokens on a side cost nothing.

    Args:
        sides: words and their steps, and steps and their words.

    Source: Wang et al. 2022; the weights are the released code's defaults. All tokens count alike, as in its form 2;
    its default, form 3, weights them as the interaction does.
    """
    correlation = torch.stack([_correlation(side) for side in sides]).mean(0)
    on = correlation.diagonal()
    off = correlation.square().sum() - on.square().sum()
    enough = torch.stack([side.used.sum() for side in sides]).amin() > 1
    return zero_absent(enough, diagonal * (1 - on).square().sum() + off_diagonal * off)


def _correlation(matches: TokenMatches) -> Float[Tensor, "channel channel"]:
    used, count = matches.used[:, None], matches.used.sum()
    one, two = (_standard(rows, used, count) for rows in (matches.tokens, matches.best))
    return one.T @ two / count.clamp(min=1)


def _standard(
    rows: Float[Tensor, "token dim"], used: Bool[Tensor, "token 1"], count: Int[Tensor, ""]
) -> Float[Tensor, "token dim"]:
    """Zero mean and unit deviation of every channel over the used tokens; a constant channel stays near zero."""
    centred = zero_absent(used, rows - zero_absent(used, rows).sum(0) / count.clamp(min=1))
    deviation = (centred.square().sum(0) / (count - 1).clamp(min=1)).clamp(min=1e-12).sqrt()
    return centred / deviation
