"""Media files below a folder, as disks, cameras and file servers leave them; what is passed over is counted."""

import os
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from reelseek.library.names import printable
from reelseek.library.tables import TABLE_SUFFIXES
from reelseek.media.notice import Notice
from reelseek.media.suffixes import MEDIA_SUFFIXES

__all__ = ["count_others", "walk_folder"]

# What systems, file servers and programs keep for themselves: waste, previews, snapshots. Names without case.
_SYSTEM_FOLDERS = frozenset(
    (
        "@eadir", "#recycle", "#snapshot", "@tmp", "@sharebin",  # Synology
        "@recycle", "@recently-snapshot", ".@__thumb", ".@upload_cache", "@transcode",  # QNAP
        "$recycle.bin", "recycler", "recycled", "system volume information", "found.000", "lost+found",
        ".trash", ".trashes", ".thumbnails", ".snapshot", ".snapshots", ".zfs", ".stversions", ".recycle",
        ".appledouble", ".spotlight-v100", ".fseventsd", ".temporaryitems", ".documentrevisions-v100",
        "network trash folder", "temporary items", "__macosx", "lightroom previews",
        "adobe premiere pro video previews", "adobe premiere pro audio previews", "media cache files",
    )
)  # fmt: skip
_SYSTEM_PREFIXES = (".trash-",)
_SYSTEM_SUFFIXES = (".lrdata", ".cocatalogdb")
_PHOTO_LIBRARIES = (".photoslibrary", ".photolibrary", ".migratedphotolibrary", ".aplibrary")
_PHOTO_ORIGINALS = ("originals", "masters", "original media")
_FILM_LIBRARIES = (".fcpbundle", ".imovielibrary", ".theater")
_FILM_DERIVED = ("render files", "transcoded media", "analysis files", "proxy media", "thumbnails")
_SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "autorun.inf")
_BESIDE = frozenset((".srt", ".vtt", ".ass", ".ssa", ".sub", ".idx", ".sbv", ".lrc", ".smi", ".ttml", *TABLE_SUFFIXES))


def walk_folder(folder: Path, suffixes: Collection[str] = MEDIA_SUFFIXES) -> tuple[list[Path], list[Notice]]:
    """Find the files below a folder that end in one of some suffixes, in order of their path.

    Links to files are taken as files. Links to folders are followed, each real folder once, so that links cannot loop;
    a folder that lies below in its own right goes by that place. Libraries of Reelseek are stepped over.

    Returns:
        The files, and what was passed over: folders of systems and servers, hidden ones, links and other files.
    """
    walk = _Walk(folder, frozenset(suffixes))
    walk.descend()
    return sorted(walk.files, key=lambda path: path.relative_to(folder).parts), list(walk.notices())


class _Walk:
    def __init__(self, root: Path, suffixes: frozenset[str]) -> None:
        self._root, self._suffixes = root, suffixes
        self.files: list[Path] = []
        self._visited: set[tuple[int, int]] = set()
        self._links: list[Path] = []
        self._system: Counter[str] = Counter()
        self._hidden: list[str] = []
        self._others: Counter[str] = Counter()
        self._broken: list[str] = []
        self._repeated: list[str] = []
        self._unreadable: list[Notice] = []

    def descend(self) -> None:
        """Visit real folders first and what links lead to after them."""
        self._tree(self._root)
        while self._links:
            link = self._links.pop(0)
            if not self._tree(link):
                self._repeated.append(self._name(link))

    def _tree(self, top: Path) -> bool:
        """Visit a folder and the real folders below it; False where it was visited before."""
        waiting = [top]
        is_new = False
        while waiting:
            folder = waiting.pop()
            try:
                status = folder.stat()
                if (status.st_dev, status.st_ino) in self._visited:
                    continue
                self._visited.add((status.st_dev, status.st_ino))
                with os.scandir(folder) as entries:
                    waiting += self._visit(sorted(entries, key=lambda entry: entry.name))
            except OSError as error:
                message = f"the folder cannot be read: {error.strerror}"
                self._unreadable.append(Notice(printable(folder), message, lost=True))
            is_new = True
        return is_new

    def _visit(self, entries: Iterable[os.DirEntry[str]]) -> list[Path]:
        folders = []
        for entry in entries:
            path, suffix = Path(entry.path), os.path.splitext(entry.name)[1].lower()
            if entry.is_symlink() and not suffix and not os.path.exists(entry.path):  # with one, it fails as a file
                self._broken.append(self._name(path))
            elif entry.is_dir():
                if (path / "library.db").is_file():
                    continue  # a library holds copies that were made for browsers, and no video of anybody's
                if _is_system(path):
                    self._system[printable(entry.name)] += 1
                elif entry.name.startswith("."):
                    self._hidden.append(self._name(path))
                elif entry.is_symlink():
                    self._links.append(path)
                else:
                    folders.append(path)
            elif suffix in self._suffixes:
                (self._hidden.append(self._name(path)) if entry.name.startswith(".") else self.files.append(path))
            elif not entry.name.startswith("."):
                count_others(self._others, entry.name)
        return folders

    def _name(self, path: Path) -> str:
        return printable(path.relative_to(self._root))

    def notices(self) -> Iterable[Notice]:
        """Say what was passed over, a line a kind."""
        place = printable(self._root)
        yield from self._unreadable
        if self._broken:
            yield Notice(place, f"{_count(self._broken, 'broken link')} passed over: {_join(self._broken)}", lost=True)
        if self._repeated:
            links = _count(self._repeated, "link")
            yield Notice(place, f"{links} to folders that were read already passed over: {_join(self._repeated)}")
        if self._system:
            names = ", ".join(
                f"{name} ({count})" if count > 1 else name for name, count in sorted(self._system.items())
            )
            total = self._system.total()
            yield Notice(place, f"{total} folder{'s' * (total > 1)} of systems and servers passed over: {names[:300]}")
        if self._hidden:
            yield Notice(place, f"{_count(self._hidden, 'hidden file or folder')} passed over: {_join(self._hidden)}")
        if self._others:
            kinds = ", ".join(f"{count} {suffix}" for suffix, count in self._others.most_common(12))
            total = self._others.total()
            rest = ", ..." if len(self._others) > 12 else ""
            yield Notice(place, f"{total} other file{'s' * (total > 1)}: {kinds}{rest}")


def count_others(others: Counter[str], name: str) -> None:
    """Count a file that is no video by what its name ends in, unless it belongs beside videos."""
    suffix = os.path.splitext(name)[1].lower()
    if name.lower() not in _SYSTEM_FILES and suffix not in _BESIDE:
        others[printable(suffix) or "without an ending"] += 1


def _is_system(path: Path) -> bool:
    name, parents = path.name.lower(), path.parts[:-1]
    if name in _SYSTEM_FOLDERS or name.startswith(_SYSTEM_PREFIXES) or name.endswith(_SYSTEM_SUFFIXES):
        return True
    holder = parents[-1].lower() if parents else ""
    if holder.endswith(_PHOTO_LIBRARIES) or holder == "iphoto library":
        return name not in _PHOTO_ORIGINALS
    return name in _FILM_DERIVED and any(part.lower().endswith(_FILM_LIBRARIES) for part in parents)


def _count(names: Collection[str], what: str) -> str:
    if len(names) == 1:
        return f"1 {what}"
    return f"{len(names)} {what.replace('file or folder', 'files and folders').removesuffix('s')}s"


def _join(names: Collection[str]) -> str:
    return ", ".join(list(names)[:5]) + (", ..." if len(names) > 5 else "")
