"""Every committed change of a library raises its revision, for every process."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from reelseek.experts.expert import Text, Track
from reelseek.library import Library

_TRACK = Track(np.ones((2, 3), np.float32), np.array([[0.0, 1.0], [1.0, 2.0]]), texts=(Text("a", 0.0, 1.0, "said"),))


def _put(library: Library, video: str) -> None:
    with library.writing(), library.saving():
        library.db.execute("INSERT OR IGNORE INTO videos(id) VALUES (?)", (video,))
        library.put_track(f"id:{video}", "x", "x:import-1", "motion", _TRACK)


def _split(library: Library) -> None:
    with library.db:
        library.put_split("test", ["one"])


_CHANGES: dict[str, Callable[[Library], object]] = {
    "track": lambda library: _put(library, "two"),
    "split": _split,
    "meta": lambda library: library.set_meta("key", "value"),
    "remove": lambda library: library.remove(["one"]),
    "remove an expert": lambda library: library.remove_expert("x"),
}


@pytest.mark.parametrize("change", _CHANGES)
def test_a_change_is_seen_by_another_connection(change: str, tmp_path: Path) -> None:
    with Library.open(tmp_path / "lib", create=True) as writer:
        _put(writer, "one")
        with Library.open(tmp_path / "lib") as reader:
            before = reader.revision()
            assert before == writer.revision() > 0
            _CHANGES[change](writer)
            assert reader.revision() == writer.revision() > before


def _fail(transaction: AbstractContextManager[object], library: Library) -> None:
    with transaction:
        library.db.execute("INSERT INTO videos(id) VALUES ('two')")
        raise ZeroDivisionError


def test_what_is_rolled_back_or_only_read_changes_nothing(tmp_path: Path) -> None:
    with Library.open(tmp_path / "lib", create=True) as library:
        _put(library, "one")
        before = library.revision()
        library.digest(verify=True)
        for transaction in (library.saving(), library.db):
            with pytest.raises(ZeroDivisionError):
                _fail(transaction, library)
        assert [video.id for video in library.videos()] == ["one"]
        assert library.revision() == before


def test_another_process_sees_the_same_number(tmp_path: Path) -> None:
    with Library.open(tmp_path / "lib", create=True) as library:
        _put(library, "one")
        script = "import sys; from reelseek.library import Library; print(Library.open(sys.argv[1]).revision())"
        out = subprocess.run(
            [sys.executable, "-c", script, tmp_path / "lib"], check=True, capture_output=True, text=True
        )
        assert int(out.stdout) == library.revision()
