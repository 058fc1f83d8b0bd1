"""Second evidence: do two videos sound the same where their pictures match?

Never the first evidence: music, intros and noise are shared by videos that share no footage.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["same_sound", "sound_fingerprint"]

PRINTS_PER_SECOND = 50
_HOP = 0.01  # seconds between steps of the log-mel expert
_SMOOTH, _BACK = 30, 10  # steps that a row covers, and how far back it looks
_SILENCE = -75.0  # decibels, of the loudest band
_REACH = 1.25  # seconds by which the places of frames, one per second, may be off
_LEAST = 1.0  # seconds of sound needed


def sound_fingerprint(decibels: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Return signs [row, 39] of how the difference of neighbouring bands changes, 50 rows per second; 0 in silence.

    Args:
        decibels: log-mel spectrogram [step, 40], one step every 10 ms.

    Source: Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002, on mel bands.
    """
    if len(decibels) < _SMOOTH + _BACK:
        return np.zeros((0, decibels.shape[1] - 1), np.float32)
    energy = 10.0 ** (np.asarray(decibels, np.float64) / 10)
    sums = np.cumsum(np.concatenate([np.zeros((1, energy.shape[1])), energy]), axis=0)
    smooth = np.log(np.maximum(sums[_SMOOTH:] - sums[:-_SMOOTH], 1e-12))
    slopes = smooth[:, 1:] - smooth[:, :-1]
    signs = np.sign(slopes[_BACK:] - slopes[:-_BACK])
    loud = smooth[_BACK:].max(1) > np.log(_SMOOTH * 10 ** (_SILENCE / 10))
    steps = round(1 / (_HOP * PRINTS_PER_SECOND))
    fingerprint: npt.NDArray[np.float32] = (signs * loud[:, None])[::steps].astype(np.float32)
    return fingerprint


def same_sound(
    one: npt.NDArray[np.float32], two: npt.NDArray[np.float32], start: float, other_start: float, seconds: float
) -> float | None:
    """Compare the sound at a place of both videos: 1 for the same, about 0 for unrelated sounds.

    One minus twice the share of signs that differ, at the best shift of up to 1.25 s.

    Args:
        one, two: fingerprints of the videos.
        start, other_start, seconds: the place.

    Returns:
        None if either is silent there.
    """
    begin = max(0, round(start * PRINTS_PER_SECOND))
    mine = one[begin : begin + round(seconds * PRINTS_PER_SECOND)]
    reach = round(_REACH * PRINTS_PER_SECOND)
    offset = round(other_start * PRINTS_PER_SECOND)
    best: float | None = None
    for shift in range(offset - reach, offset + reach + 1):
        cut = max(0, -shift)
        theirs = two[max(0, shift) : max(0, shift + len(mine))]
        ours = mine[cut : cut + len(theirs)]
        theirs = theirs[: len(ours)]
        heard = (ours != 0).any(1) & (theirs != 0).any(1)
        if heard.sum() >= _LEAST * PRINTS_PER_SECOND:
            alike = float((ours[heard] * theirs[heard]).mean())
            best = alike if best is None else max(best, alike)
    return best
