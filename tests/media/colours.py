"""Small films of one colour a second, with a tone, in any container: what tells one second from another."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)]


def nearest(colour: Sequence[float]) -> int:
    """The index of the nearest of COLOURS."""
    return int(np.abs(np.array(COLOURS) - np.asarray(colour)).sum(axis=1).argmin())


def write_colours(
    path: Path,
    *,
    seconds: int = 4,
    first: int = 0,
    start: float = 0.0,
    sound_start: float | None = None,
    codec: str = "libx264",
    sound: str | None = "aac",
    options: dict[str, str] | None = None,
) -> Path:
    """Second i shows COLOURS[first + i]; times begin at `start`, those of the sound at `sound_start`."""
    with av.open(str(path), "w", options=options or {}) as out:
        fast = {"deadline": "realtime", "cpu-used": "8"} if codec.startswith("libvpx") else {}
        fps = 25 if codec == "mpeg2video" else 10  # MPEG-2 knows a few rates only
        video = out.add_stream(codec, rate=fps, options=fast)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 25 if codec == "mpeg2video" else 1000)
        audio = out.add_stream(sound, rate=48_000, layout="stereo") if sound else None
        count = 48_000 // fps
        for index in range(seconds * fps):
            pixels = np.full((48, 64, 3), COLOURS[(first + index // fps) % len(COLOURS)], np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p", threads=1)
            frame.pts, frame.time_base = round((start + index / fps) * 1000), Fraction(1, 1000)
            out.mux(video.encode(frame))
            if audio is not None:
                wave = np.sin(np.arange(index * count, (index + 1) * count) * 2 * np.pi * 440 / 48_000) * 0.3
                tone = av.AudioFrame.from_ndarray(np.stack([wave, wave]).astype(np.float32), "fltp", "stereo")
                begin = start if sound_start is None else sound_start
                tone.rate, tone.pts, tone.time_base = 48_000, round(begin * 48_000) + index * count, Fraction(1, 48_000)
                out.mux(audio.encode(tone))
        for track in (video, audio):
            if track is not None:
                out.mux(track.encode(None))
    return path
