"""Tables and lists as people have them: what is read, and what is named by its line instead."""

import codecs
import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.cli.search import _read_queries
from reelseek.errors import CollectionError
from reelseek.library import Library, add
from reelseek.library.collection import Collection, Entry, read_collection
from reelseek.library.readers import read_annotations
from reelseek.library.readers.labels import read_labels
from reelseek.library.readers.steps import read_lines
from reelseek.library.store import Caption
from reelseek.library.tables import read_json, read_table
from reelseek.overlap.clean import read_ids, read_videos


def _read(path: Path, data: str | bytes) -> Collection:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_collection([path], media=False)


def _captions(collection: Collection) -> list[tuple[str, str]]:
    return [(caption.video, caption.text) for caption in collection.captions]


def _lost(collection: Collection) -> list[str]:
    return [f"{notice.place.rpartition(', ')[2]}: {notice.message}" for notice in collection.problems if notice.lost]


_HEAD = "video,caption,split\n"
_TABLES = {  # text, captions, words of each row that is lost
    "comma without quotes": ("v1,a man, a dog,train\nv2,ok,test\n", [("v2", "ok")], ["line 2: 4 cells"]),
    "too few cells": ("v1,a man\nv2,ok,test\n", [("v2", "ok")], ["line 2: 2 cells"]),
    "empty cells behind": ("v1,a man,train,,\n,,\n\nv2,ok,test\n", [("v1", "a man"), ("v2", "ok")], []),
    "open quote": (
        'v1,"a man,train\nv2,ok,test\nv3,a "big" dog,train\n',
        [("v2", "ok"), ("v3", 'a "big" dog')],
        ["line 2: a quote opens"],
    ),
    "open quote closed two rows on": ('v1,"a man,train\nv2,ok",test\nv3,x,test\n', None, ["line 2: a quote opens"]),
    "open quote at the end": ('v1,ok,train\nv2,"a man,test\n', [("v1", "ok")], ["line 3: a quote opens"]),
    "quotes inside": ('v1,"big" dog,train\n', [("v1", '"big" dog')], []),
    "quotes and a comma": ('v1,"big, red" dog,train\nv2,ok,test\n', [("v2", "ok")], ["line 2: a quote closes"]),
    "an inch": ('v1,a 5" pipe,train\nv2,ok,test\n', [("v1", 'a 5" pipe'), ("v2", "ok")], []),
    "lines in a cell": ('v1,"one\ntwo, three",train\nv2,ok,test\n', [("v1", "one two, three"), ("v2", "ok")], []),
    "blanks before a quote": ('v1, "a man, a dog", train\n', [("v1", "a man, a dog")], []),
    "separators that end no line": ("v1,a\u2028b\u2029c\x85d\x0ce\x0bf\x1cg,train\n", [("v1", "a b c d e f g")], []),
    "old line ends": ("v1,a,train\rv2,b,test\r\nv3,c,test", [("v1", "a"), ("v2", "b"), ("v3", "c")], []),
    "NUL": ("v1,a\0b,train\nv\0,x,test\nv2,ok,test\n", [("v2", "ok")], ["line 2: the caption holds a NUL", "line 3"]),
    "no caption": ("v1,nan,train\nv2,None,train\nv3,ok,test\n", [("v3", "ok")], ["line 2: nan is", "line 3: None is"]),
    "deep": (
        f"v1,{'[' * 15000},train\nv2,{'[' * 9000}{']' * 9000},train\nv3,ok,test\n",
        [("v3", "ok")],
        ["line 2: brackets 15000 deep", "line 3: brackets 9000 deep"],
    ),
    "lists": (
        'v1,"[\'a man\', \'it\'\'s\']",train\nv2,"(""c"", \'d\')",train\nv3,"[""e""]",train\nv4,[music] f,test\n',
        None,
        [],
    ),
    "lists that are none": (
        'v1,"[\'a\' \'b\']",x\nv2,"[\'it\'s\']",x\nv3,"[\'a\', 3]",x\nv4,"{""en"": ""a""}",x\nv5,[laughs],x\n',
        [("v5", "[laughs]")],
        ["line 2: ['a' 'b'] looks", "line 3: ['it's'] looks", "line 4: 3 is no caption", "line 5: {"],
    ),
}


@pytest.mark.parametrize("name", _TABLES)
def test_rows_of_csv(name: str, tmp_path: Path) -> None:
    text, captions, lost = _TABLES[name]
    collection = _read(tmp_path / "c.csv", _HEAD + text)
    if captions is not None:
        assert _captions(collection) == captions
    assert len(_lost(collection)) == len(lost) == collection.lost_rows
    for said, words in zip(_lost(collection), lost, strict=True):
        assert said.startswith(words)
    assert not {"a man walks", "a dog"} & set(collection.splits.values())


