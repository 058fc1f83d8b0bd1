"""Sound as a log-mel spectrogram: 40 bands, windows of 25 ms every 10 ms, at 16 kHz.

As the audio input of Everything at Once (supplement, section 1) and AVLnet: mean removed, pre-emphasis .97, Hamming
window, power spectrum, mel bands from 20 Hz, decibels. Unlike theirs the decibels are absolute (1.0 is full scale), so
that a file can be read in pieces; a model that wants them relative to a clip's maximum subtracts that maximum.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.experts.expert import Session, Track, fingerprint
from reelseek.media.streams import SoundBatch, SoundStream, Stream

__all__ = ["audio", "log_mel", "mel_bands"]

_RATE, _WINDOW, _HOP, _BANDS = 16_000, 400, 160, 40
_FLOOR = 1e-10


@cache
def mel_bands() -> npt.NDArray[np.float64]:
    """Triangular filters [201, 40] from 20 Hz to 8 kHz on Slaney's mel scale, each of unit area."""
    from transformers.audio_utils import mel_filter_bank

    bands: npt.NDArray[np.float64] = mel_filter_bank(
        num_frequency_bins=_WINDOW // 2 + 1,
        num_mel_filters=_BANDS,
        min_frequency=20.0,
        max_frequency=_RATE / 2,
        sampling_rate=_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return bands


def log_mel(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Decibels [frame, 40] of mono samples at 16 kHz; `1 + (samples - 400) // 160` frames, none if too short."""
    if len(samples) < _WINDOW:
        return np.zeros((0, _BANDS), np.float32)
    emphasised = samples.astype(np.float64)
    emphasised[1:] -= 0.97 * samples[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(emphasised, _WINDOW)[::_HOP]
    power = np.abs(np.fft.rfft(frames * np.hamming(_WINDOW), axis=1)) ** 2
    decibels: npt.NDArray[np.float32] = (10 * np.log10(np.maximum(power @ mel_bands(), _FLOOR))).astype(np.float32)
    return decibels


class _LogMelSession:
    def __init__(self) -> None:
        self._rest = np.zeros(0, np.float32)
        self._rows: list[npt.NDArray[np.float16]] = []
        self._starts: list[npt.NDArray[np.float64]] = []
        self._start, self._steps = 0.0, 0  # of the sound since the last long hole
        self._end: float | None = None
        self._saved = 0

    def save_part(self) -> dict[str, npt.NDArray[Any]]:
        """See `reelseek.experts.parts.Resumable`."""
        new, self._saved = slice(self._saved, None), len(self._rows)
        return {
            "rows": np.concatenate([np.zeros((0, _BANDS), np.float16), *self._rows[new]]),
            "starts": np.concatenate([np.zeros(0), *self._starts[new]]),
            "rest": self._rest,
            "place": np.array([self._start, self._steps, np.nan if self._end is None else self._end]),
        }

    def restore_parts(self, states: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
        """See `reelseek.experts.parts.Resumable`."""
        self._rows, self._starts = [state["rows"] for state in states], [state["starts"] for state in states]
        self._saved = len(self._rows)
        start, steps, end = states[-1]["place"].tolist()
        self._start, self._steps, self._end = start, int(steps), None if math.isnan(end) else end
        self._rest = states[-1]["rest"]

    def feed(self, batch: SoundBatch) -> None:
        if self._end is None or not batch.goes_on_from(self._end):
            self._start, self._steps, self._rest = batch.start_seconds, 0, np.zeros(0, np.float32)
        self._end = batch.end_seconds
        samples = np.concatenate([self._rest, batch.samples])
        rows = log_mel(samples)
        self._rows.append(rows.astype(np.float16))
        steps = np.arange(self._steps, self._steps + len(rows), dtype=np.float64)
        self._starts.append(self._start + steps * (_HOP / _RATE))
        self._steps += len(rows)
        self._rest = samples[len(rows) * _HOP :]

    def close(self, end_seconds: float) -> Track:
        values = np.concatenate(self._rows) if self._rows else np.zeros((0, _BANDS), np.float16)
        starts = np.concatenate(self._starts) if self._starts else np.zeros(0)
        spans = np.stack([starts, starts + _WINDOW / _RATE], axis=1)
        return Track(values, spans, note="" if len(values) else "no sound")


class _LogMel:
    name = "audio"
    modality = "audio"
    dim = _BANDS
    streams: Sequence[Stream] = (SoundStream(_RATE),)

    def __init__(self) -> None:
        self.fingerprint = fingerprint(
            "audio", bands=_BANDS, window=_WINDOW, hop=_HOP, rate=_RATE, emphasis=0.97, floor=_FLOOR, dtype="float16"
        )

    def open(self) -> Session:
        return _LogMelSession()


def audio(model: str | None = None) -> _LogMel:
    """Log-mel spectrogram, 40 bands, 100 steps a second."""
    return _LogMel()
