"""Caption features that were imported: vectors of a library's captions by somebody else's text encoder.

A folder for each set, `LIBRARY/caption-features/NAME`: rows of vectors, memory-mapped, and `about.json`. A caption is
known by its video, its span and its words.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelseek.errors import UsageError
from reelseek.library.caption_features import CaptionFeatures
from reelseek.library.files import delete_folder, make_folder, sync_folder, write_whole
from reelseek.library.records import Caption
from reelseek.library.storage import Storage
from reelseek.library.text_store import TextStore

__all__ = [
    "CAPTIONS_AT_ONCE",
    "CaptionFeatureSet",
    "begin_caption_features",
    "caption_feature_sets",
    "erase_caption_features",
    "open_caption_features",
    "remove_caption_features",
]

_FOLDER = "caption-features"
_PARTIAL = ".partial"
CAPTIONS_AT_ONCE = 4096
"""Captions that are written together."""
Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _About:
    """What is said of a set: the width of its vectors, and the format they came in."""

    width: int
    format: str


class CaptionFeatureSet:
    """The vectors of captions that were imported under one name.

    Args:
        folder: of the set, with its `about.json`.
    """

    def __init__(self, folder: Path) -> None:
        description = _About(**json.loads((folder / "about.json").read_text("utf-8")))
        self.name, self.width, self.format = folder.name, description.width, description.format
        self._store = TextStore(folder, description.width)

    def __len__(self) -> int:
        """How many captions have vectors."""
        return len(self._store)

    def read(self, caption: Caption) -> CaptionFeatures | None:
        """A caption as its vectors [word, width]; None where it has none."""
        rows = self._store.read([_key(caption)])
        return CaptionFeatures(caption.text, rows[0]) if rows and len(rows[0]) else None

    def add(self, vectors: Mapping[Caption, Rows]) -> None:
        """Keep the vectors [word, width] of captions, instead of those that they had.

        Raises:
            UsageError: the folder cannot be written.
        """
        captions = list(vectors)
        for start in range(0, len(captions), CAPTIONS_AT_ONCE):
            part = captions[start : start + CAPTIONS_AT_ONCE]
            self._store.add({_key(caption): vectors[caption] for caption in part})
        if self._store.problem:
            raise UsageError(self._store.problem)


def _key(caption: Caption) -> str:
    return f"{caption.video}\n{caption.start_seconds!r}\n{caption.end_seconds!r}\n{caption.text}"


def caption_feature_sets(library: Path) -> list[CaptionFeatureSet]:
    """The caption features of a library, in order of name."""
    folders = sorted(file.parent for file in (library / _FOLDER).glob("*/about.json"))
    return [CaptionFeatureSet(folder) for folder in folders if _is_name(folder.name)]


def _is_name(name: str) -> bool:
    """Whether a set may have this name, which is that of its folder."""
    return not name.startswith(".") and not name.endswith(_PARTIAL)


def open_caption_features(library: Path, name: str) -> CaptionFeatureSet:
    """The caption features of one name.

    Raises:
        UsageError: there are none; names those that there are.
    """
    if name in (names := [features.name for features in caption_feature_sets(library)]):
        return CaptionFeatureSet(library / _FOLDER / name)
    raise UsageError(
        f"{library} has no caption features {name!r}; it has {', '.join(names) or 'none'}. Import them with: "
        f"reelseek data import ce-text FILE --library {library} --name {name}; or make them with: reelseek data encode"
    )


def begin_caption_features(library: Path, name: str, width: int, kind: str) -> CaptionFeatureSet:
    """The caption features of one name, which are begun if there are none.

    Raises:
        UsageError: there are some of another width, or the name is none.
    """
    if not _is_name(name):
        raise UsageError(f"{name!r} cannot name caption features; take another --name")
    return _begin(library / _FOLDER / name, library, width, kind)


def _begin(folder: Path, library: Path, width: int, kind: str) -> CaptionFeatureSet:
    if (folder / "about.json").is_file():
        existing = CaptionFeatureSet(folder)
        if existing.width != width:
            raise UsageError(
                f"the caption features {folder.name!r} are {existing.width} wide, and these {width}; choose another "
                f"--name or erase those: reelseek features remove {library} {folder.name}"
            )
        return existing
    make_folder(folder)
    write_whole(folder / "about.json", json.dumps(asdict(_About(width, kind))))
    return CaptionFeatureSet(folder)


def remove_caption_features(library: Path, name: str) -> int:
    """Erase the caption features of one name; says how many captions had some.

    Raises:
        UsageError: there are none.
    """
    count = len(open_caption_features(library, name))
    delete_folder(library / _FOLDER / name)
    return count


def erase_caption_features(storage: Storage) -> None:
    """Leave no vectors of captions that the library no longer has; call it as the writer."""
    for partial in (storage.path / _FOLDER).glob(f"*{_PARTIAL}"):
        folder = partial.with_suffix("")
        if folder.exists():  # or it was complete when the process was killed that had just deleted the other one
            delete_folder(partial)
        else:
            partial.rename(folder)
    for features in caption_feature_sets(storage.path):
        remaining: dict[Caption, Rows] = {}
        for caption in storage.catalog.captions.pages():
            bare = Caption(caption.video, caption.text, caption.start_seconds, caption.end_seconds)
            encoded = features.read(bare)
            if encoded is not None:
                remaining[bare] = encoded.vectors
        if len(remaining) == len(features):
            continue
        folder = storage.path / _FOLDER / features.name
        partial = folder.with_name(features.name + _PARTIAL)
        _begin(partial, storage.path, features.width, features.format).add(remaining)
        delete_folder(folder)
        partial.rename(folder)
        sync_folder(folder.parent)
