"""The released decoder of Mining YouTube with its quirks, to compare with figures that were published with it.

Source: the code released with Kuehne et al., "Mining YouTube", 2019.
"""

from collections.abc import Sequence

import numpy as np

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
    """Decode as the released code of Mining YouTube does.

    It advances by chunks of frames with a beam of hypotheses (a part and how long it has lasted), enters the first
    chunk twice, counts the chunk at which a part ends for the part that is left, and shortens the last of `parts`
    to fit, so that `parts` lie one chunk later than `labels`.

    Args:
        log_probs: [frame, label].
        transcript: the label of each part, in order.
        mean_length: mean of the Poisson model of lengths, in frames.
        chunk: frames per step of the decoder.
        hypotheses: beam width.

    Raises:
        ValueError: see `decode`; or no hypothesis reaches the end of the transcript.
    """
    gains, parts = check_inputs(log_probs, transcript, None)
    if not (mean_length >= 1 and chunk >= 1 and hypotheses >= 1):
        raise ValueError(
            f"mean length {mean_length:g}, chunk {chunk}, hypotheses {hypotheses}: each is to be at least 1"
        )
    labels = np.array([label for label, _ in parts])
    frames = len(gains)
    lengths = _length_scores(mean_length, chunk, len(range(0, frames, chunk)) + 1)
    scores, lasted_before = _search(gains, labels, lengths, chunk, hypotheses)
    ends = scores[-1] + lengths
    lasted = len(ends) - 1 - int(ends[::-1].argmax())
    if not np.isfinite(ends[lasted]):
        raise ValueError(
            f"no hypothesis reached the end of the transcript: {frames} frames in chunks of {chunk} are too few for "
            f"{len(labels)} parts, or {hypotheses} hypotheses are"
        )
    counts = np.array(_trace(lasted_before, lasted)) * chunk
    sequence = np.repeat(labels, counts)[chunk : chunk + frames]
    edges = np.minimum(np.concatenate([[0], np.cumsum(counts)]), frames)
    spans = tuple((int(label), int(a), int(b)) for label, a, b in zip(labels, edges[:-1], edges[1:], strict=True))
    return Segmentation(sequence.astype(np.int64), spans, float(ends[lasted]))


def _length_scores(mean_length: float, chunk: int, chunks: int) -> Floats:
    """Scores of lengths of 1 to `chunks` chunks, relative to that of the mode as the released code computes it."""
    from scipy.special import gammaln  # a third of a second that only those pay who decode

    mode = float(np.round(mean_length))
    scale = mode * np.log(mode) - mode - gammaln(np.floor(mean_length) + 1)
    return poisson_log_probs(np.arange(1.0, chunks + 1) * chunk, mean_length) - scale


def _search(gains: Floats, labels: Labels, lengths: Floats, chunk: int, hypotheses: int) -> tuple[Floats, Labels]:
    """Scores of hypotheses at the last chunk [part, chunks it has lasted, from 1], and how many chunks the part before
    had lasted when a part began in a chunk [chunk, part]."""
    summed, frames = np.cumsum(gains, axis=0), len(gains)
    times = range(0, frames, chunk)
    alive = np.full((len(labels), len(times) + 1), -np.inf)
    alive[0, 0] = summed[min(chunk, frames) - 1, labels[0]]
    key_order = _key_order(labels, np.arange(1, len(times) + 2) * chunk)
    lasted_before = np.zeros((len(times), len(labels)), np.int64)
    for place, time in enumerate(times):
        gain = summed[time, labels] - (summed[time - chunk, labels] if time >= chunk else 0.0)
        leaving = alive + gain[:, None] + lengths
        after = np.full_like(alive, -np.inf)
        after[:, 1:] = (alive + gain[:, None])[:, :-1]
        lasted_before[place] = leaving.shape[1] - 1 - leaving[:, ::-1].argmax(1)
        after[1:, 0] = leaving.max(1)[:-1]
        alive = _pruned(after, hypotheses, key_order)
    return alive, lasted_before


def _trace(lasted_before: Labels, lasted: int) -> list[int]:
    """Chunks that each part lasts, in order, from how long the last part had lasted at the end."""
    place, parts = lasted_before.shape
    chunks = []
    for part in range(parts - 1, -1, -1):
        chunks.append(lasted + 1)
        place -= lasted + 1
        if part:
            lasted = int(lasted_before[place, part - 1])
    return chunks[::-1]


def _key_order(labels: Labels, lengths: Labels) -> Labels:
    """Rank of each hypothesis [part, length] among the released code's keys: labels so far, then frames it has lasted.

    Tuples are compared position by position, so a length is compared with the next label of hypotheses of later parts.
    """
    parts = np.arange(len(labels))[:, None]
    following = np.append(labels[1:], lengths.max())[:, None]
    group = np.where(lengths <= following, parts, 2 * len(labels) - parts)
    order = np.lexsort((np.broadcast_to(lengths, group.shape).ravel(), group.ravel()))
    return order.argsort().reshape(group.shape)


def _pruned(alive: Floats, most: int, key_order: Labels) -> Floats:
    """The `most` best hypotheses; of equal ones those with the higher key."""
    if np.isfinite(alive).sum() <= most:
        return alive
    selected = np.lexsort((key_order.ravel(), alive.ravel()))[-most:]
    pruned = np.full(alive.size, -np.inf)
    pruned[selected] = alive.ravel()[selected]
    return pruned.reshape(alive.shape)
