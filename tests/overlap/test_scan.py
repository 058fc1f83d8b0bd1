"""`overlap scan` on libraries, on folders of videos and on feature files; and what it cannot compare."""

import json
import shutil
import sqlite3
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.errors import CollectionError, UsageError
from reelseek.library import Library, add
from reelseek.library.arrays import import_features
from reelseek.overlap.ids import shared_by_name, source_id
from reelseek.overlap.pairs import read_pairs
from reelseek.overlap.scan import read_scan
from reelseek.overlap.sources import open_source


def _scan(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["overlap", "scan", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def _rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Three test and four training videos of 12 seconds; one training video holds six seconds of a test video."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "frames"
    shared = rng.normal(size=(12, 24)).astype(np.float32)
    for part, count in (("test", 3), ("train", 4)):
        (folder / part).mkdir(parents=True)
        for number in range(count):
            frames = rng.normal(size=(12, 24)).astype(np.float32)
            if (part, number) == ("test", 1):
                frames = shared
            if (part, number) == ("train", 2):
                frames[5:11] = shared[3:9]
            np.save(folder / part / f"v{number}.npy", frames)
    return folder


def test_feature_files(files: Path, tmp_path: Path) -> None:
    said = _scan(files, "--test", "test", "--train", "train", "--out", tmp_path / "pairs.jsonl")
    best, *others = _rows(tmp_path / "pairs.jsonl")
    assert best == {"test": "test/v1", "train": "train/v2", "score": 1.0, "test_start": best["test_start"],
                    "train_start": best["test_start"] + 2, "window": 4.0}  # fmt: skip
    assert 3 <= best["test_start"] <= 5
    assert len(others) == 11
    assert max(row["score"] for row in others) < 0.8
    assert "test/v1" in said
    (tmp_path / "some.txt").write_text("test/v0\ntest/v1 \n")
    _scan(files, "--test", tmp_path / "some.txt", "--train", "train", "--top", 3, "--out", tmp_path / "few.jsonl")
    few = _rows(tmp_path / "few.jsonl")
    assert len(few) == 3
    assert few[0] == best
    _scan(files, "--test", "train", "--train", "train", "--window", 2, "--out", tmp_path / "self.jsonl")
    assert len(_rows(tmp_path / "self.jsonl")) == 6


def test_a_library_with_splits_and_a_video_without_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    (tmp_path / "rows.csv").write_text(
        "video,caption,split\na,one,test\nb,two,train\nc,three,train\nd,four,train\n", "utf-8"
    )
    steps = rng.normal(size=(10, 8))
    np.savez(tmp_path / "see.npz", a=steps, b=rng.normal(size=(10, 8)), c=np.repeat(steps[2:7], 2, axis=0))
    with Library.open(tmp_path / "lib", create=True) as library:
        add(library, [tmp_path / "rows.csv"], media=False)
        import_features(library, "see", [tmp_path / "see.npz"], modality="appearance", fps=1.0)
    out = tmp_path / "pairs.jsonl"
    done = CliRunner().invoke(
        app, ["overlap", "scan", str(tmp_path / "lib"), "--test", "test", "--train", "train", "--out", str(out)]
    )
    assert "1 videos have no frames and are not compared: d" in done.stderr
    assert [(row["test"], row["train"]) for row in _rows(out)] == [("a", "c"), ("a", "b")]


@pytest.mark.long
def test_real_near_duplicates_are_above_all_others(shared_data: Path, tmp_path: Path) -> None:
    """One family of clips of a chair and one of a pattern, in several sizes, with logos, in grey and sepia."""
    folder = shared_data / "near-duplicates"
    names = sorted(path.name for path in folder.iterdir() if path.suffix == ".mp4")
    (tmp_path / "all.txt").write_text("\n".join(names) + "\n", "utf-8")
    listed = tmp_path / "all.txt"
    _scan(folder, "--test", listed, "--train", listed, "--out", tmp_path / "pairs.jsonl")
    rows = _rows(tmp_path / "pairs.jsonl")
    assert len(rows) == len(names) * (len(names) - 1) // 2
    same = [row["test"].split("-")[0] == row["train"].split("-")[0] for row in rows]
    precision = np.cumsum(same) / np.arange(1, len(same) + 1)
    assert float((precision * same).sum() / sum(same)) > 0.95  # average precision


def test_what_cannot_be_compared(files: Path, tmp_path: Path) -> None:
    def refused(*arguments: object, match: str, error: type[Exception] = UsageError) -> None:
        with pytest.raises(error, match=match):
            _scan(*arguments, "--out", tmp_path / "x.jsonl")

    both = ["--test", "test", "--train", "train"]
    refused(tmp_path / "none", *both, match="no library and no folder")
    refused(files, "--test", "val", "--train", "train", match="its splits are: test, train")
    refused(files, *both, "--expert", "clip", match="leave --expert out")
    (tmp_path / "list.txt").write_text("test/v0\nwho\n")
    refused(files, "--test", tmp_path / "list.txt", "--train", "train", match="1 videos that .* such as who")
    np.save(files / "train" / "v9.npy", np.zeros((3, 7), np.float32))
    refused(files, *both, match="24 in test/v0, 7 in train/v9", error=CollectionError)
    np.save(files / "train" / "v9.npy", np.full((3, 24), np.nan, np.float32))
    refused(files, *both, match="wanted finite", error=CollectionError)
    (files / "train" / "v9.npy").write_bytes(b"no numpy")
    refused(files, *both, match="cannot be read", error=CollectionError)
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, *both, match=r"no library, no \.npy and no video")


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("-4wsuPCjDBc_5_15", "-4wsuPCjDBc"),
        ("vatex/Ptf_2VRj-V0_000122_000132.mp4", "Ptf_2VRj-V0"),
        ("v_QOlSCBRmfWY", "QOlSCBRmfWY"),
        ("1004_Juno_00.00.32.801-00.00.50.747", "1004_Juno"),
        ("0001_American_Beauty_00.00.51.926-00.00.54.129.avi", "0001_American_Beauty"),
        ("video7010", None),
        ("holiday_2019_03", None),
    ],
)
def test_the_name_of_a_clip_tells_its_source(name: str, source: str | None) -> None:
    assert source_id(name) == source


