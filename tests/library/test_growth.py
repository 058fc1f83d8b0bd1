"""A change of a library reads what it concerns and nothing else, however large the library is."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reelseek.cli.main import app
from reelseek.experts.expert import Text, Track
from reelseek.library import Library, add, removal, shards
from reelseek.library.arrays import import_features
from reelseek.library.imports import fingerprint_of
from reelseek.library.names import name_key, name_keys, name_words, video_names
from reelseek.library.video_lookup import VideoLookup
from reelseek.library.words import tokens

_TABLES = ("videos", "tracks", "captions", "texts", "failures", "contents", "changes", "names", "sidecars", "notices")
_SPANS = np.array([[0.0, 1.0], [1.0, 2.0]])


def _track(value: float, *texts: Text) -> Track:
    return Track(np.full((2, 4), value, np.float32), _SPANS, texts=texts)


def _put(library: Library, video: str, value: float, *texts: Text) -> None:
    with library.writing(), library.saving():
        library.catalog.videos.add(video)
        library.put_track(f"id:{video}", "x", fingerprint_of("x", "motion", None, 4), "motion", _track(value, *texts))


def _bytes_on_disk(library: Library) -> bytes:
    library.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return b"".join(path.read_bytes() for path in library.path.rglob("*") if path.is_file())


# What is read


def _scans(library: Library, action: Callable[[], object]) -> set[str]:
    """Tables that the statements of an action read from end to end."""
    statements: set[str] = set()
    library.db.set_trace_callback(statements.add)
    try:
        action()
    finally:
        library.db.set_trace_callback(None)
    scanned = set()
    for statement in statements:
        if re.match(r"\s*(SELECT|UPDATE|DELETE|INSERT)", statement) and "texts_words" not in statement:
            for row in library.db.execute(f"EXPLAIN QUERY PLAN {statement}"):
                if match := re.match(rf"SCAN ({'|'.join(_TABLES)})\b", row[3]):
                    scanned.add(f"{match[1]}: {statement}")
    return scanned


@pytest.fixture
def library(tmp_path: Path, make_video: Callable[..., Path]) -> Iterator[Library]:
    (tmp_path / "films").mkdir()
    for name in ("one", "two"):
        make_video(f"films/{name}.mp4", sound_seconds=1)
    with Library.open(tmp_path / "lib", create=True) as opened:
        add(opened, [tmp_path / "films" / "one.mp4"], experts=["audio"], workers=1)
        _put(opened, "other", 1.0, Text("words", 0.0, 1.0, "said"))
        yield opened


@pytest.mark.long
def test_no_change_reads_a_table_from_end_to_end(library: Library, tmp_path: Path) -> None:
    films = tmp_path / "films"
    np.save(tmp_path / "two.npy", np.ones((2, 4), np.float32))
    (tmp_path / "rows.csv").write_text("video,caption\ntwo.mp4,something\nnew,something else\n")
    (films / "two.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nzebracorn\n")
    assert _scans(library, library.videos)  # the test can see one
    actions: dict[str, Callable[[], object]] = {
        "add": lambda: add(library, [films], experts=["audio", "speech"], workers=1),
        "add again": lambda: add(library, [films], experts=["audio", "speech"], workers=1, retry_failed=True),
        "import": lambda: import_features(library, "x", [tmp_path / "two.npy"], modality="motion"),
        "caption": lambda: add(library, [tmp_path / "rows.csv"], media=False),
        "name": lambda: library.video("two"),
        "experts": library.experts,
        "totals": lambda: (library.catalog.videos.totals(), library.splits()),
        "words about videos": lambda: (
            library.catalog.about.names(["two"], 9),
            library.catalog.about.captions(["something"], 9, ["new"]),
            library.catalog.about.some_captions(4),
        ),
        "remove": lambda: library.remove(["two.mp4"]),
    }
    for name, action in actions.items():
        assert (name, _scans(library, action)) == (name, set())
    assert {video.id for video in library.videos()} == {"one.mp4", "other", "new"}


# Names


_LETTERS = st.text(st.sampled_from("aBé\u0301.5/\\_"), min_size=1, max_size=6)
_PARTS = _LETTERS.filter(lambda part: ".." not in part)  # a path of a video is resolved, and climbs no folder
_NAMES = st.builds(lambda part, end: part + end, _PARTS, st.sampled_from(["", ".mp4", ".MKV", ".264", ".txt", ".5"]))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with Library.open(tmp_path_factory.mktemp("names") / "lib", create=True) as opened:
        yield opened


@settings(max_examples=60, deadline=None)
@given(ids=st.lists(_NAMES, min_size=1, max_size=6, unique=True), files=st.lists(_NAMES, max_size=3), name=_NAMES)
@example(ids=["day/cafe\u0301.mp4", "b"], files=["x\\y.avi"], name="caf\u00e9")
def test_a_name_means_what_it_means_among_all_videos(
    empty: Library, ids: list[str], files: list[str], name: str
) -> None:
    """The oracle is the rule over all videos; videos also move, and go."""
    catalog = empty.catalog
    with empty.db:
        for old in catalog.videos.all():
            catalog.videos.remove(old.id)
        for identifier in ids:
            catalog.videos.add(identifier)
        for round_ in ("first", "then"):
            paths = dict.fromkeys(Path("/films", round_, file.lstrip("/")) for file in files)
            for identifier, path in zip(ids, paths, strict=False):
                catalog.videos.set_file(identifier, path, "c", (1, 1), None)
    videos = catalog.videos.all()
    everything, lookup = video_names(videos), VideoLookup(catalog)
    for query in (name, *ids, *files):
        assert set(lookup.matches(query)) == set(everything.matches(query))
        assert set(lookup.same(query)) == set(everything.same(query))
    for video in videos:
        assert lookup.at(video.path or Path("/nowhere")) == everything.at(video.path or Path("/nowhere"))
    keys = {key for video in videos for key in name_keys(video.id, video.path)}
    assert {key for (key,) in empty.db.execute("SELECT key FROM names")} == keys  # nothing stays of former names


def test_a_name_that_is_no_text_means_no_video(empty: Library) -> None:
    assert VideoLookup(empty.catalog).matches("\udcff.mp4") == ()
    assert name_key("\udcff.mp4") in name_keys("a", Path("/films/\udcff.mp4"))


# Counts


@settings(max_examples=25, deadline=None)
@given(
    actions=st.lists(
        st.tuples(
            st.sampled_from(["put", "put empty", "remove", "rename"]), st.sampled_from("abc"), st.sampled_from("xy")
        ),
        max_size=12,
    )
)
def test_counts_of_tracks_are_those_of_the_rows(actions, tmp_path_factory: pytest.TempPathFactory) -> None:
    with Library.open(tmp_path_factory.mktemp("counts") / "lib", create=True) as library:
        for action, video, expert in actions:
            with library.writing(), library.saving():
                if action.startswith("put"):
                    track = _track(1.0)
                    if action == "put empty":
                        track = Track(track.values[:0], track.spans[:0])
                    library.put_track(f"id:{video}", expert, f"{expert}:1", "motion", track)
                elif action == "remove":
                    library.drop_track(f"id:{video}", expert)
                else:
                    library.db.execute("UPDATE tracks SET dim = 7 WHERE owner = ?", (f"id:{video}",))
        columns = "expert, fingerprint, modality, dim, dtype"
        query = f"SELECT {columns}, count(*), sum(steps > 0) FROM tracks GROUP BY {columns} ORDER BY {columns}"
        assert [tuple(vars(group).values()) for group in library.catalog.tracks.groups()] == library.db.execute(
            query
        ).fetchall()


_WRITES: dict[str, str] = {
    "add": "INSERT INTO videos(id, content, duration) VALUES (:video, nullif('c', :split), :seconds)"
    " ON CONFLICT DO NOTHING",
    "remove": "DELETE FROM videos WHERE id = :video",
    "read": "UPDATE videos SET content = nullif('c', :split), duration = nullif(:seconds, 0) WHERE id = :video",
    "caption": "INSERT INTO captions SELECT id, (SELECT count(*) FROM captions WHERE video = :video), 'text', NULL,"
    " NULL, nullif(:split, 'c') FROM videos WHERE id = :video",
    "move": "UPDATE captions SET split = nullif(:split, 'c') WHERE video = :video",
    "rename": "UPDATE videos SET path = CAST('/films/' || id || :split || '.mp4' AS BLOB) WHERE id = :video",
    "say otherwise": "UPDATE captions SET text = 'Œuvre ' || :split WHERE video = :video AND position = 0",
    "take back": "DELETE FROM captions WHERE video = :video AND position = (SELECT max(position) FROM captions)",
}


@settings(max_examples=30, deadline=None)
@given(
    actions=st.lists(
        st.tuples(
            st.sampled_from(sorted(_WRITES)), st.sampled_from("ab"), st.sampled_from(["c", "", "train", "test"]),
            st.sampled_from([0, 0.1, 1 / 3, 7200.25]),
        ),
        max_size=15,
    )
)  # fmt: skip
@example(
    actions=[
        ("add", "a", "c", 2), ("caption", "a", "train", 0), ("caption", "a", "c", 0), ("say otherwise", "a", "x", 0),
        ("rename", "a", "y", 0), ("add", "b", "", 1 / 3), ("caption", "b", "test", 0), ("take back", "a", "", 0),
        ("move", "a", "test", 0), ("read", "a", "", 0.1), ("remove", "b", "", 0), ("add", "b", "c", 7),
    ]
)  # fmt: skip
def test_sums_and_words_of_videos_and_captions_are_those_of_the_rows(
    actions, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Library.open(tmp_path_factory.mktemp("sums") / "lib", create=True) as library:
        for action, video, split, seconds in actions:
            with library.db:
                library.db.execute(_WRITES[action], {"video": video, "split": split, "seconds": seconds})
        catalog = library.catalog
        count, with_content, total = library.db.execute(
            "SELECT count(*), count(content), total(duration) FROM videos"
        ).fetchone()
        assert catalog.videos.totals() == (count, with_content, pytest.approx(total, abs=1e-5))
        rows = library.db.execute("SELECT coalesce(split, ''), count(*) FROM captions GROUP BY 1 ORDER BY 1")
        assert list(catalog.captions.count_by_split().items()) == rows.fetchall()
        numbers = catalog.changes.numbers(video.id for video in library.videos())
        words = {-numbers[video.id]: " ".join(name_words(video.id, video.path)) for video in library.videos()}
        for video, position, text in library.db.execute("SELECT video, position, text FROM captions"):
            words[2**24 * numbers[video] + position] = " ".join(tokens(text))
        assert dict(library.db.execute("SELECT rowid, words FROM about_words").fetchall()) == words


# Removing


def test_a_removal_rewrites_the_shard_that_it_concerns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_BYTES_A_SHARD", 4 * 2 * (4 * 4 + 16))  # four tracks
    with Library.open(tmp_path / "lib", create=True) as library:
        for number in range(12):
            _put(library, f"v{number:02}", number + 0.5)
        files = {path.name: path.stat().st_ino for path in (library.path / "tracks").rglob("*.values")}
        assert len(files) == 3
        library.remove(["v05"])
        after = {path.name: path.stat().st_ino for path in (library.path / "tracks").rglob("*.values")}
        assert set(after.items()) & set(files.items()) == {(n, files[n]) for n in ("0000.values", "0002.values")}
        assert sum(path.stat().st_size for path in (library.path / "tracks").rglob("*.values")) == 11 * 2 * 4 * 4
        assert library.verify() == []
        assert library.catalog.tracks.holes() == []


def _orphan(library: Library) -> None:
    """A writer that was killed before its rows committed."""
    row = library.track_rows()[0]
    files, end = library.shards(row), library.catalog.tracks.end(row.fingerprint)
    files.append(_track(77.0).values, _SPANS, end)
    files.sync()


@pytest.mark.parametrize("then", ["nothing", "append"])
def test_bytes_that_no_row_ever_named_go_with_the_next_removal(
    then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lie in another shard than what is removed."""
    monkeypatch.setattr(shards, "_BYTES_A_SHARD", 4 * 2 * (4 * 4 + 16))  # four tracks
    marker = _track(77.0).values.tobytes()
    with Library.open(tmp_path / "lib", create=True) as library:
        for number in range(6):
            _put(library, f"v{number}", number + 0.5)
        _orphan(library)
        if then == "append":
            _put(library, "another", 3.0)
        assert marker in _bytes_on_disk(library)
        library.remove(["v0"])
        assert marker not in _bytes_on_disk(library)
        assert library.verify() == []


