"""Where tensors live: one spelling for every command and function that computes.

`auto` takes an accelerator where there is one; `cpu`, `cuda`, `cuda:1`, `mps` mean themselves. The environment's
REELSEEK_DEVICE stands in where nothing is named.
"""

import os
import re

import torch

from reelseek.errors import UsageError

__all__ = ["available", "describe", "device_of", "matmul_precision", "resolve_device"]


def available() -> list[str]:
    """Names of the devices that are here, the best one first."""
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    metal = ["mps"] if torch.backends.mps.is_available() else []
    return [*gpus, *metal, "cpu"]


def resolve_device(name: "str | torch.device | None" = None) -> torch.device:
    """The device that a name means.

    Args:
        name: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; None takes REELSEEK_DEVICE, and `auto` where that is not set.

    Raises:
        UsageError: no such name, or the device is not here; says which are.

    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if isinstance(name, torch.device):
        return name
    variable = os.environ.get("REELSEEK_DEVICE", "").strip()
    wanted = (name or variable or "auto").strip().lower()
    said = f"REELSEEK_DEVICE is {wanted!r}" if name is None and variable else f"the device is {wanted!r}"
    here = available()
    if wanted == "auto":
        return torch.device(here[0])
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", wanted):
        raise UsageError(f"{said}; wanted auto, cpu, cuda, cuda:N or mps, and here there is {', '.join(here)}")
    exact = "cuda:0" if wanted == "cuda" else wanted
    if exact not in here:
        raise UsageError(f"{said}, which is not on this machine; here there is {', '.join(here)}")
    return torch.device(exact)


def device_of(model: torch.nn.Module) -> torch.device:
    """Where a model's tensors live."""
    tensors = [*model.parameters(), *model.buffers()]
    return next((each.device for each in tensors if each.device.type != "cpu"), torch.device("cpu"))


def describe(device: torch.device) -> str:
    """A device in words, with its memory in GiB.

    >>> describe(torch.device("cpu"))
    'cpu'
    """
    if device.type != "cuda":
        return str(device)
    about = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    return f"{device}: {about.name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"


def matmul_precision(device: torch.device) -> None:
    """Let a GPU multiply float32 matrices in TF32, which keeps ten bits of each factor; the host's stay whole."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
