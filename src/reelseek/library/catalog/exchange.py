"""Whole tables of a library on their way out and in, block by block."""

from collections.abc import Iterable, Iterator
from typing import Any

from reelseek.library.catalog.connection import Connection

__all__ = ["EXCHANGED", "Exchange"]

EXCHANGED: dict[str, tuple[tuple[str, str], ...]] = {
    "videos": (
        ("id", "text"), ("path", "path"), ("content", "text"), ("size", "integer"), ("mtime_ns", "integer"),
        ("duration", "real"), ("split", "text"),
    ),
    "captions": (
        ("video", "text"), ("position", "integer"), ("text", "text"), ("start_seconds", "real"),
        ("end_seconds", "real"), ("split", "text"),
    ),
    "tags": (
        ("video", "text"), ("text", "text"), ("folded", "text"), ("start_seconds", "real"), ("end_seconds", "real"),
    ),
    "memberships": (("split", "text"), ("video", "text"), ("position", "integer")),
    "contents": (("hash", "text"), ("info", "text"), ("end_seconds", "real"), ("cuts", "text")),
    "texts": (
        ("owner", "text"), ("expert", "text"), ("kind", "text"), ("text", "text"), ("start_seconds", "real"),
        ("end_seconds", "real"), ("score", "real"),
    ),
    "thumbnails": (("owner", "text"), ("seconds", "real"), ("jpeg", "bytes")),
    "failures": (
        ("video", "text"), ("expert", "text"), ("path", "path"), ("size", "integer"), ("mtime_ns", "integer"),
        ("reason", "text"), ("attempts", "integer"),
    ),
    "notices": (("owner", "text"), ("place", "text"), ("message", "text"), ("lost", "integer")),
    "sidecars": (("owner", "text"), ("name", "text"), ("size", "integer"), ("mtime_ns", "integer")),
}  # fmt: skip
"""Columns of the tables that are exchanged, in the order in which they are written, and the kind of each."""

_ORDER = {
    "texts": "owner, expert, id",
    "videos": "id",
    "contents": "hash",
    "tags": "video, start_seconds, end_seconds, folded",
}
_ROWS_A_BLOCK = 2000


class Exchange:
    """Rows of whole tables, as SQLite has them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def blocks(self, table: str) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of a table in a fixed order, some at a time; none where an older library has no such table."""
        if not self._connection.has_table(table):
            return
        columns = ", ".join(name for name, _ in EXCHANGED[table])
        order = _ORDER.get(table, ", ".join(name for name, _ in EXCHANGED[table][:3]))
        rows = self._connection.execute(f"SELECT {columns} FROM {table} ORDER BY {order}")
        while block := rows.fetchmany(_ROWS_A_BLOCK):
            yield block

    def add(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Add rows to a table other than `texts`, whose words are split when they are stored."""
        columns = EXCHANGED[table]
        names, values = ", ".join(name for name, _ in columns), ", ".join("?" for _ in columns)
        self._connection.executemany(f"INSERT INTO {table}({names}) VALUES ({values})", list(rows))
