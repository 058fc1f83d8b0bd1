"""A decoded frame as a player shows it: upright, in its true shape, without combs, and in a screen's colours.

Turning, resizing and the colour matrix of an ordinary frame cost one conversion. Only frames of interlaced and of
high-dynamic-range video go through FFmpeg's filters first.
"""

import time
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.sidedata.sidedata import Type
from av.video.reformatter import ColorRange, Colorspace, ColorTrc, VideoReformatter

from reelseek.errors import LimitError
from reelseek.media.notice import Notice

__all__ = ["Orientation", "Upright", "kinds_of", "orientation"]

_HDR = {int(ColorTrc.SMPTE2084): "PQ", int(ColorTrc.ARIB_STD_B67): "HLG"}
_SQUARE = 0.01  # a pixel whose sides differ by less is taken for square: some files round
_PAUSES = (0.05, 0.15, 0.45)  # seconds before threads are asked for again
_WIDEST = 8.0  # the aspect ratio of a pixel beyond which it is an error
# FFmpeg's swscale maps white at 203 nits (ITU-R BT.2408) to a screen's white. What was made from ordinary video often
# has its white at 100 nits. The level between, 143 nits, keeps both within half a stop: this is its place among the
# code values of a screen of gamma 2.2.
_WHITE = round((143 / 203) ** (1 / 2.2), 3)


