"""A second witness: do two videos sound the same where their pictures match?

Never a first one: music, intros and noise are shared by videos that share no footage.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["prints", "same_sound"]

PRINTS_A_SECOND = 50
_HOP = 0.01  # seconds between steps of the log-mel expert
_SMOOTH, _BACK = 30, 10  # steps that a print covers, and how far back it looks
_SILENCE = -75.0  # decibels, of the loudest band
_REACH = 1.25  # seconds by which the places of pictures, one a second, may be off
_LEAST = 1.0  # seconds of sound that it takes


def prints(decibels: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Signs [print, 39] of how the difference of neighbouring bands changes, 50 a second; zeros where it is silent.

    Args:
        decibels: log-mel spectrogram [step, 40], a step every 10 ms.

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
    found: npt.NDArray[np.float32] = (signs * loud[:, None])[:: round(1 / (_HOP * PRINTS_A_SECOND))].astype(np.float32)
    return found


def same_sound(
    one: npt.NDArray[np.float32], two: npt.NDArray[np.float32], start: float, other_start: float, seconds: float
) -> float | None:
    """How alike the sound is at a place of both videos: 1 for the same, about 0 for unrelated sounds.

    One minus twice the share of signs that differ, at the best shift of up to 1.25 s.

    Args:
        one, two: prints of the videos.
        start, other_start, seconds: the place.

    Returns:
        None if either is silent there.
    """
    begin = max(0, round(start * PRINTS_A_SECOND))
    mine = one[begin : begin + round(seconds * PRINTS_A_SECOND)]
    reach = round(_REACH * PRINTS_A_SECOND)
    there = round(other_start * PRINTS_A_SECOND)
    best: float | None = None
    for shift in range(there - reach, there + reach + 1):
        cut = max(0, -shift)
        theirs = two[max(0, shift) : max(0, shift + len(mine))]
        ours = mine[cut : cut + len(theirs)]
        theirs = theirs[: len(ours)]
        heard = (ours != 0).any(1) & (theirs != 0).any(1)
        if heard.sum() >= _LEAST * PRINTS_A_SECOND:
            alike = float((ours[heard] * theirs[heard]).mean())
            best = alike if best is None else max(best, alike)
    return best
