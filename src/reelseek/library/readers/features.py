"""Feature files of other projects: an array a video and expert, whatever they are wrapped in."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reelseek.errors import CollectionError, FeatureError, UsageError
from reelseek.library.readers.containers import open_archive, read_npy, seconds_for
from reelseek.library.readers.pickles import read_pickle
from reelseek.library.texts import read_text, split_lines
from reelseek.media.guard import stream
from reelseek.media.suffixes import without_media_suffix

__all__ = ["FEATURES", "Features", "read_feature_files"]

Array = npt.NDArray[Any]


class Features(NamedTuple):
    """Features of one video by one expert; `values` None where the file says that there are none, or `problem` why."""

    video: str
    expert: str
    modality: str
    values: Array | None
    spans: npt.NDArray[np.float64] | None = None
    problem: str = ""


def _features(video: str, expert: str, modality: str, read: Callable[[], Any]) -> Features:
    """One array, or why it cannot be one; the others of its file are read all the same."""
    try:
        values = read()
    except FeatureError as error:
        return Features(video, expert, modality, None, problem=str(error))
    return Features(video, expert, modality, None if _absent(values) else values)


def _rows(value: Any) -> Array:
    """What a file holds for a video as an array; None is one without values."""
    try:
        return np.zeros(0) if value is None else np.asarray(value)
    except (ValueError, TypeError) as error:  # lists of several lengths, or of other things
        raise FeatureError(f"holds no array [step, dim] (vectors of captions are ce-text): {error}") from error


# What names of experts and of their files say about the modality.
_MODALITY = (
    ("vggish", "audio"), ("audio", "audio"), ("spec", "audio"), ("soundnet", "audio"), ("speech", "speech"),
    ("stt", "speech"), ("ocr", "ocr"), ("face", "face"), ("scene", "scene"), ("densenet", "scene"), ("flow", "motion"),
    ("motion", "motion"), ("s3d", "motion"), ("i3d", "motion"), ("r2p1d", "motion"), ("3d", "motion"),
    ("video", "motion"), ("irc", "motion"), ("clip", "appearance"), ("visual", "appearance"), ("rgb", "appearance"),
    ("resne", "appearance"), ("senet", "appearance"), ("2d", "appearance"), ("object", "object"),
)  # fmt: skip


def modality_of(expert: str) -> str:
    """The modality that an expert's name tells; appearance if it tells none."""
    name = expert.lower()
    return next((modality for part, modality in _MODALITY if part in name), "appearance")


def _absent(rows: Array) -> bool:
    """A lone NaN, an empty array, or one that begins with NaN: how these projects say that there is nothing."""
    return rows.size == 0 or (rows.dtype.kind == "f" and math.isnan(rows.flat[0]))


def _by_video(path: Path) -> Iterator[tuple[str, Any]]:
    """Names and values of a pickle that maps video ids."""
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise CollectionError(f"{path} holds a {type(content).__name__}; wanted a mapping from video ids")
    for name, value in content.items():
        yield name.decode() if isinstance(name, bytes) else str(name), value


def ce(path: Path) -> Iterator[Features]:
    """CE and MEE: a pickle an expert, id -> [dim], [1, dim] or [step, dim]; missing is a lone NaN, MEE's also zeros."""
    expert = _expert_name(path)
    modality = modality_of(expert)
    for video, value in _by_video(path):
        features = _features(video, expert, modality, partial(_rows, value))
        zeros = modality == "face" and features.values is not None and not features.values.any()
        yield features._replace(values=None) if zeros else features


def _expert_name(path: Path) -> str:
    """The file's name without the way it was pooled."""
    name = path.stem
    for ending in ("-avg", "-max", "-raw", "-fixed_seg", "-w2v", "-logits"):
        name = name.removesuffix(ending)
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def mmt(path: Path) -> Iterator[Features]:
    """MMT: a file a video, `features.<expert>` [step, dim] with `features_t.<expert>` [step, 2]."""
    with open_archive(path) as file:
        for name in [key for key in file.names if key.startswith("features.")]:
            expert = name.removeprefix("features.")
            features = _features(path.stem, expert, modality_of(expert), partial(file.read, name))
            times = f"features_t.{expert}"
            spans = _spans(file.read(times)) if times in file.names else None
            fits = spans is None or features.values is None or len(spans) == len(features.values)
            has_times = spans is not None and not (spans < 0).any()  # -1 is an unknown time
            yield features._replace(spans=spans if fits and has_times else None)


def _spans(times: Array) -> npt.NDArray[np.float64]:
    return np.asarray(times, np.float64).reshape(-1, 2)


def mdmmt(path: Path) -> Iterator[Features]:
    """MDMMT: `<name>.idx` says which rows of `<name>.emb` (raw float32) belong to which video, and when."""
    spans: dict[str, list[tuple[float, float]]] = {}
    order: list[tuple[str, int]] = []
    video = ""
    for line in split_lines(read_text(path)):
        one, _, two = line.partition("\t")
        if one == "VIDEO":
            video = without_media_suffix(Path(two).name)
            spans[video] = []
        elif line.strip():
            if not video:
                raise CollectionError(f"{path} has a line before the first VIDEO")
            spans[video].append((float(one), float(two)))
            order.append((video, len(spans[video]) - 1))
    flat = np.fromfile(path.with_suffix(".emb"), np.float32)
    if not order or len(flat) % len(order):
        raise CollectionError(
            f"{path.with_suffix('.emb')} has {len(flat)} numbers, which {len(order)} rows cannot share"
        )
    rows = flat.reshape(len(order), -1)
    start = 0
    for video, times in spans.items():
        values = rows[start : start + len(times)]
        start += len(times)
        yield Features(
            video, path.stem, modality_of(path.stem), values if len(values) else None, np.array(times).reshape(-1, 2)
        )


