"""Imported features on their way into a library: whose they are, what they are, and what could not be used."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import FeatureError, UsageError
from reelseek.experts.expert import Track
from reelseek.library.catalog import TrackGroup
from reelseek.library.names import name_some
from reelseek.library.records import Video
from reelseek.library.store import Library

__all__ = [
    "ImportReport",
    "TrackWriter",
    "fingerprint_of",
    "track_of",
]

_TRACKS_A_TRANSACTION = 256
_LARGEST_HALF = 65504.0


@dataclass
class ImportReport:
    """What an import of features did.

    Attributes:
        imported: tracks written.
        empty: files that say that a video has nothing.
        rounded: arrays of float32 that were stored as float16, as the expert's other tracks are.
        unmatched: arrays that name no video.
        ambiguous: arrays that could be of several videos, or share a name with others (name, what it fits).
        failed: arrays and files that could not be used (name, why).
    """

    imported: int = 0
    empty: int = 0
    rounded: int = 0
    unmatched: list[str] = field(default_factory=list)
    ambiguous: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def fingerprint_of(expert: str, modality: str, fps: float | None, dim: int) -> str:
    """Names imported features by what their owner says of them; containers and types of numbers say nothing."""
    return _fingerprint(expert, [expert, modality, fps, dim])


def _fingerprint(expert: str, identity: list[Any]) -> str:
    return f"{expert}:import-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]}"


@dataclass
class _Stored:
    """What an expert's tracks have in common."""

    modality: str
    fingerprint: str
    dim: int
    dtype: np.dtype[Any]


