"""Which of a file's streams is its picture and which its sound: no cover art, no commentary, nothing undecodable."""

import re
from typing import Any

import av

from reelseek.media.notice import Notice

__all__ = ["best_stream", "covers", "passed_over"]

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
_STILL_CODECS = {"mjpeg", "png", "apng", "bmp", "gif", "tiff", "webp"}
_MUSIC_FORMATS = {"mp3", "flac", "ogg", "mov", "mp4", "m4a", "aiff", "wav", "asf", "ape", "wv", "tta", "aac", "caf"}


def best_stream(container: av.container.InputContainer, kind: str) -> Any:
    """The stream of a kind that a viewer gets, or None.

    Cover art is no video. Of the sound, commentary, dubs and what is made for the deaf or the blind are taken only
    where there is nothing else; among the rest FFmpeg's choice, which heeds what the file marks as default.
    """
    streams = _candidates(container, kind)
    main = [stream for stream in streams if not _beside(stream)] or streams
    favourite = container.streams.best(kind)
    if favourite is not None and any(favourite.index == stream.index for stream in main):
        return favourite
    default = [stream for stream in main if stream.disposition & _Disposition.default]
    return next(iter(default or main), None)


def _candidates(container: av.container.InputContainer, kind: str) -> list[Any]:
    cover = {stream.index for stream in covers(container)}
    return [s for s in container.streams if s.type == kind and s.codec_context is not None and s.index not in cover]


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
            if stream.type != kind or stream.codec_context is not None:
                continue
            instead = (
                f"stream {selected.index} is used instead" if selected is not None else f"there is no other {kind}"
            )
            message = f"{kind} stream {stream.index} cannot be decoded (this FFmpeg has no decoder for it); {instead}"
            notices.append(Notice("", message, lost=selected is None))
    return notices
