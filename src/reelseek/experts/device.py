"""Devices by name, the same for every command and function that computes.

`auto` takes an accelerator if there is one; `cpu`, `cuda`, `cuda:1` and `mps` are PyTorch's names. The environment
variable REELSEEK_DEVICE is the default.
"""

import os
import re

import torch

from reelseek.errors import UsageError

__all__ = ["available", "free_memory", "resolve_device"]


def available() -> list[str]:
    """Names of the devices of this machine, the best one first."""
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    metal = ["mps"] if torch.backends.mps.is_available() else []
    return [*gpus, *metal, "cpu"]


def free_memory(device: torch.device) -> int | None:
    """Free bytes of an accelerator; None where nobody can say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return None


def resolve_device(name: "str | torch.device | None" = None) -> torch.device:
    """Resolve a device name.

    Args:
        name: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; None takes REELSEEK_DEVICE, and `auto` where that is not set.

    Raises:
        UsageError: no such name, or this machine lacks the device; lists those it has.

    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if isinstance(name, torch.device):
        return name
    variable = os.environ.get("REELSEEK_DEVICE", "").strip()
    requested = (name or variable or "auto").strip().lower()
    subject = f"REELSEEK_DEVICE is {requested!r}" if name is None and variable else f"the device is {requested!r}"
    devices = available()
    if requested == "auto":
        return torch.device(devices[0])
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", requested):
        raise UsageError(f"{subject}; wanted auto, cpu, cuda, cuda:N or mps, and here there is {', '.join(devices)}")
    exact = "cuda:0" if requested == "cuda" else requested
    if exact not in devices:
        raise UsageError(f"{subject}, which is not on this machine; here there is {', '.join(devices)}")
    return torch.device(exact)
