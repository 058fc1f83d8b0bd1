"""Synthetic worlds of the studio as libraries, which train and evaluate like libraries of real features."""

import csv
import os
import shutil
from hashlib import sha256
from pathlib import Path

from reelseek.experts.expert import Track
from reelseek.library import Library, add
from reelseek.library.imports import fingerprint_of
from reelseek.studio.worlds import World, WorldConfig, make_world

__all__ = ["WORDS", "world_library"]

WORDS = "words.vec"


def world_library(config: WorldConfig, seed: int, folder: Path) -> Path:
    """Return the path of the library of a world, which is written first if it does not exist, atomically.

    Args:
        folder: of this world and seed; it holds the word vectors too.
    """
    path = folder / "library"
    if not path.is_dir():
        partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        world = make_world(config, seed)
        world.write_words(partial / WORDS)
        _write(world, partial)
        try:
            partial.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(partial)
    return path


def _write(world: World, folder: Path) -> None:
    table = folder / "captions.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["video", "caption", "start", "end", "split"])
        rows.writerows(world.captions)
    with Library.open(folder / "library", create=True) as library:
        add(library, [table], media=False)
        with library.writing(), library.saving():
            for expert, (modality, tracks) in world.tracks.items():
                for video, (values, spans) in tracks.items():
                    fingerprint = fingerprint_of(expert, modality, None, values.shape[1])
                    library.put_track(f"id:{video}", expert, fingerprint, modality, Track(values, spans))
            for split, videos in (world.splits | _split_by_id(world)).items():
                if split not in ("train", "val", "test"):
                    library.put_split(split, videos)


def _split_by_id(world: World) -> dict[str, list[str]]:
    """The split `train-by-id`: the training videos without every second copy, namely those that an id identifies."""
    if not world.copied:
        return {}
    copies = {world.copied[test] for test in world.copied if sha256(test.encode()).digest()[0] % 2}
    return {"train-by-id": [video for video in world.splits["train"] if video not in copies]}