def test_lists_in_cells(tmp_path: Path) -> None:
    collection = _read(tmp_path / "c.csv", _HEAD + _TABLES["lists"][0])
    assert _captions(collection) == [
        ("v1", "a man"), ("v1", "its"), ("v2", "c"), ("v2", "d"), ("v3", "e"), ("v4", "[music] f"),
    ]  # fmt: skip


_ROWS = {
    '{"video":"v","caption":NaN}': "nan is no caption but a number",
    '{"video":"v","caption":true}': "True is no caption but a truth value",
    '{"video":"v","captions":{"en":"a"}}': "is no caption but an object",
    '{"video":"v","captions":["a", 3]}': "3 is no caption",
    '{"video":"\\ud800","caption":"a"}': "half characters",
    '{"video":"v","caption":"a\\udc00"}': "half characters",
    '{"video":["v"],"caption":"a"}': "is no name",
    '{"video":NaN,"caption":"a"}': "names no video",
    '{"video":"v","video":"w"}': "stands twice",
    '{"video":"v","start":1e999}': "not a time in seconds",
    '{"video":"v","start":' + "9" * 400 + "}": "not a number of seconds",
    '{"video":' + "9" * 5000 + "}": "thousands of digits",
    '{"video":"v","caption":' + "[" * 100_000 + "]" * 100_000 + "}": "nested too deeply",
    "[1]": "a JSON list, not an object",
    "{": "not JSON",
}


@pytest.mark.parametrize("number", range(len(_ROWS)))
def test_rows_of_json_lines_that_are_none(number: int, tmp_path: Path) -> None:
    row, words = list(_ROWS.items())[number]
    collection = _read(tmp_path / "c.jsonl", f'{{"video":"a","caption":"x"}}\n{row}\n{{"video":"b","caption":"y"}}\n')
    assert _captions(collection) == [("a", "x"), ("b", "y")]
    (said,) = _lost(collection)
    assert said.startswith("line 2: ")
    assert words in said
    assert (collection.rows, collection.lost_rows) == (2, 1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_encodings_that_say_what_they_are(encoding: str, suffix: str, tmp_path: Path) -> None:
    text = {
        ".csv": "video,caption\ncafé.mp4,ein Mädchen läuft\n",
        ".jsonl": '{"video":"café.mp4","caption":"ein Mädchen läuft"}\n',
        ".json": '[{"video":"café.mp4","caption":"ein Mädchen läuft"}]',
    }[suffix]
    mark = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}.get(encoding, b"")
    collection = _read(tmp_path / f"c{suffix}", mark + text.encode(encoding))
    assert _captions(collection) == [("café.mp4", "ein Mädchen läuft")]
    assert not collection.problems


def test_an_encoding_that_is_guessed_is_said(tmp_path: Path) -> None:
    collection = _read(tmp_path / "c.csv", (_HEAD + "v1,a café – “très” bon,train\n").encode("cp1252"))
    assert _captions(collection) == [("v1", "a café – “très” bon")]
    assert ["CP1252" in notice.message and not notice.lost for notice in collection.problems] == [True]


def test_one_damaged_line_costs_one_line(tmp_path: Path) -> None:
    rows = [f"v{n},caf\u00e9 {n}\n".encode() for n in range(4)]
    collection = _read(tmp_path / "c.csv", b"video,caption\n" + b"".join(rows) + b"v9,caf\xe9\n")
    assert [text for _, text in _captions(collection)] == [f"café {n}" for n in range(4)]
    assert _lost(collection) == ["line 6: bytes that are no UTF-8, as the rest of the file is"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("video;caption\nv1;a, b\n", "semicolons"),
        ("video\tcaption\nv1\ta, b\n", "tabs"),
        ("video|caption\nv1|a, b\n", "bars"),
        ('sep=;\nvideo;caption\nv1;"a, b"\n', ""),
        ('\n\nvideo,caption\nv1,"a, b"\n', ""),
    ],
)
def test_delimiters(text: str, said: str, tmp_path: Path) -> None:
    collection = _read(tmp_path / "c.csv", text)
    assert _captions(collection) == [("v1", "a, b")]
    assert [said in notice.message for notice in collection.problems] == ([True] if said else [])


def test_headers(tmp_path: Path) -> None:
    collection = _read(tmp_path / "c.csv", " Video ,caption,Caption,,text\nv1,a,b,c,d\n")
    assert _captions(collection) == [("v1", "a")]
    assert [words.partition(":")[2][:30] for words in _lost(collection)] == [" column 3 is called 'Caption' "]
    assert sum("without a name" in notice.message for notice in collection.problems) == 1
    assert sum("not read: text" in notice.message for notice in collection.problems) == 1
    for text, words in (("", "no rows"), ("colour\nred\n", "no column that names"), ('video,"cap\nv1,a\n', "header")):
        with pytest.raises(CollectionError, match=words):
            _read(tmp_path / "c.csv", text)


