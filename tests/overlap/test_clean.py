"""From verdicts to clean lists: what leaves, why, and the files that say so."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from reelseek.cli.main import app
from reelseek.errors import CollectionError, UsageError
from reelseek.library import Library, add
from reelseek.overlap.clean import find_overlap, read_videos
from reelseek.overlap.ids import matching
from reelseek.overlap.pairs import Pair, read_pairs, write_pairs
from reelseek.overlap.verdicts import Verdicts, pair_key


def _run(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["overlap", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stdout


def test_verdicts_extend_to_all_clips_of_a_source(tmp_path: Path) -> None:
    said = Verdicts(tmp_path / "v.jsonl")
    pairs = [
        Pair("t1", "-4wsuPCjDBc_5_15", 0.9, 1, 2, 4),
        Pair("t2", "own", 0.8, 0, 0, 4),
        Pair("0001_Film_00.00.01.000-00.00.02.000", "x", 0.7, 0, 0, 4),
    ]
    said.record(pairs[0], "near-duplicate", "Ann")
    said.record(pairs[1], "not", "Ann")
    judged = [(pair, said.decision(pair_key(pair.test, pair.train))) for pair in pairs[:2]]
    train = ["-4wsuPCjDBc_5_15", "own", "-4wsuPCjDBc_50_61", "t3", "0001_Film_00.10.01.000-00.10.02.000", "mine"]
    test = ["t1", "t2", "t3", "0001_Film_00.00.01.000-00.00.02.000"]
    found = find_overlap(test, train, judged=judged)
    assert [(leak.train, leak.test, leak.why) for leak in found.leaks] == [
        ("t3", "t3", "id"),
        ("0001_Film_00.10.01.000-00.10.02.000", "0001_Film_00.00.01.000-00.00.02.000", "source"),
        ("-4wsuPCjDBc_5_15", "t1", "near-duplicate"),
        ("-4wsuPCjDBc_50_61", "t1", "same source as -4wsuPCjDBc_5_15"),
    ]
    assert found.clean_train == ["own", "mine"]
    assert (found.clean_test, found.reviewed) == (["t2"], 2)
    extended = find_overlap(test, train, judged=judged, ids={"mine": "yt", "-4wsuPCjDBc_5_15": "yt"})
    assert "mine" not in extended.clean_train  # a table of ids tells what names do not


def test_lists_go_out_and_come_in_again(tmp_path: Path) -> None:
    pairs = [Pair("video7.mp4", "v_1 a.mkv", 0.987654, 12, 3, 4, 0.5), Pair('q",t', "x", -0.25, 0, 1, 2)]
    for name in ("p.jsonl", "p.csv"):
        write_pairs(tmp_path / name, pairs)
        assert read_pairs(tmp_path / name) == pairs
    write_pairs(tmp_path / "M_A.lst", pairs)
    assert (tmp_path / "M_A.lst").read_text().splitlines()[0] == "video7.mp4\t12\t16\tv_1 a.mkv\t3\t7"
    listed = read_pairs(tmp_path / "M_A.lst")
    assert [(p.test, p.train, p.test_start, p.train_start, p.window) for p in listed] == [
        (p.test, p.train, p.test_start, p.train_start, p.window) for p in pairs
    ]
    assert read_videos(tmp_path / "M_A.lst", "test") == ["video7.mp4", 'q",t']
    assert matching(["video7.mp4", "who"], ["a/video7", "video7", "b"]) == (
        {"video7.mp4": ["a/video7", "video7"]}, ["who"]
    )  # fmt: skip
    for name, text, said in (
        ("bad.jsonl", '{"test": "a"}\n', r"line 1 is no pair"),
        ("cut.jsonl", '{"test": "a", "tr', r"line 1 is not JSON"),
        ("bad.lst", "a\t1\tb\n", r"line 1 has 3 fields; wanted test file"),
        ("nan.jsonl", json.dumps({**pairs[0].as_json(), "score": float("nan")}), "not finite"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(CollectionError, match=said):
            read_pairs(tmp_path / name)


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    """A library of four test and five training videos with features, scanned and judged."""
    rng = np.random.default_rng(0)
    rows = ["video,caption,split"]
    frames = {f"t{i}": rng.normal(size=(9, 16)) for i in range(4)} | {
        f"r{i}": rng.normal(size=(9, 16)) for i in range(5)
    }
    frames["r1"][2:8] = frames["t2"][1:7]
    frames["r3"][0:6] = frames["t0"][3:9]
    frames["r4"] = frames["r3"].copy()
    for name, values in frames.items():
        rows.append(f"{name},a thing,{'test' if name[0] == 't' else 'train'}")
        frames[name] = values.astype(np.float32)
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    np.savez(tmp_path / "see.npz", **frames)
    from reelseek.library.arrays import import_features

    with Library.open(tmp_path / "lib", create=True) as library:
        add(library, [tmp_path / "rows.csv"], media=False)
        import_features(library, "see", [tmp_path / "see.npz"], modality="appearance", fps=1.0)
    _run("scan", tmp_path / "lib", "--test", "test", "--train", "train", "--pairs", tmp_path / "pairs.jsonl")
    said = Verdicts(tmp_path / "lib" / "decisions.jsonl")
    for pair in read_pairs(tmp_path / "pairs.jsonl")[:6]:
        same = (pair.test, pair.train) in {("t2", "r1"), ("t0", "r3")}
        said.record(pair, "duplicate" if same else "not" if pair.train != "r4" else "looked-at", "Ann")
    return tmp_path


def test_export_and_check_close_the_circle(judged: Path) -> None:
    lib, pairs = judged / "lib", judged / "pairs.jsonl"
    assert "t2" in _run("check", lib, "--test", "test", "--train", "train", code=1)
    shown = _run("export", pairs, "--out", judged / "clean", "--allow-open")
    assert "Second stage" in shown
    out = judged / "clean"
    assert (out / "train.clean.txt").read_text().split() == ["r0", "r2", "r4"]
    assert (out / "test.shared.txt").read_text().split() == ["t0", "t2"]
    assert (out / "test.clean.txt").read_text().split() == ["t1", "t3"]
    removed = list(csv.DictReader((out / "removed.csv").read_text().splitlines()))
    assert {(row["train"], row["test"], row["why"], row["who"]) for row in removed} == {
        ("r1", "t2", "duplicate", "Ann"),
        ("r3", "t0", "duplicate", "Ann"),
    }
    assert len(read_pairs(out / "test_train.lst")) == len(read_pairs(out / "test_train.csv")) == 2
    assert "| train | 6 | 2 | — |" in (out / "overlap.md").read_text()
    assert "duplicate" not in _run("check", lib, "--test", "test", "--train", "train", "--exclude", out / "removed.csv")
    (judged / "ids.csv").write_text("video,id\nr3,x\nr4,x\n")
    _run("export", pairs, "--out", judged / "more", "--ids", judged / "ids.csv", "--allow-open")
    assert (judged / "more" / "train.clean.txt").read_text().split() == ["r0", "r2"]
    # a list of the duplicates alone leaves what follows from them
    how = ["--test", "test", "--train", "train", "--ids", judged / "ids.csv"]
    left = _run("check", lib, *how, "--exclude", out / "test_train.lst", "--json", code=1)
    assert [json.loads(line)["train"] for line in left.splitlines()] == ["r4"]
    _run("check", lib, *how, "--exclude", judged / "more" / "removed.csv")
    with pytest.raises(UsageError, match="does not exist"):
        _run("check", lib, *how, "--verdicts", judged / "mistyped.jsonl")


def test_of_a_set_with_itself_the_later_video_leaves(judged: Path) -> None:
    lib, out = judged / "lib", judged / "self.jsonl"
    _run("scan", lib, "--test", "train", "--train", "train", "--out", out)
    said = Verdicts(lib / "decisions.jsonl")
    for pair in read_pairs(out):
        if {pair.test, pair.train} == {"r3", "r4"}:
            said.record(pair, "duplicate", "Ann")
    _run("export", out, "--out", judged / "self", "--allow-open")
    assert (judged / "self" / "train.clean.txt").read_text().split() == ["r0", "r1", "r2", "r3"]


def test_a_video_without_frames_leaks_into_no_other_set(tmp_path: Path) -> None:
    for name, seconds in (("test/x", 0), ("test/x2", 5), ("train/y", 5), ("train/z", 0)):
        (tmp_path / "f" / name).parent.mkdir(parents=True, exist_ok=True)
        rows = np.random.default_rng(len(name)).normal(size=(seconds, 4)).astype(np.float32)
        np.save(tmp_path / "f" / f"{name}.npy", rows)
    _run("scan", tmp_path / "f", "--test", "test", "--train", "train", "--out", tmp_path / "p.jsonl")
    _run("export", tmp_path / "p.jsonl", "--out", tmp_path / "clean", "--allow-open")
    assert (tmp_path / "clean" / "train.clean.txt").read_text().split() == ["train/y", "train/z"]
    assert (tmp_path / "clean" / "test.shared.txt").read_text() == ""
    (tmp_path / "g").symlink_to(tmp_path / "f")
    _run("scan", tmp_path / "g", "--test", "test", "--train", "train", "--out", tmp_path / "q.jsonl")
    _run("export", tmp_path / "p.jsonl", tmp_path / "q.jsonl", "--out", tmp_path / "two", "--allow-open")
    assert sorted(p.name for p in (tmp_path / "two").iterdir() if p.is_dir()) == ["f-test_f-train", "g-test_g-train"]


def test_verdicts_survive_a_new_scan_and_several_parts_make_one_table(judged: Path) -> None:
    lib, pairs = judged / "lib", judged / "pairs.jsonl"
    _run("scan", lib, "--test", "test", "--train", "train", "--window", "3", "--out", judged / "other.jsonl")
    _run("export", judged / "other.jsonl", "--out", judged / "again", "--allow-open")
    assert (judged / "again" / "train.clean.txt").read_text().split() == ["r0", "r2", "r4"]
    (judged / "some.txt").write_text("r0\nr1\n")
    _run("scan", lib, "--test", "test", "--train", judged / "some.txt", "--out", judged / "some.jsonl")
    _run("export", pairs, judged / "some.jsonl", "--out", judged / "both", "--allow-open")
    table = (judged / "both" / "overlap.md").read_text()
    assert "| train | 2 | 2 |" in table
    assert "| some | 1 | 1 |" in table
    assert (judged / "both" / "test_some" / "train.clean.txt").read_text().split() == ["r0"]
    with pytest.raises(UsageError, match="does not exist"):
        _run("export", judged / "none.jsonl", "--out", judged / "x")
    with pytest.raises(UsageError, match="2 files of pairs and 1 curves"):
        _run("export", pairs, judged / "some.jsonl", "--curve", judged / "c.json", "--out", judged / "x")


def test_an_export_with_open_pairs_says_so_and_fails(judged: Path) -> None:
    pairs = judged / "pairs.jsonl"

    def export(*options: object) -> Result:
        command = ["overlap", "export", str(pairs), "--out", str(judged / "c"), *map(str, options)]
        return CliRunner().invoke(app, command, catch_exceptions=False)

    done = export()
    assert done.exit_code == 1
    assert "14 of 20 pairs are open and not removed: 14 unseen" in done.stderr
    assert (judged / "c" / "train.clean.txt").is_file(), "what is known is written all the same"
    assert export("--allow-open").exit_code == 0
    said = _run("judge", pairs, "--below", 0.0, "--who", "Bea")
    assert "0 pairs below 0" in said
    said = _run("judge", pairs, "--below", 2.0, "--who", "Bea")
    assert "14 pairs below 2 are now not, by Bea" in said
    assert export().exit_code == 0
    log = Verdicts(judged / "lib" / "decisions.jsonl")
    (first,) = [pair for pair in read_pairs(pairs) if (pair.test, pair.train) == ("t2", "r1")]
    assert {opinion.who for opinion in log.opinions_on(pair_key("t2", "r1"))} == {"Ann"}, "judged pairs stay"
    log.record(first, "not", "Bea", key=("r1", "t2"))
    log.record(read_pairs(pairs)[3], "unsure", "Ann")
    done = export("--opinions", 1)
    assert done.exit_code == 1
    assert "2 of 20 pairs are open and not removed" in done.stderr
    assert "1 disputed" in done.stderr
    assert "1 unsure" in done.stderr
    assert "waiting for another opinion" in export("--opinions", 2).stderr
    with pytest.raises(UsageError, match="many at once take not"):
        _run("judge", pairs, "--below", 1.0, "--who", "Bea", "--verdict", "duplicate")