def test_check_exits_with_one_where_splits_share_videos(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        "video,caption,split\na,one,test\n-4wsuPCjDBc_5_15,two,test\nd,x,test\na,three,train\n"
        "-4wsuPCjDBc_50_61,four,train\ne,five,val\n",
        "utf-8",
    )
    with Library.open(tmp_path / "lib", create=True) as library:
        add(library, [tmp_path / "rows.csv"], media=False)
    how = ["overlap", "check", str(tmp_path / "lib"), "--test", "test"]
    done = CliRunner().invoke(app, [*how, "--train", "train", "--json"])
    assert done.exit_code == 1
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"test": "a", "train": "a", "why": "id"},
        {"test": "-4wsuPCjDBc_5_15", "train": "-4wsuPCjDBc_50_61", "why": "source"},
    ]
    assert "2 of 3 videos of test are in train too" in done.stderr
    assert CliRunner().invoke(app, [*how, "--train", "val"]).exit_code == 0
    assert "its splits are: test, train, val" in str(CliRunner().invoke(app, [*how, "--train", "all"]).exception)


def test_the_same_bytes_under_two_names_are_found_once() -> None:
    found = shared_by_name(["a", "b"], ["b", "c", "d"], {"a": "1", "b": "2", "c": "1", "d": ""})
    assert [(each.test, each.train, each.why) for each in found] == [("b", "b", "id"), ("a", "c", "bytes")]


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pairs each search compares."""
    from reelseek.overlap import scan

    counts: list[int] = []
    whole = scan.best_matches

    def counting(queries: list[np.ndarray], gallery: list[np.ndarray], **how: object) -> object:
        counts.append(len(queries) * len(gallery))
        return whole(queries, gallery, **how)

    monkeypatch.setattr(scan, "best_matches", counting)
    return counts


def test_only_what_is_new_is_compared_again(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, out = _counted(monkeypatch), tmp_path / "pairs.jsonl"
    _scan(files, "--test", "test", "--train", "train", "--out", out)
    first = out.read_bytes()
    _scan(files, "--test", "test", "--train", "train", "--out", out)
    assert counts == [12]
    assert out.read_bytes() == first
    rng = np.random.default_rng(7)
    np.save(files / "train" / "v4.npy", rng.normal(size=(9, 24)).astype(np.float32))
    np.save(files / "test" / "v3.npy", rng.normal(size=(9, 24)).astype(np.float32))
    np.save(files / "train" / "v0.npy", rng.normal(size=(9, 24)).astype(np.float32))  # another video under its name
    _scan(files, "--test", "test", "--train", "train", "--out", out)
    assert counts == [12, 5, 6]  # the new test video with all, the old ones with what is new
    went_on = _rows(out)
    _scan(files, "--test", "test", "--train", "train", "--out", tmp_path / "anew.jsonl")
    assert _rows(tmp_path / "anew.jsonl") == went_on
    (files / "train" / "v2.npy").unlink()
    _scan(files, "--test", "test", "--train", "train", "--out", out)
    assert counts[-1] == 20  # nothing was compared after the whole search beside it
    assert {row["train"] for row in _rows(out)} == {"train/v0", "train/v1", "train/v3", "train/v4"}
    _scan(files, "--test", "test", "--train", "train", "--window", 3, "--out", out)
    assert counts[-1] == 16  # asked otherwise, all is compared


def test_a_full_list_that_loses_a_video_is_made_anew(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, out = _counted(monkeypatch), tmp_path / "pairs.jsonl"
    _scan(files, "--test", "test", "--train", "train", "--top", 2, "--out", out)
    (files / "train" / "v2.npy").unlink()  # the best pair goes, and a pair that was cut off takes its place
    _scan(files, "--test", "test", "--train", "train", "--top", 2, "--out", out)
    assert counts == [12, 9]
    assert len(_rows(out)) == 2
    (tmp_path / "pairs.jsonl.scan.json").write_text("{")
    with pytest.raises(CollectionError, match="delete it"):
        _scan(files, "--test", "test", "--train", "train", "--top", 2, "--out", out)


def test_a_set_with_itself_goes_on_without_naming_a_pair_twice(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs.jsonl"
    _scan(files, "--test", "train", "--train", "train", "--out", out)
    np.save(files / "train" / "a.npy", np.random.default_rng(8).normal(size=(9, 24)).astype(np.float32))
    _scan(files, "--test", "train", "--train", "train", "--out", out)
    found = [frozenset((row["test"], row["train"])) for row in _rows(out)]
    assert len(found) == len(set(found)) == 10


@pytest.mark.long
def test_a_scan_that_goes_on_is_the_scan_that_begins_anew(tmp_path: Path) -> None:
    """Whatever happened to lists and videos meanwhile."""
    rng, folder = np.random.default_rng(11), tmp_path / "f"
    folder.mkdir()
    names = [f"v{place}" for place in range(7)]
    for name in names:
        np.save(folder / f"{name}.npy", rng.normal(size=(int(rng.integers(2, 9)), 8)).astype(np.float32))
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    for turn in range(25):
        for each in (one, two):
            chosen = rng.permutation(names)[: int(rng.integers(2, 8))] if turn % 3 else sorted(names)
            each.write_text("".join(f"{name}\n" for name in chosen))
        if turn % 4 == 0:
            np.save(folder / f"{names[turn % 7]}.npy", rng.normal(size=(6, 8)).astype(np.float32))
        how = ["--test", one, "--train", two, "--top", int(rng.integers(0, 2)) * 400 + 5]
        for out in ("on", f"anew{turn}"):
            _scan(folder, *how, "--out", tmp_path / f"{out}.jsonl")
        assert (tmp_path / "on.jsonl").read_text() == (tmp_path / f"anew{turn}.jsonl").read_text(), turn


def test_a_source_closes_its_libraries(library_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Library] = []
    open_library = Library.open

    def recording_open(*arguments: object, **options: object) -> Library:
        opened.append(open_library(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(Library, "open", recording_open)
    with open_source(library_path, "appearance", tmp_path / "work") as source:
        assert source.has_frames(source.names[0])
    with pytest.raises(UsageError, match="has no tracks of nobody"):
        open_source(library_path, "nobody", tmp_path / "work")
    assert len(opened) == 2
    for library in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            library.videos()


def test_names_of_lists(tmp_path: Path) -> None:
    for name in ("x", "A/x", "B/x", "clip_3", "clip_3.5", "B/y"):
        (tmp_path / "f" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "f" / f"{name}.npy", np.ones((3, 2), np.float32))
    source = open_source(tmp_path / "f", None, tmp_path / "work")
    listed = tmp_path / "list.txt"
    listed.write_text("\ufeffx\r\nclip_3\ny.mp4\n", "utf-8")  # as a spreadsheet saves it
    assert source.videos(str(listed)) == ("x", "clip_3", "B/y")
    listed.write_text("C/y\n")
    with pytest.raises(UsageError, match=r"lists 1 videos that .* does not have, such as C/y"):
        source.videos(str(listed))
    (tmp_path / "f" / "x.npy").unlink()
    listed.write_text("x\n")
    with pytest.raises(UsageError, match="may be A/x or B/x; say which"):
        open_source(tmp_path / "f", None, tmp_path / "work").videos(str(listed))
    listed.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CollectionError, match="cannot be read"):
        source.videos(str(listed))


def test_odd_names_survive_in_the_files(tmp_path: Path) -> None:
    odd = ["a\u2028b", "c\x0cd", "e ", 'f,"g']
    for place, name in enumerate(odd):
        (tmp_path / "f").mkdir(exist_ok=True)
        np.save(tmp_path / "f" / f"{name}.npy", np.random.default_rng(place).normal(size=(5, 4)).astype(np.float32))
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{name}\n" for name in odd))
    for _ in range(2):
        _scan(tmp_path / "f", "--test", listed, "--train", listed, "--out", tmp_path / "pairs.jsonl")
    assert {pair.test for pair in read_pairs(tmp_path / "pairs.jsonl")} <= set(odd)
    assert len(read_pairs(tmp_path / "pairs.jsonl")) == 6


def test_a_bank_and_common_frames_change_scores(files: Path, tmp_path: Path) -> None:
    out, bank = tmp_path / "pairs.jsonl", tmp_path / "bank.jsonl"
    how = ["--test", "test", "--train", "train", "--out", out, "--bank", bank]
    _scan(files, *how)
    assert _rows(out)[0]["score"] == 1
    added = ["overlap", "screensavers", "add", str(bank), str(files), "test/v1", "--start", "3", "--seconds", "6"]
    assert CliRunner().invoke(app, added, catch_exceptions=False).exit_code == 0
    _scan(files, *how)
    assert max(row["score"] for row in _rows(out)) < 0.8
    listed = CliRunner().invoke(app, ["overlap", "screensavers", "list", str(bank)]).stdout
    assert "test/v1" in listed
    assert CliRunner().invoke(app, ["overlap", "screensavers", "remove", str(bank), "1"]).exit_code == 0
    _scan(files, *how)
    assert _rows(out)[0]["score"] == 1
    with pytest.raises(UsageError, match="has no frames of 'who'"):
        CliRunner().invoke(app, [*added[:5], "who"], catch_exceptions=False)
    for name in ("v5", "v6", "v7"):  # what one video shares with a copy of it is no longer rare
        np.save(files / "train" / f"{name}.npy", np.load(files / "test" / "v1.npy"))
    _scan(files, *how, "--common", 1)
    best = {row["train"]: row["score"] for row in _rows(out) if row["test"] == "test/v1"}
    assert best["train/v5"] < 0.5


def test_neighbours_of_window_means_find_what_the_whole_search_finds(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    for part, count in (("a", 30), ("b", 60)):
        (tmp_path / "f" / part).mkdir(parents=True)
        for place in range(count):
            frames = rng.normal(size=(12, 16)).astype(np.float32)
            if part == "b" and place < 30:
                source = np.load(tmp_path / "f" / "a" / f"{place}.npy")
                frames[2:8] = source[4:10] + 0.2 * rng.normal(size=(6, 16))
            np.save(tmp_path / "f" / part / f"{place}.npy", frames)
    how = [tmp_path / "f", "--test", "a", "--train", "b", "--top", 30]
    _scan(*how, "--out", tmp_path / "exact.jsonl")
    done = CliRunner().invoke(
        app, ["overlap", "scan", *map(str, how), "--approximate", "--out", str(tmp_path / "near.jsonl")]
    )
    assert _rows(tmp_path / "near.jsonl") == _rows(tmp_path / "exact.jsonl")
    assert "it missed 0.0 %" in done.stderr


@pytest.mark.long
def test_black_frames_are_no_candidates(tmp_path: Path) -> None:
    """Two films that share nothing but four seconds of black."""
    folder = tmp_path / "films"
    for place, part in enumerate(("a", "b")):
        (folder / part).mkdir(parents=True)
        rng = np.random.default_rng(place)
        with av.open(str(folder / part / "film.mp4"), "w") as out:
            stream = out.add_stream("libx264", rate=5)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            for second in range(10):
                scene = rng.integers(0, 256, (8, 12, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
                for _ in range(5):
                    shown = np.zeros_like(scene) if 3 <= second < 7 else scene
                    out.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
            out.mux(stream.encode(None))
    how = [folder, "--test", "a", "--train", "b", "--expert", "appearance", "--out", tmp_path / "pairs.jsonl"]
    _scan(*how, "--no-plain")
    assert _rows(tmp_path / "pairs.jsonl")[0]["score"] > 0.95
    _scan(*how)
    assert _rows(tmp_path / "pairs.jsonl")[0]["score"] < 0.8


@pytest.mark.long
def test_a_library_keeps_its_witnesses_beside_it_and_forgets_them_with_a_video(
    archive: Path, library_path: Path, tmp_path: Path
) -> None:
    shutil.copytree(library_path, tmp_path / "lib")
    with Library.open(tmp_path / "lib") as library:
        names = [video.id for video in library.videos()]
    for part, some in (("a", names[:4]), ("b", names[4:])):
        (tmp_path / f"{part}.txt").write_text("\n".join(some))
    how = [tmp_path / "lib", "--test", tmp_path / "a.txt", "--train", tmp_path / "b.txt", "--out", tmp_path / "p.jsonl"]
    _scan(*how)
    rows = _rows(tmp_path / "p.jsonl")
    assert len(rows) == 16
    assert any("sound" in row for row in rows)
    with Library.open(tmp_path / "lib" / "overlap") as beside:
        assert set(beside.experts()) == {"plain"}  # sound is in the library itself
        assert len(beside.videos()) == len(names)
    with Library.open(tmp_path / "lib") as library:
        shown = tmp_path / "lib" / "copies" / f"{library.video(names[0]).content}.mp4"
        shown.parent.mkdir()
        shown.write_bytes(b"a copy for browsers")
        library.remove([names[0]])
        assert not shown.exists()
    with Library.open(tmp_path / "lib" / "overlap") as beside:
        assert len(beside.videos()) == len(names) - 1
    with pytest.raises(UsageError, match=r"1 videos that .* does not have"):
        _scan(*how)  # the list names what was removed


@pytest.mark.long
def test_a_video_deleted_from_a_folder_is_no_longer_compared(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    for part, name in (("a", "film0001.mp4"), ("b", "film0004.mov"), ("b", "film0006.mov")):
        (folder / part).mkdir(parents=True, exist_ok=True)
        shutil.copy(archive / name, folder / part / name)
    how = [folder, "--test", "a", "--train", "b", "--out", tmp_path / "p.jsonl"]
    _scan(*how)
    assert len(_rows(tmp_path / "p.jsonl")) == 2
    (folder / "b" / "film0004.mov").unlink()
    _scan(*how)
    assert [row["train"] for row in _rows(tmp_path / "p.jsonl")] == ["b/film0006.mov"]
    (folder / "b" / "film0006.mov").rename(folder / "a" / "moved.mov")
    shutil.copy(archive / "film0004.mov", folder / "b" / "new.mov")
    (folder / "b" / "broken.mp4").write_bytes(b"no video")
    for _ in range(2):  # a damaged video is named every time
        _scan(*how)
        assert read_scan(tmp_path / "p.jsonl").train_without == ("b/broken.mp4",)
        found = {(row["test"], row["train"]) for row in _rows(tmp_path / "p.jsonl")}
        assert found == {("a/film0001.mp4", "b/new.mov"), ("a/moved.mov", "b/new.mov")}
