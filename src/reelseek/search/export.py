"""The embeddings of an index as a table beside the others of an export."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reelseek.errors import UsageError
from reelseek.search.index import open_index
from reelseek.search.segments import Index

if TYPE_CHECKING:
    from reelseek.library import Library
    from reelseek.library.export.lake import Lake

__all__ = ["embeddings_writer"]

_CLIPS_A_BATCH = 4096


def embeddings_writer(library: "Library", name: str) -> "Callable[[Path, Lake], dict[str, int]]":
    """What writes the embeddings that the index of a model has, a row a clip and slot that is present.

    Args:
        name: a model, as for `search --model`.

    Raises:
        UsageError: the library has no index of it.
    """
    from reelseek.models.joint import load_for

    model = load_for(library, name).model
    index = open_index(library, model)
    if index is None:
        raise UsageError(
            f"{library.path} has no index of {name}; a search makes it: reelseek search {library.path} ..."
        )

    def write(folder: Path, lake: "Lake") -> dict[str, int]:
        import pyarrow as arrow

        width = int(index.embedding(slice(0, 1)).values.shape[-1])
        schema = arrow.schema(
            [
                ("video", arrow.string()), ("start_seconds", arrow.float64()), ("end_seconds", arrow.float64()),
                ("slot", arrow.string()), ("values", arrow.list_(arrow.float32(), width)),
            ]
        )  # fmt: skip
        table = f"embeddings/{index.system}"
        rows = [0]
        lake.write(folder / f"{table}{lake.suffix}", schema, _batches(index, schema, rows))
        return {table: rows[0]}

    return write


def _batches(index: Index, schema: Any, rows: list[int]) -> Iterator[Any]:
    import pyarrow as arrow

    for clips, embedding in index.blocks(_CLIPS_A_BATCH):
        places, slots = np.nonzero(np.asarray(embedding.present))
        values = np.ascontiguousarray(np.asarray(embedding.values)[places, slots], np.float32)
        named = [index.clips[int(row)] for row in clips[places]]
        columns = [
            [clip.video for clip in named], [clip.start_seconds for clip in named],
            [clip.end_seconds for clip in named], [index.slots[int(slot)] for slot in slots],
        ]  # fmt: skip
        arrays = [arrow.array(cells, field.type) for cells, field in zip(columns, list(schema)[:4], strict=True)]
        numbers = arrow.FixedSizeListArray.from_arrays(arrow.array(values.reshape(-1)), embedding.values.shape[-1])
        rows[0] += len(named)
        yield arrow.record_batch([*arrays, numbers.cast(schema.field("values").type)], schema=schema)