def test_what_a_track_was_before_it_was_replaced_goes_with_its_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "_BYTES_A_SHARD", 4 * 2 * (4 * 4 + 16))
    with Library.open(tmp_path / "lib", create=True) as library:
        for number in range(5):
            _put(library, f"v{number}", number + 0.5)
        _put(library, "v0", 99.0)  # in the second shard; what it was lies in the first
        assert _track(0.5).values.tobytes() in _bytes_on_disk(library)
        library.remove(["v0"])
        left = _bytes_on_disk(library)
        assert _track(0.5).values.tobytes() not in left
        assert _track(99.0).values.tobytes() not in left
        assert library.verify() == []


def test_a_large_database_is_rewritten_when_enough_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rewritten: list[str] = []
    rewrite = removal._rewrite
    monkeypatch.setattr(removal, "_SMALL_DATABASE", 0)
    monkeypatch.setattr(removal, "_rewrite", lambda storage: (rewritten.append("now"), rewrite(storage)))
    with Library.open(tmp_path / "lib", create=True) as library:
        for number in range(60):
            _put(library, f"v{number:02}", number + 0.5, Text(f"secret{number:02}", 0.0, 1.0, "said"))
        library.remove(["v00"])
        assert rewritten == []
        assert "reelseek remove" in caplog.text
        assert "words of the full text" in caplog.text
        assert not library.catalog.texts.phrase_matches("secret00")
        library.remove(["v01"])  # two of sixty
        assert rewritten == ["now"]
        left = _bytes_on_disk(library)
        assert b"secret00" not in left
        assert b"secret02" in left


def test_a_large_database_is_rewritten_when_somebody_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(removal, "_SMALL_DATABASE", 0)
    with Library.open(tmp_path / "lib", create=True) as library:
        for number in range(60):
            _put(library, f"v{number:02}", number + 0.5, Text(f"secret{number:02}", 0.0, 1.0, "said"))
        library.remove(["v00"])
    with pytest.raises(SystemExit) as exit_:
        app(["remove", str(tmp_path / "lib"), "--compact"])
    assert exit_.value.code == 0
    assert "rewrote the database" in capsys.readouterr().out
    with Library.open(tmp_path / "lib") as library:
        assert b"secret00" not in _bytes_on_disk(library)
        assert len(library.videos()) == 59
