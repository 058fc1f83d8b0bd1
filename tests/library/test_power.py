"""After a power cut at any step the library opens, lost nothing that was committed, and the command ends."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reelseek.errors import UsageError
from reelseek.library import Library, add
from reelseek.library.arrays import import_features
from reelseek.library.damage import damaged_bytes
from reelseek.library.files import write_whole, write_whole_bytes
from reelseek.overlap.log import Log
from tests.library.power import PowerCuts

VIDEOS = ("one", "two", "three")


class _InProcess:
    """A pool without processes: what is replayed many times must not start any."""

    def __init__(self, function: Callable[[Any], Any], **_: object) -> None:
        self._function = function

    def __enter__(self) -> "_InProcess":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, items: list[Any], seconds: object, **_: object) -> Iterator[tuple[Any, Any]]:
        for item in items:
            yield item, self._function(item)


def _arrays(folder: Path, expert: str) -> Path:
    path = folder / expert
    path.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(expert))
    for video in VIDEOS:
        np.save(path / f"{video}.npy", rng.normal(size=(3, 4)).astype(np.float32))
    return path


def _import(library: Library, inputs: Path, expert: str = "clip") -> None:
    import_features(library, expert, [inputs / expert], modality="appearance")


def _add(library: Library, inputs: Path) -> None:
    report = add(library, [inputs / "films"], experts=["audio"], workers=1)
    assert not report.failed


def _remove(library: Library, inputs: Path) -> None:
    try:
        library.remove(["one", "three"])
    except UsageError:  # it was finished by the first command that wrote
        assert {video.id for video in library.videos()} == {"two"}


def _remove_expert(library: Library, inputs: Path) -> None:
    try:
        library.remove_expert("clip")
    except UsageError:
        assert "clip" not in library.experts()


COMMANDS = {"import": _import, "add": _add, "remove": _remove, "remove an expert": _remove_expert}


@pytest.fixture
def begun(tmp_path: Path, make_video, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with a library of three videos and two experts, and what the commands read beside it."""
    monkeypatch.setattr("reelseek.library.ingest.Workers", _InProcess)
    inputs = tmp_path / "inputs"
    (inputs / "films").mkdir(parents=True)
    for number in range(2):
        film = make_video(f"{number}.mp4", sound_seconds=0.5, tone=300.0 * (number + 1))
        film.rename(inputs / "films" / film.name)
    for expert in ("clip", "other"):
        _arrays(inputs, expert)
    with Library.open(tmp_path / "root" / "lib", create=True) as library:
        with library.writing(), library.saving():
            for video in VIDEOS:
                library.db.execute("INSERT INTO videos(id) VALUES (?)", (video,))
        _import(library, inputs, "other")
        _import(library, inputs)
    return tmp_path


def _catalog(library: Library) -> str:
    rows = library.db.execute("SELECT owner, expert, sha256 FROM tracks ORDER BY owner, expert").fetchall()
    return json.dumps([rows, [video.id for video in library.videos()]])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_cut_at_any_step_loses_nothing_and_the_command_ends(name: str, begun: Path) -> None:
    root, inputs, command = begun / "root", begun / "inputs", COMMANDS[name]
    if name == "import":
        with Library.open(root / "lib") as library:
            library.remove_expert("clip")
    with Library.open(root / "lib") as library:
        catalogs = [_catalog(library)]
        with PowerCuts(root, lambda: catalogs.append(_catalog(library))).recording() as power:
            command(library, inputs)
        calm = library.digest(verify=True)
    catalogs.append(catalogs[-1])
    assert len(power.cuts) > 5
    for number, cut in enumerate(power.cuts):
        place = cut.restore(begun / f"cut{number}") / "lib"
        with Library.open(place) as library:
            assert _catalog(library) in catalogs[cut.commits : cut.commits + 2], cut.step
            assert damaged_bytes(library) == [], (cut.step, cut.kind)
            command(library, inputs)
            assert library.digest(verify=True) == calm, (cut.step, cut.kind)
            if name.startswith("remove"):
                assert not library.meta("removal")
                shards = [path for path in (place / "tracks").rglob("*") if path.is_file()]
                rows = sum(row.steps for row in library.track_rows())
                assert sum(path.stat().st_size for path in shards) == rows * (4 * 4 + 2 * 8), (cut.step, cut.kind)
        shutil.rmtree(place.parent)


def test_a_library_can_be_begun_after_a_cut_at_any_step(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with PowerCuts(root).recording() as power, Library.open(root / "new" / "lib", create=True) as library:
        library.set_meta("key", "value")
    for number, cut in enumerate(power.cuts):
        place = cut.restore(tmp_path / f"cut{number}") / "new" / "lib"
        with Library.open(place, create=True) as library:
            assert cut.commits == 0 or library.meta("key") == "value", cut


def test_a_file_is_the_old_or_the_new_one_after_a_cut(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "report.txt").write_text("old")
    with PowerCuts(root).recording() as power:
        write_whole(root / "report.txt", "new")
        power.acknowledge()
        write_whole_bytes(root / "deep" / "er" / "bytes", b"\xff")
        power.acknowledge()
    for cut in power.cuts:
        assert cut.state["report.txt"] in (b"old", b"new"), cut
        assert cut.state.get("deep/er/bytes") in (None, b"\xff"), cut
        assert cut.commits < 1 or cut.state["report.txt"] == b"new", cut
        assert cut.commits < 2 or cut.state["deep/er/bytes"] == b"\xff", cut


def test_an_acknowledged_verdict_survives_every_cut(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with PowerCuts(root).recording() as power:
        for number in range(3):
            Log(root / "lib" / "decisions.jsonl").append({"number": number})
            power.acknowledge()
    for place, cut in enumerate(power.cuts):
        log = Log(cut.restore(tmp_path / f"cut{place}") / "lib" / "decisions.jsonl")
        lines = [line["number"] for line in log.lines()]
        assert lines == list(range(len(lines)))
        assert len(lines) >= cut.commits, cut
        log.append({"number": 9})
        assert log.lines()[-1] == {"number": 9}
