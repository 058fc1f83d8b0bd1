"""Tracks of a batch of clips as padded tensors, read straight from memory-mapped shards."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reelseek.errors import FeatureError, UsageError, suggest
from reelseek.library.batch_memory import BatchLayout, Memory, StepArrays
from reelseek.library.mask import Mask, upload, zero_absent
from reelseek.library.records import TrackRow
from reelseek.library.source import FeatureSource
from reelseek.library.track_lookup import track_lookup

__all__ = ["Clip", "Steps", "TokenReader", "Tokens", "with_any"]

_log = logging.getLogger("reelseek")
_CLIPS_A_BLOCK = 1000
_REMEDY = (
    "Bring features in with: reelseek features import {library} {name} FEATURES --modality MODALITY; or compute those "
    "of an expert that `reelseek doctor` lists: reelseek add {library} VIDEOS --experts {name}"
)


@dataclass(frozen=True)
class Clip:
    """A time span `[start, end)` of a video in seconds; None stands for the video's own start or end."""

    video: str
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True)
class Steps:
    """One modality of a batch, padded. What is absent is `present == False` and nothing else.

    Steps on a device keep `present` and `spans` on the host as well (see `to`), so that nobody has to wait for the
    device to learn how many there are. Steps that were put together on a device are asked once.

    Args:
        host, host_spans: `present` and `spans` on the host. Whoever has them made these steps of others, whose values
            were looked at when they came in.

    Raises:
        FeatureError: shapes disagree, or a present value on the host is not finite.
    """

    values: Float[Tensor, "video step dim"]
    present: Bool[Tensor, "video step"]
    spans: Float[Tensor, "video step 2"]
    host: Bool[Tensor, "video step"] | None = None
    host_spans: Float[Tensor, "video step 2"] | None = None

    def __post_init__(self) -> None:
        if self.values.shape[:2] != self.present.shape or self.spans.shape != (*self.present.shape, 2):
            raise FeatureError(
                f"values {tuple(self.values.shape)}, present {tuple(self.present.shape)} and spans "
                f"{tuple(self.spans.shape)} do not fit together"
            )
        if self.host is None and self.values.device.type == "cpu":
            self._refuse_nan()

    def _refuse_nan(self) -> None:
        # A finite sum has no NaN in it, and is far cheaper than looking at every value; only if it is not finite, which
        # what is absent may have done too, does it pay to look.
        if not torch.isfinite(self.values.sum()) and not torch.isfinite(self.values[self.present]).all():
            raise FeatureError("a present step holds NaN or infinity")

    @property
    def device(self) -> torch.device:
        return self.values.device

    @cached_property
    def mask(self) -> Bool[Tensor, "video step"]:
        """`present` on the host."""
        if self.host is None or self.present.device.type == "cpu":
            return _on_host(self.present)
        return self.host

    @cached_property
    def mask_spans(self) -> Float[Tensor, "video step 2"]:
        """`spans` on the host."""
        return self.host_spans if self.host_spans is not None else _on_host(self.spans)

    @property
    def step_mask(self) -> Mask:
        """Which steps are present."""
        return Mask(self.present, self.mask)

    @cached_property
    def videos(self) -> Mask:
        """Which videos have at least one step."""
        return self.step_mask.any(1)

    @property
    def clean(self) -> Float[Tensor, "video step dim"]:
        """Values with zeros where absent, whatever stood there."""
        return zero_absent(self.present[..., None], self.values)

    def to(self, device: torch.device | str) -> "Steps":
        """The same on a device; the host does not wait for the copy."""
        device = torch.device(device)
        parts = (self.values, self.present, self.spans)
        if self.device == device:
            return self
        if device.type == "cpu":
            return Steps(self.values.to(device), self.mask, self.mask_spans)
        values, present, spans = (part.to(device, non_blocking=True) for part in parts)
        return Steps(values, present, spans, host=self.mask, host_spans=self.mask_spans)

    def pinned(self) -> "Steps":
        """The same in memory from which a copy to a GPU goes beside other work."""
        values, present, spans = (part.pin_memory() for part in (self.values, self.present, self.spans))
        return Steps(values, present, spans, host=self.mask, host_spans=self.mask_spans)

    def with_values(self, values: Float[Tensor, "video step _"]) -> "Steps":
        """Other values at the same steps."""
        return Steps(values, self.present, self.spans, host=self.mask, host_spans=self.host_spans)

    def columns(self, stop: int) -> "Steps":
        """The first places of every video."""
        times = None if self.host_spans is None else self.host_spans[:, :stop]
        return Steps(
            self.values[:, :stop], self.present[:, :stop], self.spans[:, :stop],
            host=self.mask[:, :stop], host_spans=times,
        )  # fmt: skip

    def gather(self, order: Int[Tensor, "video place"], present: Bool[Tensor, "video place"]) -> "Steps":
        """Some steps of every video, by their places.

        Args:
            order, present: on the host; where `present` is false it does not matter which place is named.
        """
        index = upload([order], self.device)[0][..., None]
        return Steps(
            self.values.gather(1, index.expand(-1, -1, self.values.shape[2])),
            upload([present], self.device)[0],
            self.spans.gather(1, index.expand(-1, -1, 2)),
            host=present,
        )

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: "slice | Sequence[int] | Tensor") -> "Steps":
        """Return some of the videos: a slice, their numbers, or a mask."""
        return self.rows(torch.arange(len(self))[rows])

    @classmethod
    def concat(cls, parts: Sequence["Steps"]) -> "Steps":
        """Collate batches on the host, padded to the longest."""
        longest = max(part.values.shape[1] for part in parts)

        def padded(tensor: Tensor) -> Tensor:
            end = tensor.new_zeros(len(tensor), longest - tensor.shape[1], *tensor.shape[2:])
            return torch.cat([tensor, end], dim=1)

        columns = zip(*((part.values, part.present, part.spans) for part in parts), strict=True)
        return cls(*(torch.cat([padded(tensor) for tensor in column]) for column in columns))

    def rows(self, videos: Int[Tensor, " row"]) -> "Steps":
        """Some of the videos, by their numbers on the host."""
        index = upload([videos], self.device)[0]
        host = self.mask.index_select(0, videos)
        times = None if self.host_spans is None else self.host_spans.index_select(0, videos)
        values, present, spans = (part.index_select(0, index) for part in (self.values, self.present, self.spans))
        return Steps(values, present, spans, host=host, host_spans=times)


