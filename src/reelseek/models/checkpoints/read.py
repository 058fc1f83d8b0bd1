"""Files of tensors that other projects wrote, read without running any code in them.

`.safetensors` are loaded by their library, `.npz` are arrays alone (JAX's and TensorFlow's weights, exported). torch's
own files are pickles: the reader here builds tensors and plain containers, with an inert placeholder for anything else
that such a file names, such as a configuration object.
"""

import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from reelseek.errors import CollectionError, FeatureError, ModelError
from reelseek.library.readers.containers import open_archive
from reelseek.library.readers.values import Refused
from reelseek.models.checkpoints.archive import read_archive

__all__ = ["read_tensors"]

# Errors of zipfile, tarfile and torch for damaged containers.
_DAMAGE = (
    OSError, EOFError, ValueError, LookupError, RuntimeError, OverflowError, struct.error, zlib.error,
    zipfile.BadZipFile, tarfile.TarError,
)  # fmt: skip


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a checkpoint under its dotted name.

    The wrapper `state_dict` and the prefix `module.` of data parallel are removed; a list of state dicts is numbered.

    Raises:
        ModelError: no such file, not a checkpoint, or no tensor in it.
    """
    if not path.is_file():
        raise ModelError(f"{path} is no file; a checkpoint is a .safetensors, .pth, .pt, .tar or .npz")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".npz":
            return _read_npz(path)
        content = read_archive(path)
    except SafetensorError as error:
        raise ModelError(f"{path} is not a safetensors file: {error}") from error
    except (Refused, *_DAMAGE) as error:
        raise ModelError(f"{path} holds no tensors that can be read: {error}") from error
    except MemoryError as error:
        raise ModelError(f"{path} takes more memory than this machine has free") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    tensors: dict[str, Tensor] = {}
    _gather(content, "", tensors)
    if not tensors:
        raise ModelError(f"{path} holds no tensor")
    return tensors


def _read_npz(path: Path) -> dict[str, Tensor]:
    tensors = {}
    try:
        with open_archive(path) as archive:
            for name in archive.names:
                array = archive.read(name)
                tensors[name] = torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
    except FeatureError as error:
        raise ModelError(f"{path}: {name} {error}") from error
    except (CollectionError, TypeError) as error:
        raise ModelError(f"{path} holds no tensors that can be read: {error}") from error
    if not tensors:
        raise ModelError(f"{path} holds no tensor")
    return tensors


def _gather(content: Any, prefix: str, tensors: dict[str, Tensor]) -> None:
    if isinstance(content, Tensor):
        tensors[prefix.removesuffix(".")] = content.detach()
    elif isinstance(content, dict):
        for name, part in content.items():
            if prefix == "" and name in ("optimizer", "opt"):
                continue
            _gather(part, f"{prefix}{str(name).removeprefix('module.')}.", tensors)
    elif isinstance(content, list | tuple):
        for index, part in enumerate(content):
            _gather(part, f"{prefix}{index}.", tensors)
