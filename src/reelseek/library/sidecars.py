"""Which subtitle files lie beside each content now, and which its words were last read from.

Subtitles belong to a content, as its tracks do: of a file that is there twice, what lies beside either copy is said in
both. A subtitle file that comes, changes or goes makes the next `add` read the words of its content again.
"""

from collections.abc import Iterable
from functools import cached_property

from reelseek.experts import load_expert
from reelseek.library.catalog import SidecarState
from reelseek.library.storage import Storage
from reelseek.media.address import FilePath
from reelseek.media.beside import files_in
from reelseek.media.store import file_numbers
from reelseek.media.streams import SubtitleStream
from reelseek.media.subtitles import sidecar_names

__all__ = ["Sidecars", "reads_subtitles"]


def reads_subtitles(spec: str) -> bool:
    """Whether an expert's track depends on subtitle files."""
    return any(isinstance(stream, SubtitleStream) for stream in load_expert(spec).streams)


class Sidecars:
    """Subtitle files beside the videos of a library, as they are now; every folder is listed once."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._folders: dict[FilePath, dict[str, list[FilePath]]] = {}

    @cached_property
    def _paths(self) -> dict[str, list[FilePath]]:
        paths: dict[str, list[FilePath]] = {}
        for video in self._storage.catalog.videos.all():
            if video.path is not None and video.content is not None:
                paths.setdefault(video.content, []).append(video.path)
        return paths

    @cached_property
    def _videos_in(self) -> dict[FilePath, list[str]]:
        names: dict[FilePath, list[str]] = {}
        for path in (path for paths in self._paths.values() for path in paths):
            names.setdefault(path.parent, []).append(path.name)
        return names

    def copies(self, content: str) -> tuple[FilePath, ...]:
        """Every path at which a content is known to lie."""
        return tuple(self._paths.get(content, ()))

    def state(self, content: str) -> SidecarState:
        """The subtitle files beside any copy of a content."""
        files: list[FilePath] = []
        for path in self._paths.get(content, ()):
            folder = path.parent
            if folder not in self._folders:
                names, inside = sidecar_names(folder, self._videos_in[folder]), files_in(folder)
                self._folders[folder] = {
                    video: [inside[name] for name in beside if name in inside] for video, beside in names.items()
                }
            files += self._folders[folder].get(path.name, ())
        return frozenset(_stat(files))

    def changed(self, content: str) -> bool:
        """Whether other files lie there than those last read, or the same were changed."""
        return self.state(content) != self._storage.catalog.contents.sidecars(content)


def _stat(files: Iterable[FilePath]) -> Iterable[tuple[str, int, int]]:
    for path in files:
        size, time = file_numbers(path)
        if size >= 0:  # else it went in this moment, or its link points nowhere
            yield path.name, size, time
