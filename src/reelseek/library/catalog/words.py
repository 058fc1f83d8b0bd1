"""The full text of a library: folded words of texts in `texts_words`, of names and captions in `about_words`."""

import sqlite3
from collections.abc import Iterable

from reelseek.library.words import tokens

__all__ = ["create_words", "fill_about", "fill_words", "has_full_text"]


def has_full_text(connection: sqlite3.Connection, schema: str, table: str) -> bool:
    """Whether a schema (`main`, or `temp` for a library that is only read) has one of the two tables."""
    query = f"SELECT 1 FROM {schema}.sqlite_master WHERE name = ?"
    return connection.execute(query, (table,)).fetchone() is not None


def create_words(connection: sqlite3.Connection, schema: str) -> None:
    """Create the table and fill it from all texts; call it inside a transaction."""
    connection.execute(f"CREATE VIRTUAL TABLE {schema}.texts_words USING fts5(words, tokenize='porter ascii')")
    fill_words(connection, schema, connection.execute("SELECT id, text FROM texts").fetchall())


def fill_words(connection: sqlite3.Connection, schema: str, rows: Iterable[tuple[int, str]]) -> None:
    """Write the words of some rows (id, text) of `texts`."""
    connection.executemany(
        f"INSERT INTO {schema}.texts_words(rowid, words) VALUES (?, ?)",
        ((row, " ".join(tokens(text))) for row, text in rows),
    )


def fill_about(connection: sqlite3.Connection, numbers: str = "changes") -> None:
    """Write the words of every name and caption into the empty table; call it inside a transaction."""
    connection.execute(
        "INSERT INTO about_words(rowid, words) SELECT -c.number, name_words(v.id, v.path)"
        f" FROM {numbers} c JOIN videos v ON v.id = c.video"
    )
    connection.execute(
        "INSERT INTO about_words(rowid, words) SELECT (c.number << 24) + t.position, folded_words(t.text)"
        f" FROM captions t JOIN {numbers} c ON c.video = t.video"
    )