def with_any(parts: Iterable[Steps]) -> Mask:
    """Which videos have a step of any of several modalities."""
    masks = [steps.videos for steps in parts]
    host = torch.stack([mask.host for mask in masks]).any(0)
    if all(mask.local for mask in masks):
        return Mask(host, host)
    return Mask(torch.stack([mask.tensor for mask in masks]).any(0), host)


def _on_host(tensor: Tensor) -> Tensor:
    return tensor if tensor.device.type == "cpu" else tensor.cpu()


Tokens = Mapping[str, Steps]


class TokenReader:
    """Reads clips of a library as tokens, an entry an expert.

    Args:
        library: open; its tracks are read as they are now.
        experts: which experts; None takes all that have at least one step.
        most_steps: a longer track is averaged into this many equal pieces.
        step_by_step: experts whose steps are given as they are, the first so many of them (frames of a spectrogram).

    Attributes:
        left_out: steps that were beyond `step_by_step` so far, for each expert.
        quiet: count these without a warning, for who counts them together.
        hidden: for some videos the experts that are read as absent.
        frames: read only so many steps of appearance, evenly spread; one is the middle one.
        unreadable: why videos could not be read, of a reader that finds out while it reads.

    Raises:
        UsageError: an expert has no tracks, or the library has none at all.
    """

    def __init__(
        self,
        library: FeatureSource,
        experts: Sequence[str] | None = None,
        *,
        most_steps: int = 30,
        step_by_step: Mapping[str, int] | None = None,
    ) -> None:
        self._library = library
        self._most = most_steps
        self.step_by_step = dict(step_by_step or {})
        self.left_out: dict[str, int] = {}
        self.quiet = False
        self.hidden: Mapping[str, Collection[str]] = {}
        self.frames: int | None = None
        self.unreadable: dict[str, str] = {}
        existing = library.experts()
        names = list(experts) if experts is not None else [name for name in existing if existing[name]["present"]]
        if missing := [name for name in names if name not in existing]:
            raise UsageError(
                f"{library.path} has no tracks of {', '.join(map(repr, missing))}{suggest(missing[0], existing)}; it "
                f"has {', '.join(existing) or 'none'}. {_REMEDY.format(library=library.path, name=missing[0])}"
            )
        for name in names:
            if (ways := len(existing[name]["fingerprints"])) > 1:
                raise UsageError(
                    f"{library.path} has tracks of {name!r} made in {ways} different ways, "
                    "whose vectors cannot be compared; run `reelseek add` over its videos again to renew the old ones"
                )
        self.dims: dict[str, int] = {name: int(existing[name]["dim"]) for name in names}
        self.modalities: dict[str, str] = {name: str(existing[name]["modality"]) for name in names}
        self.fingerprints: dict[str, str] = {name: str(existing[name]["fingerprints"][0]) for name in names}
        self._tracks = track_lookup(library, self.fingerprints)

    def prepare(self, videos: Iterable[str]) -> None:
        """Look up the tracks of several videos at once, which are asked for next."""
        self._tracks.prepare(videos)

    def share(self) -> None:
        """Tell the other processes that train together what this one found out while it read: here, nothing."""

    def row(self, video: str, expert: str) -> TrackRow | None:
        """The track's row, or None where the expert was never run (which is not the same as finding nothing).

        Raises:
            KeyError: there is no such video.
            LibraryError: the track was removed or made anew since the reader began.
        """
        return self._tracks.rows(video).get(expert)

    def steps(self, clip: Clip, expert: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        """Values [step, dim] and spans [step, 2] of one clip, all of them."""
        row = self.row(clip.video, expert)
        if row is None or row.steps == 0 or expert in self.hidden.get(clip.video, ()):
            return np.zeros((0, self.dims[expert]), np.float32), np.zeros((0, 2))
        values, spans = self._library.read(row)
        if clip.start_seconds is not None or clip.end_seconds is not None:
            start = clip.start_seconds or 0.0
            end = np.inf if clip.end_seconds is None else clip.end_seconds
            overlapping = (spans[:, 0] < end) & ((spans[:, 1] > start) | (spans[:, 0] >= start))
            values, spans = values[overlapping], spans[overlapping]
        return np.asarray(values, np.float32), np.asarray(spans)

    def _shortened(self, clip: Clip, expert: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        values, spans = self.steps(clip, expert)
        if self.frames is not None and self.modalities[expert] == "appearance" and len(values) > self.frames:
            spread = ((np.arange(self.frames) + 0.5) / self.frames * len(values)).astype(int)
            values, spans = values[spread], spans[spread]
        if expert in self.step_by_step:
            most = self.step_by_step[expert]
            if len(values) > most:
                self.count_left_out(expert, len(values) - most)
            return values[:most], spans[:most]
        if len(values) <= self._most:
            return values, spans
        edges = np.linspace(0, len(values), self._most + 1).astype(int)
        sums = np.add.reduceat(values, edges[:-1], axis=0)
        means = (sums / np.diff(edges)[:, None]).astype(np.float32)
        return means, np.stack([spans[edges[:-1], 0], spans[edges[1:] - 1, 1]], axis=1)

    def count_left_out(self, expert: str, steps: int) -> None:
        """Add to `left_out`; the first steps of an expert are warned of, unless `quiet`."""
        if expert not in self.left_out and not self.quiet:
            most = self.step_by_step[expert]
            _log.warning("tracks of %s are longer than %d steps; what comes later is left out", expert, most)
        self.left_out[expert] = self.left_out.get(expert, 0) + steps

    def batch(
        self,
        clips: Sequence[Clip],
        shifts: Mapping[str, Sequence[float]] | None = None,
        *,
        memory: Memory | None = None,
    ) -> dict[str, Steps]:
        """Tokens of some clips; times count from each clip's start.

        Args:
            shifts: for some experts by how many seconds each clip is read later (or earlier). A clip without a start
                and an end is its whole video, and is not moved.
            memory: called once for the arrays that all is written to, which may hold anything; by default they are
                new.

        Raises:
            FeatureError: a track holds NaN.
        """
        moved: dict[str, Sequence[Clip]] = dict.fromkeys(self.dims, clips)
        for expert in self.dims.keys() & (shifts or {}).keys():
            moved[expert] = [_moved(clip, s) for clip, s in zip(clips, (shifts or {})[expert], strict=True)]
        self._tracks.prepare(clip.video for clip in clips)
        tracks = {expert: [self._shortened(clip, expert) for clip in moved[expert]] for expert in self.dims}
        layout = BatchLayout(
            {
                expert: (len(clips), max(1, max((len(values) for values, _ in rows), default=1)), self.dims[expert])
                for expert, rows in tracks.items()
            }
        )
        arrays = layout.new() if memory is None else memory(layout)
        for expert, parts in arrays.items():
            _fill(parts, tracks[expert], moved[expert], zeros=memory is None)
        return {expert: Steps(*parts) for expert, parts in arrays.items()}

    def most_bytes(self, clips: int) -> int:
        """The bytes that a batch of so many clips takes at most."""
        most = {expert: self.step_by_step.get(expert, self._most) for expert in self.dims}
        return BatchLayout({expert: (clips, most[expert], dim) for expert, dim in self.dims.items()}).size

    def present(self, clips: Iterable[Clip]) -> dict[str, npt.NDArray[np.bool_]]:
        """For each expert, which clips have at least one step."""
        clips = list(clips)
        present = {expert: np.zeros(len(clips), bool) for expert in self.dims}
        for start in range(0, len(clips), _CLIPS_A_BLOCK):
            block = clips[start : start + _CLIPS_A_BLOCK]
            self._tracks.prepare(clip.video for clip in block)
            for expert, column in present.items():
                column[start : start + len(block)] = [len(self.steps(clip, expert)[0]) > 0 for clip in block]
        return present


def _fill(
    arrays: StepArrays,
    tracks: Sequence[tuple[npt.NDArray[Any], npt.NDArray[np.float64]]],
    clips: Sequence[Clip],
    *,
    zeros: bool,
) -> None:
    """Write tracks into the arrays of a batch; every value is written once.

    Args:
        zeros: the arrays hold zeros.
    """
    values, present, spans = (part.numpy() for part in arrays)
    seconds = np.zeros(spans.shape)
    for row, (track, times) in enumerate(tracks):
        steps = len(track)
        values[row, :steps] = track
        if not zeros:
            values[row, steps:] = 0
        seconds[row, :steps] = times
    counts = np.array([len(track) for track, _ in tracks], np.int64)
    present[:] = np.arange(values.shape[1]) < counts[:, None]
    starts = np.array([clip.start_seconds or 0.0 for clip in clips])
    spans[:] = np.where(present[..., None], np.maximum(seconds - starts[:, None, None], 0.0), 0.0)


def _moved(clip: Clip, seconds: float) -> Clip:
    if clip.start_seconds is None or clip.end_seconds is None:
        return clip
    return Clip(clip.video, clip.start_seconds + seconds, clip.end_seconds + seconds)