class TrackWriter:
    """Writes tracks of imported arrays into a library, in transactions; use it inside `writing` and `saving`.

    Features of one expert are one expert, whatever containers and types of numbers they come in: they get one
    fingerprint, and the type of the first that was stored. Libraries of before, which had a fingerprint a type, are
    made one here.
    """

    def __init__(self, library: Library) -> None:
        self.report = ImportReport()
        self._library = library
        self._names = library.names()
        self._stored: dict[str, _Stored] = {}
        self._sources: dict[tuple[str, str], str] = {}

    def find(self, label: str, names: Sequence[tuple[str, tuple[str, ...]]]) -> Video | None:
        """The video that an array names; None after it was counted as unmatched or ambiguous.

        Args:
            names: the likeliest first, each with the other arrays that it would fit as well.
        """
        for name, rivals in names:
            videos = self._names.matches(name)
            if len(videos) > 1:
                fits = name_some([video.id for video in videos])
                self.report.ambiguous.append((label, f"{name} fits the videos {fits}; name one by its id"))
                return None
            if videos and rivals:
                fits = name_some(rivals)
                self.report.ambiguous.append((label, f"{fits} would be of video {videos[0].id} too; keep one of them"))
                return None
            if videos:
                return videos[0]
        self.report.unmatched.append(label)
        return None

    def prepare(self, expert: str, modality: str, fps: float | None) -> int | None:
        """The width of what an expert has already, after a check that it is the same expert.

        Raises:
            UsageError: it extracts here, or was imported as another modality or with other steps a second.
        """
        if expert not in self._stored:
            groups = self._library.catalog.tracks.groups(expert)
            if not groups:
                return None
            self._stored[expert] = self._unify(expert, modality, fps, groups)
        stored = self._stored[expert]
        if stored.modality != modality:
            raise UsageError(f"{expert} is of {stored.modality}, and this is {modality}; {self._erase(expert)}")
        return stored.dim

    def _erase(self, expert: str) -> str:
        return f"erase what there is first: reelseek remove {self._library.path} --expert {expert}"

    def _unify(self, expert: str, modality: str, fps: float | None, groups: list[TrackGroup]) -> _Stored:
        fingerprints = {group.fingerprint for group in groups}
        if not all(fingerprint.startswith(f"{expert}:import-") for fingerprint in fingerprints):
            raise UsageError(f"{expert!r} is an expert that extracts here; give imported features a name of their own")
        dim = groups[0].dim
        if {group.modality for group in groups} != {modality}:
            raise UsageError(f"{expert} is of {groups[0].modality}, and this is {modality}; {self._erase(expert)}")
        earlier = {_fingerprint(expert, [expert, modality, fps, dim, dtype]) for dtype in ("float16", "float32")}
        if not fingerprints <= earlier | {fingerprint_of(expert, modality, fps, dim)}:
            raise UsageError(
                f"{expert} was imported with another number of steps a second than --fps {fps or 'not given'}, or in "
                f"several widths; {self._erase(expert)}"
            )
        first = max(groups, key=lambda group: (bool(group.present), group.dtype))  # float16 would round the others
        stored = _Stored(modality, first.fingerprint, dim, np.dtype(first.dtype))
        for fingerprint in fingerprints - {stored.fingerprint}:
            for row in self._library.catalog.tracks.of_fingerprint(fingerprint):
                values, spans = self._library.read(row)
                track = Track(np.array(values, stored.dtype), np.array(spans), note=row.note)
                self._library.put_track(row.owner, expert, stored.fingerprint, modality, track)
        return stored

    def write(self, label: str, video: Video, expert: str, modality: str, fps: float | None, track: Track) -> None:
        """Store a track, in the type of numbers of the expert's first one.

        Raises:
            FeatureError: another array of this import was this video's already, or its numbers do not fit the type.
        """
        source = self._sources.get((video.id, expert))
        if source is not None:
            raise FeatureError(f"names video {video.id}, which has {expert} from {source} already; keep one of them")
        stored = self._stored.get(expert)
        if stored is None:
            dim = track.values.shape[1]
            fingerprint = fingerprint_of(expert, modality, fps, dim)
            stored = self._stored[expert] = _Stored(modality, fingerprint, dim, track.values.dtype)
        if track.values.dtype != stored.dtype:
            if stored.dtype == np.float16 and len(track.values):
                if np.abs(track.values).max() > _LARGEST_HALF:
                    raise FeatureError(
                        f"holds numbers beyond float16, as which {expert} is stored; {self._erase(expert)}"
                    )
                self.report.rounded += 1
            track = Track(track.values.astype(stored.dtype), track.spans, track.texts, track.note)
        self._library.put_track(f"id:{video.id}", expert, stored.fingerprint, modality, track)
        self._sources[video.id, expert] = label
        self.report.imported += 1
        if self.report.imported % _TRACKS_A_TRANSACTION == 0:
            self._library.commit()


def track_of(
    array: npt.NDArray[np.generic],
    video: Video,
    fps: float | None,
    dim: int | None,
    spans: npt.NDArray[np.float64] | None = None,
) -> Track:
    """An array [step, dim] or [dim] as a track.

    Args:
        dim: what the expert's other arrays have.
        spans: seconds of each step, if they are known; else steps spread evenly, or at `fps`.

    Raises:
        FeatureError: it is of another shape, width or kind.
    """
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2):
        raise FeatureError(f"holds {array.dtype} {array.shape}; wanted numbers [step, dim] or [dim]")
    is_one_step = array.ndim == 1
    rows = array[None] if is_one_step else array
    if rows.shape[1] == 0:
        raise FeatureError("has no columns")
    if dim is not None and rows.shape[1] != dim:
        raise FeatureError(
            f"has {rows.shape[1]} columns where this expert's other arrays have {dim}; import it as another expert, or "
            "erase those first with: reelseek remove LIBRARY --expert NAME"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        values: Any = rows.astype(np.float16 if array.dtype == np.float16 else np.float32)
    if spans is not None and spans.shape == (len(values), 2):
        return Track(values, spans, note="imported")
    length = video.duration or (len(values) / fps if fps else float(max(1, len(values))))
    steps = np.arange(len(values) + 1, dtype=np.float64)
    edges = steps / fps if fps and not is_one_step else steps * (length / max(1, len(values)))
    return Track(values, np.stack([edges[:-1], edges[1:]], axis=1), note="imported")
