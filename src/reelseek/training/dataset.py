"""Features and captions in memory, as a data set: for PyTorch's loaders, and in place of a library."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from reelseek.errors import FeatureError, UsageError
from reelseek.library.caption_features import CaptionFeatures
from reelseek.library.records import Caption, TrackRow, Video
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models.batch import Batch
from reelseek.training.arrays import ClipArrays, check_names, clip_arrays, to_array

__all__ = ["FeatureDataset"]


class FeatureDataset(Dataset[Batch]):
    """Clips with features of any modalities, and their captions.

    `train` and `evaluate` take it in place of a library. As a data set for a loader it has an item for each caption, a
    batch of that one clip, with all of its steps:

        dataset = FeatureDataset({"rgb": rgb, "audio": audio}, captions=texts, lengths={"rgb": counts})
        loader = DataLoader(dataset, batch_size=64, shuffle=True, collate_fn=dataset.collate)
        reelseek.train(recipe, dataset, Path("run"))

    Args:
        features: by modality, an array or tensor [clip, step, dim] or [clip, dim], or a list with an array [step, dim]
            for each clip, and None where a clip lacks the modality.
        captions: for each clip a text, or a list of texts. Captions that were encoded before are an array [caption,
            dim], one row per clip; or for each clip an array [dim] or [word, dim], or a list of such arrays.
        clip_of_caption: the clip that each of `captions` describes, where they are not given clip by clip.
        lengths: by modality, how many steps of a padded array each clip has.
        masks: by modality, bool [clip, step], True = present.
        spans: by modality, start and end of each step in seconds; by default one step per second.
        names: of the clips; `clip 0` and so on by default.
        splits: the split of each clip, such as train, val and test; None puts all into one.

    Raises:
        FeatureError: arrays are ragged, hold NaN, or do not fit together; says which.
    """

    def __init__(
        self,
        features: Mapping[str, Any],
        captions: Any = None,
        *,
        clip_of_caption: Sequence[int] | None = None,
        lengths: Mapping[str, Any] | None = None,
        masks: Mapping[str, Any] | None = None,
        spans: Mapping[str, Any] | None = None,
        names: Sequence[str] | None = None,
        splits: Sequence[str] | None = None,
    ) -> None:
        if not isinstance(features, Mapping) or not features:
            raise FeatureError("a data set wants a dict with the features of at least one modality, by its name")
        modalities = list(features)
        lengths, masks = check_names("lengths", lengths, modalities), check_names("masks", masks, modalities)
        spans = check_names("spans", spans, modalities)
        self.arrays: dict[str, ClipArrays] = {
            name: clip_arrays(name, array, lengths=lengths.get(name), mask=masks.get(name), spans=spans.get(name))
            for name, array in features.items()
        }
        self.names = self._clip_names(names)
        self.clip_splits = _one_per_clip("splits", splits, len(self.names))
        self.texts, self.clip_of_text = read_captions(captions, clip_of_caption, self.names)

    def _clip_names(self, names: Sequence[str] | None) -> list[str]:
        counts = {name: len(arrays.values) for name, arrays in self.arrays.items()}
        first, count = next(iter(counts.items()))
        for name, other in counts.items():
            if other != count:
                raise FeatureError(f"{first} is of {count} clips, and {name} of {other}; each wants the same clips")
        if names is None:
            return [f"clip {number}" for number in range(count)]
        _one_per_clip("names", names, count)
        repeated = [name for name, clips in Counter(names).items() if clips > 1]
        if repeated:
            raise FeatureError(f"two clips have the name {repeated[0]!r}")
        return list(names)

    def __repr__(self) -> str:
        widths = ", ".join(f"{name} {arrays.dim} wide" for name, arrays in self.arrays.items())
        splits = ", ".join(f"{name} {count}" for name, count in Counter(self.clip_splits or ()).items())
        return f"FeatureDataset({len(self.names)} clips, {len(self.texts)} captions; {widths}; {splits or 'no splits'})"

    # As a data set

    def __len__(self) -> int:
        """How many captions there are."""
        return len(self.texts)

    def __getitem__(self, index: int) -> Batch:
        """Return the batch of one caption and its clip, with all of the clip's steps.

        Raises:
            UsageError: there are no captions.
        """
        self._refuse_without_captions()
        clip = self.clip_of_text[index]
        number = torch.tensor([clip])
        return Batch(self._reader.batch([Clip(self.names[clip])]), [self.texts[index]], number, number)

    @staticmethod
    def collate(items: Sequence[Batch]) -> Batch:
        """Collate items into one batch, padded to the longest; for `DataLoader(collate_fn=...)`."""
        return Batch.concat(items)

    @cached_property
    def _reader(self) -> TokenReader:
        longest = max(len(values) for arrays in self.arrays.values() for values in arrays.values)
        return TokenReader(self, most_steps=max(1, longest))

    # In place of a library, see FeatureSource

    @property
    def path(self) -> str:
        return "the data set"

    def videos(self) -> list[Video]:
        """Clips, each a video of its own."""
        return self._videos

    @cached_property
    def _videos(self) -> list[Video]:
        ends = [
            max(
                (float(arrays.spans[clip][-1, 1]) for arrays in self.arrays.values() if len(arrays.spans[clip])),
                default=0.0,
            )
            for clip in range(len(self.names))
        ]
        return [
            Video(name, None, digest, end, split)
            for name, digest, end, split in zip(self.names, self._digests, ends, self.clip_splits, strict=True)
        ]

    def video(self, name: str) -> Video:
        if name not in self.names:
            raise UsageError(f"the data set has no clip {name!r}")
        return self._videos[self.names.index(name)]

    def captions(self) -> list[Caption]:
        """Captions in their order.

        Raises:
            UsageError: there are none.
        """
        self._refuse_without_captions()
        return [Caption(self.names[clip], text) for text, clip in zip(self.texts, self.clip_of_text, strict=True)]

    def splits(self) -> dict[str, int]:
        return {}

    def memberships(self) -> dict[str, list[str]]:
        return {}

    def experts(self) -> dict[str, dict[str, Any]]:
        """Modalities, each under its name."""
        return {
            name: {
                "modality": name,
                "dim": arrays.dim,
                "tracks": len(arrays.values),
                "present": sum(len(values) > 0 for values in arrays.values),
                "fingerprints": [self._fingerprints[name]],
            }
            for name, arrays in self.arrays.items()
        }

    def track_rows(self, expert: str | None = None) -> list[TrackRow]:
        return [
            TrackRow(f"id:{self.names[clip]}", name, self._fingerprints[name], name, (0, clip), len(values), arrays.dim,
                     str(values.dtype), "")
            for name, arrays in self.arrays.items()
            if expert in (None, name)
            for clip, values in enumerate(arrays.values)
        ]  # fmt: skip

    def read(self, row: TrackRow) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
        """Values [step, dim] and spans [step, 2] of one clip's modality."""
        arrays, clip = self.arrays[row.expert], row.place[1]
        return arrays.values[clip], arrays.spans[clip]

    def thumbnail(self, owner: str, seconds: float) -> bytes | None:
        return None

    def _refuse_without_captions(self) -> None:
        if not self.texts:
            raise UsageError("the data set has no captions; make it with FeatureDataset(features, captions=...)")

    @cached_property
    def _hashes(self) -> dict[str, list[str]]:
        """By modality, a hash of each clip's values and spans."""
        return {
            name: [_hash(values, spans) for values, spans in zip(arrays.values, arrays.spans, strict=True)]
            for name, arrays in self.arrays.items()
        }

    @property
    def _digests(self) -> list[str]:
        """A hash of each clip."""
        return ["memory:" + _hash("".join(parts).encode()) for parts in zip(*self._hashes.values(), strict=True)]

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        return {name: f"memory:{_hash(''.join(hashes).encode())}" for name, hashes in self._hashes.items()}


