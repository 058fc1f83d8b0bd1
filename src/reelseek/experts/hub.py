"""Models of a hub or of a local folder, loaded by transformers from files on disk.

`reelseek models pull NAME` fetches a hub model once into the user's cache; extraction never touches the network.
Preprocessing is read from the model's own preprocessor_config.json and is part of the expert's fingerprint.
"""

import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs

from reelseek.errors import ExpertUnavailable
from reelseek.experts.expert import hash_files
from reelseek.experts.quiet import quiet_transformers
from reelseek.media.streams import FrameBatch, FrameStream

__all__ = [
    "Preprocessing",
    "labels_of",
    "load_pretrained",
    "models_folder",
    "preprocessing",
    "pretrained_folder",
    "pull",
    "rows",
    "weights_hash",
]


def models_folder() -> Path:
    """Where pulled models are kept; `REELSEEK_MODELS` overrides."""
    return Path(os.environ.get("REELSEEK_MODELS") or Path(platformdirs.user_cache_dir("reelseek")) / "models")


def pretrained_folder(model: str) -> Path:
    """The folder that holds a model, given a folder or the name of a pulled hub model.

    Raises:
        ExpertUnavailable: it is not on this machine.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        folder = models_folder() / re.sub(r"[^\w.-]", "__", model)
    if not (folder / "config.json").is_file():
        raise ExpertUnavailable(
            f"{model!r} is neither a folder with a config.json nor a pulled model; fetch it with: "
            f"reelseek models pull {model}"
        )
    return folder


def pull(model: str) -> Path:
    """Fetch a hub model (safetensors and configuration only) into the models folder.

    Raises:
        ExpertUnavailable: the hub cannot be reached or has no such model.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    target = models_folder() / re.sub(r"[^\w.-]", "__", model)
    try:
        snapshot_download(model, local_dir=target, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"])
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ExpertUnavailable(f"{model!r} could not be fetched: {error}") from error
    return target


def weights_hash(folder: Path) -> str:
    """SHA-256 of a model's weights and configuration files."""
    files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json", ".txt"))
    return hash_files(files)


@cache
def load_pretrained(auto_class: str, folder: str) -> Any:
    """`transformers.<auto_class>.from_pretrained(folder)` from local safetensors, in evaluation mode.

    Raises:
        ExpertUnavailable: the folder does not hold such a model.
    """
    import transformers

    quiet_transformers()
    try:
        model = getattr(transformers, auto_class).from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise ExpertUnavailable(f"{folder} does not hold a model for {auto_class}: {error}") from error
    return model.eval()


@dataclass(frozen=True)
class Preprocessing:
    """How a model wants its pictures: the size as a FrameStream, then `(x / 255 - mean) / std`."""

    short_side: int
    crop: int | None
    stretch: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def stream(self, fps: float) -> FrameStream:
        return FrameStream(fps, self.short_side, self.crop, self.stretch)

    def tensor(self, batch: FrameBatch) -> Any:
        """float32 [frame, 3, height, width]."""
        import torch

        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        pixels = torch.from_numpy(np.ascontiguousarray(batch.pixels)).permute(0, 3, 1, 2).float() / 255
        return (pixels - mean) / std


def preprocessing(folder: Path) -> Preprocessing:
    """Read preprocessor_config.json.

    Raises:
        ExpertUnavailable: it is absent or does not say the size; sizes are never guessed.
    """
    path = folder / "preprocessor_config.json"
    try:
        given = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ExpertUnavailable(f"{path} cannot be read, and preprocessing is never guessed: {error}") from error
    size, crop = given.get("size"), given.get("crop_size")
    side = size if isinstance(size, int) else (size or {}).get("shortest_edge") or (size or {}).get("height")
    if not side:
        raise ExpertUnavailable(f"{path} does not say the size of the pictures, and sizes are never guessed")
    square = isinstance(size, dict) and "height" in size and size.get("height") == size.get("width")
    cropped = crop if isinstance(crop, int) else (crop or {}).get("height")
    wants_crop = bool(given.get("do_center_crop")) and bool(cropped)
    identity = given.get("do_normalize") is False
    return Preprocessing(
        short_side=int(side),
        crop=int(cropped) if wants_crop and cropped else None,
        stretch=square and not wants_crop,
        mean=(0.0, 0.0, 0.0) if identity else tuple(given.get("image_mean") or (0.0, 0.0, 0.0)),
        std=(1.0, 1.0, 1.0) if identity else tuple(given.get("image_std") or (1.0, 1.0, 1.0)),
    )


def labels_of(config: Any) -> list[str]:
    """Class names in order of their index, by a model's configuration."""
    names = config.id2label
    return [str(names[index]) for index in sorted(names)]


def rows(tensor: Any) -> npt.NDArray[np.float32]:
    """A 2-D tensor as a float32 array."""
    array: npt.NDArray[np.float32] = tensor.float().cpu().numpy()
    return array
