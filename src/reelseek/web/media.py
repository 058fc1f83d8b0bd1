"""The videos of a library by opaque ids: their files or copies that browsers play, and strips of their frames."""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import platformdirs
from fastapi import Request

from reelseek.errors import MediaError
from reelseek.library import Library, Video
from reelseek.media.address import Address
from reelseek.media.picture import browser_plays, played_start, strip
from reelseek.web import DEFAULT_COPIES_GB
from reelseek.web.copies import CopyStore
from reelseek.web.decoding import DecodeQueue, busy, finished
from reelseek.web.fetching import FetchedFiles
from reelseek.web.problems import Problem

__all__ = ["Media", "library_media", "opaque_id", "without_path"]

_PATIENCE_SECONDS = 2.0  # a copy that is ready this soon is sent at once
_RETRY_SECONDS = 2
_REFRESH_SECONDS = 1.0
_MOST_STRIPS = 500


def opaque_id(identifier: str) -> str:
    """What stands for a video in addresses, which tell nothing of names and paths."""
    return hashlib.sha256(identifier.encode("utf-8", "surrogatepass")).hexdigest()[:24]


class Media:
    """Videos by opaque id, as the library has them at the moment, and what pages show of them.

    Args:
        library: None where there is nothing to show.
        copies: where copies for browsers are kept.

    Attributes:
        decoding: the queue of work on media files, which several libraries may share.
    """

    def __init__(self, library: Library | None, copies: CopyStore) -> None:
        self._library, self._copies = library, copies
        self.decoding = DecodeQueue()
        self._fetched = FetchedFiles()
        self._plays: dict[str, bool] = {}
        self._strips: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._names: dict[str, str] = {}  # opaque id -> id; those that are gone stay, and are known to be gone
        self._version, self._refreshed = -1, -_REFRESH_SECONDS
        if library is not None:
            self._refresh(library)

    def video(self, opaque: str) -> Video:
        """The video of an opaque id.

        Raises:
            Problem: there is none, or it was removed.
        """
        if self._library is not None:
            if opaque not in self._names:
                self._refresh(self._library)
            if opaque in self._names:
                video = self._library.get(self._names[opaque])
                if video is None:
                    raise Problem(410, "gone", "the video was removed from the library")
                return video
        raise Problem(404, "no such video", "the library has no video of this id")

    def _refresh(self, library: Library) -> None:
        """Take in videos that another process added; an unknown id costs one look at most every second."""
        with self._lock:
            now, version = time.monotonic(), library.catalog.data_version()
            if version != self._version and now - self._refreshed >= _REFRESH_SECONDS:
                self._names.update((opaque_id(video.id), video.id) for video in library.videos())
                self._version, self._refreshed = version, now

    def file(self, video: Video) -> Path:
        """The file of a video, or the local copy of one that lies in a store or a shard; may take seconds.

        Raises:
            Problem: it is not where it was, or is being fetched still.
        """
        if isinstance(video.path, Address) and video.content is not None:
            return self._fetched.path(video.path)
        return _local_file(video)

    async def playable(self, request: Request, video: Video, path: Path) -> Path:
        """The file itself if browsers play it, else its copy.

        Raises:
            MediaError: it cannot be decoded.
            Problem: the copy is not ready yet.
        """
        content = str(video.content)
        if content not in self._plays:
            self._plays[content] = await self._decode(request, video, ("plays", content), browser_plays, path, 30)
        if self._plays[content]:
            return path
        copy = self._copies.ready(content)
        if copy is not None:
            return copy
        try:
            job = self._copies.request(content, path, video.duration)
            if await finished(job.future, request, _PATIENCE_SECONDS):
                return job.future.result()
        except MediaError as error:
            raise _nameless(error, video) from error
        except CancelledError as error:  # it was taken for forgotten at the moment when it was asked for again
            raise busy("the copy's turn has passed") from error
        ahead = self._copies.ahead(job)
        before = f", after {ahead} other{'s' if ahead > 1 else ''}" if ahead else ""
        raise Problem(
            503, "a copy is being prepared",
            f"browsers cannot play this file: a copy that they play is being prepared{before}",
            retry_seconds=_RETRY_SECONDS,
        )  # fmt: skip

    async def start_offset(self, request: Request, video: Video, path: Path) -> float:
        """Seconds at which the file that is played shows second 0 of a video.

        Raises:
            MediaError: it cannot be decoded.
        """
        return float(await self._decode(request, video, ("clock", video.content), played_start, path, 20))

    async def strip(self, request: Request, video: Video, path: Path, times: Sequence[float], height: int) -> bytes:
        """A JPEG of the frames at some times (seconds, rising), side by side, of a height in pixels.

        Raises:
            MediaError: it cannot be decoded.
            Problem: too much is asked for at the moment.
        """
        key = ("strip", video.content, *(round(second, 2) for second in times), height)
        picture = self._strips.get(key)
        if picture is None:
            picture = await self._decode(request, video, key, strip, (path, list(times), height), 20)
            self._strips[key] = picture
            if len(self._strips) > _MOST_STRIPS:
                self._strips.popitem(last=False)
        return picture

    def why_no_picture(self, video: Video) -> str:
        """What went wrong when the video was added, for people."""
        failures = self._library.failures() if self._library is not None else []
        reasons = [failure["reason"] for failure in failures if failure["video"] == video.id]
        reason = self.nameless(str(reasons[0]), video) if reasons else None
        return f"the video could not be read when it was added: {reason}" if reason else "the video has no pictures"

    def nameless(self, text: str, video: Video) -> str:
        """A text without the video's path: where files lie on this machine is nobody's business on a page."""
        return str(_nameless(MediaError(text), video))

    async def _decode(
        self, request: Request, video: Video, key: Sequence[object], function: Callable[[Any], Any], item: Any,
        seconds: float,
    ) -> Any:  # fmt: skip
        try:
            return await self.decoding.result(request, key, function, item, seconds=seconds)
        except MediaError as error:
            raise _nameless(error, video) from error

    def start(self) -> None:
        """Start what decodes, so that the first request does not wait for it."""
        self.decoding.start(browser_plays, Path("no such file"))

    def close(self) -> None:
        """End all work on media files."""
        self.decoding.close()
        self._copies.close()
        self._fetched.close()