def read_captions(
    captions: Any, clip_of_caption: Sequence[int] | None, names: Sequence[str]
) -> tuple[list[str], list[int]]:
    """Return captions one by one, and the clip of each; see `FeatureDataset`.

    Raises:
        FeatureError: they do not fit the clips, one is empty, or features have different widths.
    """
    if captions is None:
        return [], []
    if isinstance(captions, str):
        raise FeatureError("captions are one text; wanted a list with a text, or a list of texts, for each clip")
    if not isinstance(captions, list | tuple):
        captions = list(_caption_rows(captions))
    if clip_of_caption is not None:
        owners = [int(clip) for clip in clip_of_caption]
        if len(owners) != len(captions) or any(not 0 <= clip < len(names) for clip in owners):
            raise FeatureError(
                f"clip_of_caption has {len(owners)} entries for {len(captions)} captions; wanted one for each, "
                f"from 0 to {len(names) - 1}"
            )
        pairs = list(zip(captions, owners, strict=True))
    elif len(captions) != len(names):
        raise FeatureError(
            f"there are {len(captions)} captions for {len(names)} clips; give one, or a list of them, for each clip, "
            "or name their clips with clip_of_caption"
        )
    else:
        pairs = [
            (caption, clip)
            for clip, row in enumerate(captions)
            for caption in (row if isinstance(row, list | tuple) else [] if row is None else [row])
        ]
    numbers = dict.fromkeys(range(len(names)), 0)
    texts = []
    for caption, clip in pairs:
        numbers[clip] += 1
        texts.append(_caption(caption, f"caption {numbers[clip]} of {names[clip]}"))
    _check_caption_widths(texts)
    return texts, [clip for _, clip in pairs]


