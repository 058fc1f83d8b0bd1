"""Synthetic worlds of the studio as libraries and in memory, which train and evaluate like real features."""

import csv
import os
import shutil
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import UsageError
from reelseek.experts.expert import Track
from reelseek.library import Library, add
from reelseek.library.caption_features import CaptionFeatures
from reelseek.library.imports import fingerprint_of
from reelseek.library.records import Caption, TrackRow, Video
from reelseek.studio.redundant_worlds import RedundantConfig, RedundantWorld, make_redundant_world
from reelseek.studio.worlds import World, WorldConfig, make_world

__all__ = ["WORDS", "WorldSource", "cached_world", "world_library"]

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


@lru_cache(maxsize=2)
def cached_world(config: RedundantConfig, seed: int) -> RedundantWorld:
    """Make a world, or return one of the last two: arms of a table share their worlds."""
    return make_redundant_world(config, seed)


class WorldSource:
    """A world with caption vectors in memory, in place of a library; see `FeatureSource`.

    Attributes:
        text_width: of the caption vectors.
    """

    def __init__(self, world: RedundantWorld) -> None:
        self._world = world
        self.text_width = world.vectors[0].shape[1]
        main = {video: split for split in ("train", "val", "test") for video in world.splits[split]}
        self._videos = [Video(name, None, None, None, split) for name, split in main.items()]
        self._captions = [
            Caption(video, CaptionFeatures(text, vectors), begin, end, split)
            for (video, text, begin, end, split), vectors in zip(world.captions, world.vectors, strict=True)
        ]
        named = world.splits | _split_by_id(world)
        self._members = {name: videos for name, videos in named.items() if name not in ("train", "val", "test")}
        self._tracks = {
            expert: [(video, *track) for video, track in tracks.items()] for expert, (_, tracks) in world.tracks.items()
        }

    @property
    def path(self) -> str:
        return "the world"

    def videos(self) -> list[Video]:
        return self._videos

    def video(self, name: str) -> Video:
        match = next((video for video in self._videos if video.id == name), None)
        if match is None:
            raise UsageError(f"the world has no video {name!r}")
        return match

    def captions(self) -> list[Caption]:
        return self._captions

    def splits(self) -> dict[str, int]:
        return {}

    def memberships(self) -> dict[str, list[str]]:
        return self._members

    def experts(self) -> dict[str, dict[str, Any]]:
        return {
            expert: {
                "modality": modality,
                "dim": self._tracks[expert][0][1].shape[1],
                "tracks": len(tracks),
                "present": len(tracks),
                "fingerprints": [f"world:{expert}"],
            }
            for expert, (modality, tracks) in self._world.tracks.items()
        }

    def track_rows(self, expert: str | None = None) -> list[TrackRow]:
        return [
            TrackRow(f"id:{video}", name, f"world:{name}", self._world.tracks[name][0], (0, place), len(values),
                     values.shape[1], str(values.dtype), "")
            for name, tracks in self._tracks.items()
            if expert in (None, name)
            for place, (video, values, _) in enumerate(tracks)
        ]  # fmt: skip

    def read(self, row: TrackRow) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
        _, values, spans = self._tracks[row.expert][row.place[1]]
        return values, spans

    def thumbnail(self, owner: str, seconds: float) -> bytes | None:
        return None
