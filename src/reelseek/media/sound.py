"""Sound as mono at one rate, on the presentation's clock."""

from collections.abc import Callable
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt

from reelseek.media.notice import Notice
from reelseek.media.streams import SoundBatch, SoundStream

__all__ = ["MonoSound", "Samples", "planes_of"]

Samples = npt.NDArray[np.float32]

_SECONDS_A_BATCH = 10
_SMALLEST_HOLE = 0.05  # seconds; less is how containers round
_LONGEST_SILENCE = 60.0  # seconds of a hole that are handed on as silence; after a longer one a new batch starts
_CHECKED_SECONDS = 1.0
_QUIET = 0.03  # root mean square of a mix below which it is compared with its channels
_CANCELLED = 1e-3  # of the loudest channel's energy that a mix has at least, unless its channels cancel out
_SILENT = 1e-8  # mean square of a channel that is silent


class MonoSound:
    """Resamples one audio stream to one rate, on the presentation's clock, and hands it on in batches.

    Where mixing makes silence of sound (channels that cancel out, or a layout that nobody knows how to mix) the loudest
    channel is taken.
    """

    def __init__(self, stream: SoundStream, consumers: list[Callable[[Any], None]]) -> None:
        self.rate = stream.rate
        self.consumers = consumers
        self.mixer: av.AudioResampler | None = None
        self.setup: tuple[str, str, int] | None = None  # what the mixer was made for
        self.frames: list[av.AudioFrame] = []  # of up to a second, to be mixed
        self.waiting = 0.0  # seconds of them
        self.blocks: list[Samples] = []
        self.pending = 0
        self.clock: float | None = None  # time of the next sample, those waiting not counted
        self.batch_start = 0.0
        self.notices: list[Notice] = []

    def take(self, frame: av.AudioFrame, seconds: float | None) -> None:
        """Add a frame that starts at `seconds`; None: where the one before ended."""
        if self.clock is None:
            self.clock = self.batch_start = max(0.0, seconds or 0.0)
        elif seconds is not None and seconds - self.clock - self.waiting > _SMALLEST_HOLE:
            self._leap(seconds)
        frame.pts = None
        setup = (frame.format.name, frame.layout.name, frame.sample_rate)
        if setup != self.setup:  # broadcasts turn from stereo to mono midway, and a resampler takes one kind only
            self._drain()
            self.mixer = av.AudioResampler(format="flt", layout="mono", rate=self.rate)
            self.setup = setup
        self.frames.append(frame)
        self.waiting += frame.samples / frame.sample_rate
        if self.waiting >= _CHECKED_SECONDS:
            self._mix()

    def is_past(self, seconds: float) -> bool:
        """Whether every batch that begins before a time was handed on."""
        return self.clock is not None and self.batch_start >= seconds

    def _leap(self, seconds: float) -> None:
        """Go on at a later time: over silence, or with a new batch if that would be long."""
        self._mix()
        assert self.clock is not None
        hole = seconds - self.clock
        if hole <= _LONGEST_SILENCE:
            if hole > _SMALLEST_HOLE:
                self._push(np.zeros(int(hole * self.rate), np.float32))
            return
        self._drain()
        if self.pending:
            self._emit()
        self.setup = None  # a resampler holds on to a few samples of what came before
        self.clock = self.batch_start = seconds

    def _mix(self) -> None:
        """Mix the frames that wait, and compare the mix with its channels if it is quiet."""
        frames, self.frames, self.waiting = self.frames, [], 0.0
        if not frames:
            return
        assert self.mixer is not None
        try:
            pieces: list[Samples] | None = _arrays([self.mixer.resample(frame) for frame in frames])
        except (av.error.FFmpegError, ValueError):
            pieces, self.setup = None, None  # a mixer that failed is of no use any more
        for piece in self._audible(frames, pieces):
            self._push(piece)

    def _audible(self, frames: list[av.AudioFrame], pieces: list[Samples] | None) -> list[Samples]:
        """The mix of some frames, or their loudest channel if that holds sound that the mix has not."""
        mixed = np.concatenate(pieces) if pieces else None
        if pieces is not None and (mixed is None or frames[0].layout.nb_channels < 2):
            return pieces
        if mixed is not None and float(np.square(mixed).mean()) >= _QUIET**2:
            return pieces or []
        planes = np.concatenate([planes_of(frame) for frame in frames], axis=1)
        energies = np.square(planes).mean(axis=1)
        channel = int(energies.argmax())
        if mixed is not None:
            energy = float(np.square(mixed).mean())
            if energies[channel] < _SILENT or energy >= _CANCELLED * float(energies[channel]):
                return pieces or []
        self._say(frames[0], channel, mixed is None)
        one = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(planes[channel : channel + 1]), format="fltp", layout="mono"
        )
        one.rate = frames[0].sample_rate
        resampler = av.AudioResampler(format="flt", layout="mono", rate=self.rate)
        samples = np.concatenate(_arrays([resampler.resample(one), resampler.resample(None)]))
        if mixed is not None:
            samples = np.pad(samples, (0, max(0, len(mixed) - len(samples))))[: len(mixed)]
        return [samples]

    def _say(self, frame: av.AudioFrame, channel: int, unknown: bool) -> None:
        reason = f"layout {frame.layout.name!r} cannot be mixed" if unknown else "channels cancel each other out"
        notice = Notice(
            "", f"the sound's {reason}; channel {channel + 1} of {frame.layout.nb_channels} is used instead"
        )
        if notice not in self.notices:
            self.notices.append(notice)

    def _drain(self) -> None:
        """Hand on what waits and what the mixer still holds."""
        self._mix()
        if self.mixer is not None and self.setup is not None:
            try:
                rest = _arrays([self.mixer.resample(None)])
            except (av.error.FFmpegError, ValueError):
                return  # nothing was buffered
            for piece in rest:
                self._push(piece)

    def _push(self, samples: Samples) -> None:
        assert self.clock is not None
        self.blocks.append(samples)
        self.pending += len(samples)
        self.clock += len(samples) / self.rate
        if self.pending >= _SECONDS_A_BATCH * self.rate:
            self._emit()

    def _emit(self) -> None:
        samples = np.nan_to_num(np.concatenate(self.blocks).astype(np.float32, copy=False)).clip(-1, 1)
        batch = SoundBatch(samples, self.batch_start, self.rate)
        self.blocks, self.pending = [], 0
        self.batch_start = batch.start_seconds + len(batch.samples) / self.rate
        for consumer in self.consumers:
            consumer(batch)

    def flush(self) -> None:
        """Hand on everything, at the end of the stream."""
        self._drain()
        if self.pending:
            self._emit()


def _arrays(resampled: list[list[av.AudioFrame]]) -> list[Samples]:
    return [frame.to_ndarray().reshape(-1) for frames in resampled for frame in frames]


def planes_of(frame: av.AudioFrame) -> Samples:
    """Samples [channel, sample] in [-1, 1]."""
    samples: Any = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype.kind == "f":
        return np.asarray(samples, np.float32)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    return samples.astype(np.float32) / float(np.iinfo(samples.dtype).max)