def _local_file(video: Video) -> Path:
    try:
        if (
            video.path is not None
            and video.content is not None
            and isinstance(video.path, Path)
            and video.path.is_file()
        ):
            return video.path
    except OSError as error:
        raise Problem(410, "gone", f"the video's file cannot be reached: {error.strerror}") from error
    raise Problem(410, "gone", "the video's file is not at hand; it was moved or deleted since it was added")


def _nameless(error: MediaError, video: Video) -> MediaError:
    """The same error without the path: where files lie on this machine is nobody's business on a page."""
    return type(error)(without_path(str(error), video.path, video.id))


def without_path(text: str, path: object, name: str) -> str:
    """A message with a name in the place of a path, however the message writes it."""
    return text.replace(repr(str(path)), name).replace(str(path), name)


def library_media(library: Library | None, *, copies_gb: float = DEFAULT_COPIES_GB) -> Media:
    """The videos of a library.

    Args:
        copies_gb: what copies for browsers may take, in 10^9 bytes.
    """
    if library is None:
        return Media(None, CopyStore((), most_bytes=0))
    key = hashlib.sha256(bytes(library.path)).hexdigest()[:16]
    folders = (library.path / "copies", Path(platformdirs.user_cache_dir("reelseek")) / "copies" / key)

    def is_current(content: str) -> bool:
        return library.catalog.videos.has_content(content)

    store = CopyStore(folders, most_bytes=round(copies_gb * 1e9), is_current=is_current)
    store.tidy()
    return Media(library, store)
