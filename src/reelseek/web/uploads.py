"""Pictures and clips that somebody sends to search by them: checked, kept for a while, and bounded in all."""

import contextlib
import io
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image
from starlette.concurrency import run_in_threadpool

from reelseek.errors import MediaError
from reelseek.media.container import probe
from reelseek.search.likeness import MOST_PIXELS, PICTURES
from reelseek.web.problems import Problem

__all__ = ["MOST_UPLOAD_BYTES", "StoredUpload", "Uploads", "check_file"]

MOST_UPLOAD_BYTES = 256 * 2**20
_MOST_IMAGE_BYTES = 32 * 2**20
_MOST_BYTES = 2 * 2**30  # of all uploads
_MOST_UPLOADS = 200
_SECONDS = 3600.0
Kind = Literal["image", "video"]


@dataclass(frozen=True)
class StoredUpload:
    """A file that searches may name.

    Args:
        seconds: the length of a clip; None of a picture.
        expires: when it is deleted, in seconds since 1970.
        owner: who alone may name it.
    """

    id: str
    kind: Kind
    path: Path
    size: int
    seconds: float | None
    expires: float
    owner: str


def check_file(task: tuple[Path, Kind]) -> float | None:
    """Decode a picture, or read what a video says of itself; returns the length of a video in seconds.

    Raises:
        MediaError: it is none, is too large to be decoded, or lasts no time.
    """
    path, kind = task
    if kind == "video":
        seconds = probe(path).duration
        if not seconds or seconds <= 0:
            raise MediaError("the video lasts 0 s; send one that lasts longer")
        return seconds
    try:
        Image.init()
        formats = [name for name in PICTURES if name in Image.OPEN]  # others run programs on what they are sent
        with Image.open(io.BytesIO(path.read_bytes()), formats=formats) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise MediaError(f"the picture has {picture.width} x {picture.height} pixels; send a smaller one")
            picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaError("the picture cannot be decoded; send a JPEG, PNG or WebP file") from error
    return None


class Uploads:
    """The folder of uploads of one server, which goes with it.

    Args:
        parent: where the folder is made; None is the system's folder for temporary files.
        clock: the time in seconds since 1970.
    """

    def __init__(self, parent: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._parent, self._clock = parent, clock
        self._folder: Path | None = None
        self._uploads: OrderedDict[str, StoredUpload] = OrderedDict()
        self._lock = threading.Lock()
        self._receiving = 0

    def get(self, identifier: str, owner: str) -> StoredUpload:
        """An upload of somebody.

        Raises:
            Problem: it has expired, or is not theirs, or there never was one.
        """
        self._delete_expired()
        upload = self._uploads.get(identifier)
        if upload is None or upload.owner != owner:
            raise Problem(
                404, "no such upload", "there is no upload of this id, or it has expired; send the file again"
            )
        return upload

    async def receive(self, stream: AsyncIterator[bytes], kind: Kind) -> Path:
        """Write a body into a file of its own; the caller adds or deletes it.

        Raises:
            Problem: it is too large, or there is no room for it.
        """
        most = _MOST_IMAGE_BYTES if kind == "image" else MOST_UPLOAD_BYTES
        path = await run_in_threadpool(self._new_file)
        size = 0
        try:
            with path.open("wb") as file:
                async for part in stream:
                    size += len(part)
                    self._receiving += len(part)
                    if size > most:
                        raise Problem(413, "the body is too large", f"such a file has at most {most // 2**20} MiB here")
                    self._check_room()
                    await run_in_threadpool(file.write, part)
        except OSError as error:
            path.unlink(missing_ok=True)
            message = f"the file cannot be kept: {error.strerror}; nothing of it stays"
            raise Problem(507, "no room", message) from error
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            self._receiving -= size
        if not size:
            path.unlink(missing_ok=True)
            raise Problem(422, "an empty file", "the body is empty; send the bytes of a picture or of a video")
        return path

    def add(self, path: Path, kind: Kind, seconds: float | None, owner: str) -> StoredUpload:
        """Let searches name a file that was received and checked."""
        size = path.stat().st_size
        upload = StoredUpload(path.name, kind, path, size, seconds, self._clock() + _SECONDS, owner)
        with self._lock:
            self._uploads[upload.id] = upload
            while len(self._uploads) > _MOST_UPLOADS or self._size() > _MOST_BYTES:
                self._delete(next(iter(self._uploads)))
        return upload

    def close(self) -> None:
        """Delete all uploads."""
        with self._lock:
            self._uploads.clear()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None

    def _size(self) -> int:
        return sum(upload.size for upload in self._uploads.values())

    def _check_room(self) -> None:
        if self._receiving > _MOST_BYTES:
            raise Problem(503, "too busy", "too many files are being received; send it again", retry_seconds=10)

    def _new_file(self) -> Path:
        self._delete_expired()
        with self._lock:
            try:
                if self._folder is None or not self._folder.is_dir():
                    self._folder = Path(tempfile.mkdtemp(prefix="uploads-", dir=self._parent))
                path = self._folder / secrets.token_urlsafe(16)
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except OSError as error:
                message = f"there is no place for uploads: {error.strerror}"
                raise Problem(503, "no room", message, retry_seconds=60) from error
        return path

    def _delete_expired(self) -> None:
        with self._lock:
            now = self._clock()
            for identifier in [upload.id for upload in self._uploads.values() if upload.expires <= now]:
                self._delete(identifier)

    def _delete(self, identifier: str) -> None:
        upload = self._uploads.pop(identifier)
        with contextlib.suppress(OSError):
            upload.path.unlink(missing_ok=True)