@dataclass(frozen=True)
class Orientation:
    """How a decoded picture is laid on the screen: first transposed, then mirrored left to right, then flipped."""

    transposed: bool = False
    mirrored: bool = False
    flipped: bool = False

    @property
    def turned_only(self) -> bool:
        """Whether it is a rotation: no mirror image."""
        return (self.transposed + self.mirrored + self.flipped) % 2 == 0

    def apply(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Pixels [height, width, 3] as they are to be seen."""
        if self.transposed:
            pixels = pixels.swapaxes(0, 1)
        if self.mirrored:
            pixels = pixels[:, ::-1]
        if self.flipped:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)


def orientation(frame: av.VideoFrame) -> Orientation:
    """What the frame's display matrix asks for, to the nearest quarter turn.

    The matrix holds a, b, u, c, d, v, x, y, w; the pixel at (x, y) is shown at (a x + c y, b x + d y), y downwards.
    """
    matrix: Any = frame.side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return Orientation()
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


def kinds_of(frame: av.VideoFrame) -> set[str]:
    """What filters a frame needs: `interlaced`, `hdr PQ`, `hdr HLG`."""
    kinds = {"interlaced"} if frame.interlaced_frame else set()
    return kinds | ({f"hdr {_HDR[frame.color_trc]}"} if frame.color_trc in _HDR else set())


class Upright:
    """Shows the frames of one stream as a player does.

    Args:
        stream: of pictures.
        short_side: of the largest picture that will be asked for, so that costly filters need not work on more.
    """

    def __init__(self, stream: Any, short_side: int) -> None:
        self._stream = stream
        self._short_side = max(2, short_side)
        self._aspects: dict[tuple[int, int], float] = {}
        self.kinds: set[str] = set()
        self._to_rgb, self._to_yuv = VideoReformatter(), VideoReformatter()  # tables for one kind of picture each

    def display_size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Width and height in square pixels, before it is turned."""
        size = frame.width, frame.height
        if size not in self._aspects:
            self._aspects[size] = _pixel_aspect(self._stream)
            if self._aspects[size] != 1.0:
                self.kinds.add("aspect")
        aspect = self._aspects[size]
        if aspect == 1.0:
            return size
        return (round(size[0] * aspect), size[1]) if aspect > 1 else (size[0], round(size[1] / aspect))

    def shown(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame without combs and in a screen's colours, still lying as decoded; itself if it is ordinary."""
        interlaced, transfer = frame.interlaced_frame, frame.color_trc
        if interlaced or transfer in _HDR:
            self.kinds |= kinds_of(frame)
            frame = _deinterlaced(frame) if interlaced else frame
            frame = _tone_mapped(frame, self._short_side) if transfer in _HDR else frame
        return frame

    def pass_over(self, frame: av.VideoFrame) -> None:
        """Note of what kind a frame is whose picture nobody needs."""
        if frame.interlaced_frame or frame.color_trc in _HDR:
            self.kinds |= kinds_of(frame)

    def orientation(self, frame: av.VideoFrame) -> Orientation:
        """How the frame is laid on the screen."""
        laid = orientation(frame)
        if not laid.turned_only:
            self.kinds.add("mirrored")
        return laid

    def pixels(self, frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
        """RGB [height, width, 3] of the whole picture as it is seen, in square pixels."""
        width, height = self.display_size(frame)
        picture = self._to_rgb.reformat(self.shown(frame), width, height, "rgb24", threads=1)
        return self.orientation(frame).apply(picture.to_ndarray())

    def size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Width and height of the whole picture as it is seen, in square pixels."""
        width, height = self.display_size(frame)
        return (height, width) if self.orientation(frame).transposed else (width, height)

    def for_encoding(self, frame: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
        """The picture as it is seen, of that size, as yuv420p in BT.709 of limited range."""
        shown, laid = self.shown(frame), self.orientation(frame)
        if laid != Orientation():
            size = (height, width) if laid.transposed else (width, height)
            turned = laid.apply(self._to_rgb.reformat(shown, *size, format="rgb24", threads=1).to_ndarray())
            shown = av.VideoFrame.from_ndarray(turned, format="rgb24")
        colours = {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG}
        return self._to_yuv.reformat(shown, width, height, "yuv420p", threads=1, **colours)

    def notices(self) -> list[Notice]:
        """What was guessed."""
        hdr = sorted(kind.removeprefix("hdr ") for kind in self.kinds if kind.startswith("hdr "))
        message = f"high dynamic range ({', '.join(hdr)}); shown as an ordinary screen would, white taken at 143 nits"
        return [Notice("", message)] if hdr else []


def _pixel_aspect(stream: Any) -> float:
    """Width of a pixel over its height."""
    aspect: Fraction | None = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    ratio = float(aspect) if aspect else 1.0
    return ratio if abs(ratio - 1.0) > _SQUARE and 1 / _WIDEST <= ratio <= _WIDEST else 1.0


def _deinterlaced(frame: av.VideoFrame) -> av.VideoFrame:
    """The moment of the first field, the lines between filled along edges; needs no other frame."""
    graph = _graph(_buffer(frame), (("estdif", "mode=frame:deint=interlaced"),))
    graph.push(frame)
    graph.push(None)
    return graph.vpull()


def _tone_mapped(frame: av.VideoFrame, short_side: int) -> av.VideoFrame:
    scale = min(1.0, short_side / min(frame.width, frame.height))
    size = max(2, round(frame.width * scale)), max(2, round(frame.height * scale))
    for seconds in (*_PAUSES, None):
        graph = _tone_mapper(_buffer(frame), size)
        try:
            graph.push(frame)
            return graph.vpull()
        except av.error.BlockingIOError as error:  # FFmpeg makes its tables in threads, whatever it is told
            _tone_mapper.cache_clear()
            if seconds is None:
                raise LimitError("the system refused a thread for the colours of high dynamic range") from error
            time.sleep(seconds)
    raise AssertionError("the last attempt returns or raises")


@lru_cache(maxsize=4)
def _tone_mapper(source: str, size: tuple[int, int]) -> Graph:
    """FFmpeg's own colour management; its tables take a second to make, so the graph is used for every frame."""
    return _graph(
        source,
        (
            ("scale", f"{size[0]}:{size[1]}:flags=bilinear"),
            ("scale", "out_primaries=bt709:out_transfer=bt709:intent=relative_colorimetric"),
            ("format", "rgb48le"),
            ("colorlevels", f"rimax={_WHITE}:gimax={_WHITE}:bimax={_WHITE}"),
            ("format", "rgb24"),
        ),
    )


def _buffer(frame: av.VideoFrame) -> str:
    return (
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1000"
        f":colorspace={int(frame.colorspace)}:range={int(frame.color_range)}"
    )


def _graph(source: str, filters: tuple[tuple[str, str], ...]) -> Graph:
    graph = Graph()
    graph.threads = 1
    nodes = [graph.add("buffer", source), *(graph.add(name, options) for name, options in filters)]
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    return graph