def test_json_and_parquet(tmp_path: Path) -> None:
    by_video = {"v1": ["a", "b"], "v2": "c", "v3": {"caption": "d", "split": "test"}, "v4": 3}
    collection = _read(tmp_path / "c.json", json.dumps(by_video))
    assert _captions(collection) == [("v1", "a"), ("v1", "b"), ("v2", "c"), ("v3", "d")]
    assert collection.splits == {"v3": "test"}
    assert len(_lost(collection)) == 1
    rows = [{"video": "v1", "caption": "a"}, {"video": "v2", "caption": "b"}]
    for name, text in (("c.jsonl", json.dumps(rows)), ("d.json", "\n".join(map(json.dumps, rows)))):
        assert _captions(_read(tmp_path / name, text)) == [("v1", "a"), ("v2", "b")]
    table = pa.table(
        {"video": ["v1", "v2", "v3"], "captions": [["a", "b"], None, [""]], "start": [0.5, float("nan"), 1]}
    )
    pyarrow.parquet.write_table(table, tmp_path / "c.parquet")
    collection = read_collection([tmp_path / "c.parquet"], media=False)
    assert _captions(collection) == [("v1", "a"), ("v1", "b")]
    table = pa.table({"video": ["v1"], "caption": [1.5]})
    pyarrow.parquet.write_table(table, tmp_path / "d.parquet")
    assert _lost(read_collection([tmp_path / "d.parquet"], media=False)) == [
        "row 1: 1.5 is no caption but a number; wanted a text or a list of texts"
    ]
    for name, data in (
        ("x.parquet", b"PAR1"),
        ("x.json", b"[" * 100_000),
        ("x.json", b"3"),
        ("x.csv", bytes(range(256))),
    ):
        with pytest.raises(CollectionError):
            _read(tmp_path / name, data)


_texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(_texts, _texts, _texts), min_size=1, max_size=5),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_what_a_spreadsheet_writes_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], encoding: str, delimiter: str, end: str
) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("video", "caption", "split"), *rows])
    path = tmp_path_factory.mktemp("t") / "c.csv"
    path.write_bytes(buffer.getvalue().encode(encoding))
    table = read_table(path, ("video", "caption", "split"))
    assert not table.lost

    def lines(cell: str) -> str:
        return cell.replace("\r\n", "\n").replace("\r", "\n")

    wanted = [tuple(map(lines, row)) for row in rows if any(cell.strip() for cell in row)]
    assert [tuple(row.cells.values()) for row in table.rows] == wanted


