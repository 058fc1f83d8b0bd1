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
from reelseek.library.records import GENERATED_CAPTIONS, Video
from reelseek.library.store import Library

__all__ = [
    "ImportReport",
    "TrackWriter",
    "check_expert_name",
    "fingerprint_of",
    "is_imported",
    "recall_import",
    "track_of",
]

_TRACKS_A_TRANSACTION = 256
_LARGEST_HALF = 65504.0
_IMPORTED = ":import-"


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


def fingerprint_of(expert: str, modality: str, fps: float | None, dim: int, model: str | None = None) -> str:
    """Names imported features by what their owner says of them; containers and types of numbers say nothing.

    Args:
        model: what made them and in which version, where the owner says that.
    """
    return _fingerprint(expert, [expert, modality, fps, dim, *([model] if model else [])])


def _fingerprint(expert: str, identity: list[Any]) -> str:
    return f"{expert}{_IMPORTED}{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]}"


def recall_import(expert: str, group: TrackGroup) -> dict[str, Any] | None:
    """What features that were imported before it was noted were said to be; None where it cannot be found out.

    Their fingerprint is a hash of it: of the usual steps a second those that give it are the ones.
    """
    for fps in (None, *(number / 10 for number in range(1, 601))):
        identity = [expert, group.modality, fps, group.dim]
        if group.fingerprint in (_fingerprint(expert, identity), _fingerprint(expert, [*identity, group.dtype])):
            return {"fingerprint": group.fingerprint, "fps": fps, "model": None}
    return None


def check_expert_name(expert: str) -> None:
    """Refuse what cannot name an expert.

    Raises:
        UsageError: it is empty, begins with '-' or '.' as options and hidden files do, holds other signs than letters,
            digits, '-', '_' and '.', or is that of captions.
    """
    if expert == GENERATED_CAPTIONS:
        raise UsageError(f"{expert!r} is what generated captions are stored as; give the features another name")
    if not expert or expert[0] in "-." or not all(c.isalnum() or c in "-_." for c in expert):
        raise UsageError(
            f"{expert!r} cannot name an expert; use letters, digits, '_', and behind the first one '-' and '.'"
        )


def is_imported(fingerprint: str) -> bool:
    """Whether tracks of a fingerprint came as features, and are not extracted here."""
    return _IMPORTED in fingerprint


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
        self._models: dict[str, str | None] = {}

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

    def prepare(self, expert: str, modality: str, fps: float | None, model: str | None = None) -> int | None:
        """The width of what an expert has already, after a check that it is the same expert.

        Raises:
            UsageError: it extracts here, or was imported as another modality, of another model, or with other steps a
                second.
        """
        self._models[expert] = model
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
        if not all(map(is_imported, fingerprints)):
            raise UsageError(f"{expert!r} is an expert that extracts here; give imported features a name of their own")
        dim = groups[0].dim
        if {group.modality for group in groups} != {modality}:
            raise UsageError(f"{expert} is of {groups[0].modality}, and this is {modality}; {self._erase(expert)}")
        self._refuse_another(expert, modality, fps, dim, fingerprints)
        first = max(groups, key=lambda group: (bool(group.present), group.dtype))  # float16 would round the others
        stored = _Stored(modality, first.fingerprint, dim, np.dtype(first.dtype))
        for fingerprint in fingerprints - {stored.fingerprint}:
            for row in self._library.catalog.tracks.of_fingerprint(fingerprint):
                values, spans = self._library.read(row)
                track = Track(np.array(values, stored.dtype), np.array(spans), note=row.note)
                self._library.put_track(row.owner, expert, stored.fingerprint, modality, track)
        return stored

    def _refuse_another(self, expert: str, modality: str, fps: float | None, dim: int, fingerprints: set[str]) -> None:
        """Refuse features that were said to be something else than what the expert's tracks were said to be.

        An expert that was renamed keeps its fingerprint; what it was said to be is noted.
        """
        model, noted = self._models[expert], self._library.catalog.import_notes().get(expert)
        if noted is not None and {noted["fingerprint"]} == fingerprints:
            if (noted["fps"], noted["model"]) == (fps, model):
                return
            raise UsageError(
                f"{expert} was imported with {_statement(noted['fps'], noted['model'])}, and this is with "
                f"{_statement(fps, model)}; give it another name, or {self._erase(expert)}"
            )
        same = {fingerprint_of(expert, modality, fps, dim, model)}
        if model is None:  # of before, when the type of numbers was part of it
            same |= {_fingerprint(expert, [expert, modality, fps, dim, dtype]) for dtype in ("float16", "float32")}
        if not fingerprints <= same:
            raise UsageError(
                f"{expert} was imported with something else than {_statement(fps, model)}, or in several widths; give "
                f"it another name, or {self._erase(expert)}"
            )

    def _begin(self, expert: str, modality: str, fps: float | None, track: Track) -> _Stored:
        """Give a new expert its fingerprint, which no other one has, and note what it was said to be."""
        dim, model = track.values.shape[1], self._models.get(expert)
        fingerprint = fingerprint_of(expert, modality, fps, dim, model)
        taken = {group.fingerprint for group in self._library.catalog.tracks.groups()}
        while fingerprint in taken:  # by one that had this name before it was renamed
            fingerprint = _fingerprint(expert, [fingerprint])
        note = {"fingerprint": fingerprint, "fps": fps, "model": model}
        self._library.catalog.set_import_note(expert, note)
        return _Stored(modality, fingerprint, dim, track.values.dtype)

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
            stored = self._stored[expert] = self._begin(expert, modality, fps, track)
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


def _statement(fps: float | None, model: str | None) -> str:
    return f"--fps {fps or 'not given'}" + (f" and --model {model}" if model else " and no --model")


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
