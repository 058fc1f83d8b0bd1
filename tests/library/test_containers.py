"""Files of arrays that strangers made: hostile, huge, damaged or misnamed ones are one line each, and end nothing."""

import io
import random
import re
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from reelseek.errors import CollectionError, FeatureError
from reelseek.library import Library, add
from reelseek.library.arrays import import_features
from reelseek.library.readers import containers
from reelseek.library.readers.containers import open_archive, read_npy
from tests.typed import Run

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


def _header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f8", "i2", "u1", "bool"])
def test_npy_and_npz_are_read_as_numpy_reads_them(dtype: str, tmp_path: Path) -> None:
    arrays = {"c": VALUES.astype(dtype), "f": np.asfortranarray(VALUES.astype(dtype)), "none": np.zeros((0, 3), dtype)}
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    with open_archive(tmp_path / "x.npz") as archive:
        assert archive.names == list(arrays)
        for name, array in arrays.items():
            np.save(tmp_path / "x.npy", array)
            for back in (archive.read(name), read_npy(tmp_path / "x.npy")):
                np.testing.assert_array_equal(back, array)
                assert back.dtype == array.dtype


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_header("(2000000000000,)"), "too much for one array|ends early"),
        (_header("(4000000000, 4000000000)"), "too much"),
        (_header("(-1, 3)") + bytes(64), "shape"),
        (_header("(2, 3)") + bytes(23), "ends early"),
        (_header("(2,)", "'|O'") + bytes(16), "objects, which only a pickle"),
        (_header("(2,)", "[('a', '<f4'), ('b', '|O')]") + bytes(32), "records"),
        (_header("(2,)", "'<U4'") + bytes(32), "wanted numbers"),
    ],
)
def test_headers_are_checked_before_memory_is_taken(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(FeatureError, match=message):
        read_npy(tmp_path / "x.npy")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", data)
    with open_archive(tmp_path / "x.npz") as opened, pytest.raises(FeatureError, match=message):
        opened.read("a")


def test_archives_that_inflate_beyond_measure_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros((10_000, 1000), np.float32))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", (10**9, 512), np.float32, chunks=(1, 512))  # nothing of it was ever written
    for name in ("x.npz", "x.h5"):
        with open_archive(tmp_path / name) as archive, pytest.raises(FeatureError, match="too much for one array"):
            archive.read("a")
    monkeypatch.setattr(containers, "available_memory", lambda: 0)
    np.save(tmp_path / "x.npy", np.zeros(2**26 + 1, np.float32))
    with pytest.raises(FeatureError, match="too much"):
        read_npy(tmp_path / "x.npy")


def test_hdf5_opens_no_other_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(np.full(6, 7, np.float32).tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = VALUES
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["good/a"] = VALUES
        file.create_dataset("outside", (2, 3), np.float32, external=[(str(secret), 0, 24)])
        file["far"] = h5py.ExternalLink("other.h5", "a")
        file["soft"], file["loop"] = h5py.SoftLink("/good/a"), h5py.SoftLink("/loop")
        file["good/self"] = file["/"]
        layout = h5py.VirtualLayout((2, 3), np.float32)
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "a", (2, 3))
        file.create_virtual_dataset("virtual", layout)
        file["words"] = np.array([b"a", b"b"], object)
        file.create_dataset("reference", data=file["good"].ref, dtype=h5py.ref_dtype)
        file["nothing"] = h5py.Empty("f4")
    messages = {
        "outside": "data in other files", "virtual": "data in other files", "far": "link to another", "soft": "link to",
        "loop": "link to another", "words": "wanted numbers", "reference": "wanted numbers", "nothing": "no shape",
    }  # fmt: skip
    with open_archive(tmp_path / "x.h5") as archive:
        assert set(archive.names) == {"good/a", *messages}
        assert archive.read("good/a").tolist() == VALUES.tolist()
        for name, message in messages.items():
            with pytest.raises(FeatureError, match=message):
                archive.read(name)


