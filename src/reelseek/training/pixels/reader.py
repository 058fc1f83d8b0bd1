"""Windows of a library's videos as tokens, decoded while a run goes on, by processes that a bad file cannot end."""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reelseek.errors import MediaError, UsageError
from reelseek.library.batch_memory import BatchLayout, Memory
from reelseek.library.source import FeatureSource
from reelseek.library.tokens import Clip, Steps, TokenReader
from reelseek.media.container import Limits
from reelseek.media.guard import Workers, is_death
from reelseek.media.streams import DECODE_VERSION
from reelseek.media.window import Augmentation, Window, WindowContent, read_window
from reelseek.models import parallel
from reelseek.models.pixels import pixel_widths
from reelseek.training.pixels.recipe import PixelRecipe

__all__ = ["PixelReader"]

_log = logging.getLogger("reelseek")
_NOTHING = WindowContent(np.zeros((0, 0, 0, 3), np.uint8), np.zeros(0, np.float32))


class PixelReader(TokenReader):
    """Reads clips as windows of `frames` and `samples`; a step is a frame, or a hundredth of a second of sound.

    A file that cannot be decoded is warned of once, and its clips are read as if nothing was in them.

    Args:
        library: whose videos have files.
        processes: how many decode; at least one.

    Attributes:
        unreadable: why each video that could not be decoded could not.
    """

    def __init__(self, library: FeatureSource, config: PixelRecipe, *, processes: int) -> None:
        self._library, self.config = library, config
        takes = config.takes
        self.dims = pixel_widths(takes["vision_net"], takes.get("audio_net"))
        self.modalities = dict(zip(self.dims, ("motion", "audio"), strict=False))
        self.fingerprints = dict.fromkeys(self.dims, f"media:{DECODE_VERSION}")
        self.step_by_step: dict[str, int] = {}
        self.left_out: dict[str, int] = {}
        self.hidden = {}
        self.frames = None
        self.unreadable: dict[str, str] = {}
        self._present: dict[Clip, tuple[bool, bool]] = {}
        self._workers: Workers[Window, WindowContent] = Workers(
            read_window, workers=max(1, processes), memory_bytes=Limits().memory_bytes
        )
        self._closed = False

    def check_files(self, videos: Iterable[str]) -> None:
        """Refuse videos whose files are not at hand, and start the processes that read the others.

        Raises:
            UsageError: counts them, and names the first.
        """
        rows = [self._library.video(video) for video in sorted(set(videos))]
        gone = [row.id for row in rows if row.path is None or (isinstance(row.path, Path) and not row.path.is_file())]
        if gone:
            names = ", ".join(map(repr, gone[:3])) + (", ..." if len(gone) > 3 else "")
            raise UsageError(
                f"{len(gone)} of {len(rows)} videos have no file at hand ({names}), and [pixels] learns from files; "
                "bring them back, add them to the library again from where they are, or leave them out by data.exclude"
            )
        digest = hashlib.sha256(repr([(row.id, row.content) for row in rows]).encode()).hexdigest()[:16]
        self.fingerprints = dict.fromkeys(self.dims, f"media:{DECODE_VERSION}:{digest}")
        self._workers.start()  # here, for a thread that reads ahead ends with its epoch

    def batch(
        self,
        clips: Sequence[Clip],
        shifts: Mapping[str, Sequence[float]] | None = None,
        *,
        memory: Memory | None = None,
        seeds: Sequence[int] | None = None,
    ) -> dict[str, Steps]:
        """Windows of some clips.

        Args:
            shifts: of no use here.
            seeds: for each clip, from which its window and what is changed of it are drawn; None takes the middle as
                it is.
        """
        windows = [self._window(clip, None if seeds is None else seeds[row]) for row, clip in enumerate(clips)]
        contents = self._decode(clips, windows)
        if seeds is None:
            parts = [(len(content.frames) > 0, len(content.samples) > 0) for content in contents]
            self._present.update(zip(clips, parts, strict=True))
        return self._tokens(contents)

    def present(self, clips: Iterable[Clip]) -> dict[str, npt.NDArray[np.bool_]]:
        """For each input, which clips have any of it in their window."""
        clips = list(clips)
        if unknown := [clip for clip in dict.fromkeys(clips) if clip not in self._present]:
            self.batch(unknown)
        columns = np.array([self._present[clip] for clip in clips], bool).reshape(-1, 2)
        return {name: columns[:, place] for place, name in enumerate(self.dims)}

    def prepare(self, videos: Iterable[str]) -> None:
        """Nothing is looked up ahead."""

    def share(self) -> None:
        """Give every process what those that train together could not decode, and what they saw in validation clips.

        All of them call this, between batches; afterwards each has the same to report.
        """
        for present, unreadable in parallel.all_gather_objects((self._present, self.unreadable)):
            self._present = present | self._present
            self.unreadable = unreadable | self.unreadable
        self.unreadable = dict(sorted(self.unreadable.items()))

    def close(self) -> None:
        """End the processes; nothing can be read any more."""
        self._closed = True
        self._workers.stop()

    def _window(self, clip: Clip, seed: int | None) -> Window:
        """A window within a clip, or about the middle of one that is shorter."""
        config, video = self.config, self._library.video(clip.video)
        if video.path is None:
            raise UsageError(f"{clip.video} has no file at hand, and [pixels] reads files; add it to the library again")
        begin = clip.start_seconds or 0.0
        end = clip.end_seconds if clip.end_seconds is not None else video.duration
        room = max(0.0, (end or 0.0) - begin - config.seconds)
        start = begin + room / 2
        if room == 0.0 and end is not None:  # as much on either side, as far as the video goes
            latest = max(0.0, (video.duration or end) - config.seconds)
            start = min(max(0.0, (begin + end - config.seconds) / 2), latest)
        augmentation = None
        if seed is not None:
            rng = np.random.default_rng(seed)
            start = begin + room * rng.random() if room else start
            augmentation = Augmentation(int(rng.integers(2**63)), config.flip, config.colour)
        start = round(start * config.fps) / config.fps
        rate = config.rate if config.sound else 0
        return Window(
            video.path, start, config.frames, config.fps, config.resize, config.crop, rate, augmentation
        )  # fmt: skip

    def _decode(self, clips: Sequence[Clip], windows: Sequence[Window]) -> list[WindowContent]:
        """What each window holds; nothing where its file cannot be decoded."""
        outcomes = self._outcomes(windows)
        for row, outcome in enumerate(outcomes):
            if isinstance(outcome, MediaError) and is_death(str(outcome)):  # which says little until it happens again
                outcomes[row] = self._outcomes([windows[row]])[0]
        contents = []
        for clip, outcome in zip(clips, outcomes, strict=True):
            if isinstance(outcome, Exception):
                self._note_unreadable(clip.video, outcome)
                outcome = _NOTHING
            contents.append(outcome)
        return contents

    def _outcomes(self, windows: Sequence[Window]) -> list[WindowContent | Exception]:
        limits = Limits()
        if self._closed:
            raise CancelledError("the reader is closed")
        outcomes: dict[Window, WindowContent | Exception] = {}
        for window, outcome in self._workers.map(
            dict.fromkeys(windows), lambda window: limits.wall_seconds(window.start_seconds + window.seconds)
        ):
            if isinstance(outcome, UsageError | CancelledError):  # processes do not start, or were ended
                raise outcome
            outcomes[window] = outcome
        return [outcomes[window] for window in windows]

    def _note_unreadable(self, video: str, error: Exception) -> None:
        if video not in self.unreadable:
            self.unreadable[video] = str(error) or type(error).__name__
            _log.warning("%s cannot be decoded, and is learnt from as if empty: %s", video, self.unreadable[video])

    def _tokens(self, contents: Sequence[WindowContent]) -> dict[str, Steps]:
        config = self.config
        shapes = {"frames": (len(contents), config.frames, self.dims["frames"])}
        if config.sound:
            shapes["samples"] = (len(contents), round(100 * config.takes["audio_net"]["seconds"]), self.dims["samples"])
        arrays = BatchLayout(shapes).new()
        for row, content in enumerate(contents):
            parts: dict[str, npt.NDArray[Any]] = {
                "frames": content.frames.reshape(len(content.frames), self.dims["frames"])
            }
            if config.sound:
                values, step = arrays["samples"].values, self.dims["samples"]
                parts["samples"] = content.samples[: values.shape[1] * step].reshape(-1, step)
            for name, rows in parts.items():
                if len(rows):
                    arrays[name].values[row] = torch.from_numpy(rows)
                    arrays[name].present[row] = True
        arrays["frames"].values.div_(255)
        for name, seconds in (("frames", 1 / config.fps), ("samples", 0.01)):
            if name in arrays:
                steps = torch.arange(shapes[name][1], dtype=torch.float32) * seconds
                arrays[name].spans[:] = torch.stack([steps, steps + seconds], -1)
        return {name: Steps(*parts) for name, parts in arrays.items()}
