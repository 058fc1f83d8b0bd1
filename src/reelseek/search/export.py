"""The embeddings of an index as a table beside the others of an export."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import UsageError
from reelseek.search.changes import Source, find_stale
from reelseek.search.index import open_index, problem_of
from reelseek.search.segments import Index

if TYPE_CHECKING:
    from reelseek.library import Library
    from reelseek.library.export.lake import Lake

__all__ = ["EmbeddingsWriter"]

_CLIPS_A_BATCH = 4096


class EmbeddingsWriter:
    """Writes the embeddings that the index of a model has, a row a clip and slot that is present.

    Every byte is checked first, since a table has no checksums that would show damage later.

    Args:
        name: a model, as for `search --model`.

    Attributes:
        missing: what the table lacks, as (name, reason): damaged segments, videos without embeddings.

    Raises:
        UsageError: the library has no index of it.
    """

    def __init__(self, library: "Library", name: str) -> None:
        from reelseek.models.joint import load_for

        model = load_for(library, name).model
        index = open_index(library, model)
        if index is None:
            raise UsageError(
                f"{library.path} has no index of {name}; a search makes it: reelseek search {library.path} ..."
            )
        for segment in index.segments:
            problem = problem_of(segment)
            if problem is not None:
                index = index.without(segment, problem)
        self._index = index
        stale = find_stale(Source(library, model, index.rule, None), replace(index, damaged=()))
        self._hidden = np.concatenate([np.zeros(0, np.int64), *stale.hidden])
        advice = f"build them again with: reelseek index build {library.path} {name}"
        self.missing = [
            (f"segment {segment.name} of the index", f"{segment.clips} clips: {segment.reason}; {advice}")
            for segment in index.damaged
        ]
        self.missing += [(video.video, f"{video.clips} clips: {video.reason}") for video in index.left_out]
        old = set(stale.unindexed) - {video.video for video in index.left_out}
        if old and not index.damaged:  # else they are the segment's, or nobody can tell
            self.missing.append((f"{len(old)} videos", f"they are not in the index yet; {advice}"))

    def __call__(self, folder: Path, lake: "Lake") -> dict[str, int]:
        """Write the table; returns its name and how many rows it has."""
        import pyarrow as arrow

        index = self._index
        width = int(index.embedding(slice(0, 1)).values.shape[-1])
        schema = arrow.schema(
            [
                ("video", arrow.string()), ("start_seconds", arrow.float64()), ("end_seconds", arrow.float64()),
                ("slot", arrow.string()), ("values", arrow.list_(arrow.float32(), width)),
            ]
        )  # fmt: skip
        table = f"embeddings/{index.system}"
        rows = [0]
        lake.write(folder / f"{table}{lake.suffix}", schema, _batches(index, self._hidden, schema, rows))
        return {table: rows[0]}


def _batches(index: Index, hidden: npt.NDArray[np.int64], schema: Any, rows: list[int]) -> Iterator[Any]:
    import pyarrow as arrow

    for clips, embedding in index.blocks(_CLIPS_A_BATCH):
        places, slots = np.nonzero(np.asarray(embedding.present) & ~np.isin(clips, hidden)[:, None])
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
