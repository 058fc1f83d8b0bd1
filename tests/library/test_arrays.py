"""Features that users already have."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
import pytest

from reelseek.errors import CollectionError, FeatureError, UsageError
from reelseek.experts.expert import Track
from reelseek.library import Library, add
from reelseek.library.arrays import import_features
from reelseek.library.tokens import Clip, Steps, TokenReader


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Library]:
    table = tmp_path / "rows.csv"
    table.write_text("video,caption\na,one\nb.mp4,two\nc,three\n")
    with Library.open(tmp_path / "lib", create=True) as library:
        add(library, [table], media=False)
        yield library


def _write(folder: Path, **arrays: np.ndarray) -> Path:
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def test_npy_npz_and_hdf5(rows: Library, tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    report = import_features(
        rows, "s3d", [_write(tmp_path / "f", a=values, b=values[0], z=values)], modality="motion", fps=2
    )
    assert (report.imported, report.unmatched, report.failed) == (2, ["z"], [])
    reader = TokenReader(rows, ["s3d"])
    found, spans = reader.steps(Clip("a"), "s3d")
    np.testing.assert_array_equal(found, values)
    np.testing.assert_allclose(spans[:, 0], [0, 0.5, 1, 1.5])
    assert reader.steps(Clip("b.mp4"), "s3d")[1].tolist() == [[0.0, 0.5]]
    np.savez(tmp_path / "all.npz", a=values, c=values)
    assert import_features(rows, "zip", [tmp_path / "all.npz"], modality="object").imported == 2
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file["group/a"], file["c"] = values, values
    report = import_features(rows, "h5", [tmp_path / "all.h5"], modality="audio")
    assert (report.imported, report.unmatched) == (1, ["group/a"])


def test_what_cannot_be_imported_says_why(rows: Library, tmp_path: Path) -> None:
    bad = np.full((2, 3), np.nan, np.float32)
    folder = _write(tmp_path / "f", a=bad, b=np.zeros((2, 4)), c=np.zeros((2, 5)))
    report = import_features(rows, "mixed", [folder], modality="scene")
    assert report.imported == 1
    assert "NaN" in dict(report.failed)["a"]
    assert "5 columns where this expert's other arrays have 4" in dict(report.failed)["c"]
    np.save(tmp_path / "f" / "a.npy", np.array([{"x": 1}], object))
    assert "pickle" in str(dict(import_features(rows, "mixed", [folder], modality="scene").failed)["a"])
    with pytest.raises(UsageError, match="unknown modality"):
        import_features(rows, "x", [folder], modality="smell")
    with pytest.raises(CollectionError, match="no such file"):
        import_features(rows, "x", [tmp_path / "nowhere"], modality="scene")
    (tmp_path / "broken.h5").write_bytes(b"not hdf5")
    with pytest.raises(CollectionError, match="cannot be read"):
        import_features(rows, "x", [tmp_path / "broken.h5"], modality="scene")


def test_an_extracting_expert_is_not_overwritten(library: Library, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name of their own"):
        import_features(library, "motion", [tmp_path], modality="motion")


def test_long_tracks_are_averaged_and_spans_cut_to_the_clip(rows: Library, tmp_path: Path) -> None:
    values = np.repeat(np.arange(6, dtype=np.float32), 10)[:, None]
    import_features(rows, "long", [_write(tmp_path / "f", a=values)], modality="audio", fps=10)
    batch = TokenReader(rows, ["long"], most_steps=6).batch([Clip("a"), Clip("c"), Clip("a", 2.0, 3.0)])["long"]
    np.testing.assert_allclose(batch.values[0, :, 0], [0, 1, 2, 3, 4, 5])
    assert batch.present.sum(1).tolist() == [6, 0, 6]
    assert (batch.values[2][batch.present[2]] == 2).all()
    assert float(batch.spans[2].max()) <= 1.0 + 1e-6


def test_steps_refuse_nan_where_present() -> None:
    import torch

    values, present, spans = torch.full((1, 1, 2), torch.nan), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, 2)
    with pytest.raises(FeatureError, match="NaN"):
        Steps(values, present, spans)
    assert (Steps(values, ~present, spans).clean == 0).all()
    with pytest.raises(FeatureError, match="do not fit"):
        Steps(values, present, spans[:, :0])


def test_one_broken_archive_in_a_folder_ends_nothing(rows: Library, tmp_path: Path) -> None:
    folder = _write(tmp_path / "f", a=np.ones((2, 3)))
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    (folder / "b.npy").write_bytes(
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (2000000000000,)}"
    )
    report = import_features(rows, "mix", [folder], modality="scene")
    assert report.imported == 1
    assert report.failed or report.unmatched
    table = tmp_path / "lines.jsonl"
    table.write_text('{"video": "a", "caption": "new"}\n{bad\n')
    added = add(rows, [table], media=False)
    assert (added.captions, len(added.failed)) == (1, 1)
    assert "line 2" in added.failed[0][2]


# Names


MakeLibrary = Callable[..., Library]


@pytest.fixture
def make_library(tmp_path: Path) -> Iterator[MakeLibrary]:
    """Begin a library of some videos without media."""
    with ExitStack() as stack:

        def make(*videos: str) -> Library:
            folder = tmp_path / "l"
            folder.mkdir()
            (folder / "rows.csv").write_text("video,caption\n" + "".join(f"{video},x\n" for video in videos))
            library = stack.enter_context(Library.open(folder / "lib", create=True))
            add(library, [folder / "rows.csv"], media=False)
            return library

        yield make


def _owners(library: Library, expert: str) -> set[str]:
    return {row.owner.removeprefix("id:") for row in library.track_rows(expert)}


VALUES = np.ones((2, 3), np.float32)


def test_a_file_or_a_group_names_the_video_where_the_key_is_generic(make_library: MakeLibrary, tmp_path: Path) -> None:
    library = make_library("v1", "v2", "v3", "v4", "v5", "v6")
    folder = tmp_path / "f"
    (folder / "v3").mkdir(parents=True)
    np.savez(folder / "v1.npz", features=VALUES)
    np.savez(folder / "v2.npz", VALUES)
    np.save(folder / "v3" / "features.npy", VALUES)
    np.savez(folder / "v4.npz", slowfast=VALUES)  # its one array, whatever it is called
    with h5py.File(folder / "all.h5", "w") as file:
        file["v5/feat"], file["features/v6"] = VALUES, VALUES
    report = import_features(library, "see", [folder], modality="motion")
    assert (report.unmatched, report.ambiguous, report.failed) == ([], [], [])
    assert _owners(library, "see") == {"v1", "v2", "v3", "v4", "v5", "v6"}
    with h5py.File(tmp_path / "c3d.hdf5", "w") as file:
        file["v1/c3d_pooled"], file["v2/c3d_pooled"] = VALUES, VALUES
    assert import_features(library, "c3d", [tmp_path / "c3d.hdf5"], modality="motion").imported == 2


def test_ids_keep_their_dots(make_library: MakeLibrary, tmp_path: Path) -> None:
    library = make_library("clip.5", "film.7.mp4")
    folder = _write(tmp_path / "f", **{"clip": VALUES, "clip.5": VALUES, "film.7": VALUES, "film": VALUES})
    report = import_features(library, "see", [folder], modality="motion")
    assert report.unmatched == ["clip", "film"]
    assert _owners(library, "see") == {"clip.5", "film.7.mp4"}


def test_a_name_that_fits_several_is_never_guessed(make_library: MakeLibrary, tmp_path: Path) -> None:
    library = make_library("a/x.mp4", "b/x.mp4", "v1", "v2")
    folder = _write(tmp_path / "f", x=VALUES, v2=VALUES)
    np.savez(folder / "v1.npz", one=VALUES, two=VALUES)
    (folder / "more").mkdir()
    np.savez(folder / "more" / "keys.npz", v2=VALUES, nobody=VALUES)
    report = import_features(library, "see", [folder], modality="motion")
    assert _owners(library, "see") == {"v2"}
    assert {name for name, _ in report.ambiguous} == {"x", "one", "two"}
    assert "a/x.mp4, b/x.mp4" in dict(report.ambiguous)["x"]
    assert report.unmatched == ["nobody"]
    assert "has see from" in dict(report.failed)["v2"]


# What imported features are


@pytest.mark.parametrize("first", ["float16", "float32"])
def test_containers_and_types_of_numbers_are_one_expert(make_library: MakeLibrary, first: str, tmp_path: Path) -> None:
    library = make_library("a", "b", "c")
    with h5py.File(tmp_path / "one.h5", "w") as file:
        file["a"] = VALUES.astype(first)
    other = "float32" if first == "float16" else "float16"
    folder = _write(tmp_path / "f", b=np.full((2, 3), 0.1, other))
    import_features(library, "see", [tmp_path / "one.h5"], modality="motion")
    report = import_features(library, "see", [folder], modality="motion")
    assert (report.imported, report.rounded) == (1, int(first == "float16"))
    assert len(library.experts()["see"]["fingerprints"]) == 1
    assert {row.dtype for row in library.track_rows("see")} == {first}
    np.save(tmp_path / "f" / "c.npy", np.full((2, 3), 1e6, np.float32))
    failed = dict(import_features(library, "see", [tmp_path / "f" / "c.npy"], modality="motion").failed)
    assert ("beyond float16" in failed.get("c", "")) == (first == "float16")


def test_a_library_of_two_fingerprints_opens_and_is_made_one(make_library: MakeLibrary, tmp_path: Path) -> None:
    library = make_library("a", "b", "c")
    with library.writing(), library.saving():
        for video, dtype in (("a", "float16"), ("b", "float32")):
            identity = json.dumps(["see", "motion", 2.0, 3, dtype])
            earlier = f"see:import-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
            track = Track(np.full((2, 3), 0.5, dtype), np.array([[0, 0.5], [0.5, 1]]))
            library.put_track(f"id:{video}", "see", earlier, "motion", track)
    assert len(library.experts()["see"]["fingerprints"]) == 2
    import_features(library, "see", [_write(tmp_path / "f", c=VALUES)], modality="motion", fps=2.0)
    reader = TokenReader(library, ["see"])
    assert reader.steps(Clip("a"), "see")[0].tolist() == [[0.5] * 3] * 2
    assert {row.dtype for row in library.track_rows("see")} == {"float32"}


def test_another_kind_of_features_is_refused_before_anything_is_written(
    make_library: MakeLibrary, tmp_path: Path
) -> None:
    library = make_library("a", "b")
    folder = _write(tmp_path / "f", a=VALUES)
    import_features(library, "see", [folder], modality="motion", fps=2.0)
    before = library.digest()
    np.save(folder / "b.npy", VALUES)
    for modality, fps, message in (("scene", 2.0, "is of motion, and this is scene"), ("motion", 1.0, "--fps 1.0")):
        with pytest.raises(UsageError, match=f"{message}.*remove .* --expert see"):
            import_features(library, "see", [folder], modality=modality, fps=fps)
    wide = _write(tmp_path / "w", a=np.ones((2, 4)), b=np.ones((2, 4)))
    report = import_features(library, "see", [wide], modality="motion", fps=2.0)
    assert report.imported == 0
    assert all("remove LIBRARY --expert" in why for _, why in report.failed)
    assert library.digest() == before
