"""A studio's world as a library, so that what trains and measures on real features does so on it."""

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
    """The library of a world, made if it is not there; it appears whole or not at all.

    Args:
        folder: for this world and seed alone; the vectors of its words are beside the library.
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
            for split, videos in (world.splits | _told_by_id(world)).items():
                if split not in ("train", "val", "test"):
                    library.put_split(split, videos)


def _told_by_id(world: World) -> dict[str, list[str]]:
    """`train-by-id`: what is left where every second copy is known by its id, and the others only by their pictures."""
    if not world.copied:
        return {}
    known = {world.copied[test] for test in world.copied if sha256(test.encode()).digest()[0] % 2}
    return {"train-by-id": [video for video in world.splits["train"] if video not in known]}
