"""Tables in the files of a lake: written and read a batch at a time."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pyarrow as arrow
import pyarrow.parquet as parquet

from reelseek.errors import LibraryError, UsageError, suggest
from reelseek.library.files import make_folder, sync_file

__all__ = ["FORMATS", "Lake", "open_lake"]

_ROWS_A_BATCH = 8192


class Lake(Protocol):
    """How a format keeps a table."""

    suffix: str

    def write(self, path: Path, schema: Any, batches: Iterable[Any]) -> None:
        """Write record batches of a schema; an empty table too."""

    def read(self, path: Path) -> Iterator[Any]:
        """The record batches of a table, in their order."""


class ParquetLake:
    """A file a table."""

    suffix = ".parquet"

    def write(self, path: Path, schema: Any, batches: Iterable[Any]) -> None:
        make_folder(path.parent)
        with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch)
        sync_file(path)

    def read(self, path: Path) -> Iterator[Any]:
        with parquet.ParquetFile(path) as file:
            yield from file.iter_batches(_ROWS_A_BATCH)


class LanceLake:
    """A folder a table."""

    suffix = ".lance"

    def __init__(self) -> None:
        try:
            import lance
        except ImportError as error:
            raise UsageError("Lance is not installed; install it with: pip install 'reelseek[lance]'") from error
        self._lance: Any = lance

    def write(self, path: Path, schema: Any, batches: Iterable[Any]) -> None:
        make_folder(path.parent)
        self._lance.write_dataset(arrow.RecordBatchReader.from_batches(schema, batches), str(path), mode="create")

    def read(self, path: Path) -> Iterator[Any]:
        yield from self._lance.dataset(str(path)).scanner(batch_size=_ROWS_A_BATCH, scan_in_order=True).to_batches()


FORMATS: dict[str, type[ParquetLake] | type[LanceLake]] = {"parquet": ParquetLake, "lance": LanceLake}


def open_lake(name: str) -> Lake:
    """The format of a name.

    Raises:
        UsageError: there is none, or its package is not installed.
    """
    if name not in FORMATS:
        raise UsageError(f"no format {name!r}{suggest(name, FORMATS)}; there are {', '.join(FORMATS)}")
    return FORMATS[name]()


def read_table(lake: Lake, path: Path) -> Iterator[Any]:
    """The record batches of a table.

    Raises:
        LibraryError: it is missing or damaged.
    """
    try:
        yield from lake.read(path)
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise LibraryError(f"{path} cannot be read: {error}") from error
