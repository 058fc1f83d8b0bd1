"""The tables of a library, and the steps that carry a library of an older version forward."""

import sqlite3
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path

from reelseek.errors import LibraryError
from reelseek.library.catalog.words import create_words, fill_about, has_full_text

__all__ = ["FORMAT_VERSION", "carry_forward", "create_tables", "has_tables"]

FORMAT_VERSION = 5
_APPLICATION = 0x5265656C  # "Reel"
_WORDS_VERSION = 3  # the first with `texts_words`
_ABOUT_VERSION = 5  # the first with `about_words`


def has_tables(connection: sqlite3.Connection, database: Path) -> bool:
    """Whether a database was laid out as a library; False where it was begun and got no tables.

    Raises:
        LibraryError: it is another program's, or of a later version than this release reads.
        sqlite3.OperationalError: it cannot be read.
    """
    version, application = _pragma(connection, "user_version"), _pragma(connection, "application_id")
    if version == 0 and application == 0:
        return False
    if application != _APPLICATION:
        raise LibraryError(f"{database} is the database of another program (application id {application:#x})")
    if not 1 <= version <= FORMAT_VERSION:
        raise LibraryError(
            f"{database} has format version {version}; this Reelseek reads versions 1 to {FORMAT_VERSION}. "
            "Use the release that made it or a later one, or begin a new library"
        )
    return True


def create_tables(connection: sqlite3.Connection) -> None:
    """Lay out the tables of the present version in an empty database, unless another process just did."""
    try:
        scripts = " ".join(map(_script, ("schema.sql", "changes.sql", "tags.sql", "totals.sql", "about.sql")))
        connection.executescript(
            f"BEGIN IMMEDIATE; {scripts} PRAGMA application_id = {_APPLICATION};"
            f" PRAGMA user_version = {FORMAT_VERSION}; COMMIT;"
        )
    except sqlite3.OperationalError:
        connection.rollback()
        if _pragma(connection, "user_version") != FORMAT_VERSION:
            raise


def _script(name: str) -> str:
    return files("reelseek.library.catalog").joinpath(name).read_text("utf-8")


def carry_forward(connection: sqlite3.Connection) -> None:
    """Bring an older library to the present version in one transaction; a present one is not touched.

    Raises:
        sqlite3.OperationalError: it cannot be written now; nothing was changed.
    """
    if _version(connection) == FORMAT_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)  # another process may have carried it forward by now
        for number in range(version + 1, FORMAT_VERSION + 1):
            _STEPS[number](connection)
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def _version(connection: sqlite3.Connection) -> int:
    """The version of a library; one without its full text, which can always be made again, counts as an earlier one."""
    version = _pragma(connection, "user_version")
    for first, table in ((_ABOUT_VERSION, "about_words"), (_WORDS_VERSION, "texts_words")):
        if not has_full_text(connection, "main", table):
            version = min(version, first - 1)
    return version


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _add_tables_of_version_2(connection: sqlite3.Connection) -> None:
    """Ordered splits, notices, subtitle files, and the index that finds the end of a shard.

    Early releases of version 1 added these one by one as they opened a library, so that any of them may be present.
    """
    for statement in (
        "CREATE INDEX IF NOT EXISTS tracks_place ON tracks(fingerprint, shard, first_row, steps)",
        """CREATE TABLE IF NOT EXISTS memberships (
          split TEXT NOT NULL, video TEXT NOT NULL REFERENCES videos(id) ON DELETE CASCADE, position INTEGER NOT NULL,
          PRIMARY KEY (split, video)
        ) WITHOUT ROWID""",
        """CREATE TABLE IF NOT EXISTS notices (
          owner TEXT NOT NULL, place TEXT NOT NULL, message TEXT NOT NULL, lost INTEGER NOT NULL,
          PRIMARY KEY (owner, place, message)
        ) WITHOUT ROWID""",
        """CREATE TABLE IF NOT EXISTS sidecars (
          owner TEXT NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
          PRIMARY KEY (owner, name, size, mtime_ns)
        ) WITHOUT ROWID""",
    ):
        connection.execute(statement)


def _fold_words_of_version_3(connection: sqlite3.Connection) -> None:
    """Full text over folded words (`words.py`) takes the place of SQLite's own splitting of the texts.

    Late releases of version 1 had it already.
    """
    if has_full_text(connection, "main", "texts_words"):
        return
    create_words(connection, "main")
    for old in ("TRIGGER IF EXISTS texts_added", "TRIGGER IF EXISTS texts_removed", "TABLE IF EXISTS texts_fts"):
        connection.execute(f"DROP {old}")
    connection.execute(
        "CREATE TRIGGER texts_removed AFTER DELETE ON texts BEGIN DELETE FROM texts_words WHERE rowid = old.id; END"
    )
    for table in ("vocabulary", "texts_words"):
        connection.execute(f"DROP TABLE IF EXISTS temp.{table}")


def _count_changes_of_version_4(connection: sqlite3.Connection) -> None:
    """Numbers of videos, the revision at which each last changed (all with this step), names, and counts of tracks."""
    if connection.execute("SELECT 1 FROM main.sqlite_master WHERE name = 'changes'").fetchone():
        return  # only its full text was lacking
    _execute_script(connection, "changes.sql")
    connection.execute(
        "INSERT INTO changes(video, features, words) SELECT id, number, number FROM videos, next_revision ORDER BY id"
    )
    connection.execute(
        "INSERT INTO names SELECT value, changes.number FROM videos JOIN changes ON changes.video = videos.id,"
        " json_each(name_keys(videos.id, videos.path))"
    )
    connection.execute(
        "INSERT INTO track_groups SELECT expert, fingerprint, modality, dim, dtype, count(*), sum(steps > 0), 0"
        " FROM tracks GROUP BY 1, 2, 3, 4, 5"
    )
    connection.execute(  # earlier versions kept no count of them, and looked into every shard
        "INSERT INTO holes SELECT DISTINCT fingerprint, shard, dim, dtype FROM tracks WHERE steps > 0"
        " ON CONFLICT DO NOTHING"
    )


def _add_tables_of_version_5(connection: sqlite3.Connection) -> None:
    """Tags of videos and moments, sums over videos and captions, and the words of names and captions."""
    if has_full_text(connection, "main", "about_words"):
        return  # only the full text of version 3 was lacking
    for script in ("tags.sql", "totals.sql", "about.sql"):
        _execute_script(connection, script)
    for table in ("about_vocabulary", "about_words", "numbers"):
        connection.execute(f"DROP TABLE IF EXISTS temp.{table}")
    fill_about(connection)


def _execute_script(connection: sqlite3.Connection, name: str) -> None:
    """Run a script inside the transaction at hand, which `executescript` would commit."""
    statement = ""
    for line in _script(name).splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


_STEPS: Mapping[int, Callable[[sqlite3.Connection], None]] = {
    2: _add_tables_of_version_2,
    _WORDS_VERSION: _fold_words_of_version_3,
    4: _count_changes_of_version_4,
    _ABOUT_VERSION: _add_tables_of_version_5,
}
"""What makes a library of the version before one of this number."""
