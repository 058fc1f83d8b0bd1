"""What a large collection costs: rates are measured on this machine, larger collections are simulated from them.

Measured are CPU seconds of one process (which other programs on the machine disturb less than the clock) for decoding
and for each expert that runs without a network, bytes that a library takes, and how fast the one writer is. The
simulation is that of `scale.py`; videos are as long as those of HowTo100M (134,000 h in 1.2 million).

    python benchmarks/costs.py costs.json [--videos FOLDER] [--price 0.04]
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from reelseek.experts import DEFAULT_EXPERTS, available
from reelseek.experts.extract import extract, prepare_worker
from reelseek.library import Library, add
from reelseek.media.container import Limits
from reelseek.media.suffixes import MEDIA_SUFFIXES
from reelseek.studio import plan_films, shoot
from scale import WRITTEN, simulate, writer_seconds

HOURS, VIDEOS, CLIPS = 134_000, 1_200_000, 136_000_000  # of HowTo100M
VIDEO_SECONDS = HOURS * 3600 / VIDEOS
STEPS, WIDTH = 400, 512  # of a track of such a video
LINK = 1.25e9  # bytes a second into the driver's machine: 10 Gbit/s, an assumption
COLLECTIONS = {"1,000 h": 1000, "HowTo100M": HOURS, "1,000 million clips": HOURS * 1e9 / CLIPS}
WORKERS = (16, 160, 1600, 16_000)


def cpu_seconds(work: Callable[[], object], rounds: int = 2) -> float:
    """CPU seconds of this process for a piece of work: the least of some rounds."""
    seconds = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


def films(folder: Path, count: int) -> list[Path]:
    """Short films of 640 x 360 with speech, music and written words."""
    from dataclasses import replace

    return [shoot(replace(film, size=(640, 360)), folder) for film in plan_films(count, seed=3)]


def expert_rates(files: Sequence[Path], specs: Sequence[str]) -> dict[str, Any]:
    """CPU seconds for a second of video: decoding with cuts and thumbnails, what each expert adds, and all together."""
    limits = Limits().with_models(len(specs))
    prepare_worker(specs)
    seconds = sum(extract(file, [], limits).end_seconds for file in files)
    for spec in specs:
        extract(files[0], [spec], limits)  # a model's first pass takes longer

    def taken(subset: Sequence[str]) -> float:
        return cpu_seconds(lambda: [extract(file, subset, limits) for file in files]) / seconds

    decoding = taken([])
    adds = {spec: round(max(0.0, taken([spec]) - decoding), 4) for spec in specs}
    return {"video_seconds": round(seconds, 1), "decoding": round(decoding, 4), "adds": adds,
            "together": round(taken(specs), 4)}  # fmt: skip


def library_bytes(files: Sequence[Path], specs: Sequence[str]) -> float:
    """Bytes that a library grows by for a second of video, without what an empty one takes."""
    with tempfile.TemporaryDirectory() as name, Library.open(Path(name) / "lib", create=True) as library:
        sizes, seconds = [], []
        for part in (files[:1], files[1:]):
            assert not add(library, list(part), experts=list(specs), workers=1).failed
            library.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            sizes.append(_size(library.path))
            seconds.append(sum(video.duration or 0.0 for video in library.videos()))
        return (sizes[1] - sizes[0]) / (seconds[1] - seconds[0])


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def plan(rates: dict[str, Any], writer: float, bytes_per_second: float, price: float) -> list[dict[str, Any]]:
    """Hours, machines and cost of whole collections.

    Args:
        writer: CPU seconds that the one writer takes for a video; what it waits for its disk is not among them.
        price: of a core for an hour.
    """
    rows = []
    seconds_per_video = rates["together"] * VIDEO_SECONDS
    for name, hours in COLLECTIONS.items():
        videos, core_hours = hours * 3600 / VIDEO_SECONDS, hours * rates["together"]
        for workers in WORKERS:
            items = max(workers, min(math.ceil(videos), 40 * workers))
            wall, waiting = simulate(workers, items, seconds_per_video, writer)
            use = items * seconds_per_video / workers / wall
            rows.append(
                {"collection": name, "workers": workers, "core_hours": round(core_hours), "use": round(use, 3),
                 "wall_hours": round(core_hours / workers / use, 1), "writer_hours": round(videos * writer / 3600, 1),
                 "cost": round(core_hours / use * price), "library_terabytes": round(
                     hours * 3600 * bytes_per_second / 1e12, 3), "waiting_results": waiting}
            )  # fmt: skip
    return rows


def main() -> None:
    """Measure, then plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--videos", type=Path, help="videos to measure on instead of films that are made")
    parser.add_argument("--films", type=int, default=3)
    parser.add_argument("--price", type=float, default=0.04, help="of a core for an hour, an assumption")
    options = parser.parse_args()
    torch.set_num_threads(1)
    missing = available(DEFAULT_EXPERTS)[1]
    specs = [spec for spec in DEFAULT_EXPERTS if spec not in missing]
    with tempfile.TemporaryDirectory() as name:
        if options.videos is None:
            files = films(Path(name), options.films)
        else:
            files = sorted(path for path in options.videos.rglob("*") if path.suffix.lower() in MEDIA_SUFFIXES)
        rows: dict[str, Any] = {"rates": expert_rates(files, specs)}
        print(json.dumps(rows), flush=True)
        rows["bytes_per_video_second"] = round(library_bytes(files, specs), 1)
    rows["bytes_per_clip"] = round(rows["bytes_per_video_second"] * HOURS * 3600 / CLIPS)
    tracks, began = len(specs), time.process_time()
    rows["writer_clock_per_video"] = round(writer_seconds(tracks, STEPS, WIDTH), 5)
    rows["writer_per_video"] = round((time.process_time() - began) / WRITTEN, 5)
    rows["writer_rows_per_second"] = round(tracks * STEPS / rows["writer_per_video"])
    rows["price_of_a_core_hour"] = options.price
    saturation = rows["rates"]["together"] * VIDEO_SECONDS
    rows["writer_saturates_at_workers"] = round(saturation / rows["writer_per_video"])
    result_bytes = rows["bytes_per_video_second"] * VIDEO_SECONDS
    rows["link_saturates_at_workers"] = round(saturation / (result_bytes / LINK))
    rows["plan"] = plan(rows["rates"], rows["writer_per_video"], rows["bytes_per_video_second"], options.price)
    print(json.dumps(rows, indent=1))
    if options.out is not None:
        options.out.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
