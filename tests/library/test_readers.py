"""Published annotations, lists and feature files, made here in their own layouts; real split lists if at hand."""

import json
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from reelseek.errors import CollectionError, UsageError
from reelseek.library import Library
from reelseek.library.datasets import check_data, import_annotations, import_feature_files
from reelseek.library.readers import ANNOTATIONS, FEATURES, read_annotations, read_feature_files, read_pickle
from reelseek.training.data import read_split, split_names, training_splits


def _write(folder: Path, files: dict[str, object]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        elif isinstance(content, str):
            (folder / name).write_text(content, "utf-8")
        else:
            (folder / name).write_text(json.dumps(content), "utf-8")
    return [folder / name for name in files]


SENTENCES = [{"video_id": f"video{i}", "caption": f"caption {k} of {i}"} for i in range(4) for k in range(2)]
PARTS = ["train", "train", "validate", "test"]
FILES: dict[str, tuple[dict[str, object], dict[str, int], int]] = {
    "msrvtt": (
        {
            "MSRVTT_data.json": {
                "videos": [{"video_id": f"video{i}", "split": part} for i, part in enumerate(PARTS)],
                "sentences": SENTENCES,
            },
            "MSRVTT_train.9k.csv": "video_id\nvideo0\nvideo1\nvideo2\n",
            "MSRVTT_JSFUSION_test.csv": "key,vid_key,video_id,sentence\nret0,msr3,video3,a chosen one\n",
            "train_list_miech.txt": "video0\nvideo1",
            "test_list_miech.txt": "video3",
        },
        {
            "full/train": 2,
            "full/val": 1,
            "full/test": 1,
            "1k-a/train": 3,
            "1k-a/test": 1,
            "1k-b/train": 2,
            "1k-b/test": 1,
        },
        9,
    ),
    "msvd": (
        {
            "raw-captions.pkl": pickle.dumps(
                {"a_1_2": [["a", "cat"], ["two", "cats"]], "b_3_4": [["dog"]]}, protocol=2
            ),
            "train_list.txt": "a_1_2\n",
            "test_list.txt": "b_3_4",
        },
        {"train": 1, "test": 1},
        3,
    ),
    "lsmdc": (
        {
            "LSMDC16_annos_training.csv": "m1_00.01-00.02\t1\t2\t1\t2\tSOMEONE runs.\nbroken line\n",
            "LSMDC16_challenge_1000_publictect.csv": "m2_00.01-00.02\t1\t2\t1\t2\tHe sits.\n",
        },
        {"train": 1, "test": 1},
        2,
    ),
    "activitynet": (
        {
            "train.json": {"v_a": {"duration": 9.0, "timestamps": [[0, 4.5], [4, 9]], "sentences": [" One. ", "Two."]}},
            "val_1.json": {"v_b": {"duration": 9.0, "timestamps": [[0, 4.5]], "sentences": ["Three."]}},
            "val_2_list.txt": "v_b\n",
        },
        {"train": 1, "val1": 1, "val2": 1},
        3,
    ),
    "youcook2": (
        {
            "youcookii_annotations_trainval.json": {
                "database": {
                    "x": {
                        "subset": "training",
                        "annotations": [{"id": 0, "segment": [10, 20], "sentence": "cut onions"}],
                    },
                    "y": {
                        "subset": "validation",
                        "annotations": [{"id": 0, "segment": [1, 5], "sentence": "boil water"}],
                    },
                    "z": {"subset": "testing"},
                }
            },
        },
        {"train": 1, "val": 1, "test": 1},
        2,
    ),
    "didemo": (
        {
            "train_data.json": [{"video": "a.mov", "description": "a dog", "times": [[0, 0], [0, 1], [0, 1], [1, 2]]}],
            "test_data.json": [{"video": "b.mov", "description": "a cat", "times": []}],
        },
        {"train": 1, "test": 1},
        2,
    ),
    "vatex": (
        {"vatex_training_v1.0.json": [{"videoID": "x_000001_000011", "enCap": ["a", "b"], "chCap": ["c"]}]},
        {"train": 1},
        2,
    ),
    "tgif": (
        {
            "tgif-v1.0.tsv": "https://x.org/tumblr_1.gif\ta man\nhttps://x.org/tumblr_2.gif\ta hat\n",
            "train.txt": "https://x.org/tumblr_1.gif\n",
            "test.txt": "https://x.org/tumblr_2.gif\n",
        },
        {"train": 1, "test": 1},
        2,
    ),
    "vines": (
        {"vines.url.testingset": "1 https://vine.co/v/a\n2 https://vine.co/v/b\n", "test_A.txt": "1 a man\n2 a dog\n"},
        {"test": 2},
        2,
    ),
    "ssv2": (
        {
            "something-something-v2-train.json": [{"id": "1", "label": "pushing a cup", "template": "Pushing [x]"}],
            "something-something-v2-test.json": [{"id": "2"}],
            "something-something-v2-labels.json": {"Pushing [x]": "0"},
        },
        {"train": 1, "test": 1},
        1,
    ),
    "howto100m": (
        {"raw_caption.json": {"v": {"start": [0.5, 3], "end": [2.5, 5], "text": ["add salt", "stir"]}}},
        {"train": 1},
        2,
    ),
    "audioset": (
        {"eval_segments.csv": '# a\n# b\n# YTID, start, end, labels\nab, 30.0, 40.0, "/m/1,/m/2"\n'},
        {"eval": 1},
        0,
    ),
    "kinetics": (
        {"kinetics_train.csv": "label,youtube_id,time_start,time_end,split\nrunning,ab,1,11,train\n"},
        {"train": 1},
        1,
    ),
    "crosstask": (
        {"videos_val.csv": "105,ab,https://y\n", "tasks_primary.txt": "105\nMake\nurl\n2\na,b\n\n"},
        {"val": 1},
        1,
    ),
    "coot": (
        {
            "meta_all.json": {
                "k": {
                    "data_key": "k",
                    "duration_sec": 9,
                    "split": "train",
                    "segments": [{"text": "one", "start_sec": 0, "stop_sec": 3}],
                }
            }
        },
        {"train": 1},
        1,
    ),
    "umi": ({"audio+ocr.txt": "video1\nvideo2\n"}, {"audio+ocr": 2}, 0),
}


def test_a_clean_list_is_a_split_of_its_own_and_ids_of_no_video_are_counted(tmp_path: Path) -> None:
    files = _write(tmp_path, {
        "MSRVTT_data.json": FILES["msrvtt"][0]["MSRVTT_data.json"],
        "train_list_full_clean.txt": "video1\nnobody\nvideo1\n",
        "train_list_full.txt": "video0\nvideo1\n",
    })  # fmt: skip
    with Library.open(tmp_path / "lib", create=True) as library:
        report = import_annotations(library, "msrvtt", files[:2])
        notices = [(notice.place, notice.message) for notice in report.problems]
        assert (
            "full-clean/train",
            "1 of 2 ids of the list have no caption and were no videos before: nobody",
        ) in notices
        repeated = "1 of 3 lines name a video that an earlier line names; it counts once"
        assert notices.count(("train_list_full_clean.txt", repeated)) == 1
        import_annotations(library, "msrvtt", files[2:])  # both can be trained on, by their names
        members = library.memberships()
        assert members["full/train"] == ["video0", "video1"]
        assert members["full-clean/train"] == ["video1", "nobody"]
        assert len(read_split(library, "full-clean/train").texts) == 2


def test_every_dataset_is_read_here() -> None:
    assert set(FILES) == set(ANNOTATIONS)


@pytest.mark.parametrize("kind", sorted(FILES))
def test_annotations_are_counted_exactly_and_twice_is_once(kind: str, tmp_path: Path) -> None:
    files, splits, captions = FILES[kind]
    paths = _write(tmp_path / "in", files)
    found = read_annotations(kind, paths)
    assert {name: len(rows) for name, rows in found.splits.items()} == splits
    assert len(found.captions) == captions
    assert len(read_annotations(kind, [tmp_path / "in"]).captions) == captions
    with Library.open(tmp_path / "lib", create=True) as library:
        report = import_annotations(library, kind, paths)
        assert report.captions == captions
        again = import_annotations(library, kind, paths)
        assert (again.videos, again.captions) == (0, 0)
        assert {name: len(rows) for name, rows in library.memberships().items()} == splits
        about = check_data(library)
        assert {name: each["videos"] for name, each in about["splits"].items()} == splits
        assert not about["shared"]
        for name in splits:
            if captions and about["splits"][name]["captions"]:
                assert read_split(library, name).clips


def test_msrvtt_splits_ask_with_their_own_captions(tmp_path: Path) -> None:
    paths = _write(tmp_path / "in", FILES["msrvtt"][0])
    with Library.open(tmp_path / "lib", create=True) as library:
        import_annotations(library, "msrvtt", paths, dataset="msrvtt")
        test = read_split(library, "msrvtt/1k-a/test")
        assert test.texts == ("a chosen one",)
        assert [clip.video for clip in test.clips] == ["msrvtt/video3"]
        assert len(read_split(library, "msrvtt/full/test").texts) == 2
        assert len(read_split(library, "msrvtt/1k-a/train").texts) == 6
        assert "msrvtt/1k-b/train" in split_names(library)
        train, validation = training_splits(library, "msrvtt/full/train", "msrvtt/full/val", 0.1)
        assert (len(train.clips), len(validation.clips)) == (2, 1)
        with pytest.raises(UsageError, match="must not be trained on"):
            training_splits(library, "msrvtt/full/train", "msrvtt/1k-a/train", 0.1)
        about = check_data(library)
        assert about["splits"]["msrvtt/full/train"]["expected_videos"] == 6513
        assert "msrvtt/full/train" in about["unexpected"]


@pytest.mark.parametrize(
    ("kind", "folder", "wanted"),
    [
        (
            "msrvtt",
            "msrvtt",
            {
                "full/train": 6513,
                "full/val": 497,
                "full/test": 2990,
                "1k-a/train": 9000,
                "1k-a/test": 1000,
                "1k-b/train": 6656,
                "1k-b/test": 1000,
            },
        ),
        ("msvd", "msvd", {"train": 1200, "val": 100, "test": 670}),
        ("didemo", "didemo", {"train": 8392, "val": 1065, "test": 1004}),
        ("activitynet", "activity-net", {"train": 10009, "val1": 4917, "val2": 4885}),
    ],
)
def test_real_split_lists_have_their_published_counts(
    kind: str, folder: str, wanted: dict[str, int], shared_data: Path, tmp_path: Path
) -> None:
    with Library.open(tmp_path / "lib", create=True) as library:
        assert import_annotations(library, kind, [shared_data / "splits" / folder]).splits == wanted
        about = check_data(library)
    assert not about["unexpected"]
    assert not about["shared"]


def test_what_cannot_be_used_is_counted_or_refused(tmp_path: Path) -> None:
    (path,) = _write(tmp_path, {"train.json": {"v": {"timestamps": [[3, 3], [0, 2]], "sentences": ["x", "  "]}}})
    found = read_annotations("activitynet", [path])
    assert [problem.message for problem in found.problems] == ["a caption from 3 to 3 seconds", "an empty caption"]
    (path,) = _write(tmp_path, {"train_data.json": {"not": "didemo"}})
    with pytest.raises(CollectionError, match="not an annotation file of didemo"):
        read_annotations("didemo", [path])
    (path,) = _write(tmp_path, {"mystery.json": {}})
    with pytest.raises(UsageError, match="which split is it"):
        read_annotations("activitynet", [path])
    with pytest.raises(UsageError, match="no annotations are called"):
        read_annotations("imagenet", [path])
    (path,) = _write(tmp_path, {"train_broken.json": "{"})
    with pytest.raises(CollectionError, match="cannot be read as JSON"):
        read_annotations("vatex", [path])


# Features


def _features(folder: Path) -> dict[str, list[Path]]:
    rng = np.random.default_rng(0)

    def rows(steps: int, dim: int) -> np.ndarray:
        return rng.normal(size=(steps, dim)).astype(np.float32)

    ce = {"a": rows(1, 6), "b": np.float64("nan"), "c": rows(1, 6)[0]}
    clips = [{"id": "a", "2d": rows(1, 8)[0], "2d_full": rows(3, 8), "3d": rows(4, 8), "audio": rows(40, 50)}]
    paths = _write(
        folder / "in",
        {
            "senet154-avg.pickle": pickle.dumps(ce, protocol=2),
            "face-max.pickle": pickle.dumps({"a": np.zeros(4, np.float32), "b": rows(1, 4)[0]}, protocol=2),
            "train.pkl": pickle.dumps(clips, protocol=4),
            "vggish.idx": "VIDEO\tmovies/a.mp4\n0.0\t1.0\n1.0\t2.0\nVIDEO\tb.mp4\n0.5\t1.5\n",
            "clip.pkl": pickle.dumps({"a": rows(12, 16), "b": None}),
        },
    )
    rows(3, 5).tofile(folder / "in" / "vggish.emb")
    with h5py.File(folder / "in" / "a.h5", "w") as file:
        file["features.s3d"], file["features_t.s3d"] = rows(3, 7), np.array([[0, 1], [1, 2], [2, 3]], float)
        file["features.ocr"], file["features_t.ocr"] = rows(2, 3), np.full((2, 2), -1.0)
        file["features.face"] = np.full((1, 4), np.nan, np.float32)
        file["raw_captions.0"] = np.array([b"a", b"cat"])
    with h5py.File(folder / "in" / "resnet.h5", "w") as file:
        file["a"], file["b"] = rows(5, 9), rows(2, 9)
    np.save(folder / "in" / "a.npy", rows(4, 3200))
    at = dict(zip(("ce", "mee", "eao", "mdmmt", "clip4clip"), paths, strict=True))
    more = {"mmt-features": "a.h5", "coot-features": "resnet.h5", "crosstask-features": "a.npy"}
    return {kind: [path] for kind, path in (at | {k: folder / "in" / n for k, n in more.items()}).items()}


WANTED = {
    "ce": (2, 1, {"senet154": 6}),
    "mee": (1, 1, {"face": 4}),
    "eao": (3, 0, {"eao-2d": 8, "eao-3d": 8, "spectrogram": 40}),
    "mdmmt": (2, 0, {"vggish": 5}),
    "clip4clip": (1, 1, {"clip4clip": 16}),
    "mmt-features": (2, 1, {"s3d": 7, "ocr": 3}),
    "coot-features": (2, 0, {"resnet": 9}),
    "crosstask-features": (3, 0, {"i3d": 1024, "resnet": 2048, "vggish": 128}),
}


@pytest.mark.parametrize("kind", sorted(FEATURES))
def test_feature_files_become_tracks(kind: str, tmp_path: Path) -> None:
    paths = _features(tmp_path)[kind]
    tracks, empty, dims = WANTED[kind]
    (tmp_path / "rows.csv").write_text("video,caption\na,x\nb,y\nc,z\n")
    with Library.open(tmp_path / "lib", create=True) as library:
        library.add([tmp_path / "rows.csv"], media=False)
        report = import_feature_files(library, kind, paths)
        assert (report.imported, report.empty, report.failed, report.unmatched) == (tracks, empty, [], [])
        assert {name: about["dim"] for name, about in library.experts().items()} == dims
        kinds = {name: about["modality"] for name, about in library.experts().items()}
        assert kinds.get("vggish", "audio") == kinds.get("spectrogram", "audio") == "audio"
        rows = {(row.owner, row.expert): row for row in library.track_rows()}
        if kind == "mmt-features":
            assert library.read(rows["id:a", "s3d"])[1].tolist() == [[0, 1], [1, 2], [2, 3]]
        if kind == "mdmmt":
            assert library.read(rows["id:b", "vggish"])[1].tolist() == [[0.5, 1.5]]
        if kind == "eao":
            assert rows["id:a", "eao-2d"].steps == 3
            assert rows["id:a", "spectrogram"].steps == 50


def test_features_of_nobody_and_broken_files_are_reported(tmp_path: Path) -> None:
    paths = _features(tmp_path)
    (tmp_path / "rows.csv").write_text("video,caption\nc,z\n")
    (tmp_path / "in" / "bad.h5").write_bytes(b"\x89HDF nonsense")
    with Library.open(tmp_path / "lib", create=True) as library:
        library.add([tmp_path / "rows.csv"], media=False)
        report = import_feature_files(library, "ce", paths["ce"])
        assert (report.imported, report.unmatched) == (1, ["a", "b"])
        report = import_feature_files(library, "mmt-features", [tmp_path / "in" / "bad.h5"])
        assert len(report.failed) == 1
        assert "bad.h5" in report.failed[0][0]
    with pytest.raises(CollectionError, match="no such file"):
        list(read_feature_files("ce", [tmp_path / "nowhere"]))
    with pytest.raises(UsageError, match="no features are called"):
        list(read_feature_files("jpeg", [tmp_path]))


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit",)


def test_a_hostile_pickle_builds_nothing(tmp_path: Path) -> None:
    for name, content in (("bomb", _Bomb()), ("path", Path("x")), ("nested", {"a": [_Bomb()]})):
        (tmp_path / f"{name}.pkl").write_bytes(pickle.dumps(content))
        with pytest.raises(CollectionError, match="only arrays, strings, numbers and containers"):
            read_pickle(tmp_path / f"{name}.pkl")
    (tmp_path / "half.pkl").write_bytes(pickle.dumps({"a": np.ones(100)})[:60])
    with pytest.raises(CollectionError, match="not a pickle that can be read"):
        read_pickle(tmp_path / "half.pkl")
    good = {"a": np.arange(6).reshape(2, 3), "b": [1, "x", None, {2}], "c": np.float32(3.5)}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "good.pkl").write_bytes(pickle.dumps(good, protocol=protocol))
        back = read_pickle(tmp_path / "good.pkl")
        assert back["b"] == good["b"]
        assert back["a"].tolist() == good["a"].tolist()
        assert back["c"] == 3.5
