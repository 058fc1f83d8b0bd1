"""The features that a library has, and how imported ones are renamed."""

from dataclasses import dataclass
from typing import Any

from reelseek.errors import UsageError
from reelseek.experts import known_experts
from reelseek.library.caption_sets import caption_feature_sets
from reelseek.library.catalog import TrackGroup
from reelseek.library.imports import TrackWriter, check_expert_name, is_imported, recall_import
from reelseek.library.store import Library

__all__ = ["FeatureSet", "list_features", "rename_features"]


@dataclass(frozen=True)
class FeatureSet:
    """The tracks of one expert and kind.

    Attributes:
        origin: `imported`, or `extracted` from the videos here.
        fps, model: what was said when they were imported; None where nothing was, or it was not noted yet.
        dtype: of the numbers on disk.
        present: tracks that have steps.
    """

    expert: str
    origin: str
    modality: str
    dim: int
    dtype: str
    tracks: int
    present: int
    fps: float | None
    model: str | None
    fingerprint: str


def list_features(library: Library) -> list[FeatureSet]:
    """List the features of a library, in order of expert; several of one expert cannot be searched together.

    Features of captions come last: their modality is `text`, and their tracks are captions.
    """
    features = []
    for group in library.catalog.tracks.groups():
        note = _note(library, group) or {}
        origin = "imported" if is_imported(group.fingerprint) else "extracted"
        features.append(FeatureSet(origin=origin, fps=note.get("fps"), model=note.get("model"), **vars(group)))
    for captions in caption_feature_sets(library.path):
        count = len(captions)
        features.append(
            FeatureSet(
                captions.name, "imported", "text", captions.width, "float32", count, count, None, captions.format, ""
            )
        )
    return features


def _note(library: Library, group: TrackGroup) -> dict[str, Any] | None:
    note = library.catalog.import_notes().get(group.expert)
    return note if note and note["fingerprint"] == group.fingerprint else recall_import(group.expert, group)


def rename_features(library: Library, expert: str, name: str, *, dry_run: bool = False) -> int:
    """Give imported features another name; trained models know them by the old one.

    Args:
        dry_run: only check that it can be done.

    Returns:
        How many tracks they are.

    Raises:
        UsageError: there are none, they are extracted here, or the new name is taken or none; nothing was changed.
        LibraryError: another process is writing.
    """
    check_expert_name(name)
    with library.writing():
        tracks = library.catalog.tracks
        groups = tracks.groups(expert)
        if not groups:
            names = ", ".join(tracks.experts()) or "none"
            raise UsageError(f"{library.path} has no tracks of {expert!r}; it has {names}")
        if not all(is_imported(group.fingerprint) for group in groups):
            raise UsageError(f"{expert!r} is an expert that extracts here, and keeps its name")
        if name in known_experts():
            raise UsageError(f"{name!r} is an expert that extracts here; give imported features a name of their own")
        if tracks.groups(name) or library.catalog.texts.count_owners(name):
            raise UsageError(
                f"{library.path} has tracks or words of {name!r} already; choose another name, or erase those first: "
                f"reelseek features remove {library.path} {name}"
            )
        if not dry_run:
            with library.saving():
                note = _note(library, groups[0])
                if note is not None:
                    TrackWriter(library).prepare(expert, groups[0].modality, note["fps"], note["model"])  # makes it one
                    fingerprint = tracks.groups(expert)[0].fingerprint
                    library.catalog.set_import_note(expert, {**note, "fingerprint": fingerprint})
                library.catalog.rename_expert(expert, name)
        return sum(group.tracks for group in groups)
