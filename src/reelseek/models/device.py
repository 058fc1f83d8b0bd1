"""Devices: which there are, what a model is on, and how much memory is free."""

import os

import torch

from reelseek.experts.device import available, free_memory, resolve_device
from reelseek.models.model import RetrievalModel, load_model

__all__ = [
    "available",
    "describe",
    "device_of",
    "free_memory",
    "load_on_device",
    "matmul_precision",
    "peak_memory",
    "resolve_device",
]


def device_of(model: torch.nn.Module) -> torch.device:
    """The device of a model's tensors."""
    tensors = [*model.parameters(), *model.buffers()]
    return next((tensor.device for tensor in tensors if tensor.device.type != "cpu"), torch.device("cpu"))


def load_on_device(
    model: "RetrievalModel | str | os.PathLike[str]", device: "str | torch.device | None" = None
) -> RetrievalModel:
    """Load a model onto a device.

    Args:
        model: see `load_model`. A model that is loaded already moves only if a device is named.
        device: see `resolve_device`.

    Raises:
        ModelError: the model cannot be loaded.
        UsageError: there is no such device.
    """
    place = None if device is None and isinstance(model, RetrievalModel) else resolve_device(device)
    loaded = load_model(model)
    return loaded if place is None else loaded.to(place)


def describe(device: torch.device) -> str:
    """Describe a device in words: its name, what it computes in, and its memory in GiB.

    >>> describe(torch.device("cpu"))
    'cpu'
    """
    if device.type != "cuda":
        return str(device)
    properties = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    kinds = "float32, float16" + (", bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "")
    compute = f"compute capability {properties.major}.{properties.minor} ({kinds})"
    return f"{device}: {properties.name}, {compute}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"


def matmul_precision(device: torch.device) -> None:
    """Let a GPU multiply float32 matrices in TF32 (ten bits of mantissa); the CPU keeps full precision."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")


def peak_memory(device: torch.device) -> dict[str, int]:
    """The most memory that this process's tensors took on a GPU, as an entry for a record; other devices count none."""
    return {"peak_memory_bytes": torch.cuda.max_memory_allocated(device)} if device.type == "cuda" else {}
