"""One rule says which video a name means, on the command line as in tables, lists, features and steps."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from reelseek.errors import UsageError
from reelseek.library import Library, add
from reelseek.library.arrays import import_features
from reelseek.library.collection import Entry, read_collection
from reelseek.library.datasets import import_annotations
from reelseek.library.names import Names

CAFE = "caf\u00e9"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """Rows without files: ids with folders, with and without endings, and one id in two forms."""
    rows = ["day1/a.mp4", "day2/a.mp4", "day2/b.avi", "set/video7", f"x/{CAFE}.mp4", "clip.5"]
    table = tmp_path / "videos.csv"
    table.write_text("video\n" + "\n".join(rows) + "\n", "utf-8")
    with Library.open(tmp_path / "library", create=True) as opened:
        add(opened, [table], media=False)
        yield opened


RESOLVED = {
    "day1/a.mp4": "day1/a.mp4",
    r"day1\a.mp4": "day1/a.mp4",
    "day1/a": "day1/a.mp4",
    "b.avi": "day2/b.avi",
    "b": "day2/b.avi",
    "video7": "set/video7",
    "clip.5": "clip.5",
    unicodedata.normalize("NFD", f"x/{CAFE}.mp4"): f"x/{CAFE}.mp4",
    unicodedata.normalize("NFD", CAFE): f"x/{CAFE}.mp4",
}


@pytest.mark.parametrize("name", RESOLVED)
def test_a_name_means_the_same_video_everywhere(library: Library, tmp_path: Path, name: str) -> None:
    assert library.video(name).id == RESOLVED[name]
    assert [video.id for video in library.names().matches(name)] == [RESOLVED[name]]
    if "/" not in name and "\\" not in name:
        np.save(tmp_path / f"{name}.npy", np.ones((2, 4), np.float32))
        report = import_features(library, "mine", [tmp_path / f"{name}.npy"], modality="motion")
        assert (report.imported, report.unmatched, report.ambiguous) == (1, [], [])
        assert library.track_rows("mine")[0].owner == f"id:{RESOLVED[name]}"
    assert library.remove([name]) == [RESOLVED[name]]


@pytest.mark.parametrize(
    "name", ["", "c", ".mp4", "mp4", "day", "day3/a.mp4", "y1/a.mp4", "b.mp4", "a.mp4/", "clip", "/"]
)
def test_a_part_of_a_name_or_another_ending_means_nothing(library: Library, name: str) -> None:
    with pytest.raises(UsageError, match="has no video"):
        library.video(name)


@pytest.mark.parametrize("name", ["a", "a.mp4"])
def test_a_name_of_several_is_refused_with_all_of_them(library: Library, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"could be day1/a\.mp4, day2/a\.mp4"):
        library.video(name)
    with pytest.raises(UsageError, match=r"could be day1/a\.mp4, day2/a\.mp4"):
        library.remove(["b", name])
    assert library.get("day2/b.avi") is not None  # nothing is removed where a name is refused
    np.save(tmp_path / f"{name}.npy", np.ones((2, 4), np.float32))
    report = import_features(library, "mine", [tmp_path / f"{name}.npy"], modality="motion")
    ((label, message),) = report.ambiguous
    assert (report.imported, label) == (0, name)
    assert "day1/a.mp4, day2/a.mp4" in message


@pytest.mark.parametrize("name", ["\ud800", "day1/\udcff.mp4", "a\udfff", "/films/\ud800/a.mp4"])
def test_a_name_that_cannot_be_written_down_means_nothing(library: Library, name: str) -> None:
    with pytest.raises(UsageError, match="has no video '") as raised:
        library.video(name)
    str(raised.value).encode()
    assert library.get(name) is None


def test_a_row_that_could_be_several_files_is_lost_with_their_names(tmp_path: Path, make_video) -> None:
    for folder in ("one", "two"):
        (tmp_path / "films" / folder).mkdir(parents=True)
        make_video(f"films/{folder}/a.mp4")
    make_video("films/b.mp4")
    table = tmp_path / "captions.csv"
    table.write_text("video,caption\na,which of them\nb,only one\none/a,this one\n", "utf-8")
    collection = read_collection([tmp_path / "films"], table)
    assert [(caption.video, caption.text) for caption in collection.captions] == [
        ("b", "only one"),
        ("one/a", "this one"),
    ]
    (problem,) = collection.problems
    assert problem.lost
    assert problem.place.endswith("captions.csv, line 2")
    assert "one/a.mp4" in problem.message
    assert "two/a.mp4" in problem.message
    assert (collection.rows, collection.lost_rows) == (2, 1)


@pytest.fixture
def two_forms(tmp_path: Path) -> Library:
    """Two ids that differ in the form of their letters and in nothing else."""
    table = tmp_path / "videos.csv"
    table.write_text(f"video\nday/{CAFE}\n{unicodedata.normalize('NFD', f'day/{CAFE}')}\n", "utf-8")
    with Library.open(tmp_path / "library", create=True) as opened:
        add(opened, [table], media=False)
        assert len(opened.videos()) == 2
        yield opened


def test_exact_letters_tell_two_forms_apart_and_a_third_is_refused(two_forms: Library, tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        name = unicodedata.normalize(form, f"day/{CAFE}")
        assert two_forms.video(name).id == name
        assert two_forms.video(name.removeprefix("day/")).id == name
    third = f"day\\{CAFE}"
    with pytest.raises(UsageError, match="could be"):
        two_forms.video(third)
    table = tmp_path / "captions.csv"
    table.write_text(f"video,caption\n{third},\"['one', 'two']\"\n{third},three\nday/{CAFE},another\n", "utf-8")
    report = add(two_forms, [], captions=table, media=False)
    assert (report.captions, report.rows, report.lost_rows, report.unmatched) == (1, 1, 2, [])
    ((place, _, reason),) = report.failed
    assert (place, "could be" in reason) == (third, True)
    assert len(two_forms.videos()) == 2


def test_annotations_refuse_a_name_of_several(two_forms: Library, tmp_path: Path) -> None:
    listed = tmp_path / "train.txt"
    listed.write_text(f"day\\{CAFE}\n", "utf-8")
    before = two_forms.revision()
    with pytest.raises(UsageError, match="could be"):
        import_annotations(two_forms, "umi", [listed])
    assert two_forms.revision() == before


def test_names_of_entries_with_one_id_and_of_paths_from_elsewhere(tmp_path: Path) -> None:
    paths = [tmp_path / "one" / "a.mp4", tmp_path / "two" / "a.mp4", tmp_path / "two" / "odd.xyz"]
    entries = [Entry("a.mp4", paths[0]), Entry("a.mp4", paths[1]), Entry("odd.xyz", paths[2])]
    assert Names((entry.path, entry.id, entry.path) for entry in entries).matches("odd") == ()
    names = Names(((entry.path, entry.id, entry.path) for entry in entries), any_suffix=True)
    assert names.matches("a.mp4") == (paths[0], paths[1])
    assert names.matches("one/a") == (paths[0],)
    assert names.matches("odd") == (paths[2],)
    assert names.at(tmp_path / "two" / ".." / "two" / "a.mp4") == paths[1]
    assert names.from_elsewhere(r"D:\films\two\a.mp4") == (paths[1],)
    assert names.from_elsewhere(r"D:\films\a.mp4") == ()


def test_nearest_follows_folders_as_far_as_both_tell_them() -> None:
    names = Names((name, name, None) for name in ("v1", "a/v2", "b/v2.avi", "c/d/v3.mp4", "1.264", "v4", "a/v4"))
    assert names.nearest("v1.mp4") == ("v1",)
    assert names.nearest("v2") == ("a/v2", "b/v2.avi")
    assert names.nearest("b/v2.webm") == ("b/v2.avi",)
    assert names.nearest("x/c/d/v3.mkv") == ("c/d/v3.mp4",)
    assert names.nearest("x/d/v3") == ()
    assert names.nearest("x/a/v4.mp4") == ("a/v4",)  # which tells most; `v4` alone does not contradict it
    assert names.nearest("1") == ()  # a number is no ending of a file
