"""Captions that came as vectors: a table a set in an export, and back."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as arrow

from reelseek.errors import LibraryError
from reelseek.library.caption_sets import (
    CAPTIONS_AT_ONCE,
    CaptionFeatureSet,
    begin_caption_features,
    caption_feature_sets,
)
from reelseek.library.export.lake import Lake, read_table
from reelseek.library.records import Caption
from reelseek.library.store import Library

__all__ = ["put_caption_vectors", "write_caption_vectors"]

_FOLDER = "caption-features"


def write_caption_vectors(library: Library, folder: Path, lake: Lake) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Write the table of each set: a row a word, those of one caption behind each other.

    Yields:
        its name, what has to be said of it to read it back, and how many rows it has.
    """
    for features in caption_feature_sets(library.path):
        rows = [0]
        path = folder / _FOLDER / f"{features.name}{lake.suffix}"
        lake.write(path, _schema(features.width), _batches(library, features, rows))
        yield f"{_FOLDER}/{features.name}", {"width": features.width, "format": features.format}, rows[0]


def _schema(width: int) -> Any:
    return arrow.schema(
        [
            ("caption", arrow.int64()), ("video", arrow.string()), ("text", arrow.string()),
            ("start_seconds", arrow.float64()), ("end_seconds", arrow.float64()),
            ("values", arrow.list_(arrow.float32(), width)),
        ]
    )  # fmt: skip


def _batches(library: Library, features: CaptionFeatureSet, rows: list[int]) -> Iterator[Any]:
    schema = _schema(features.width)
    captions = enumerate(library.catalog.captions.pages())
    while block := list(islice(captions, CAPTIONS_AT_ONCE)):
        read = [(number, caption, features.read(caption)) for number, caption in block]
        present = [(number, caption, stored.vectors) for number, caption, stored in read if stored is not None]
        if not present:
            continue
        counts = [len(values) for _, _, values in present]
        cells = [(number, c.video, c.text, c.start_seconds, c.end_seconds) for number, c, _ in present]
        places = np.repeat(np.arange(len(cells)), counts)
        columns = [arrow.array([cells[place][column] for place in places], schema.types[column]) for column in range(5)]
        values = arrow.array(np.concatenate([values for *_, values in present]).reshape(-1))
        rows[0] += len(places)
        columns.append(arrow.FixedSizeListArray.from_arrays(values, features.width).cast(schema.types[5]))
        yield arrow.record_batch(columns, schema=schema)


def put_caption_vectors(library: Library, lake: Lake, folder: Path, table: str, description: dict[str, Any]) -> int:
    """Put the table of a set into a library, which has its captions; returns how many rows it has.

    Raises:
        LibraryError: it is damaged.
    """
    name = table.removeprefix(f"{_FOLDER}/")
    if "/" in name or not isinstance(description.get("width"), int):
        raise LibraryError(f"{folder}: {table} is no table of caption features")
    features = begin_caption_features(library.path, name, description["width"], str(description.get("format")))
    count = 0
    vectors: dict[Caption, npt.NDArray[np.float32]] = {}
    for caption, values in _captions(lake, folder / f"{table}{lake.suffix}", features.width):
        vectors[caption] = values
        count += len(values)
        if len(vectors) == CAPTIONS_AT_ONCE:
            features.add(vectors)
            vectors = {}
    features.add(vectors)
    return count


def _captions(lake: Lake, path: Path, width: int) -> Iterator[tuple[Caption, npt.NDArray[np.float32]]]:
    """Each caption with its vectors, which may lie in two batches."""
    before: tuple[Any, ...] | None = None
    parts: list[npt.NDArray[np.float32]] = []
    for batch in read_table(lake, path):
        if batch.column("values").type.list_size != width:
            raise LibraryError(f"{path} is {batch.column('values').type.list_size} wide, where {width} were written")
        values = batch.column("values").flatten().to_numpy(zero_copy_only=False).reshape(len(batch), width)
        cells = list(zip(*(column.to_pylist() for column in batch.columns[:5]), strict=True))
        for row, key in enumerate(cells):
            if before is not None and key != before:
                yield Caption(*before[1:]), np.stack(parts)
                parts = []
            before = key
            parts.append(values[row])
    if before is not None:
        yield Caption(*before[1:]), np.stack(parts)
