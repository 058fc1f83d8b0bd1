"""The released decoder of Mining YouTube with its quirks, to compare with figures that were published with it.

Source: the code released with Kuehne et al., "Mining YouTube", 2019.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import gammaln

from reelseek.moments.decoding import Floats, Labels, Matrix, Segmentation, check_inputs, poisson_log_probs

__all__ = ["decode_by_beam"]


def decode_by_beam(
    log_probs: Matrix,
    transcript: Sequence[int],
    mean_length: float = 150.0,
    *,
    chunk: int = 20,
    hypotheses: int = 50_000,
) -> Segmentation:
    """The public decoder of Mining YouTube, as it is, to compare with figures that were published with it.

    It advances by chunks of frames, keeps so many hypotheses (a part and how long it has lasted), enters the first
    chunk twice, counts the chunk at which a part ends for the part that is left, and shortens the last of `parts`
    to fit, so that `parts` lie one chunk later than `labels`.

    Raises:
        ValueError: as `decode`.
    """
    gains, named = check_inputs(log_probs, transcript, None)
    if not (mean_length >= 1 and chunk >= 1 and hypotheses >= 1):
        raise ValueError(
            f"mean length {mean_length:g}, chunk {chunk}, hypotheses {hypotheses}: each is to be at least 1"
        )
    labels = np.array([label for label, _ in named])
    summed, frames = np.cumsum(gains, axis=0), len(gains)
    times = range(0, frames, chunk)
    mode = float(np.round(mean_length))
    scale = mode * np.log(mode) - mode - gammaln(np.floor(mean_length) + 1)
    lengths = poisson_log_probs(np.arange(1.0, len(times) + 2) * chunk, mean_length) - scale
    alive = np.full((len(labels), len(times) + 1), -np.inf)  # [part, chunks it has lasted, from 1]
    alive[0, 0] = summed[min(chunk, frames) - 1, labels[0]]
    key_order = _key_order(labels, np.arange(1, len(times) + 2) * chunk)
    left_after = np.zeros((len(times), len(labels)), np.int64)  # chunks that the part before had lasted
    for place, time in enumerate(times):
        here = summed[time, labels] - (summed[time - chunk, labels] if time >= chunk else 0.0)
        leaving = alive + here[:, None] + lengths
        after = np.full_like(alive, -np.inf)
        after[:, 1:] = (alive + here[:, None])[:, :-1]
        left_after[place] = leaving.shape[1] - 1 - leaving[:, ::-1].argmax(1)
        after[1:, 0] = leaving.max(1)[:-1]
        alive = _pruned(after, hypotheses, key_order)
    last = len(labels) - 1
    ends = alive[last] + lengths
    lasted = len(ends) - 1 - int(ends[::-1].argmax())
    if not np.isfinite(ends[lasted]):
        raise ValueError(
            f"no hypothesis reached the end of the transcript: {frames} frames in chunks of {chunk} are too few for "
            f"{len(labels)} parts, or {hypotheses} hypotheses are"
        )
    total, place, chunks = float(ends[lasted]), len(times), []
    for part in range(last, -1, -1):
        chunks.append(lasted + 1)
        place -= lasted + 1
        if part:
            lasted = int(left_after[place, part - 1])
    counts = np.array(chunks[::-1]) * chunk
    sequence = np.repeat(labels, counts)[chunk : chunk + frames]
    edges = np.minimum(np.concatenate([[0], np.cumsum(counts)]), frames)
    parts = tuple((int(label), int(a), int(b)) for label, a, b in zip(labels, edges[:-1], edges[1:], strict=True))
    return Segmentation(sequence.astype(np.int64), parts, total)


def _key_order(labels: Labels, lengths: Labels) -> Labels:
    """Rank of each hypothesis [part, length] among the public decoder's keys: labels so far, then frames it has lasted.

    Tuples are compared place by place, so a length stands against the next label of hypotheses of later parts.
    """
    parts = np.arange(len(labels))[:, None]
    following = np.append(labels[1:], lengths.max())[:, None]
    group = np.where(lengths <= following, parts, 2 * len(labels) - parts)
    order = np.lexsort((np.broadcast_to(lengths, group.shape).ravel(), group.ravel()))
    return order.argsort().reshape(group.shape)


def _pruned(alive: Floats, most: int, key_order: Labels) -> Floats:
    """The best hypotheses; of equal ones those with the higher key."""
    if np.isfinite(alive).sum() <= most:
        return alive
    selected = np.lexsort((key_order.ravel(), alive.ravel()))[-most:]
    pruned = np.full(alive.size, -np.inf)
    pruned[selected] = alive.ravel()[selected]
    return pruned.reshape(alive.shape)
