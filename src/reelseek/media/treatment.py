"""What sets a file apart from ordinary ones, so that a version that treats such files anew can tell which they are."""

from typing import Any

import av
import av.error

from reelseek.media.clock import Clock, read_packets
from reelseek.media.container import has_no_times
from reelseek.media.selection import best_stream, covers
from reelseek.media.upright import Upright, kinds_of

__all__ = ["treatment_of"]

_PACKETS = 200  # within which the first frame comes, unless the file is damaged


def treatment_of(container: av.container.InputContainer, clock: Clock) -> tuple[str, ...]:
    """Names of what is done to this open file and not to ordinary ones, sorted; it is read on a little.

    `joined` (its times start again), `untimed` (a raw stream of pictures), `cover` (a picture that is no
    video), `audio` (another stream than FFmpeg's own
    choice), `aspect` (pixels are not square), `mirrored`, `interlaced`, `hdr PQ` and `hdr HLG`.
    """
    kinds: set[str] = {"joined"} if clock.joined else set()
    video = best_stream(container, "video")
    if video is not None and has_no_times(container):
        kinds.add("untimed")
    if covers(container):
        kinds.add("cover")
    usual, audio = container.streams.best("audio"), best_stream(container, "audio")
    if usual is not None and usual.codec_context is not None and usual.index != audio.index:
        kinds.add("audio")
    if video is not None:
        kinds |= _picture_kinds(container, video, clock)
    return tuple(sorted(kinds))


def _picture_kinds(container: av.container.InputContainer, video: Any, clock: Clock) -> set[str]:
    upright = Upright(video, short_side=2)
    for count, packet in enumerate(read_packets(container, [video], clock, lambda _: None)):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            frames = []
        for frame in frames:
            upright.display_size(frame)
            upright.orientation(frame)
            return upright.kinds | kinds_of(frame)
        if count >= _PACKETS:
            break
    return upright.kinds
