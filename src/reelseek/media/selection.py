"""Which of a file's streams is its picture and which its sound: no cover art, no commentary, nothing undecodable."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any

import av
import av.error
from av.stream import Discard

from reelseek.media.notice import Notice

__all__ = ["best_stream", "candidates", "covers", "passed_over", "undecodable"]

_Disposition: Any = av.stream.Disposition
_NO_FOOTAGE = _Disposition.attached_pic | _Disposition.timed_thumbnails
_BESIDE = (  # for one audience only, or not the work itself
    _Disposition.comment
    | _Disposition.dub
    | _Disposition.hearing_impaired
    | _Disposition.visual_impaired
    | _Disposition.clean_effects
    | _Disposition.karaoke
    | _Disposition.lyrics
    | _Disposition.descriptions
    | _Disposition.non_diegetic
    | _Disposition.dependent
)
_BESIDE_TITLE = re.compile(r"comment(ary|aries|aire)?\b|kommentar|audio.?descri", re.IGNORECASE)
_TRIED_PACKETS = 1000  # of a stream, before it is given up
_READ_PACKETS = 20_000  # of all streams together
_STILL_CODECS = {"mjpeg", "png", "apng", "bmp", "gif", "tiff", "webp"}
_MUSIC_FORMATS = {"mp3", "flac", "ogg", "mov", "mp4", "m4a", "aiff", "wav", "asf", "ape", "wv", "tta", "aac", "caf"}


def best_stream(container: av.container.InputContainer, kind: str) -> Any:
    """The stream of a kind that a viewer gets, or None.

    Cover art is no video. Of the sound, commentary, dubs and what is made for the deaf or the blind are taken only
    where there is nothing else; among the rest the first that the file marks as default, or else the first, as players
    do. Of pictures it is FFmpeg's choice, which heeds that mark and then the bit rate.
    """
    streams = candidates(container, kind)
    main = [stream for stream in streams if not _beside(stream)] or streams
    favourite = container.streams.best(kind)
    if kind == "video" and favourite is not None and any(favourite.index == stream.index for stream in main):
        return favourite
    default = [stream for stream in main if stream.disposition & _Disposition.default]
    return next(iter(default or main), None)


def candidates(container: av.container.InputContainer, kind: str) -> list[Any]:
    """The streams of a kind that can be decoded and are no cover art, in the order of the file."""
    cover = {stream.index for stream in covers(container)}
    streams = [stream for stream in container.streams if stream.type == kind and stream.index not in cover]
    return [stream for stream in streams if stream.codec_context is not None and not _discarded(stream)]


def _discarded(stream: Any) -> bool:
    return bool(stream.discard == Discard.all)


def undecodable(opened: Callable[[], AbstractContextManager[Any]], kind: str) -> list[int]:
    """Indices of streams that would be taken before another one, of whose packets none can be decoded.

    None if there is no other that can: which one is taken does not matter then.

    Args:
        opened: opens the file anew, since each trial reads on in it.
        kind: `video` or `audio`.
    """
    failed: list[int] = []
    while True:
        with opened() as container:
            for index in failed:
                container.streams[index].discard = Discard.all
            stream = best_stream(container, kind)
            if stream is None or (not failed and len(candidates(container, kind)) < 2):
                return []
            if _decodes(container, stream):
                return failed
            failed.append(stream.index)


def _decodes(container: av.container.InputContainer, stream: Any) -> bool:
    """Whether a packet of a stream yields a frame; of a very long one that does not begin early, it is assumed."""
    tried = 0
    for count, packet in enumerate(_packets(container)):
        if packet.stream_index == stream.index:
            tried += 1
            with suppress(av.error.FFmpegError):
                if packet.decode():
                    return True
        if tried >= _TRIED_PACKETS or count >= _READ_PACKETS:
            return not tried
    return False


def _packets(container: av.container.InputContainer) -> Iterator[av.Packet]:
    """Packets of all streams as far as they can be read."""
    with suppress(av.error.FFmpegError):
        yield from container.demux()


def _beside(stream: Any) -> bool:
    return bool(stream.disposition & _BESIDE) or bool(_BESIDE_TITLE.search(stream.metadata.get("title", "")))


def covers(container: av.container.InputContainer) -> list[Any]:
    """Streams of pictures that are no footage: attached pictures, and a single still beside music."""
    music = bool(_MUSIC_FORMATS & set(container.format.name.split(","))) and bool(container.streams.audio)
    return [
        stream
        for stream in container.streams.video
        if stream.disposition & _NO_FOOTAGE or (music and _single_still(stream))
    ]


def _single_still(stream: Any) -> bool:
    return stream.codec_context is not None and stream.codec_context.name in _STILL_CODECS and stream.frames == 1


def passed_over(container: av.container.InputContainer) -> list[Notice]:
    """What is to be known of streams that would have been taken if they could be decoded."""
    notices: list[Notice] = []
    for kind in ("video", "audio"):
        selected = best_stream(container, kind)
        for stream in container.streams:
            if stream.type != kind or not (stream.codec_context is None or _discarded(stream)):
                continue
            instead = (
                f"stream {selected.index} is used instead" if selected is not None else f"there is no other {kind}"
            )
            reason = (
                "this FFmpeg has no decoder for it" if stream.codec_context is None else "no packet yields anything"
            )
            message = f"{kind} stream {stream.index} cannot be decoded ({reason}); {instead}"
            notices.append(Notice("", message, lost=selected is None))
    return notices
