"""Which copies of footage `overlap scan` finds: precision at recall .9, average precision and place error by kind.

    python benchmarks/detection.py CLIPS --out detection              # a folder of real clips
    python benchmarks/detection.py --films 24 --out detection-films  # the studio's films, made for it

Every clip of at least six seconds gives an original and a copy of each kind, drawn by seed; what follows the original
in the same clip is another take of the same place, and a hard negative. A ranking holds all pairs of an original (or
other take) and a copy of one kind, and of two originals; pairs of one clip's different moments are left out of `AP` and
are negatives in `AP, other takes`. Place error: by how many seconds the place in the original, as told by the place in
the copy, is off; median and 90th percentile over all copies.
"""

import argparse
import json
import shutil
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from reelseek.media.decode import read_frames
from reelseek.media.streams import FrameStream
from reelseek.media.suffixes import MEDIA_SUFFIXES
from reelseek.overlap.scan import ScanOptions, scan
from reelseek.overlap.sources import open_source
from reelseek.studio import write_archive

FPS, LONG = 15, 320
Frames = list[np.ndarray]


@dataclass(frozen=True)
class Made:
    """A video of the test: its clip, what of it it shows (seconds), and how its clock runs: original = first + speed *
    (time - inset)."""

    name: str
    kind: str
    clip: str
    start: float
    end: float
    speed: float = 1.0
    inset: float = 0.0
    beside: tuple[str, ...] = ()


def load(path: Path, seconds: float) -> Frames:
    frames: Frames = []
    for batch in read_frames(path, FrameStream(fps=FPS, short_side=240)):
        frames += list(batch.pixels)
        if len(frames) > seconds * FPS:
            break
    return [resized(frame, LONG) for frame in frames[: int(seconds * FPS)]]


def resized(frame: np.ndarray, long: int) -> np.ndarray:
    scale = long / max(frame.shape[:2])
    size = int(frame.shape[1] * scale) // 2 * 2, int(frame.shape[0] * scale) // 2 * 2
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


def save(path: Path, frames: Frames, crf: int = 26) -> None:
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"crf": str(crf), "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            picture = np.ascontiguousarray(frame[:height, :width])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))


def every(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Frames, np.random.Generator], Frames]:
    return lambda frames, _: [change(frame) for frame in frames]


def cropped(frames: Frames, rng: np.random.Generator) -> Frames:
    height, width = frames[0].shape[:2]
    tall, wide = (int(side * rng.uniform(0.7, 0.9)) for side in (height, width))
    top, left = int(rng.uniform(0, height - tall)), int(rng.uniform(0, width - wide))
    return [resized(np.ascontiguousarray(frame[top : top + tall, left : left + wide]), LONG) for frame in frames]


def with_logo(frames: Frames, rng: np.random.Generator) -> Frames:
    height, width = frames[0].shape[:2]
    top, left = int(height * 0.04), int(width * (0.04 if rng.random() < 0.5 else 0.66))
    colour = rng.integers(0, 255, 3).tolist()
    changed = []
    for frame in frames:
        copy = frame.copy()
        cv2.rectangle(copy, (left, top), (left + int(width * 0.3), top + int(height * 0.25)), colour, -1)
        cv2.putText(copy, "LIVE  24", (8, height - 10), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2)
        changed.append(copy)
    return changed


def boxed(frames: Frames, rng: np.random.Generator) -> Frames:
    height, width = frames[0].shape[:2]
    tall, wide = (int(height * 0.23), 0) if rng.random() < 0.5 else (0, int(width * 0.23))
    return [cv2.copyMakeBorder(f, tall, tall, wide, wide, cv2.BORDER_CONSTANT, value=(8, 8, 8)) for f in frames]


