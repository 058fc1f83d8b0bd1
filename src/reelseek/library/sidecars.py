"""Which subtitle files lie beside each content now, and which its words were last read from.

Subtitles belong to a content, as its tracks do: of a file that is there twice, what lies beside either copy is said in
both. A subtitle file that comes, changes or goes makes the next `add` read the words of its content again.
"""

from collections.abc import Collection, Iterable

from reelseek.experts import load_expert
from reelseek.library.catalog import SidecarState
from reelseek.library.storage import Storage
from reelseek.media.address import FilePath
from reelseek.media.store import file_numbers
from reelseek.media.streams import SubtitleStream
from reelseek.media.subtitles import FolderSubtitles

__all__ = ["Sidecars", "reads_subtitles"]


def reads_subtitles(spec: str) -> bool:
    """Whether an expert's track depends on subtitle files."""
    return any(isinstance(stream, SubtitleStream) for stream in load_expert(spec).streams)


class Sidecars:
    """Subtitle files beside some of the videos of a library, as they are now; every folder is listed once.

    Args:
        contents: those of the videos.
    """

    def __init__(self, storage: Storage, contents: Collection[str]) -> None:
        self._storage = storage
        self._folders: dict[FilePath, FolderSubtitles] = {}
        self._paths: dict[str, list[FilePath]] = {}
        for video in sorted(storage.catalog.videos.of_contents(contents), key=lambda video: video.id):
            if video.path is not None and video.content is not None:
                self._paths.setdefault(video.content, []).append(video.path)

    def copies(self, content: str) -> tuple[FilePath, ...]:
        """Every path at which a content is known to lie."""
        return tuple(self._paths.get(content, ()))

    def state(self, content: str) -> SidecarState:
        """The subtitle files beside any copy of a content."""
        files: list[FilePath] = []
        for path in self._paths.get(content, ()):
            folder = path.parent
            if folder not in self._folders:
                self._folders[folder] = FolderSubtitles(folder)
            inside = self._folders[folder]
            files += [inside.files[name] for name in inside.beside(path.name)]
        return frozenset(_stat(files))

    def changed(self, content: str) -> bool:
        """Whether other files lie there than those last read, or the same were changed."""
        return self.state(content) != self._storage.catalog.contents.sidecars(content)


def _stat(files: Iterable[FilePath]) -> Iterable[tuple[str, int, int]]:
    for path in files:
        size, time = file_numbers(path)
        if size >= 0:  # else it went in this moment, or its link points nowhere
            yield path.name, size, time
