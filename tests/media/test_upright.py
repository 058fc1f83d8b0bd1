"""One picture: experts and copies see what a player shows."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from reelseek.media.container import probe
from reelseek.media.decode import decode, read_frames
from reelseek.media.picture import make_proxy
from reelseek.media.streams import FrameStream

WHOLE = FrameStream(fps=1, short_side=1000)
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def _corners(width: int = 64, height: int = 48) -> np.ndarray:
    """Red top left, green top right, blue bottom left, white bottom right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for row, column, colour in ((0, 0, RED), (0, 1, GREEN), (1, 0, BLUE), (1, 1, WHITE)):
        pixels[row * height // 2 :, column * width // 2 :] = colour
    return pixels


def _write(
    path: Path, pixels: np.ndarray, *, matrix=None, aspect=None, codec="libx264", options=None, **colours
) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=5, options=options or {})
        stream.height, stream.width = pixels.shape[:2]
        stream.pix_fmt = colours.pop("pix_fmt", "yuv420p")
        for name, value in colours.items():
            setattr(stream.codec_context, name, value)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for _ in range(10):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            out.mux(stream.encode(frame.reformat(format=stream.pix_fmt, threads=1)))
        out.mux(stream.encode(None))
    return path


def _picture(path: Path) -> np.ndarray:
    return next(iter(read_frames(path, WHOLE))).pixels[0]


def _layout(pixels: np.ndarray) -> list[str]:
    """Names of the colours at top left, top right, bottom left and bottom right."""
    height, width = pixels.shape[:2]
    names = {"red": RED, "green": GREEN, "blue": BLUE, "white": WHITE}
    places = [(row, column) for row in (height // 4, 3 * height // 4) for column in (width // 4, 3 * width // 4)]
    return [min(names, key=lambda n: np.abs(pixels[p].astype(int) - names[n]).sum()) for p in places]


# (a, b, c, d) of x' = a x + c y, y' = b x + d y, and what the corners become.
MATRICES = {
    "as it is": ((1, 0, 0, 1), ["red", "green", "blue", "white"]),
    "mirrored": ((-1, 0, 0, 1), ["green", "red", "white", "blue"]),
    "flipped": ((1, 0, 0, -1), ["blue", "white", "red", "green"]),
    "half turn": ((-1, 0, 0, -1), ["white", "blue", "green", "red"]),
    "transposed": ((0, 1, 1, 0), ["red", "blue", "green", "white"]),
    "clockwise": ((0, 1, -1, 0), ["blue", "red", "white", "green"]),
    "anticlockwise": ((0, -1, 1, 0), ["green", "white", "red", "blue"]),
    "transversed": ((0, -1, -1, 0), ["white", "green", "blue", "red"]),
}


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("aspect", [None, "4/3"])
def test_eight_orientations_and_pixels_that_are_not_square(tmp_path: Path, name: str, aspect: str | None) -> None:
    (a, b, c, d), corners = MATRICES[name]
    one = 1 << 16
    matrix = [a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30]
    path = _write(tmp_path / "film.mp4", _corners(), matrix=matrix, aspect=aspect)
    shape = (48, 85 if aspect else 64)
    seen = _picture(path)
    assert _layout(seen) == corners
    assert seen.shape[:2] == (shape if a else shape[::-1])
    copy = tmp_path / "copy.mp4"
    make_proxy((path, copy))
    copied = _picture(copy)
    assert _layout(copied) == corners
    np.testing.assert_allclose(copied.shape[:2], seen.shape[:2], atol=1)
    mirrored = a * d - b * c < 0
    assert ("mirrored" in probe(path).treatment, "aspect" in probe(path).treatment) == (mirrored, aspect is not None)


@pytest.mark.long
@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_seen_as_on_a_screen(tmp_path: Path, transfer: int, name: str) -> None:
    """A grey ramp in PQ or HLG: white at 203 nits comes out white, contrast is that of the ramp, and it is said."""
    ramp = np.repeat(np.linspace(16, 235, 64).astype(np.uint8)[None, :, None], 48, axis=0).repeat(3, axis=2)
    plain = _write(tmp_path / "sdr.mp4", ramp, colorspace=1, color_primaries=1, color_trc=1)
    path = tmp_path / "hdr.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, transfer, 1
        frame = av.VideoFrame.from_ndarray(ramp, format="rgb24")
        frame.color_trc, frame.color_primaries = 1, 1
        coded = frame.reformat(
            format="yuv420p10le", dst_color_trc=transfer, dst_color_primaries=9, dst_colorspace=9, dst_color_range=1
        )
        for _ in range(5):
            coded.pts = None
            out.mux(stream.encode(coded))
        out.mux(stream.encode(None))
    seen, wanted = _picture(path).astype(float), _picture(plain).astype(float)
    assert seen.mean() == pytest.approx(wanted.mean(), rel=0.25)
    assert seen.std() == pytest.approx(wanted.std(), rel=0.25)
    assert probe(path).treatment == (f"hdr {name}",)
    notices = decode(path, {WHOLE: [lambda _: None]}).notices
    assert [f"high dynamic range ({name})" in notice.message for notice in notices] == [True]


def test_fields_of_two_moments_are_not_combed(tmp_path: Path) -> None:
    pixels = np.zeros((96, 64, 3), np.uint8)
    pixels[1::2] = 255  # what moved between the fields: white in the second one only
    options = {"flags": "+ildct+ilme"}
    path = _write(tmp_path / "combed.mpg", pixels, codec="mpeg2video", options=options)
    if "interlaced" not in probe(path).treatment:
        pytest.skip("this encoder marks no frame as interlaced")
    rows = _picture(path)[:, 32].mean(axis=1)
    assert np.abs(np.diff(rows)).mean() < 30
