"""Files of tensors that other projects wrote, read without running anything that is in them.

`.safetensors` as they are. torch's own files are pickles: here a reader builds tensors and plain containers, and puts
an inert stand-in wherever such a file names anything else, such as the configuration object of the project it is from.
"""

import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from reelseek.errors import ModelError
from reelseek.library.readers.values import Refused
from reelseek.models.checkpoints.archive import read_archive

__all__ = ["read_tensors"]

# What zipfile, tarfile and torch raise over damaged containers.
_DAMAGE = (
    OSError, EOFError, ValueError, LookupError, RuntimeError, OverflowError, struct.error, zlib.error,
    zipfile.BadZipFile, tarfile.TarError,
)  # fmt: skip


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint under its dotted name.

    Containers around the weights (`state_dict`, `model`) and `module.` of data parallel are taken off; a list of state
    dicts is numbered.

    Raises:
        ModelError: no such file, not a checkpoint, or no tensor in it.
    """
    if not path.is_file():
        raise ModelError(f"{path} is no file; a checkpoint is a .safetensors, .pth, .pt or .tar")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        whole = read_archive(path)
    except SafetensorError as error:
        raise ModelError(f"{path} is not a safetensors file: {error}") from error
    except (Refused, *_DAMAGE) as error:
        raise ModelError(f"{path} holds no tensors that can be read: {error}") from error
    except MemoryError as error:
        raise ModelError(f"{path} takes more memory than this machine has free") from error
    if isinstance(whole, dict) and isinstance(whole.get("state_dict"), dict):
        whole = whole["state_dict"]
    found: dict[str, Tensor] = {}
    _gather(whole, "", found)
    if not found:
        raise ModelError(f"{path} holds no tensor")
    return found


def _gather(what: Any, prefix: str, found: dict[str, Tensor]) -> None:
    if isinstance(what, Tensor):
        found[prefix.removesuffix(".")] = what.detach()
    elif isinstance(what, dict):
        for name, part in what.items():
            if prefix == "" and name in ("optimizer", "opt"):
                continue
            _gather(part, f"{prefix}{str(name).removeprefix('module.')}.", found)
    elif isinstance(what, list | tuple):
        for index, part in enumerate(what):
            _gather(part, f"{prefix}{index}.", found)
