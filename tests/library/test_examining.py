"""The progress of examining new files: in bytes, and also within one long file."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reelseek.errors import DecodeError
from reelseek.library import Library, add, examining, ingest
from reelseek.library.examining import ExamineWatch, count_bytes, reading
from reelseek.media import clock
from reelseek.media.container import Limits


@pytest.mark.long
def test_what_workers_read_is_counted_in_their_parent(
    make_video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watches: list[ExamineWatch] = []

    class Noted(ExamineWatch):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            watches.append(self)

    monkeypatch.setattr(ingest, "ExamineWatch", Noted)
    films = [make_video("a.mp4"), make_video("b.ts")]
    (tmp_path / "broken.mp4").write_bytes(bytes(5000))
    calls: list[tuple[str, int, int, str]] = []
    with Library.open(tmp_path / "library", create=True) as library:
        paths = [*films, tmp_path / "broken.mp4"]
        add(library, paths, experts=["motion"], progress=lambda *call: calls.append(call))
    size = 5000 + sum(film.stat().st_size for film in films)
    assert watches[0].count.value == size, "each file whole, also one that cannot be read"
    examined = [call[1:3] for call in calls if call[0] == "examining"]
    assert examined == [(done, 3) for done in range(4)]


def test_a_file_that_is_read_has_progress_before_it_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "_LONG_SECONDS", 0.0)
    calls: list[tuple[str, int, int, str]] = []
    watch = ExamineWatch({Path("tape"): 1000}, lambda *call: calls.append(call))
    watch.look()
    assert calls == [("examining", 0, 1, "")], "nothing was read yet"
    count_bytes(watch.count)
    try:
        _read_half(watch)
    finally:
        count_bytes(None)
    assert [done for _, done, _, _ in calls[1:]] == [250, 250, 250, 500]
    watch.look()
    assert calls[-1] == ("reading", 999, 1000, ""), "all of it was read, and the file is not finished"
    watch.finish(Path("tape"), "tape")
    assert calls[-2:] == [("reading", 1000, 1000, ""), ("examining", 1, 1, "tape")]


def _read_half(watch: ExamineWatch) -> None:
    """Read half of a file, and find that it is cut off."""
    with contextlib.suppress(DecodeError), reading(1000) as report:
        for share in (0.25, 0.25, 0.1, 0.5):
            report(share)
            watch.look()
        raise DecodeError("it is cut off")


@pytest.mark.parametrize(("name", "is_scanned"), [("tape.ts", True), ("tape.mp4", False)])
def test_the_share_of_a_file_rises_while_it_is_read(
    make_video, monkeypatch: pytest.MonkeyPatch, name: str, is_scanned: bool
) -> None:
    shares: list[float] = []

    @contextmanager
    def noted(size: int) -> Iterator[Callable[[float], None]]:
        assert size == film.stat().st_size
        yield shares.append

    monkeypatch.setattr(clock, "_REPORTED_PACKETS", 4)
    monkeypatch.setattr(ingest, "reading", noted)
    film = make_video(name)
    with film.open("ab") as file:
        file.write(bytes(3_000_000 // 188 * 188))
    ingest._examine((film, Limits()))
    assert len(set(shares)) >= 3
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert (min(shares) < 0.01) == is_scanned, "a format whose times may start again is read through first"