@settings(max_examples=80, deadline=None)
@given(
    st.text(st.sampled_from("ab ,;\"\n\r\t['{}\u2028\0"), max_size=60),
    st.sampled_from([".csv", ".jsonl", ".json", ".txt"]),
)
def test_no_text_ends_in_a_traceback_and_no_line_is_lost_unsaid(
    tmp_path_factory: pytest.TempPathFactory, text: str, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("t") / f"c{suffix}"
    try:
        collection = _read(path, f"video,caption\n{text}")
    except CollectionError:
        return
    assert len(_lost(collection)) >= collection.lost_rows
    if suffix == ".csv":
        begun = [line for line in text.replace("\r", "\n").split("\n") if line.replace(",", "").strip()]
        assert bool(begun) == bool(collection.rows + collection.lost_rows)


def test_many_open_quotes_cost_a_row_each(tmp_path: Path) -> None:
    collection = _read(tmp_path / "c.csv", "video,caption\n" + 'v,"a\n' * 5000)
    assert collection.lost_rows == 5000


class _Counted(str):
    """A text that counts how often it is compared."""

    __slots__ = ()
    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        _Counted.compared += 1
        return str.__eq__(self, other)


def test_captions_of_one_video_are_written_in_linear_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = [Caption("v", _Counted(f"text {n}")) for n in range(2000)]
    collection = Collection([Entry("v", None)], captions)
    monkeypatch.setattr("reelseek.library.ingest.read_collection", lambda *_, **__: collection)
    with Library.open(tmp_path / "lib", create=True) as library:
        assert add(library, [], media=False).captions == 2000
        assert add(library, [], media=False).captions == 0
        assert [caption.text for caption in library.captions()] == [f"text {n}" for n in range(2000)]
    assert _Counted.compared < 40_000


def test_add_counts_rows_and_exits_with_one(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(_HEAD + "v1,a man, a dog,train\nv2,ok,test\n")
    result = CliRunner().invoke(app, ["add", str(tmp_path / "lib"), str(tmp_path / "c.csv"), "--no-media"])
    assert result.exit_code == 1
    assert "c.csv: line 2: 4 cells where the header has 3" in result.stderr
    assert "rows of tables and lists: 1 read, 1 not" in result.stderr


def test_every_reader_takes_a_byte_order_mark_and_refuses_a_guess(tmp_path: Path) -> None:
    def write(name: str, text: str, encoding: str) -> Path:
        (tmp_path / name).write_bytes(text.encode(encoding))
        return tmp_path / name

    readers = {
        ("steps.txt", "café\u2028noir\nzwei\n"): lambda p: read_lines(p) == ["café noir", "zwei"],
        ("labels.csv", "video;label;split\né1;a;train\n"): lambda p: read_labels(p)[0].video == "é1",
        ("ids.csv", "video,id\né1,x\n"): lambda p: read_ids(p) == {"é1": "x"},
        ("list.txt", "é1\r\né2\x0c\r"): lambda p: [name.strip() for name in read_videos(p)] == ["é1", "é2"],
        ("a.json", '{"a": "é"}'): lambda p: read_json(p) == {"a": "é"},
    }
    for (name, text), check in readers.items():
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            assert check(write(name, text, encoding)), (name, encoding)
        with pytest.raises(CollectionError, match="save it as UTF-8"):
            check(write(name, text.replace("\u2028", " "), "cp1252"))
    with pytest.raises(CollectionError, match=r"ids.csv, line 2: 3 cells"):
        read_ids(write("ids.csv", "video,id\na,b,c\n", "utf-8"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_queries_of_any_encoding(encoding: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "q1\tdeux cafés très serrés\x0c\r\n\r\nein Mädchen läuft\n"
    (tmp_path / "q.txt").write_bytes(text.encode(encoding))
    assert list(_read_queries(tmp_path / "q.txt")) == [("q1", "deux cafés très serrés"), ("3", "ein Mädchen läuft")]
    assert ("CP1252" in capsys.readouterr().err) == (encoding == "cp1252")
    (tmp_path / "q.txt").write_text("a\nb\0\n")
    with pytest.raises(CollectionError, match=r"q.txt, line 2 holds"):
        list(_read_queries(tmp_path / "q.txt"))


def test_annotations_name_what_they_lose(tmp_path: Path) -> None:
    tgif = tmp_path / "tgif.tsv"
    tgif.write_bytes(
        "https://a/x_1.gif\ta man\u2028walks\u0085fast\nhttps://a/x_2.gif\tnul\0\nhttps://a/x_3.gif\tok".encode()
    )
    found = read_annotations("tgif", [tgif])
    assert [(c.video, c.text) for c in found.captions] == [("x_1", "a man walks fast"), ("x_3", "ok")]
    assert [notice.lost for notice in found.problems] == [True]
    vatex = tmp_path / "vatex_train.json"
    vatex.write_text('[{"videoID": "a", "enCap": ["x", NaN, true, {"a": 1}, "\\ud800", ""]}, {"videoID": "\\udfff"}]')
    found = read_annotations("vatex", [vatex])
    assert [c.text for c in found.captions] == ["x"]
    assert sum(notice.lost for notice in found.problems) == 5
    assert found.splits == {"train": ["a"]}
    result = CliRunner().invoke(app, ["data", "import", "tgif", str(tgif), "--library", str(tmp_path / "lib")])
    assert result.exit_code == 1
    assert "2 new captions, 2 rows read, 1 rows could not be used" in result.stdout
    assert "tgif.tsv, line 2" in result.stderr


@pytest.mark.parametrize("order", [("full", "clean"), ("clean", "full"), ("json", "clean"), ("clean", "json")])
@pytest.mark.parametrize("together", [True, False])
def test_a_clean_list_wins_and_says_so(order: tuple[str, str], together: bool, tmp_path: Path) -> None:
    files = {
        "full": tmp_path / "train_list_full.txt",
        "clean": tmp_path / "train_list_full_clean.txt",
        "json": tmp_path / "MSRVTT_data.json",
    }
    names = [f"video{n}" for n in range(5)]
    files["full"].write_text("\n".join(names))
    files["clean"].write_text("\n".join(names[:3]))
    files["json"].write_text(json.dumps({"videos": [{"video_id": name, "split": "train"} for name in names]}))
    paths = [str(files[name]) for name in order]
    library = str(tmp_path / "lib")
    runs = [paths] if together else [[path] for path in paths]
    said = ""
    for some in runs:
        result = CliRunner().invoke(app, ["data", "import", "msrvtt", *some, "--library", library])
        assert result.exit_code == 0
        said += result.stderr
    with Library.open(tmp_path / "lib") as opened:
        members = opened.memberships()["full/train"]
    if together or order[1] == "clean":
        assert members == names[:3]
        assert "full/train" in said
    else:  # what came last was asked for last; that the split has grown is said
        assert "full/train" in said or order == ("clean", "full")
    assert np.isin(names[:3], members).all()
