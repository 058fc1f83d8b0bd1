"""A running Searcher follows its library while other processes change it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.search.talks import add_talk, make_talks

from reelseek.errors import UsageError
from reelseek.experts.expert import Track
from reelseek.library import Library
from reelseek.models import load_model
from reelseek.search import Searcher, build_index
from reelseek.search import current as current_module

_QUERY = "a dog on the beach"


@pytest.fixture(scope="module")
def model() -> object:
    return load_model("concepts")


@pytest.fixture
def searcher(tmp_path: Path, model: object) -> Iterator[Searcher]:
    with make_talks(tmp_path / "library", 8) as library:
        yield Searcher(library, model)


def _videos(searcher: Searcher) -> set[str]:
    return {hit.video for hit in searcher.search(_QUERY, k=50)}


def _other_process(*lines: str, library: Library) -> None:
    program = "\n".join(("import sys", "from reelseek.library import Library", *lines))
    subprocess.run([sys.executable, "-c", program, str(library.path)], timeout=600, check=True)


def test_what_another_process_removes_is_no_hit_at_once(searcher: Searcher) -> None:
    assert "v003" in _videos(searcher)
    old = searcher.index
    _other_process("Library.open(sys.argv[1]).remove(['v003', 'v004'])", library=searcher.library)
    assert _videos(searcher) == {f"v00{n}" for n in (0, 1, 2, 5, 6, 7)}
    assert searcher.index is old  # that process did not build another
    hit = searcher.search(_QUERY, k=1)[0]
    assert searcher.search(f'"{hit.why[-1].matched}"')
    assert searcher.why_not(_QUERY, "v005").videos == 6
    with pytest.raises(UsageError, match="no video"):
        searcher.within(_QUERY, "v003")


@pytest.mark.long
def test_what_the_command_removes_is_gone_and_its_index_is_opened(searcher: Searcher) -> None:
    folder = searcher.index.folder
    command = [sys.executable, "-m", "reelseek.cli.main", "remove", str(searcher.library.path), "v001"]
    subprocess.run(command, timeout=600, check=True)
    assert _videos(searcher) == {f"v00{n}" for n in (0, 2, 3, 4, 5, 6, 7)}
    assert not searcher.index.rows_of("v001")
    assert not any(b"v001" in path.read_bytes() for path in folder.iterdir())


def test_new_videos_are_found_when_their_writer_has_indexed_them(searcher: Searcher, model: object) -> None:
    with Library.open(searcher.library.path) as writer:
        with writer.saving():
            add_talk(writer, "w000", np.random.default_rng(1))
        assert "w000" not in _videos(searcher)
        assert searcher._current.unindexed == ["w000"]
        build_index(writer, model)
    assert "w000" in _videos(searcher)


def test_without_a_writer_that_indexes_new_videos_are_found_once_the_library_is_quiet(
    searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current_module, "_QUIET_SECONDS", 0.0)
    files = {path: path.stat().st_mtime_ns for path in searcher.index.folder.iterdir()}
    with Library.open(searcher.library.path) as writer, writer.saving():
        add_talk(writer, "w000", np.random.default_rng(1))
    assert "w000" not in _videos(searcher)
    assert "w000" in _videos(searcher)
    assert {path: path.stat().st_mtime_ns for path in searcher.index.folder.iterdir()} == files


def test_another_file_under_the_same_name_is_no_hit_until_it_is_indexed(searcher: Searcher, model: object) -> None:
    with Library.open(searcher.library.path) as writer:
        writer.db.execute("UPDATE videos SET content = 'new' WHERE id = 'v002'")
        writer.db.commit()
        assert "v002" not in _videos(searcher)
        build_index(writer, model)
        assert "v002" in _videos(searcher)


def test_nothing_is_answered_from_an_expert_that_was_erased(tmp_path: Path, model: object) -> None:
    with make_talks(tmp_path / "library", 3) as library:
        with library.saving():
            rng = np.random.default_rng(2)
            for video in ("v000", "v001"):
                (row,) = (row for row in library.track_rows("speech") if row.owner == f"id:{video}")
                values, spans = library.read(row)
                track = Track(np.asarray(values) + rng.normal(size=values.shape).astype(np.float32), np.asarray(spans))
                library.put_track(row.owner, "ocr", "ocr:test", "ocr", track)
        searcher = Searcher(library, model)
        assert {"speech", "ocr"} <= {why.modality for hit in searcher.search(_QUERY) for why in hit.why}
        _other_process("Library.open(sys.argv[1]).remove_expert('ocr')", library=library)
        assert "ocr" not in {why.modality for hit in searcher.search(_QUERY) for why in hit.why}
        assert not searcher.index.has_any(np.array([slot == "ocr" for slot in searcher.index.slots]))


def test_tracks_that_take_the_place_of_others_are_read_anew(searcher: Searcher) -> None:
    """Once an expert was erased its files begin anew under the same names; no old map of them may be read."""
    searcher.within(_QUERY, "v000")
    (row,) = (row for row in searcher.library.track_rows() if row.owner == "id:v000")
    with Library.open(searcher.library.path) as writer:
        writer.remove_expert("speech")
        with writer.saving():
            for number in (4, 0):
                add = np.random.default_rng(number)
                writer.db.execute("DELETE FROM videos WHERE id = ?", (f"v00{number}",))
                add_talk(writer, f"v00{number}", add)
    searcher.refresh()
    (renewed,) = (row for row in searcher.library.track_rows() if row.owner == "id:v000")
    assert renewed.place != row.place
    assert searcher.library.damage(renewed) is None


def test_a_search_during_a_removal_never_fails(searcher: Searcher) -> None:
    """Another process removes one video after the other; what is answered is always of videos that were there."""
    lines = (
        "library = Library.open(sys.argv[1])",
        "for number in range(7): library.remove([f'v00{number}'])",
    )
    program = "\n".join(("import sys", "from reelseek.library import Library", *lines))
    sizes = [8]
    with subprocess.Popen([sys.executable, "-c", program, str(searcher.library.path)]) as process:
        while process.poll() is None:
            sizes.append(len(_videos(searcher)))
        assert process.returncode == 0
    assert sizes == sorted(sizes, reverse=True)
    assert _videos(searcher) == {"v007"}
