"""The full text of a library: the folded words of each text, under its id, in the table `texts_words`."""

import sqlite3
from collections.abc import Iterable

from reelseek.library.words import tokens

__all__ = ["create_words", "fill_words", "has_words"]


def has_words(connection: sqlite3.Connection, schema: str) -> bool:
    """Whether a schema (`main`, or `temp` for a library that is only read) has the table."""
    query = f"SELECT 1 FROM {schema}.sqlite_master WHERE name = 'texts_words'"
    return connection.execute(query).fetchone() is not None


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