def _damaged(folder: Path) -> dict[str, str]:
    """Files that cannot be read, each with what is to be said of it."""
    np.savez(folder / "v1.npz", VALUES)
    np.save(folder / "whole.npy", VALUES)
    whole = (folder / "v1.npz").read_bytes()
    with h5py.File(folder / "v1.h5", "w") as file:
        file["v1"] = VALUES
    encrypted = bytearray(whole)
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[whole.index(mark) + place] |= 1
    (folder / "locked.npz").write_bytes(encrypted)
    (folder / "half.npz").write_bytes(whole[:100])
    (folder / "half.h5").write_bytes((folder / "v1.h5").read_bytes()[:900])
    (folder / "half.npy").write_bytes((folder / "whole.npy").read_bytes()[:-5])
    (folder / "zip.npy").write_bytes(whole)
    (folder / "npy.npz").write_bytes((folder / "whole.npy").read_bytes())
    (folder / "empty.h5").write_bytes(b"")
    (folder / "v1.h5").unlink()
    return {
        "locked.npz": "is encrypted", "half.npz": "cannot be read", "half.h5": "cannot be read", "empty.h5": "no HDF5",
        "zip.npy": r"\.npz by its first bytes; rename", "npy.npz": r"\.npy by its first bytes; rename",
    }  # fmt: skip


def test_damaged_files_are_one_line_each_and_the_rest_is_imported(tmp_path: Path, run: Run) -> None:
    (tmp_path / "rows.csv").write_text("video,caption\nv1,x\nhalf,y\n")
    (tmp_path / "f").mkdir()
    messages = _damaged(tmp_path / "f")
    with Library.open(tmp_path / "lib", create=True) as library:
        add(library, [tmp_path / "rows.csv"], media=False)
    ended = run("features", "import", tmp_path / "lib", "see", tmp_path / "f", "--modality", "motion", code=1)
    assert "1 tracks of see imported, 7 failed" in ended.stdout
    lines = [line for line in ended.stderr.splitlines() if line.startswith("failed: ")]
    assert len(lines) == 7
    for name, message in {**messages, "half": "ends early"}.items():
        assert any(name in line and re.search(message, line) for line in lines), name


def test_mutated_files_end_in_words_and_the_import_goes_on(tmp_path: Path) -> None:
    rng = random.Random(4)
    stream = io.BytesIO()
    np.savez_compressed(stream, v1=VALUES, v2=VALUES)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["v1"], file["g/features"] = VALUES, VALUES
        file.create_dataset("v2", data=np.ones((40, 30)), compression="gzip", chunks=(7, 7))
    np.save(tmp_path / "x.npy", VALUES)
    sources = {".npz": stream.getvalue(), **{s: (tmp_path / f"x{s}").read_bytes() for s in (".h5", ".npy")}}
    folder = tmp_path / "f"
    folder.mkdir()
    for number in range(150):
        suffix = rng.choice(list(sources))
        data = bytearray(sources[suffix])
        for _ in range(rng.choice((1, 4, 30))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        cut = rng.randrange(1, len(data)) if rng.random() < 0.15 else len(data)
        (folder / f"m{number}{suffix}").write_bytes(data[:cut])
    (tmp_path / "rows.csv").write_text("video,caption\nv1,x\nv2,y\ng,z\nlast,z\n")
    np.save(folder / "zz.npy", VALUES)
    np.save(tmp_path / "last.npy", VALUES)
    with Library.open(tmp_path / "lib", create=True) as library:
        add(library, [tmp_path / "rows.csv"], media=False)
        report = import_features(library, "see", [folder, tmp_path / "last.npy"], modality="motion")
        assert "id:last" in {row.owner for row in library.track_rows("see")}
    assert report.failed
    assert not [why for _, why in report.failed if "\n" in why]


def test_a_file_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_bytes(b"text")
    with pytest.raises(CollectionError, match="no HDF5 file"):
        open_archive(tmp_path / "x.h5")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("README", "x")
    with open_archive(tmp_path / "x.npz") as opened, pytest.raises(FeatureError, match="no array"):
        opened.read("README")


def test_a_header_that_does_not_end_is_damage_in_words(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 4L, "
    path = tmp_path / "v.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(48))
    with pytest.raises(CollectionError, match=r"v\.npy cannot be read"):
        read_npy(path)
