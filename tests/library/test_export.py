"""A library as Parquet or Lance and back: the same digest, words and pictures; whole, or not at all."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as parquet
import pytest

from reelseek.errors import LibraryError, UsageError
from reelseek.experts.expert import Text, Track
from reelseek.library import Library
from reelseek.library.absent import absent_videos
from reelseek.library.caption_sets import CaptionFeatureSet, begin_caption_features, caption_feature_sets
from reelseek.library.export import FORMATS, caption_vectors, export_library, import_library
from reelseek.library.export import lake as lakes
from reelseek.library.export import write as writing
from reelseek.library.records import Caption
from reelseek.media.notice import Notice


def _track(rng: np.random.Generator, steps: int, dim: int, dtype: str, texts: tuple[Text, ...] = ()) -> Track:
    edges = np.arange(steps + 1, dtype=np.float64) / 3
    values = rng.normal(size=(steps, dim)).astype(dtype)
    return Track(values, np.stack([edges[:-1], edges[1:]], axis=1), texts=list(texts), note="made")


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """Twelve videos with tracks of two widths and precisions, one without steps, and all that tables hold."""
    path, rng = tmp_path / "library", np.random.default_rng(5)
    with Library.open(path, create=True) as library, library.writing(), library.saving():
        catalog = library.catalog
        for number in range(12):
            name, content = f"v{number:02d}.mp4", f"{number // 2:064x}"  # two files of each content
            catalog.videos.add(name)
            raw = b"/films/caf\xe9.mp4" if number == 3 else f"/films/{name}".encode()
            catalog.videos.set_file(name, Path(os.fsdecode(raw)), content, (number, 7), 4.5)
            catalog.captions.add([Caption(name, f"café {number}", 1.0, None, "train"), Caption(name, "two\nlines")])
            if number % 2:
                continue
            catalog.contents.add(content, {"format": "mp4"}, 4.5)
            catalog.contents.set_pictures(content, 4.5, [1.5], [(0.5, b"\xff\xd8jpeg")])
            catalog.contents.add_notices(content, [Notice("a.srt", "was guessed")])
            said = (Text("hello there", 0.0, 1.0, "speech", 0.5), Text("again", 1.0, 2.0, "speech", 0.25))
            library.put_track(content, "speech", "speech:1", "speech", _track(rng, number % 5, 3, "float32", said))
            library.put_track(f"id:{name}", "deep", "deep:import-1", "motion", _track(rng, 40, 16, "float16"))
        catalog.captions.add_members("test", ["v05.mp4", "v01.mp4"])
        catalog.set_expert_specs(["speech"])
        catalog.failures.put_reason("v00.mp4", "speech", "an older track stays")
        catalog.set_meta("absent", '["v01.mp4"]')
        features = begin_caption_features(path, "w2v", 4, "ce-text")
        captions = [replace(caption, split=None) for caption in catalog.captions.pages()]
        words = {caption: rng.normal(size=(1 + number % 3, 4)) for number, caption in enumerate(captions[:-1])}
        features.add({caption: values.astype(np.float32) for caption, values in words.items()})
    return path


def _facts(path: Path) -> dict[str, object]:
    with Library.open(path) as library:
        catalog = library.catalog
        return {
            "digest": library.digest(verify=True),
            "videos": catalog.videos.all(),
            "texts": [library.texts(f"{number:064x}") for number in range(6)],
            "words": sorted(match.text for match in catalog.texts.phrase_matches("hello")),
            "pictures": [library.thumbnail(f"{number:064x}", 0.0) for number in range(6)],
            "notices": library.notices(),
            "splits": library.memberships(),
            "specs": catalog.expert_specs(),
            "failures": library.failures(),
            "absent": absent_videos(catalog),
            "vectors": [_vectors(features, library) for features in caption_feature_sets(path)],
            "tracks": sorted((row.owner, row.expert, row.steps, row.dtype, row.note) for row in library.track_rows()),
        }


def _vectors(features: CaptionFeatureSet, library: Library) -> tuple[object, ...]:
    read = [features.read(replace(caption, split=None)) for caption in library.captions()]
    return (features.name, features.width, features.format, [None if row is None else row.digest for row in read])


@pytest.mark.parametrize("to", FORMATS)
def test_there_and_back_is_the_same_library(
    filled: Path, tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if to == "lance":
        pytest.importorskip("lance", reason="the extra `lance` is not installed")
    monkeypatch.setattr(writing, "_BATCH_BYTES", 700)  # batches end inside tracks
    monkeypatch.setattr(lakes, "_ROWS_A_BATCH", 7)  # and inside captions
    monkeypatch.setattr(caption_vectors, "CAPTIONS_AT_ONCE", 5)
    with Library.open(filled) as library:
        report = export_library(library, tmp_path / "lake", to=to)
    rows = import_library(tmp_path / "back", tmp_path / "lake")
    assert _facts(tmp_path / "back") == _facts(filled)
    assert rows["tracks"] == 12
    assert rows["caption-features/w2v"] == report.rows["caption-features/w2v"] == 45
    assert report.rows["tracks/deep-import-1"] == 240
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "lake", "library"], "nothing half-made stays"


def test_other_tools_read_the_tables(filled: Path, tmp_path: Path) -> None:
    with Library.open(filled) as library:
        export_library(library, tmp_path / "lake")
        row = next(row for row in library.track_rows("deep") if row.owner == "id:v02.mp4")
        values = library.read(row)[0]
    lake = tmp_path / "lake"
    kinds = {str(parquet.read_schema(path).field("values").type) for path in (lake / "tracks").iterdir()}
    assert {kind.partition("<")[0] for kind in kinds} == {"fixed_size_list"}
    assert any("halffloat" in kind and "[16]" in kind for kind in kinds)
    query = f"""SELECT v.id, step, t."values" FROM '{lake}/videos.parquet' v
        JOIN '{lake}/tracks/deep-import-1.parquet' t ON t.owner = 'id:' || v.id WHERE v.id = 'v02.mp4' ORDER BY step"""
    joined = duckdb.sql(query).fetchall()
    assert [step for _, step, _ in joined] == list(range(40))
    np.testing.assert_array_equal(np.array([cells for _, _, cells in joined], np.float16), values)
    assert duckdb.sql(f"SELECT count(*) FROM '{lake}/captions.parquet' WHERE text LIKE 'café%'").fetchone() == (12,)


def test_an_export_that_fails_leaves_nothing(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = tmp_path / ".lake.partial-999999999"
    killed.mkdir()
    with Library.open(filled) as library:

        def fill_disk(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(parquet.ParquetWriter, "write_batch", fill_disk)
            with pytest.raises(LibraryError, match="No space left on device; nothing of it stays"):
                export_library(library, tmp_path / "lake")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["library"]

        def change(*_: object) -> dict[str, int]:
            library.set_meta("experts", "[]")
            return {}

        with pytest.raises(LibraryError, match="was changed while it was exported"):
            export_library(library, tmp_path / "lake", more=change)
        export_library(library, tmp_path / "lake")
        with pytest.raises(UsageError, match="exists already"):
            export_library(library, tmp_path / "lake")
        with pytest.raises(UsageError, match="there are parquet, lance"):
            export_library(library, tmp_path / "other", to="orc")


def test_a_damaged_track_is_left_out_and_told(filled: Path, tmp_path: Path) -> None:
    shard = next(path for path in (filled / "tracks" / "deep-import-1").iterdir())
    raw = bytearray(shard.read_bytes())
    raw[5] ^= 0xFF
    shard.write_bytes(raw)
    with Library.open(filled) as library:
        report = export_library(library, tmp_path / "lake")
    assert len(report.damaged) == 1
    assert import_library(tmp_path / "back", tmp_path / "lake")["tracks"] == 11


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("cut", "missing or cut off"), ("values", "not those that were written"), ("missing", "cannot be read"),
        ("rows", "23 rows where 24 were written"), ("words", "another digest"), ("manifest", "of version 99"),
    ],
)  # fmt: skip
def test_a_damaged_export_is_refused_whole(filled: Path, tmp_path: Path, damage: str, message: str) -> None:
    lake = tmp_path / "lake"
    with Library.open(filled) as library:
        export_library(library, lake)
    values = lake / "tracks" / "deep-import-1.parquet"
    table = parquet.read_table(values)
    manifest = json.loads((lake / "export.json").read_text())
    if damage == "cut":
        parquet.write_table(table.slice(0, 100), values)
    elif damage == "values":
        column = table.column("values").combine_chunks()
        numbers = column.flatten().to_numpy().copy()
        numbers[7] += 1
        changed = type(column).from_arrays(numbers, column.type.list_size).cast(column.type)
        parquet.write_table(table.set_column(4, "values", changed), values)
    elif damage == "missing":
        (lake / "captions.parquet").unlink()
    elif damage == "rows":
        captions = parquet.read_table(lake / "captions.parquet")
        parquet.write_table(captions.slice(1), lake / "captions.parquet")
    elif damage == "words":
        captions = parquet.read_table(lake / "captions.parquet")
        texts = ["other words", *captions.column("text").to_pylist()[1:]]
        parquet.write_table(captions.set_column(2, "text", [texts]), lake / "captions.parquet")
    else:
        manifest["reelseek"] = 99
        (lake / "export.json").write_text(json.dumps(manifest))
    with pytest.raises(LibraryError if damage != "manifest" else UsageError, match=message):
        import_library(tmp_path / "back", lake)
    assert not (tmp_path / "back").exists()
    shutil.rmtree(lake)
    with pytest.raises(UsageError, match="no export"):
        import_library(tmp_path / "back", lake)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["library"]
