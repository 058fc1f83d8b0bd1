"""Which video of a library a name means, without reading those that it cannot mean."""

from functools import cached_property

from reelseek.library.catalog import Catalog
from reelseek.library.names import Names, name_key, video_names
from reelseek.library.records import Video
from reelseek.media.address import FilePath, absolute

__all__ = ["VideoLookup"]


class VideoLookup:
    """The methods of `Names` over the videos of a catalog as they are now.

    The catalog gives the few videos that share the last part of a name with it; the one rule, `Names`, decides.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def at(self, path: FilePath) -> Video | None:
        """The video whose file is at this path."""
        return self._catalog.videos.at_path(absolute(path))

    def same(self, name: str) -> tuple[Video, ...]:
        """The video of exactly this id, else those whose id is the same in another form of its letters."""
        video = self._catalog.videos.get(name)
        return (video,) if video is not None else self._candidates(name).same(name)

    def matches(self, name: str) -> tuple[Video, ...]:
        """The videos that a name may mean, as `Names.matches` has it."""
        video = self._catalog.videos.get(name)
        return (video,) if video is not None else self._candidates(name).matches(name)

    def _candidates(self, name: str) -> Names[Video]:
        videos = self._catalog.videos.named(name_key(name))
        return self._all if videos is None else video_names(videos)

    @cached_property
    def _all(self) -> Names[Video]:
        """Of an older library that cannot be written, and so stays as it is."""
        return video_names(self._catalog.videos.pages())
