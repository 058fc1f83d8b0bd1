"""How much memory this process could still take."""

import os
from pathlib import Path

__all__ = ["available_memory"]

_GROUPS = Path("/sys/fs/cgroup")
_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))


def available_memory() -> int:
    """Bytes that are free or can be freed, or what is left of the control group's limit where that is less."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):  # not Linux
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return max(0, min([free, *(_left(folder) for folder in _group_folders())]))


def _group_folders() -> list[Path]:
    """The control group of this process and those above it, of version 2 and of version 1's memory controller."""
    folders = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers in ("", "memory"):
            root = _GROUPS / controllers
            inner = root / name.lstrip("/")
            folders += [folder for folder in (inner, *inner.parents) if folder.is_relative_to(root)]
    return folders


def _left(folder: Path) -> int:
    """What a control group may still take; pages of files that it can drop count as free."""
    for limit_file, usage_file in _FILES:
        try:
            limit, usage = (folder / limit_file).read_text().strip(), int((folder / usage_file).read_text())
            if limit == "max":
                continue
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            return int(limit) - usage + int(stat.get("inactive_file", 0))
        except (OSError, ValueError):
            continue
    return 2**62