def filmed(frames: Frames, rng: np.random.Generator) -> Frames:
    """Off a screen: in perspective, unsteady, blurred, of other colours, noisy, with the room around it."""
    height, width = frames[0].shape[:2]
    corners = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    inner = corners * 0.82 + np.float32([width, height]) * 0.09
    inner += rng.uniform(-0.05, 0.05, (4, 2)).astype(np.float32) * np.float32([width, height])
    room, gain = rng.uniform(10, 45, 3), rng.uniform(0.7, 1.1, 3)
    gamma = rng.uniform(0.75, 1.35)
    changed = []
    for frame in frames:
        shaken = (inner + rng.normal(0, 0.6, 2)).astype(np.float32)
        turn = cv2.getPerspectiveTransform(corners, shaken)
        inside = cv2.warpPerspective(np.ones((height, width), np.float32), turn, (width, height))[..., None]
        seen = 255 * (cv2.warpPerspective(frame, turn, (width, height)) / 255.0) ** gamma * gain * 0.93 + 14
        mixed = cv2.GaussianBlur(seen * inside + room * (1 - inside), (0, 0), 1.1)
        changed.append(np.clip(mixed + rng.normal(0, 6, (height, width, 1)), 0, 255).astype(np.uint8))
    return changed


SAME_TIME: dict[str, Callable[[Frames, np.random.Generator], Frames]] = {
    "re-encoded": every(lambda frame: resized(frame, 200)),
    "cropped": cropped,
    "logo": with_logo,
    "mirrored": every(lambda frame: frame[:, ::-1]),
    "letterboxed": boxed,
    "grey": every(lambda frame: cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)),
    "filmed off a screen": filmed,
}
SPEEDS = {"1.5 x as fast": 1.5, "2 x as fast": 2.0, "at .75 of the speed": 0.75}
KINDS = [*SAME_TIME, *SPEEDS, "in a corner of another", "inside a longer one"]


