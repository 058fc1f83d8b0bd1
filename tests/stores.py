"""A store in memory whose objects change, are refused or end while they are read, as those of real stores do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fsspec import register_implementation
from fsspec.implementations.memory import MemoryFileSystem

from reelseek.media import store
from reelseek.media.local_copy import default_copies

__all__ = ["FaultyStore", "faulty_store"]


class FaultyStore(MemoryFileSystem):
    """`faulty://` with faults by object: how often it is replaced while it is read, and whether it is refused."""

    protocol = "faulty"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    changes: ClassVar[dict[str, int]] = {}
    refused: ClassVar[set[str]] = set()
    opened: ClassVar[list[str]] = []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("faulty://", "memory://")))

    @classmethod
    def put_object(cls, name: str, payload: bytes) -> None:
        """Write an object past the faults."""
        MemoryFileSystem.pipe_file(cls(), f"/{name}", payload)

    @classmethod
    def reset(cls) -> None:
        for faults in (cls.store, cls.changes, cls.refused, cls.opened):
            faults.clear()

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        if path in self.refused:
            raise PermissionError(f"Forbidden: {path}")
        return dict(super().info(path, **options))

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "rb":
            self.opened.append(path)
            file = super()._open(path, mode, **options)
            if self.changes.get(path, 0):
                self.changes[path] -= 1
                payload = self.store[path].getvalue()
                self.put_object(path.lstrip("/"), payload[::-1])
            return file
        return super()._open(path, mode, **options)


register_implementation("faulty", FaultyStore, clobber=True)


@pytest.fixture
def faulty_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty store, and an empty folder for its local copies."""
    monkeypatch.setenv("REELSEEK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "_PAUSE_SECONDS", 0.0)
    default_copies.cache_clear()
    FaultyStore.reset()
    yield
    default_copies.cache_clear()
