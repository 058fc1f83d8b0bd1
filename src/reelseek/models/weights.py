"""Saved weights: written atomically, read only whole and with their own configuration, refused if they hold NaN."""

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from reelseek.errors import ModelError
from reelseek.library.files import write_whole, write_whole_by

__all__ = ["check_finite", "read_checked_tensors", "read_saved", "write_errors", "write_saved", "write_tensors"]

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_ID = "id"
_CHECKSUM = "crc32"


@contextmanager
def write_errors(place: Path) -> Iterator[None]:
    """Turn errors of writing below `place` into one sentence.

    Raises:
        ModelError: the disk is full, or the folder read-only.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors has its own error for a full disk
        reason = getattr(error, "strerror", None) or error
        raise ModelError(
            f"{place} cannot be written: {reason}; what was finished is kept, and the same command goes on once there "
            "is room and the folder can be written"
        ) from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Replace a safetensors file in one step; `read_checked_tensors` notices where it was damaged since.

    Raises:
        ModelError: it cannot be written; the old file stays.
    """
    # Clones, since safetensors refuses tensors that share memory.
    copies = {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}
    described = {**(metadata or {}), _CHECKSUM: _checksum(copies, metadata or {})}
    with write_errors(path):
        write_whole_by(path, lambda partial: save_file(copies, partial, described))


def read_checked_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read the metadata and the tensors that `write_tensors` wrote; files without a checksum are not checked.

    Raises:
        ModelError: it is cut short, does not hold what was written, or is no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
        tensors = load_file(path)
    except SafetensorError as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    checksum = metadata.pop(_CHECKSUM, None)
    if checksum is not None and checksum != _checksum(tensors, metadata):
        raise ModelError(f"{path} is damaged: it does not hold what was written")
    return metadata, tensors


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Tells files that were damaged by chance, not those that somebody forged."""
    checksum = zlib.crc32(json.dumps(dict(metadata), sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        checksum = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), checksum)
        checksum = zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, checksum)
    return f"{checksum:08x}"


def write_saved(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write model.safetensors, then config.json; both carry a digest of the two, by which `read_saved` pairs them.

    The digest is of the contents, so that saving the same model over itself can be loaded at every moment.

    Raises:
        ModelError: one of them cannot be written.
    """
    digest = _digest(tensors, config)
    write_tensors(folder / _WEIGHTS, tensors, {_ID: digest})
    with write_errors(folder / _CONFIG):
        write_whole(folder / _CONFIG, json.dumps({**config, _ID: digest}, indent=2) + "\n")


def read_saved(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the configuration and the tensors that `write_saved` wrote; files without a digest are not checked.

    Raises:
        ModelError: they were not saved together, a tensor holds NaN or infinity, or the weights are damaged. What a
            damaged configuration raises is json's own.
    """
    config: dict[str, Any] = json.loads((folder / _CONFIG).read_text("utf-8"))
    metadata, weights = read_checked_tensors(folder / _WEIGHTS)
    digest = metadata.get(_ID)
    if digest is not None and digest != config.get(_ID):
        raise ModelError(
            f"{_CONFIG} and {_WEIGHTS} were not saved together: a save over an earlier model was interrupted, or one "
            "of them was replaced; run the command that wrote them again, or put both files of one model there"
        )
    check_finite(weights, folder / _WEIGHTS)
    return config, weights


def _digest(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_finite(weights: Mapping[str, Tensor], source: str | os.PathLike[str]) -> None:
    """Refuse weights that hold NaN or infinity, which would make scores NaN.

    Raises:
        ModelError: names the first tensor that holds NaN or infinity.
    """
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not tensor.is_meta and not bool(torch.isfinite(tensor).all()):
            count = int((~torch.isfinite(tensor)).sum())
            raise ModelError(f"{source}: {name} holds {count:,} NaN or infinite values; train or fetch it again")
