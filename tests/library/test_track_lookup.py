"""A reader of tokens looks tracks up as they are needed, and notices what was taken away since it began."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reelseek.errors import LibraryError
from reelseek.experts.expert import Track
from reelseek.library import Library, track_lookup
from reelseek.library.tokens import Clip, TokenReader

VIDEOS = [f"v{number}" for number in range(6)]
CLIPS = [Clip(video) for video in VIDEOS]


def _put(library: Library, owner: str, expert: str, value: float, fingerprint: str = "1") -> None:
    track = Track(np.full((2, 3), value, np.float32), np.array([[0.0, 1.0], [1.0, 2.0]]))
    with library.writing(), library.saving():
        library.put_track(owner, expert, f"{expert}:{fingerprint}", "motion", track)


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    """Six videos; the last has no track of `x`, and the first has one of its content and an imported one."""
    with Library.open(tmp_path / "lib", create=True) as opened:
        with opened.db:
            for video in VIDEOS:
                opened.catalog.videos.add(video)
            opened.catalog.videos.set_file("v0", Path("/films/v0.mp4"), "c", (1, 1), 2.0)
        _put(opened, "c", "x", 99.0)
        for number, video in enumerate(VIDEOS[:-1]):
            _put(opened, f"id:{video}", "x", float(number))
        yield opened


def _first_values(reader: TokenReader) -> list[float | None]:
    steps = reader.batch(CLIPS)["x"]
    return [float(steps.values[row, 0, 0]) if steps.present[row, 0] else None for row in range(len(CLIPS))]


EXPECTED = [0.0, 1.0, 2.0, 3.0, 4.0, None]


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_tokens_are_the_same_however_few_rows_stay_in_memory(
    most: int, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track_lookup, "_MOST_VIDEOS", most)
    reader = TokenReader(library)
    for _ in range(2):  # one after the other, before they come together
        assert [reader.row(video, "x") is not None for video in VIDEOS] == [True] * 5 + [False]
    assert len(reader._tracks._rows) == min(most, len(VIDEOS))  # type: ignore[attr-defined]
    assert _first_values(reader) == EXPECTED
    assert reader.present(CLIPS)["x"].tolist() == [True] * 5 + [False]
    copy = pickle.loads(pickle.dumps(reader))  # noqa: S301 - as processes that read ahead get it
    assert _first_values(copy) == EXPECTED
    copy._library.close()


def test_no_table_of_all_tracks_is_read(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(library.catalog.videos), "all", None)
    monkeypatch.setattr(type(library.catalog.tracks), "all", None)
    assert _first_values(TokenReader(library)) == EXPECTED


def test_what_is_removed_while_it_is_read_is_no_absence(library: Library) -> None:
    with Library.open(library.path) as other:
        reader = TokenReader(other)
        assert reader.row("v1", "x") is not None
        library.remove(["v4"])
        with library.writing(), library.saving():
            library.drop_track("id:v3", "x")
        with pytest.raises(LibraryError, match=r"x of v3 was removed.*open the library again"):
            reader.row("v3", "x")
        with pytest.raises(LibraryError, match="v4 is no video of it"):
            reader.row("v4", "x")
        assert reader.row("v5", "x") is None  # nothing of this one was touched
        assert reader.row("v2", "x") is not None


def test_what_is_made_anew_in_another_way_is_refused(library: Library) -> None:
    reader = TokenReader(library)
    with library.writing(), library.saving():
        library.drop_track("id:v1", "x")
    _put(library, "id:v1", "x", 5.0, "2")
    with pytest.raises(LibraryError, match="x of v1 was removed or made anew"):
        reader.steps(Clip("v1"), "x")


def test_what_is_added_meanwhile_disturbs_nobody(library: Library) -> None:
    reader = TokenReader(library, ["x"])
    for video in VIDEOS:
        _put(library, f"id:{video}", "another", 7.0)
    assert _first_values(reader) == EXPECTED


def test_a_video_that_never_was_is_an_error(library: Library) -> None:
    with pytest.raises(KeyError, match="nobody"):
        TokenReader(library).row("nobody", "x")