def _caption_rows(captions: Any) -> npt.NDArray[Any]:
    if isinstance(captions, np.ndarray) and captions.dtype.kind in "UO":
        return captions
    array = to_array("captions", captions)
    if array.ndim not in (2, 3):
        raise FeatureError(f"captions have the shape {array.shape}; wanted [caption, dim]")
    return array


def _caption(caption: Any, name: str) -> str:
    if isinstance(caption, str):
        if not caption.strip():
            raise FeatureError(f"{name} is empty; give at least one word, or no caption")
        return str(caption)
    vectors = to_array(name, caption).astype(np.float32)
    vectors = vectors[None] if vectors.ndim == 1 else vectors
    if vectors.ndim != 2 or not vectors.size:
        raise FeatureError(f"{name} has the shape {vectors.shape}; wanted [word, dim] or [dim]")
    if not np.isfinite(vectors).all():
        raise FeatureError(f"{name} holds NaN or infinity")
    return CaptionFeatures(name, vectors)


def _check_caption_widths(texts: Sequence[str]) -> None:
    features = [text for text in texts if isinstance(text, CaptionFeatures)]
    if features and len(features) < len(texts):
        raise FeatureError(
            f"{len(features)} captions are features and {len(texts) - len(features)} are texts; wanted one kind"
        )
    for text in features:
        if text.vectors.shape[1] != features[0].vectors.shape[1]:
            raise FeatureError(
                f"{features[0]} has width {features[0].vectors.shape[1]}, and {text} has width {text.vectors.shape[1]}"
            )


def _one_per_clip(what: str, entries: Sequence[str] | None, count: int) -> list[str | None]:
    if entries is None:
        return [None] * count
    if isinstance(entries, str) or len(entries) != count or not all(isinstance(entry, str) for entry in entries):
        raise FeatureError(f"{what} want one text for each of the {count} clips")
    return list(entries)


def _hash(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(repr((part.shape, part.dtype.str)).encode())
        digest.update(np.ascontiguousarray(part).tobytes() if isinstance(part, np.ndarray) else part)
    return digest.hexdigest()[:16]
