"""What one change of a library costs, by how many videos it has: CPU seconds and memory of a process of its own each.

Run: python benchmarks/growth.py [VIDEOS ...]   (default 1,000 and 10,000; 100,000 take a minute, 1,000,000 ten)

A generated video has a row, tracks of two experts that extract and of one that was imported (384 half-precision
numbers, in sparse files), a caption and a line that was said. Each operation runs in a new process; `cpu` is what it
took after Python and the library's modules were loaded, `process` is all of it, and both count child processes.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from reelseek.experts import load_expert
from reelseek.library import Library
from reelseek.library.imports import fingerprint_of
from reelseek.library.shards import folder_name

DIM = 384
OPERATIONS = (
    "open", "add one", "import one", "caption one", "describe one", "find by name", "tokens of one", "info", "digest",
    "remove one",
)  # fmt: skip
_BLOCK = 10_000
_ROWS_A_SHARD = 2**17

_PROCESS = """
import resource, sys, time
from pathlib import Path
import numpy as np
import reelseek.library.arrays, reelseek.library.ingest, reelseek.library.clips, reelseek.search.index
import reelseek.training.describe
from reelseek.library import Library, add
from reelseek.library.arrays import import_features
from reelseek.library.tokens import Clip, TokenReader
from reelseek.training.describe import caption
from typer.testing import CliRunner
from reelseek.cli.main import app

def cpu():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

operation, folder, inputs = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started, clock = cpu(), time.perf_counter()
if operation in ("info", "digest"):
    options = ["--json"] if operation == "digest" else []
    assert CliRunner().invoke(app, ["info", str(folder), *options]).exit_code == 0
else:
    with Library.open(folder) as library:
        if operation == "import one":
            assert import_features(library, "s3d", [inputs / "new.npy"], modality="motion").imported == 1
        elif operation == "add one":
            assert add(library, [inputs / "new.mp4"], experts=["audio"], workers=1).extracted == 1
        elif operation == "caption one":
            assert add(library, [inputs / "captions.csv"], media=False).captions == 1
        elif operation == "describe one":
            assert len(caption(library, ["v0000001.mp4"])) == 1
        elif operation == "find by name":
            assert library.video("new").id == "new.mp4"
        elif operation == "tokens of one":
            assert TokenReader(library, ["s3d"]).batch([Clip("v0000001.mp4")])["s3d"].values.shape == (1, 1, 384)
        elif operation == "remove one":
            assert library.remove(["new.mp4"]) == ["new.mp4"]
seconds, wall = cpu() - started, time.perf_counter() - clock
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(f"{seconds:.3f} {wall:.3f} {cpu():.3f} {base / 1024:.1f} {peak / 1024:.1f}")
"""


def build(folder: Path, videos: int) -> None:
    """A library of generated videos, its rows in blocks and its tracks in sparse files."""
    experts = {}
    for name in ("audio", "motion"):
        expert = load_expert(name)
        experts[name] = expert.fingerprint, expert.modality, expert.dim
    experts["s3d"] = fingerprint_of("s3d", "motion", None, DIM), "motion", DIM
    with Library.open(folder, create=True) as library:
        for start in range(0, videos, _BLOCK):
            with library.db:
                _write_block(library, range(start, min(videos, start + _BLOCK)), experts)
    for fingerprint, _, dim in experts.values():
        shards = folder / "tracks" / folder_name(fingerprint)
        shards.mkdir(parents=True)
        for shard in range(-(-videos // _ROWS_A_SHARD)):
            rows = min(_ROWS_A_SHARD, videos - shard * _ROWS_A_SHARD)
            for end, width in (("values", 2 * dim), ("spans", 16)):
                with (shards / f"{shard:04d}.{end}").open("wb") as file:
                    file.truncate(rows * width)


def _write_block(library: Library, numbers: Iterable[int], experts: dict[str, tuple[str, str, int]]) -> None:
    videos, tracks, captions = [], [], []
    for number in numbers:
        identifier, content = f"v{number:07d}.mp4", hashlib.sha256(b"%d" % number).hexdigest()
        path = os.fsencode(f"/films/{number // 1000:04d}/{identifier}")
        videos.append((identifier, path, content, 1000, number, 8.0))
        captions.append((identifier, 0, f"somebody does thing {number}", None, None, "train"))
        for expert, (fingerprint, modality, dim) in experts.items():
            owner = f"id:{identifier}" if expert == "s3d" else content
            place = divmod(number, _ROWS_A_SHARD)
            tracks.append((owner, expert, fingerprint, modality, *place, 1, dim, "float16", content, ""))
    db = library.db
    db.executemany("INSERT INTO videos(id, path, content, size, mtime_ns, duration) VALUES (?, ?, ?, ?, ?, ?)", videos)
    info = json.dumps({"treatment": []})
    db.executemany("INSERT INTO contents VALUES (?, ?, 8.0, '[]')", [(row[2], info) for row in videos])
    db.executemany(f"INSERT INTO tracks VALUES ({','.join('?' * 11)})", tracks)
    db.executemany("INSERT INTO captions VALUES (?, ?, ?, ?, ?, ?)", captions)
    for identifier, _, content, *_ in videos:
        db.execute(
            "INSERT INTO texts(owner, expert, kind, text, start_seconds, end_seconds, score)"
            " VALUES (?, 'speech', 'said', ?, 0, 1, 1)",
            (content, f"this is line of {identifier[:8]}"),
        )


def write_inputs(folder: Path) -> None:
    """A video of a second, an array of features and a table of captions, all of the same new video."""
    import av
    import numpy as np

    with av.open(str(folder / "new.mp4"), "w") as container:
        video, audio = container.add_stream("mpeg4", rate=10), container.add_stream("aac", rate=16000)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for shade in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), shade * 20, np.uint8), format="rgb24")
            container.mux(video.encode(frame))
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        for stream, packet in ((audio, sound), (audio, None), (video, None)):
            container.mux(stream.encode(packet))
    np.save(folder / "new.npy", np.ones((1, DIM), np.float16))
    (folder / "captions.csv").write_text("video,caption\nnew.mp4,somebody does something new\n")


def measure(operation: str, library: Path, inputs: Path) -> list[float]:
    """CPU and wall seconds of an operation, CPU seconds of its process, memory before and at most in MB."""
    command = [sys.executable, "-c", _PROCESS, operation, library, inputs]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{operation}: {run.stderr}")
    return [float(cell) for cell in run.stdout.split()[-5:]]


def main(sizes: list[int]) -> None:
    print(
        f"{'videos':>9}  {'operation':<14} {'cpu s':>7} {'wall s':>7} {'process s':>9} {'MB before':>9} {'MB peak':>8}"
    )
    for videos in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            inputs, library = Path(scratch, "inputs"), Path(scratch, "library")
            inputs.mkdir()
            write_inputs(inputs)
            started = time.perf_counter()
            build(library, videos)
            size = (library / "library.db").stat().st_size / 1e6
            print(f"{videos:>9}  built in {time.perf_counter() - started:.0f} s; library.db has {size:.0f} MB")
            for operation in OPERATIONS:
                cells = measure(operation, library, inputs)
                print(f"{videos:>9}  {operation:<14} {cells[0]:7.3f} {cells[1]:7.3f} {cells[2]:9.3f} {cells[3]:9.0f} "
                      f"{cells[4]:8.0f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main([int(cell.replace(",", "")) for cell in sys.argv[1:]] or [1_000, 10_000])