def eao(path: Path) -> Iterator[Features]:
    """EAO and AVLnet: a pickled list of clips with `2d`, `3d` and `audio`, or `<id>_2d.npz`, `_3d.npz`, `_spec.npz`."""
    if path.suffix == ".npz":
        video, _, kind = path.stem.rpartition("_")
        with open_archive(path) as archive:
            if len(archive.names) != 1:
                raise CollectionError(f"{path} holds {', '.join(archive.names[:5]) or 'nothing'}; wanted one array")
            values = archive.read(archive.names[0])
        yield _eao(video or path.stem, kind if video else "features", values)
        return
    content = read_pickle(path)
    if not isinstance(content, list | tuple):
        raise CollectionError(f"{path} holds a {type(content).__name__}; wanted a list of clips")
    for clip in content:
        if not isinstance(clip, dict):
            raise CollectionError(f"{path} holds a {type(clip).__name__} among its clips; wanted mappings")
        video = str(clip.get("id") or clip.get("clip") or clip.get("video_id"))
        for kind in ("2d", "3d", "s3d", "audio"):
            full = clip.get(f"{kind}_full")
            value = clip.get(kind) if full is None else full
            if value is not None:
                try:
                    yield _eao(video, kind, value)
                except FeatureError as error:
                    yield Features(video, f"eao-{kind}", modality_of(kind), None, problem=str(error))


def _eao(video: str, kind: str, value: Any) -> Features:
    rows = _rows(value)
    if kind in ("audio", "spec"):  # a spectrogram of 40 bands, stored the other way round; ten milliseconds a frame
        rows = rows.T if rows.ndim == 2 and rows.shape[0] == 40 else rows
        starts = np.arange(len(rows)) * 0.01
        return Features(
            video, "spectrogram", "audio", None if _absent(rows) else rows, np.stack([starts, starts + 0.025], 1)
        )
    return Features(video, f"eao-{kind}", modality_of(kind), None if _absent(rows) else rows)


def coot(path: Path) -> Iterator[Features]:
    """COOT: HDF5 with a dataset [step, dim] a video; ActivityNet's npz have `frame_scores` [step, 1, dim, 1, 1]."""
    if path.suffix == ".npz":
        with open_archive(path) as archive:
            values = archive.read("frame_scores")
        yield Features(path.stem, "frames", "appearance", values.reshape(len(values), -1))
        return
    with open_archive(path) as file:
        for video in file.names:
            yield _features(video, _expert_name(path), modality_of(path.stem), partial(file.read, video))


def crosstask(path: Path) -> Iterator[Features]:
    """CrossTask: npy [second, 3200], which is I3D 1024, ResNet 2048 and VGGish 128 side by side."""
    values = read_npy(path)
    if values.ndim != 2 or values.shape[1] != 3200:
        raise FeatureError(f"{path} holds {values.shape}; wanted [second, 3200]")
    starts = np.arange(len(values), dtype=np.float64)
    spans = np.stack([starts, starts + 1], 1)
    for expert, part in (("i3d", slice(0, 1024)), ("resnet", slice(1024, 3072)), ("vggish", slice(3072, 3200))):
        yield Features(path.stem, expert, modality_of(expert), values[:, part], spans)


def clip4clip(path: Path) -> Iterator[Features]:
    """CLIP4Clip: a pickle that maps video ids to [frame, 512]."""
    for video, value in _by_video(path):
        yield _features(video, "clip4clip", "appearance", partial(_rows, value))


FEATURES: dict[str, tuple[Callable[[Path], Iterator[Features]], tuple[str, ...]]] = {
    "ce": (ce, (".pickle", ".pkl")),
    "mee": (ce, (".pickle", ".pkl")),
    "mmt-features": (mmt, (".h5", ".hdf5")),
    "mdmmt": (mdmmt, (".idx",)),
    "eao": (eao, (".pickle", ".pkl", ".npz")),
    "coot-features": (coot, (".h5", ".hdf5", ".npz")),
    "crosstask-features": (crosstask, (".npy",)),
    "clip4clip": (clip4clip, (".pickle", ".pkl")),
}


def read_feature_files(
    kind: str, paths: Sequence[Path], failed: list[tuple[str, str]] | None = None
) -> Iterator[Features]:
    """Every video's features in some files; a folder stands for all files of the right ending below it.

    Args:
        failed: collects files that cannot be read (name, why); without it the first one raises.

    Raises:
        UsageError: no such format.
        CollectionError: a path does not exist, or holds no file of the format.
    """
    if kind not in FEATURES:
        raise UsageError(f"no features are called {kind!r}; there are {', '.join(FEATURES)}")
    _, endings = FEATURES[kind]
    files: list[Path] = []
    for path in paths:
        inside = sorted(p for p in path.rglob("*") if p.suffix in endings) if path.is_dir() else [path]
        if not inside or not all(file.is_file() for file in inside):
            raise CollectionError(f"{path}: no such file, or no {' or '.join(endings)} file in it")
        files += inside
    for file, result in stream(partial(_read_file, kind), files, seconds=seconds_for):
        if isinstance(result, Features):
            yield result
        elif failed is None:
            raise CollectionError(f"{file} cannot be read as {kind}: {result}") from result
        else:
            failed.append((str(file), str(result)))


def _read_file(kind: str, file: Path) -> Iterator[Features]:
    try:
        yield from FEATURES[kind][0](file)
    except (OSError, ValueError, LookupError, EOFError, TypeError, AttributeError, OverflowError) as error:
        raise CollectionError(f"{type(error).__name__}: {error}") from error
