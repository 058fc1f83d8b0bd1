"""What weakens a number, said beside it: few validation clips, nothing learnt, clips that were trained on."""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reelseek.library.source import FeatureSource
from reelseek.training.log import Epoch
from reelseek.training.split import Split

__all__ = [
    "FEWEST_VALIDATION_CLIPS",
    "pack_videos",
    "seen_in_training",
    "selection_caveats",
    "training_caveats",
    "unreadable_caveats",
]

FEWEST_VALIDATION_CLIPS = 50  # below which one clip more or less at rank 1 moves R@1 by over two per cent
_BYTES = 6  # of a video's digest: one in 10^7 is wrong where a thousand videos meet ten thousand
_KEY = "trained_on"


def selection_caveats(split: str, clips: int) -> list[str]:
    """Return a sentence where the best epoch is selected on too few clips of a split; none where there are enough."""
    if clips >= FEWEST_VALIDATION_CLIPS:
        return []
    return [
        f"the best epoch is selected on {clips} validation clips of {split!r}; with fewer than "
        f"{FEWEST_VALIDATION_CLIPS} it is mostly chance"
    ]


def training_caveats(validation: Split, log: Sequence[Epoch]) -> list[str]:
    """Return sentences on how the best epoch was selected; none where nothing is wrong."""
    caveats = selection_caveats(validation.name, len(validation.clips))
    best = next((line.epoch for line in reversed(log) if line.best), None)
    if best == 0 and len(log) > 1:
        caveats.append(
            f"epoch 0 is best: no epoch of training did better on {validation.name!r} than the model before its first "
            "step; nothing was learnt but what is fitted before that"
        )
    return caveats


def unreadable_caveats(reasons: Mapping[str, str]) -> list[str]:
    """Return a sentence on the videos that could not be decoded, by the reason of each; none where all were."""
    if not reasons:
        return []
    first = min(reasons)
    return [
        f"{len(reasons)} videos could not be decoded and were learnt from as if empty, such as {first!r} "
        f"({reasons[first]}); leave them out by data.exclude"
    ]


def pack_videos(library: FeatureSource, videos: Iterable[str]) -> dict[str, str]:
    """Return the record of the videos that a model was trained on, for `seen_in_training`; six bytes per video."""
    digests = sorted(set(_digests(library, videos).values()))
    return {_KEY: base64.b64encode(b"".join(digests)).decode()}


def seen_in_training(record: Mapping[str, Any], library: FeatureSource, split: Split) -> list[str]:
    """Return a sentence on the clips of a split whose videos a model was trained on; none where there are none.

    Videos are the same if their content is, or, where that is not at hand, their id.

    Args:
        record: of the model.
    """
    packed = base64.b64decode(str(record.get(_KEY, "")))
    trained = {packed[begin : begin + _BYTES] for begin in range(0, len(packed), _BYTES)}
    digests = _digests(library, [clip.video for clip in split.clips]) if trained else {}
    count = sum(digests[clip.video] in trained for clip in split.clips) if digests else 0
    if not count:
        return []
    return [
        f"{count} of the {len(split.clips)} clips of {split.name!r} are of videos that the model was trained on; the "
        "score does not tell how it does on others"
    ]


def _digests(library: FeatureSource, videos: Iterable[str]) -> dict[str, bytes]:
    names = set(videos)
    contents = {video.id: video.content or f"id:{video.id}" for video in library.videos() if video.id in names}
    return {name: hashlib.sha256(content.encode()).digest()[:_BYTES] for name, content in contents.items()}
