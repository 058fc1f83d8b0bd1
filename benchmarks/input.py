"""Training input: batches of 128 videos x 7 modalities from a library against HDF5 read by modality; what a step waits.

Run: python benchmarks/input.py [VIDEOS] [ROUNDS]   (default 1,000 videos, 9 rounds of 4 batches)
Both sides give the same padded float32 arrays of the same videos in random order. The library's side also reads
spans and checks for NaN. Then MMT's step of benchmarks/encoder.py's sizes: the share of it that is waiting for data.
"""

import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import torch

from reelseek.experts.expert import Track
from reelseek.library import Library
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models import SYSTEMS
from reelseek.models.batch import Batch
from timing import medians

DIMS = {"rgb": 2048, "s3d": 1024, "scene": 2208, "face": 512, "vggish": 128, "speech": 300, "ocr": 300}
MODALITIES = {
    "rgb": "appearance",
    "s3d": "motion",
    "scene": "scene",
    "face": "face",
    "vggish": "audio",
    "speech": "speech",
}


def build(folder: Path, videos: int) -> tuple[Library, dict[str, h5py.File]]:
    rng = np.random.default_rng(0)
    library = Library.open(folder / "lib", create=True)
    files = {name: h5py.File(folder / f"{name}.h5", "w") for name in DIMS}
    with library.saving():
        for number in range(videos):
            library.db.execute("INSERT INTO videos(id) VALUES (?)", (f"v{number}",))
            for name, dim in DIMS.items():
                steps = int(rng.integers(5, 31))
                values = rng.normal(size=(steps, dim)).astype(np.float32)
                files[name][f"v{number}"] = values
                spans = np.stack([np.arange(steps), np.arange(steps) + 1.0], 1)
                library.put_track(
                    f"id:v{number}", name, f"{name}:benchmark", MODALITIES.get(name, "ocr"), Track(values, spans)
                )
    return library, files


def main(videos: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        library, files = build(Path(place), videos)
        reader = TokenReader(library)
        rng = np.random.default_rng(1)

        def choose() -> list[int]:
            return rng.choice(videos, 128, replace=False).tolist()

        def from_library() -> None:
            for _ in range(4):
                reader.batch([Clip(f"v{i}") for i in choose()])

        def from_hdf5() -> None:
            for _ in range(4):
                chosen = choose()
                for name, dim in DIMS.items():
                    rows = [files[name][f"v{i}"][:] for i in chosen]
                    padded = np.zeros((128, max(map(len, rows)), dim), np.float32)
                    for index, row in enumerate(rows):
                        padded[index, : len(row)] = row
                    torch.from_numpy(padded)

        seconds = medians({"library": from_library, "hdf5": from_hdf5}, rounds)
        print(
            f"{videos} videos: library {4 / seconds['library']:.1f} batches/s, HDF5 by modality "
            f"{4 / seconds['hdf5']:.1f} batches/s, ratio {seconds['hdf5'] / seconds['library']:.2f}"
        )
        model = SYSTEMS["mmt"].build({"experts": DIMS}).train()
        waited = stepped = 0.0
        for _ in range(3):
            started = time.perf_counter()
            chosen = choose()[:32]
            tokens = reader.batch([Clip(f"v{i}") for i in chosen])
            read = time.perf_counter()
            terms = model.loss(Batch(tokens, [f"words {i}" for i in chosen], torch.arange(32)))
            torch.stack(list(terms.values())).sum().backward()
            waited, stepped = waited + read - started, stepped + time.perf_counter() - read
        share = waited / (waited + stepped)
        print(f"an MMT step of 32 videos: {stepped / 3:.2f} s, of which waiting for data {share:.1%}")


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    main(*(arguments + [1000, 9][len(arguments) :]))
