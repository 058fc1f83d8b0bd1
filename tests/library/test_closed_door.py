"""SQL stands in the catalog alone, and CSV is parsed by one reader: outside, a method says what is read or written."""

import ast
import re
from pathlib import Path

import pytest

import reelseek

SOURCE = Path(reelseek.__file__).parent
CATALOG = SOURCE / "library" / "catalog"
OUTSIDE = sorted(path for path in SOURCE.rglob("*.py") if CATALOG not in path.parents)
_SQL = re.compile(
    r"\b(SELECT\s.+\sFROM|SELECT\s+\S+\(|INSERT\s+(OR\s+\w+\s+)?INTO|DELETE\s+FROM|UPDATE\s+\w+\s+SET|PRAGMA\s+\w+|"
    r"(CREATE|DROP|ALTER)\s+(VIRTUAL\s+|TEMP\s+)?(TABLE|INDEX|TRIGGER|VIEW)|BEGIN\s+(IMMEDIATE|EXCLUSIVE)|VACUUM)\b",
    re.DOTALL,
)
_ERRORS = ("Error", "DatabaseError", "OperationalError")


def problems(source: str) -> list[str]:
    """What a file does that only the catalog may."""
    tree = ast.parse(source)
    named = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("db", "connection") and _is_library(node.value):
            named.append(f"line {node.lineno}: reaches for .{node.attr}")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sqlite3":
            if node.attr not in _ERRORS:
                named.append(f"line {node.lineno}: uses sqlite3.{node.attr}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _SQL.search(node.value):
            named.append(f"line {node.lineno}: holds SQL: {node.value[:60]!r}")
    return named


def _is_library(node: ast.expr) -> bool:
    """Whether it may be a library: a name or an attribute; `self.connection` may be anybody's own."""
    return not (isinstance(node, ast.Name) and node.id == "self")


# What a service keeps beside libraries: databases of its own, a file each.
SERVICE = {
    "web/state.py", "web/accounts/audit.py", "web/accounts/store.py", "web/collections/store.py", "web/jobs/queue.py",
    "web/jobs/watch.py",
}  # fmt: skip


def test_no_file_outside_the_catalog_holds_sql() -> None:
    named = {str(path.relative_to(SOURCE)): lines for path in OUTSIDE if (lines := problems(path.read_text("utf-8")))}
    (tools,) = named.pop("library/storage.py")  # `Library.db`, for tests and tools
    assert tools.endswith("reaches for .connection")
    assert set(named) == SERVICE
    assert not [line for lines in named.values() for line in lines if "reaches for" in line]


def test_tables_that_people_give_are_parsed_in_one_place() -> None:
    readers = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("csv.reader", "csv.DictReader")
    }
    written = {"training/log.py", "training/watch.py"}  # by training
    assert readers == {"library/tables.py", *written}


@pytest.mark.parametrize(
    "line",
    [
        "library.db.execute(x)",
        "with self.library.db: pass",
        "library.catalog.connection.execute(x)",
        "'SELECT id FROM videos'",
        "f'DELETE FROM {table}'",
        "'INSERT OR REPLACE INTO meta VALUES (1)'",
        "'''UPDATE videos\\n SET id = 1'''",
        "'PRAGMA data_version'",
        "'VACUUM'",
        "sqlite3.connect(path)",
    ],
)
def test_the_check_sees_it(line: str) -> None:
    assert problems(line)


def test_the_check_lets_words_and_errors_pass() -> None:
    assert problems("'select a video from the list'; sqlite3.OperationalError; folder / 'library.db'") == []
