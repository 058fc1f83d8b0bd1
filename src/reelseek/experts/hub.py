"""Models of a hub or of a local folder, loaded by transformers from files on disk.

`reelseek models pull NAME` fetches a hub model once into the user's cache; extraction never touches the network.
"""

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs

from reelseek.errors import ExpertUnavailable
from reelseek.experts.expert import hash_files
from reelseek.experts.quiet import quiet_transformers

__all__ = [
    "labels_of",
    "load_pretrained",
    "models_folder",
    "move_inputs",
    "pretrained_folder",
    "pull",
    "rows",
    "weights_hash",
]


def models_folder() -> Path:
    """Return the folder of pulled models; `REELSEEK_MODELS` overrides it."""
    return Path(os.environ.get("REELSEEK_MODELS") or Path(platformdirs.user_cache_dir("reelseek")) / "models")


def pretrained_folder(model: str) -> Path:
    """Find the folder of a model by its path, or by the name of a pulled hub model.

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
    """Hash a model's weights and configuration files by SHA-256."""
    files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json", ".txt"))
    return hash_files(files)


@cache
def load_pretrained(auto_class: str, folder: str) -> Any:
    """Load `transformers.<auto_class>` from local safetensors in evaluation mode; one copy per process.

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


def move_inputs(inputs: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Copy the tensors of a model's inputs to the device that the model is on."""
    return {name: part.to(model.device) if hasattr(part, "to") else part for name, part in inputs.items()}


def labels_of(config: Any) -> list[str]:
    """List class names in order of their index, by a model's configuration."""
    names = config.id2label
    return [str(names[index]) for index in sorted(names)]


def rows(tensor: Any) -> npt.NDArray[np.float32]:
    """Convert a 2-D tensor to a float32 array."""
    array: npt.NDArray[np.float32] = tensor.float().cpu().numpy()
    return array
