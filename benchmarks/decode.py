"""Ingest's decode part against bare PyAV decoding of the same files: medians of interleaved runs, as a ratio.

Run: python benchmarks/decode.py [FILE ...]   (without files: films that the studio shoots)
Bare decoding goes through every packet of the best video and audio stream; ours also chooses, resizes and crops the
frames of all default experts, finds shots, keeps thumbnails and resamples the sound.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import av

from reelseek.experts import DEFAULT_EXPERTS, available
from reelseek.media.container import best_stream
from reelseek.media.decode import decode
from reelseek.media.picture import THUMBNAIL_STREAM
from reelseek.media.shots import SHOT_STREAM
from reelseek.studio import write_archive

RUNS = 7


def bare(path: Path) -> None:
    with av.open(str(path)) as container:
        streams = [s for s in (best_stream(container, "video"), best_stream(container, "audio")) if s is not None]
        for stream in streams:
            if stream.type == "video":
                stream.thread_type, stream.codec_context.thread_count = "AUTO", 1
        for packet in container.demux(streams):
            packet.decode()


def ours(path: Path) -> None:
    experts, _ = available(DEFAULT_EXPERTS)
    wants = {stream: [lambda _: None] for expert in experts for stream in expert.streams}
    decode(path, {**wants, SHOT_STREAM: [lambda _: None], THUMBNAIL_STREAM: [lambda _: None]})


def timed(function, paths: list[Path]) -> float:
    started = time.perf_counter()
    for path in paths:
        function(path)
    return time.perf_counter() - started


def main(paths: list[Path]) -> None:
    timed(ours, paths), timed(bare, paths)
    pairs = [(timed(ours, paths), timed(bare, paths)) for _ in range(RUNS)]
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"{len(paths)} files, {RUNS} runs: ours {statistics.median(a for a, _ in pairs):.3f} s, "
          f"bare {statistics.median(b for _, b in pairs):.3f} s, ratio {ratio:.3f} (wanted: at most 1.25)")  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main([Path(name) for name in sys.argv[1:]])
    else:
        with tempfile.TemporaryDirectory() as folder:
            write_archive(Path(folder), 12, seed=1)
            main(sorted(p for p in Path(folder).iterdir() if p.suffix not in (".csv", ".srt")))
