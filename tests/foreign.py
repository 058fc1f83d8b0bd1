"""A package that is installed beside Reelseek: its modules and entry points in a folder on sys.path."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

__all__ = ["install"]


def install(
    site: Path,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    modules: Mapping[str, str],
    entry_points: Mapping[str, Sequence[str]],
) -> None:
    """Write a package as pip does, and put its folder on sys.path, of this process and of those it starts.

    Args:
        package: `name-version`, such as `acme-1.0`.
        modules: source by file name.
        entry_points: lines of each group.
    """
    name, _, version = package.rpartition("-")
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    for file, source in modules.items():
        (site / file).write_text(source)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [line for group, entries in entry_points.items() for line in (f"[{group}]", *entries)]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=":")
