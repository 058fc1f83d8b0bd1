"""Feature files of other projects: an array a video and expert, whatever they are wrapped in."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from reelseek.errors import CollectionError, FeatureError, UsageError
from reelseek.library.readers.pickles import read_pickle

__all__ = ["FEATURES", "Found", "read_feature_files"]

Array = npt.NDArray[Any]


class Found(NamedTuple):
    """Features of one video by one expert; `values` None where the file says that there are none."""

    video: str
    expert: str
    modality: str
    values: Array | None
    spans: npt.NDArray[np.float64] | None = None


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


def _absent(value: Any) -> bool:
    """None, a lone NaN, an empty array, or one that begins with NaN: how these projects say that there is nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    rows = np.asarray(value)
    return rows.size == 0 or (rows.dtype.kind == "f" and bool(np.isnan(rows.flat[0])))


def _whole(path: Path) -> Iterator[tuple[str, Any]]:
    """Names and values of a pickle that maps video ids."""
    whole = read_pickle(path)
    if not isinstance(whole, dict):
        raise CollectionError(f"{path} holds a {type(whole).__name__}; wanted a mapping from video ids")
    for name, value in whole.items():
        yield name.decode() if isinstance(name, bytes) else str(name), value


def ce(path: Path) -> Iterator[Found]:
    """CE and MEE: a pickle an expert, id -> [dim], [1, dim] or [step, dim]; missing is a lone NaN, MEE's also zeros."""
    expert = _expert_name(path)
    modality = modality_of(expert)
    for video, value in _whole(path):
        nothing = _absent(value) or (modality == "face" and not np.asarray(value).any())
        yield Found(video, expert, modality, None if nothing else np.asarray(value))


def _expert_name(path: Path) -> str:
    """The file's name without the way it was pooled."""
    name = path.stem
    for ending in ("-avg", "-max", "-raw", "-fixed_seg", "-w2v", "-logits"):
        name = name.removesuffix(ending)
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def mmt(path: Path) -> Iterator[Found]:
    """MMT: a file a video, `features.<expert>` [step, dim] with `features_t.<expert>` [step, 2]."""
    import h5py

    with h5py.File(path, "r") as file:
        for name in [key for key in file if key.startswith("features.")]:
            expert = name.removeprefix("features.")
            values = np.asarray(file[name])
            times = file.get(f"features_t.{expert}")
            spans = None if times is None else np.asarray(times, np.float64).reshape(-1, 2)
            if spans is not None and (len(spans) != len(values) or (spans < 0).any()):
                spans = None  # -1 is an unknown time
            yield Found(path.stem, expert, modality_of(expert), None if _absent(values) else values, spans)


def mdmmt(path: Path) -> Iterator[Found]:
    """MDMMT: `<name>.idx` says which rows of `<name>.emb` (raw float32) belong to which video, and when."""
    spans: dict[str, list[tuple[float, float]]] = {}
    order: list[tuple[str, int]] = []
    video = ""
    for line in path.read_text("utf-8").splitlines():
        one, _, two = line.partition("\t")
        if one == "VIDEO":
            video = Path(two).stem
            spans[video] = []
        elif line.strip():
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
        yield Found(
            video, path.stem, modality_of(path.stem), values if len(values) else None, np.array(times).reshape(-1, 2)
        )


def eao(path: Path) -> Iterator[Found]:
    """EAO and AVLnet: a pickled list of clips with `2d`, `3d` and `audio`, or `<id>_2d.npz`, `_3d.npz`, `_spec.npz`."""
    if path.suffix == ".npz":
        video, _, kind = path.stem.rpartition("_")
        with np.load(path, allow_pickle=False) as archive:
            values = archive[archive.files[0]]
        yield _eao(video or path.stem, kind if video else "features", values)
        return
    whole = read_pickle(path)
    if not isinstance(whole, list | tuple):
        raise CollectionError(f"{path} holds a {type(whole).__name__}; wanted a list of clips")
    for clip in whole:
        video = str(clip.get("id") or clip.get("clip") or clip.get("video_id"))
        for kind in ("2d", "3d", "s3d", "audio"):
            full = clip.get(f"{kind}_full")
            value = clip.get(kind) if full is None else full
            if value is not None:
                yield _eao(video, kind, value)


def _eao(video: str, kind: str, value: Any) -> Found:
    rows = np.asarray(value)
    if kind in ("audio", "spec"):  # a spectrogram of 40 bands, stored the other way round; ten milliseconds a frame
        rows = rows.T if rows.ndim == 2 and rows.shape[0] == 40 else rows
        starts = np.arange(len(rows)) * 0.01
        return Found(
            video, "spectrogram", "audio", None if _absent(rows) else rows, np.stack([starts, starts + 0.025], 1)
        )
    return Found(video, f"eao-{kind}", modality_of(kind), None if _absent(rows) else rows)


def coot(path: Path) -> Iterator[Found]:
    """COOT: HDF5 with a dataset [step, dim] a video; ActivityNet's npz have `frame_scores` [step, 1, dim, 1, 1]."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            values = archive["frame_scores"]
        yield Found(path.stem, "frames", "appearance", values.reshape(len(values), -1))
        return
    import h5py

    with h5py.File(path, "r") as file:
        for video in file:
            values = np.asarray(file[video])
            yield Found(str(video), _expert_name(path), modality_of(path.stem), None if _absent(values) else values)


def crosstask(path: Path) -> Iterator[Found]:
    """CrossTask: npy [second, 3200], which is I3D 1024, ResNet 2048 and VGGish 128 side by side."""
    values = np.load(path, allow_pickle=False)
    if values.ndim != 2 or values.shape[1] != 3200:
        raise FeatureError(f"{path} holds {values.shape}; wanted [second, 3200]")
    starts = np.arange(len(values), dtype=np.float64)
    spans = np.stack([starts, starts + 1], 1)
    for expert, part in (("i3d", slice(0, 1024)), ("resnet", slice(1024, 3072)), ("vggish", slice(3072, 3200))):
        yield Found(path.stem, expert, modality_of(expert), values[:, part], spans)


def clip4clip(path: Path) -> Iterator[Found]:
    """CLIP4Clip: a pickle that maps video ids to [frame, 512]."""
    for video, value in _whole(path):
        yield Found(video, "clip4clip", "appearance", None if _absent(value) else np.asarray(value))


FEATURES: dict[str, tuple[Callable[[Path], Iterator[Found]], tuple[str, ...]]] = {
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
) -> Iterator[Found]:
    """Every video's features in some files; a folder stands for all files of the right ending below it.

    Args:
        failed: collects files that cannot be read (name, why); without it the first one raises.

    Raises:
        UsageError: no such format.
        CollectionError: a path does not exist, or holds no file of the format.
    """
    if kind not in FEATURES:
        raise UsageError(f"no features are called {kind!r}; there are {', '.join(FEATURES)}")
    read, endings = FEATURES[kind]
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.suffix in endings) if path.is_dir() else [path]
        if not files or not all(file.is_file() for file in files):
            raise CollectionError(f"{path}: no such file, or no {' or '.join(endings)} file in it")
        for file in files:
            try:
                yield from read(file)
            except (OSError, ValueError, KeyError, EOFError, AttributeError, BadZipFile) as error:
                if failed is None:
                    raise CollectionError(f"{file} cannot be read as {kind}: {error}") from error
                failed.append((str(file), f"{type(error).__name__}: {error}"))
            except CollectionError as error:
                if failed is None:
                    raise
                failed.append((str(file), str(error)))
