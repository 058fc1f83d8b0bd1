"""Whether it is worth asking PyTorch for an accelerator: importing it takes seconds, which few machines need spend."""

import os
import sys
from pathlib import Path

__all__ = ["may_have_accelerator"]

_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # of NVIDIA, of Windows under Linux, of AMD


def may_have_accelerator() -> bool:
    """Whether this machine shows a driver of one, or REELSEEK_DEVICE names one."""
    named = os.environ.get("REELSEEK_DEVICE", "").strip().lower()
    if named not in ("", "auto"):
        return named != "cpu"
    return sys.platform == "darwin" or any(Path(driver).exists() for driver in _DRIVERS)
