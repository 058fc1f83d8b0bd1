"""Rows of SQLite as record batches of Arrow, and back."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as arrow

from reelseek.library.catalog import EXCHANGED
from reelseek.library.names import printable
from reelseek.library.texts import is_unicode

__all__ = ["TRACK_SCHEMA", "batches_of", "rows_of", "schema_of", "values_schema"]

_TYPES = {"text": arrow.string(), "integer": arrow.int64(), "real": arrow.float64(), "bytes": arrow.binary(),
          "path": arrow.string()}  # fmt: skip
_UNREADABLE = "_bytes"  # behind the name of a path's column: the bytes of those that are no Unicode

TRACK_SCHEMA = arrow.schema(
    [
        ("owner", arrow.string()), ("videos", arrow.list_(arrow.string())), ("expert", arrow.string()),
        ("fingerprint", arrow.string()), ("modality", arrow.string()), ("steps", arrow.int64()),
        ("dim", arrow.int64()), ("dtype", arrow.string()), ("sha256", arrow.string()), ("note", arrow.string()),
    ]
)  # fmt: skip
"""A row a track; one without steps has no row in the table of its values."""


def values_schema(dim: int, dtype: str) -> Any:
    """Of the values of tracks: a row a step, with its span in seconds."""
    number = {"float16": arrow.float16(), "float32": arrow.float32()}[dtype]
    return arrow.schema(
        [
            ("owner", arrow.string()), ("step", arrow.int64()), ("start_seconds", arrow.float64()),
            ("end_seconds", arrow.float64()), ("values", arrow.list_(number, dim)),
        ]
    )  # fmt: skip


def schema_of(table: str) -> Any:
    """The columns of an exchanged table."""
    fields = [(name, _TYPES[kind]) for name, kind in EXCHANGED[table]]
    fields += [(f"{name}{_UNREADABLE}", arrow.binary()) for name, kind in EXCHANGED[table] if kind == "path"]
    return arrow.schema(fields)


def batches_of(table: str, blocks: Iterable[Sequence[tuple[Any, ...]]]) -> Iterator[Any]:
    """Blocks of rows as record batches."""
    schema = schema_of(table)
    for block in blocks:
        columns: list[list[Any]] = [list(cells) for cells in zip(*block, strict=True)]
        for number, (_, kind) in enumerate(EXCHANGED[table]):
            if kind == "path":
                paths = [None if path is None else os.fsdecode(path) for path in columns[number]]
                columns[number] = [None if path is None else printable(path) for path in paths]
                columns.append([None if path is None or is_unicode(path) else os.fsencode(path) for path in paths])
        arrays = [arrow.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
        yield arrow.record_batch(arrays, schema=schema)


def rows_of(table: str, batches: Iterable[Any]) -> Iterator[list[tuple[Any, ...]]]:
    """Record batches as rows of SQLite, a block a batch."""
    for batch in batches:
        columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
        cells = []
        for name, kind in EXCHANGED[table]:
            if kind == "path":
                pairs = zip(columns[name], columns[f"{name}{_UNREADABLE}"], strict=True)
                cells.append([raw if raw is not None else _encoded(text) for text, raw in pairs])
            else:
                cells.append(columns[name])
        yield list(zip(*cells, strict=True))


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)
