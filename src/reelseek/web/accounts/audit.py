"""The log of everything that somebody changed, or tried to: a row is there before the change is."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reelseek.web.state import Database, now

__all__ = ["AuditLog"]

_LONGEST = 500
_SCHEMA = """
CREATE TABLE IF NOT EXISTS audit (
  number INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, who TEXT NOT NULL, address TEXT NOT NULL,
  action TEXT NOT NULL, status INTEGER, facts TEXT NOT NULL
);
"""


class AuditLog:
    """The table of changes; rows are appended and completed, never deleted."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA)

    def close(self) -> None:
        self._database.close()

    def begin(self, who: str, address: str, action: str, facts: Mapping[str, Any] | None = None) -> int:
        """Note that somebody is about to change something, and return the row's number.

        Args:
            action: such as `POST /v1/jobs` or `accounts add`.

        Raises:
            LibraryError: it cannot be noted; then nothing may be changed.
        """
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO audit(time, who, address, action, facts) VALUES (?, ?, ?, ?, ?)",
                (now(), who[:100], address[:100], _printable(action), json.dumps(dict(facts or {}))),
            )
            return int(cursor.lastrowid or 0)

    def complete(self, number: int, status: int, facts: Mapping[str, Any] | None = None) -> None:
        """Note what came of it: an HTTP status."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE audit SET status = ? WHERE number = ?", (status, number))
            if facts:
                connection.execute("UPDATE audit SET facts = ? WHERE number = ?", (json.dumps(dict(facts)), number))

    def rows(self, *, before: int | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Rows, newest first; those before a number where one is named."""
        query = "SELECT * FROM audit WHERE number < ? ORDER BY number DESC LIMIT ?"
        return [
            {**dict(row), "facts": json.loads(row["facts"])}
            for row in self._database.rows(query, (before or 2**62, limit))
        ]


def _printable(text: str) -> str:
    return ascii(text)[1:-1][:_LONGEST]
