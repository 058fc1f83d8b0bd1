"""Models of a hub or of a local folder, loaded by transformers from files on disk.

`reelseek models pull NAME` fetches a hub model once into the user's cache; extraction never touches the network. A
model is fetched into a folder beside its own, which gets its name when every file is there: what was interrupted goes
on from there, and is never taken for a model.
"""

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
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
    "is_pulled",
    "labels_of",
    "load_pretrained",
    "model_bytes",
    "model_method",
    "model_options",
    "models_folder",
    "move_inputs",
    "pretrained_folder",
    "pull",
    "rows",
    "weights_hash",
]


_OPTIONS = re.compile(r"(.+?):(\w+=[^,=]*(?:,\w+=[^,=]*)*)")
_WANTED_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
_UNUSED_FILES = ["*/*", "*.fp32-*"]  # other forms of the same weights


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
        folder = _pulled_folder(model)
    if not (folder / "config.json").is_file():
        if re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", model):
            remedy = f"fetch it with: reelseek models pull {model}"
        else:
            remedy = "give the folder of a model, or fetch one by its name on the hub: reelseek models pull NAME"
        raise ExpertUnavailable(f"{model!r} is neither a folder with a config.json nor a pulled model; {remedy}")
    return folder


def model_options(model: str) -> tuple[str, dict[str, float]]:
    """A model and the numbers behind it, as `FOLDER:fps=30,frames=32` has them.

    >>> model_options("/models/videomae:fps=30,frames=32")
    ('/models/videomae', {'fps': 30.0, 'frames': 32.0})

    Raises:
        ExpertUnavailable: a number is none above zero.
    """
    match = _OPTIONS.fullmatch(model)
    if match is None:
        return model, {}
    options = dict(pair.split("=") for pair in match[2].split(","))
    try:
        numbers = {name: float(value) for name, value in options.items()}
    except ValueError as error:
        raise ExpertUnavailable(f"{match[2]}: wanted numbers, such as fps=30,frames=32") from error
    if not all(0 < number < math.inf for number in numbers.values()):
        raise ExpertUnavailable(f"{match[2]}: wanted numbers above 0")
    return match[1], numbers


def is_pulled(model: str) -> bool:
    """Whether a hub model lies in the models folder, or `model` is a folder that holds one."""
    try:
        return any(pretrained_folder(model).glob("*.safetensors"))
    except ExpertUnavailable:
        return False


def pull(model: str, *, revision: str | None = None) -> Path:
    """Fetch a hub model (safetensors and configuration only) into the models folder.

    Args:
        revision: a commit of the model's repository; None takes the newest.

    Raises:
        ExpertUnavailable: the hub cannot be reached or has no such model, or it has no safetensors.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    target = _pulled_folder(model)
    partial = target.with_name(f"{target.name}.partial")
    folder = target if target.is_dir() else partial
    try:
        snapshot_download(
            model, revision=revision, local_dir=folder, allow_patterns=_WANTED_FILES, ignore_patterns=_UNUSED_FILES
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = " ".join([line for line in str(error).splitlines() if line][:2])  # advice follows
        raise ExpertUnavailable(f"{model!r} could not be fetched: {reason}") from error
    for suffix, purpose in (("config.json", "configuration"), (".safetensors", "weights as safetensors")):
        if not any(file.name.endswith(suffix) for file in folder.iterdir()):
            raise ExpertUnavailable(f"{model!r} has no {purpose} on the hub{f' at {revision}' if revision else ''}")
    if folder is partial:
        partial.rename(target)
    return target


def _pulled_folder(model: str) -> Path:
    return models_folder() / re.sub(r"[^\w.-]", "__", model)


def model_bytes(model: str) -> int:
    """Memory in bytes that a model's weights take in single precision; 0 where it is not on this machine."""
    model, _ = model_options(model)
    if not is_pulled(model):
        return 0
    folder = pretrained_folder(model)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    halved = str(config.get("dtype") or config.get("torch_dtype")).removeprefix("torch.") in ("float16", "bfloat16")
    return (1 + halved) * sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def weights_hash(folder: Path) -> str:
    """Hash a model's weights and configuration files by SHA-256.

    Gigabytes take seconds, so a hash is recorded on disk under the names, sizes and times of its files.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json", ".txt"))
    states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = hashlib.sha256(json.dumps([str(folder.absolute()), states]).encode()).hexdigest()
    record = Path(platformdirs.user_cache_dir("reelseek")) / "weights" / key
    try:
        digest = record.read_text("ascii")
        if re.fullmatch("[0-9a-f]{64}", digest):
            return digest
    except (OSError, UnicodeDecodeError):  # no cache yet, or a damaged one
        pass
    digest = hash_files(files)
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        record.parent.mkdir(parents=True, exist_ok=True)
        partial = record.with_name(f"{key}.{os.getpid()}")
        partial.write_text(digest, "ascii")
        partial.replace(record)
    return digest


@cache
def load_pretrained(auto_class: str, folder: str, **settings: Any) -> Any:
    """Load `transformers.<auto_class>` from local safetensors, in single precision, for evaluation; one per process.

    Args:
        settings: of its configuration, instead of what the folder says.

    Raises:
        ExpertUnavailable: the folder does not hold such a model, or its weights do not fit other settings.
    """
    import torch
    import transformers

    quiet_transformers()
    try:
        model = getattr(transformers, auto_class).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, **settings
        )
    except RuntimeError as error:
        if not settings:
            raise
        named = ", ".join(f"{name} {value}" for name, value in settings.items())
        raise ExpertUnavailable(f"the weights of {folder} do not fit {named}: {error}") from error
    except (OSError, ValueError) as error:
        raise ExpertUnavailable(f"{folder} does not hold a model for {auto_class}: {error}") from error
    return model.eval()


@cache
def model_method(auto_class: str, folder: Path, name: str) -> Callable[..., Any]:
    """Look up a method of the model that `load_pretrained` would load, without loading it."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    classes = getattr(transformers, auto_class)._model_mapping[type(config)]
    if isinstance(classes, tuple):
        named = [one for one in classes if one.__name__ in (config.architectures or ())]
        classes = (named or classes)[0]
    method: Callable[..., Any] = getattr(classes, name)
    return method


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