def make(clips: Sequence[Path], folder: Path, seed: int) -> list[Made]:
    """Originals and other takes in `test`, copies in `train`."""
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("test", "train"):
        (folder / part).mkdir(parents=True)
    loaded = {path.stem: load(path, 24) for path in clips}
    loaded = {name: frames for name, frames in loaded.items() if len(frames) >= 6 * FPS}
    made: list[Made] = []

    def put(
        kind: str, clip: str, frames: Frames, start: float, speed: float = 1.0, beside: tuple[str, ...] = ()
    ) -> None:
        part = "test" if kind in ("original", "other take") else "train"
        stem = f"{part}/{clip}.{kind.replace(' ', '_')}"
        save(folder / f"{stem}.mp4", frames, 36 if kind == "re-encoded" else 26)
        end = start + len(frames) / FPS * speed
        made.append(Made(f"{stem}.mp4", kind, clip, start, end, speed, beside=beside))

    for clip, frames in loaded.items():
        rng = np.random.default_rng([seed, zlib.crc32(clip.encode())])
        length = len(frames) if len(frames) < 9.5 * FPS else min(len(frames) * 6 // 10, 12 * FPS)
        first, rest = frames[:length], frames[length + FPS // 2 :]
        put("original", clip, first, 0.0)
        if len(rest) >= 3 * FPS:
            put("other take", clip, rest, (length + FPS // 2) / FPS)
        others = [name for name in loaded if name != clip]
        for kind in KINDS:
            late = int(rng.uniform(0, 0.6) * FPS)
            part, begins = first[late:], late / FPS
            if kind in SAME_TIME:
                put(kind, clip, SAME_TIME[kind](part, rng), begins)
            elif kind in SPEEDS:
                times = np.arange(0, len(part) - 1, SPEEDS[kind]).astype(int)
                put(kind, clip, [part[at] for at in times], begins, speed=SPEEDS[kind])
            elif kind == "in a corner of another":
                other = str(rng.choice(others))
                put(kind, clip, _corner(part, loaded[other], rng), begins, beside=(other,))
            else:
                around = [str(name) for name in rng.choice(others, 2, replace=False)]
                middle = part[: 6 * FPS]
                height, width = middle[0].shape[:2]
                before, after = ([cv2.resize(f, (width, height)) for f in loaded[n][: 5 * FPS]] for n in around)
                inset = len(before) / FPS
                frames_of = [*before, *middle, *after]
                save(folder / "train" / f"{clip}.inside.mp4", frames_of)
                made.append(Made(f"train/{clip}.inside.mp4", kind, clip, begins, begins + len(middle) / FPS, 1.0, inset,
                                 tuple(around)))  # fmt: skip
    return made


def _corner(frames: Frames, other: Frames, rng: np.random.Generator) -> Frames:
    height, width = other[0].shape[:2]
    scale = 0.4 * min(width / frames[0].shape[1], height / frames[0].shape[0])
    wide, tall = (int(side * scale) for side in (frames[0].shape[1], frames[0].shape[0]))
    top, left = (4, height - tall - 4)[int(rng.integers(2))], (4, width - wide - 4)[int(rng.integers(2))]
    composed = []
    for place, frame in enumerate(frames):
        canvas = other[place % len(other)].copy()
        canvas[top : top + tall, left : left + wide] = cv2.resize(frame, (wide, tall), interpolation=cv2.INTER_AREA)
        composed.append(canvas)
    return composed


def rate(folder: Path, work: Path, made: Sequence[Made], expert: str) -> list[dict[str, object]]:
    """Scores of all pairs by one expert, and what they are worth by kind."""
    pairs = {}
    with open_source(folder, expert, work) as source:
        for train in ("train", "test"):
            scanned = scan(source, ScanOptions("test", train, top=10**6))
            pairs |= {(pair.test, pair.train): pair for pair in scanned.pairs}
    by_name = {video.name: video for video in made}
    rows = []
    for kind in [*KINDS, "all"]:
        easy, hard, errors = [], [], []
        for pair in pairs.values():
            one, two = by_name[pair.test], by_name[pair.train]
            if two.kind in KINDS and kind not in (two.kind, "all"):
                continue
            if one.clip in two.beside:
                continue
            same = one.clip == two.clip and min(one.end, two.end) - max(one.start, two.start) > 0.5
            if one.clip != two.clip or same:
                easy.append((pair.score, same))
            if one.clip != two.clip or same or two.kind in KINDS:
                hard.append((pair.score, same))
            if same:
                expected = two.start + two.speed * (pair.train_start - two.inset) - one.start
                errors.append(abs(expected - pair.test_start))
        rows.append({
            "kind": kind, "copies": sum(same for _, same in easy),
            **_quality(easy, ""), **_quality(hard, ", other takes"),
            "place error": float(np.median(errors)), "90 %": float(np.quantile(errors, 0.9)),
        })  # fmt: skip
    return rows


def _quality(scored: list[tuple[float, bool]], name: str) -> dict[str, float]:
    right = np.array([same for _, same in sorted(scored, key=lambda pair: -pair[0])])
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    recall = np.cumsum(right) / right.sum()
    reached = precision[np.searchsorted(recall, 0.9 - 1e-9) :].max()
    return {f"AP{name}": float((precision * right).sum() / right.sum()), f"P at R .9{name}": float(reached)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="?", help="folder of videos")
    parser.add_argument("--films", type=int, default=24, help="without a folder: make so many studio films")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "reelseek-detection")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--experts", default="copy,appearance")
    options = parser.parse_args()
    folder = options.clips
    if folder is None:
        folder = options.out / "films"
        write_archive(folder, options.films, seed=options.seed, clips=False)
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in MEDIA_SUFFIXES)
    made = make(paths, options.out / "videos", options.seed)
    tables = {}
    for expert in options.experts.split(","):
        tables[expert] = rate(options.out / "videos", options.out / f"{expert}.library", made, expert)
        print(f"\n{expert}: {sum(video.kind == 'original' for video in made)} clips, seed {options.seed}")
        print("| " + " | ".join(tables[expert][0]) + " |")
        for row in tables[expert]:
            print("| " + " | ".join(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values()) + " |")
    (options.out / "detection.json").write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main()
