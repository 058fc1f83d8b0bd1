"""Networks that `reelseek train` learnt from frames and sound, as experts.

`vision_net@FOLDER` and `audio_net@FOLDER`: the folders of these names that a recipe with `[pixels]` leaves beside its
model. A step is a window as it was trained on, decoded in the same way, its frames cut out of the centre.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import ExpertUnavailable
from reelseek.experts.encoder import Deferred, Encoder
from reelseek.experts.expert import Session, Text, fingerprint
from reelseek.experts.hub import pretrained_folder, weights_hash
from reelseek.experts.sound import SoundWindows
from reelseek.experts.windows import FrameWindows
from reelseek.media.streams import FrameStream, SoundStream, Stream

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["audio_net", "vision_net"]


@cache
def _load(folder: Path) -> Any:
    """The network of a folder, in evaluation mode; one instance per process."""
    from safetensors.torch import load_file

    from reelseek.experts.backbones import NETWORKS

    config = json.loads((folder / "config.json").read_text("utf-8"))
    network = NETWORKS[config["network"]](**config["sizes"])
    network.load_state_dict(load_file(folder / "model.safetensors"))
    return network.eval()


class _Network(ABC):
    """What both experts are: a folder with a network, and what it takes."""

    divisible = True

    def __init__(self, name: str, model: str | None, kinds: Sequence[str]) -> None:
        if model is None:
            raise ExpertUnavailable(f"{name} needs a network: --experts {name}@MODEL/{name}, of a model from pixels")
        self.name, self._folder = name, pretrained_folder(model)
        try:
            config = json.loads((self._folder / "config.json").read_text("utf-8"))
            kind, self.takes = config["network"], config["takes"]
            if kind not in kinds:
                raise ValueError(f"it holds a network of the kind {kind!r}")
            self.dim = int(_load(self._folder).width)
        except Exception as error:  # safetensors, torch and json have no common root for a damaged or foreign file
            raise ExpertUnavailable(
                f"{self._folder} holds no network that {name} can run ({error!r}); name the folder {name} of a model "
                "that was trained from pixels"
            ) from error
        self.fingerprint = fingerprint(name, weights=weights_hash(self._folder), takes=self.takes, dtype="float16")
        self.encoder = Encoder(
            f"{name}@{model}", self.dim, load=self._model, prepare=self._prepare, forward=self._forward, most_rows=16
        )

    def prepare(self) -> None:
        """Load the weights."""
        self._model()

    def to(self, device: str) -> None:
        """Move the network to a device."""
        self._model().to(device)

    def _model(self) -> Any:
        return _load(self._folder)

    @abstractmethod
    def _prepare(self, window: Any) -> "dict[str, Tensor]":
        """A window of frames or samples as a batch of one."""

    def _forward(self, model: Any, inputs: "dict[str, Tensor]") -> "Tensor":
        rows: Tensor = model(inputs["window"])
        return rows


class _Vision(_Network):
    modality = "motion"

    def __init__(self, model: str | None) -> None:
        super().__init__("vision_net", model, ("s3dg", "tsm"))
        self.streams: Sequence[Stream] = (
            FrameStream(self.takes["fps"], int(self.takes["resize"]), crop=int(self.takes["crop"])),
        )

    def open(self) -> Session:
        return FrameWindows(self.encoder, int(self.takes["frames"]))

    def _prepare(self, frames: Sequence[npt.NDArray[np.uint8]]) -> "dict[str, Tensor]":
        """A window of frames [height, width, 3] as a batch of one, in [0, 1]."""
        import torch

        pixels = torch.from_numpy(np.stack(frames))
        return {"window": pixels.permute(3, 0, 1, 2)[None].float() / 255}


class _Sound(_Network):
    modality = "audio"

    def __init__(self, model: str | None) -> None:
        super().__init__("audio_net", model, ("spectrogram",))
        self._rate, self._seconds = int(self.takes["rate"]), float(self.takes["seconds"])
        self.streams: Sequence[Stream] = (SoundStream(self._rate),)

    def open(self) -> Session:
        return SoundWindows(self, self._rate, self._seconds)

    def submit(self, samples: npt.NDArray[np.float32]) -> Deferred:
        """Start the forward pass of one window, silence after its end."""
        return self.encoder.submit(samples)

    def describe(self, values: npt.NDArray[Any], spans: npt.NDArray[np.float64]) -> tuple[Text, ...]:
        """No words stand behind its rows."""
        return ()

    def _prepare(self, samples: npt.NDArray[np.float32]) -> "dict[str, Tensor]":
        import torch

        window = torch.zeros(1, round(self._seconds * self._rate))
        window[0, : len(samples)] = torch.from_numpy(np.ascontiguousarray(samples))
        return {"window": window}


def vision_net(model: str | None = None) -> _Vision:
    """Features of windows of frames, by the video network of a model that was trained from pixels."""
    return _Vision(model)


def audio_net(model: str | None = None) -> _Sound:
    """Features of windows of sound, by the network of sound of a model that was trained from pixels."""
    return _Sound(model)
