"""What a removed video had in a large shard is overwritten where it lies; readers of the others notice nothing."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reelseek.errors import LibraryError
from reelseek.experts.expert import Track
from reelseek.library import Library, removal

_STEPS = 6


@pytest.fixture(params=["float16", "float32"])
def library(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    """Twenty videos in one shard, which counts as large."""
    monkeypatch.setattr(removal, "_REWRITTEN", 0)
    with Library.open(tmp_path / "lib", create=True) as opened:
        for number in range(20):
            _put(opened, f"v{number:02}", number, request.param)
        yield opened


def _values(seed: int, dtype: str) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(_STEPS, 8)).astype(dtype)


def _put(library: Library, video: str, seed: int, dtype: str) -> None:
    spans = np.stack([np.arange(_STEPS), np.arange(_STEPS) + 1.0], 1) + seed
    with library.writing(), library.saving():
        library.db.execute("INSERT OR IGNORE INTO videos(id) VALUES (?)", (video,))
        library.put_track(f"id:{video}", "x", "x:import-1", "motion", Track(_values(seed, dtype), spans))


def _shards(library: Library) -> dict[str, tuple[int, bytes]]:
    """Inode and content of every file of tracks."""
    return {
        path.name: (path.stat().st_ino, path.read_bytes())
        for path in sorted((library.path / "tracks").rglob("*"))
        if path.is_file()
    }


def _content(library: Library) -> bytes:
    return b"".join(content for _, content in _shards(library).values())


def test_no_byte_of_it_stays_and_no_other_moves(library: Library) -> None:
    rows = {row.owner: row for row in library.track_rows()}
    dtype = rows["id:v00"].dtype
    with Library.open(library.path) as reader:
        views = {owner: [part.copy() for part in reader.read(row)] for owner, row in rows.items()}
        held = {owner: reader.read(row) for owner, row in rows.items()}
        before = _shards(library)
        for video in ("v05", "v00", "v19"):  # in the middle, the first, the last
            library.remove([video])
            number = int(video[1:])
            assert _values(number, dtype).tobytes() not in _content(library)
            assert views[f"id:{video}"][1].tobytes() not in _content(library)
            assert library.verify() == []
            assert library.catalog.tracks.holes() == []
            with pytest.raises(LibraryError, match=r"was changed.*open the library again"):
                reader.read(rows[f"id:{video}"])
        after = _shards(library)
        assert {name: inode for name, (inode, _) in after.items()} == {n: inode for n, (inode, _) in before.items()}
        remaining = {row.owner: row for row in library.track_rows()}
        assert remaining == {owner: row for owner, row in rows.items() if owner[3:] not in ("v05", "v00", "v19")}
        for owner, row in remaining.items():
            for part, view, old in zip(reader.read(row), held[owner], views[owner], strict=True):
                assert np.array_equal(part, old)
                assert np.array_equal(view, old)
    _put(library, "new", 77, dtype)
    library.remove(["v07"])
    assert _values(77, dtype).tobytes() in _content(library)
    assert _values(7, dtype).tobytes() not in _content(library)
    library.digest(verify=True)


def test_bytes_that_no_row_names_are_erased_with_the_next_removal(library: Library) -> None:
    """What a track was before it was made anew, and what a killed writer left."""
    dtype = library.track_rows()[0].dtype
    _put(library, "v03", 99, dtype)
    row = library.track_rows()[0]
    shards = library.shards(row)
    shards.append(_values(55, dtype), np.zeros((_STEPS, 2)), library.catalog.tracks.end(row.fingerprint))
    shards.sync()
    assert all(_values(seed, dtype).tobytes() in _content(library) for seed in (3, 55))
    library.remove(["v10"])
    assert not any(_values(seed, dtype).tobytes() in _content(library) for seed in (3, 55, 10))
    assert _values(99, dtype).tobytes() in _content(library)
    assert library.verify() == []


def test_a_shard_of_which_half_is_erased_is_written_anew(library: Library) -> None:
    size = len(_content(library))
    library.remove([f"v{number:02}" for number in range(9)])
    assert len(_content(library)) == size
    library.remove(["v09", "v10"])
    assert len(_content(library)) == size * 9 // 20
    library.digest(verify=True)


@pytest.mark.parametrize("limit", ["_REWRITTEN", "_REWRITTEN_ROWS"])
def test_a_shard_of_many_rows_or_of_many_bytes_is_not_written_anew(
    library: Library, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "_REWRITTEN", 2**22)
    monkeypatch.setattr(removal, limit, 50)
    size = len(_content(library))
    library.remove(["v04"])
    assert len(_content(library)) == size
    monkeypatch.setattr(removal, "_REWRITTEN", 2**22)
    monkeypatch.setattr(removal, "_REWRITTEN_ROWS", 4096)
    library.remove(["v05"])
    assert len(_content(library)) == size * 18 // 20


def test_a_compaction_leaves_no_gaps(library: Library) -> None:
    size = len(_content(library))
    library.remove(["v04"])
    assert len(_content(library)) == size
    library.compact()
    assert len(_content(library)) == size * 19 // 20
    library.digest(verify=True)


def test_stopped_before_the_bytes_are_gone_the_next_writer_erases_them(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    dtype = library.track_rows()[0].dtype
    with monkeypatch.context() as patched:
        patched.setattr("reelseek.library.shards._overwrite", stop)
        with pytest.raises(KeyboardInterrupt):
            library.remove(["v08"])
    assert _values(8, dtype).tobytes() in _content(library)
    with library.writing():
        assert _values(8, dtype).tobytes() not in _content(library)
    library.digest(verify=True)
