"""Words of every script, in queries and in what was said: found word for word, and never with false confidence."""

import contextlib
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelseek.errors import QueryError
from reelseek.experts.expert import Text
from reelseek.experts.sentence import sentence_encoder, sentence_track
from reelseek.library import Library
from reelseek.library.words import fold, tokens
from reelseek.models import load_model
from reelseek.models.embed import embed_texts
from reelseek.search import Searcher
from reelseek.search.fulltext import lines_with_phrase, matching_lines

SAID = {
    "zh": "今天我们讨论部署方案",
    "en": "a cat sleeps",
    "th": "แมวนอนอยู่บนโซฟา",
    "km": "ខ្មែរ",
    "tr": "İstanbul çok güzel",
    "stop": "don’t stop believing",
    "party": "party 🎉 time",
    "ko": "고양이가 소파에서 잔다",
    "ja": "猫がソファで寝ている",
    "ru": "Жираф идёт к реке",
    "el": "Η γάτα κοιμάται",
    "de": "das Straßenfest",
    "nfd": "un cafe\u0301 très fort",
    "wide": "ＦＵＬＬ　ＷＩＤＴＨ ﬁne",
    "hi": "बिल्ली सो रही है",
    "shout": "and OR NEAR( * col:x",
}


def _fill(library: Library) -> None:
    with library.writing(), library.saving():
        for name, line in SAID.items():
            library.db.execute("INSERT INTO videos(id, duration) VALUES (?, 10)", (name,))
            track = sentence_track([Text(line, 2.0, 4.0, "said")])
            library.put_track(f"id:{name}", "speech", "speech:words", "speech", track)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words") / "library"
    with Library.open(folder, create=True) as library:
        _fill(library)
    return folder


@pytest.fixture(scope="module")
def searcher(path: Path) -> Searcher:
    return Searcher(Library.open(path))


FINDS = {
    "zh": "部署方案|部署|案",
    "th": "โซฟา|แมว",
    "tr": "İstanbul|ISTANBUL|ıstanbul|GÜZEL",
    "stop": "stop|don't|DON’T STOP",
    "party": "🎉|Party 🎉",
    "ko": "고양이|소파|고양이가 소파에서",
    "ja": "ソファ|ｿﾌｧ|猫|寝て",
    "ru": "жираф|идет",
    "el": "ΓΑΤΑ",
    "de": "STRASSENFEST",
    "nfd": "café|cafe",
    "wide": "full width|fine",
    "hi": "बिल्ली",
}


@pytest.mark.parametrize(("query", "video"), [(query, video) for video in FINDS for query in FINDS[video].split("|")])
def test_words_and_phrases_of_every_script_are_found(searcher: Searcher, query: str, video: str) -> None:
    for left, right in ('""', "“”", "„“", "«»", "「」"):
        assert [hit.video for hit in searcher.search(f"{left}{query}{right}")] == [video]
    best = searcher.search(query, k=1)[0]
    assert best.video == video
    assert any(why.matched == SAID[video].replace("e\u0301", "é") for why in best.why)  # as it was written, in NFC


def test_phrases_that_nobody_said_are_not_found(searcher: Searcher) -> None:
    for phrase in ("方案部署", "sleep", "cat a", "стоп", "猫寝", "고양이 잔다", "🎊", "ist"):
        assert lines_with_phrase(searcher.library, phrase) == []
    assert [line.text for line in matching_lines(searcher.library, "sleeping cats")] == ["a cat sleeps"]  # by stems
    assert [line.text for line in matching_lines(searcher.library, "讨论一下部署")] == [SAID["zh"]]
    assert matching_lines(searcher.library, "讨一论") == []  # by pairs: single characters are in everything


@pytest.mark.parametrize("query", ["狗", "รถไฟ", "собака", "σκύλος", "🐕", "ஒரு நாய்", "كلب"])
def test_what_the_encoder_cannot_read_finds_nothing_and_is_sure_of_nothing(searcher: Searcher, query: str) -> None:
    assert searcher.search(query) == []
    assert searcher.within(query, "en").hits == ()
    assert searcher.unread(query) == query
    assert searcher.unread(f"a brown dog runs to the river and {query}") == ""
    (hit,) = searcher.search(f"{query}^1 部署")
    assert (hit.video, hit.confidence) == ("zh", None)
    (inside,) = searcher.within("部署", "zh").hits
    assert (inside.confidence, inside.start <= 2 < inside.end) == (None, True)
    assert searcher.search("a cat", k=1)[0].confidence > 0.9


def test_what_cannot_be_read_has_no_step_and_scores_nothing(searcher: Searcher) -> None:
    steps = {row.owner[3:]: row.steps for row in searcher.library.track_rows("speech")}
    latin = {"en", "tr", "stop", "party", "de", "nfd", "shout"}
    assert {name for name, count in steps.items() if count} == latin
    note = next(row.note for row in searcher.library.track_rows("speech") if row.owner == "id:zh")
    assert "1 of 1 lines" in note
    model = load_model("concepts")
    texts = embed_texts(model, ["a dog", "狗", "x", "1984", "!", "a dog and 狗"])
    assert texts.present.any(1).tolist() == [True, False, True, True, False, True]
    assert not texts.weights[1].any()
    assert np.allclose(sentence_encoder().encode(["ខ្មែរ"]), sentence_encoder().encode(["แมว"]))  # which is why


@pytest.mark.parametrize("query", ["!!!", "*", '""', "“”", "…", "-", "->", "___", "\u200d", "́"])
def test_signs_alone_are_answered_in_words(searcher: Searcher, query: str) -> None:
    with pytest.raises(QueryError, match=r"can be looked for|is empty"):
        searcher.search(query)


@pytest.mark.parametrize(
    "query", ["a OR b", "NEAR(", "col:x", "*", 'x"y', "'; DROP TABLE texts", "NOT cat", "^cat", "{a b}"]
)
def test_the_index_s_own_syntax_is_inert(searcher: Searcher, query: str) -> None:
    for found in (matching_lines(searcher.library, query), lines_with_phrase(searcher.library, query)):
        assert {line.owner for line in found} <= {"id:shout", "id:en"}


@settings(deadline=None, max_examples=100)
@given(text=st.text(max_size=40))
def test_any_text_that_was_said_is_found_by_itself(text: str) -> None:
    words = tokens(text)
    assert tokens(fold(text)) == words
    assert fold(fold(text)) == fold(text)
    assert tokens(text.upper()) == tokens(text.upper().lower().upper())
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE VIRTUAL TABLE t USING fts5(words, tokenize='porter ascii')")
        db.execute("INSERT INTO t VALUES (?)", (" ".join(words),))
        if words:
            phrase = '"' + " ".join(words) + '"'
            assert db.execute("SELECT count(*) FROM t WHERE t MATCH ?", (phrase,)).fetchone() == (1,)


def _make_old(path: Path) -> None:
    """As libraries were before: full text over what was written."""
    db = sqlite3.connect(path / "library.db")
    db.executescript(
        "DROP TRIGGER texts_removed; DROP TABLE texts_words;"
        "CREATE VIRTUAL TABLE texts_fts USING fts5(text, content='texts', content_rowid='id',"
        " tokenize='porter unicode61 remove_diacritics 2');"
        "CREATE TRIGGER texts_added AFTER INSERT ON texts BEGIN"
        " INSERT INTO texts_fts(rowid, text) VALUES (new.id, new.text); END;"
        "CREATE TRIGGER texts_removed AFTER DELETE ON texts BEGIN"
        " INSERT INTO texts_fts(texts_fts, rowid, text) VALUES ('delete', old.id, old.text); END;"
        "INSERT INTO texts_fts(texts_fts) VALUES ('rebuild');"
    )
    db.close()


def test_a_library_of_before_gets_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Library.open(tmp_path / "lib", create=True) as library:
        _fill(library)
    _make_old(tmp_path / "lib")
    with monkeypatch.context() as patch:  # as for who may not write there
        patch.setattr("reelseek.library.store.os.access", lambda *_: False)
        with Library.open(tmp_path / "lib") as library:
            assert [line.owner for line in lines_with_phrase(library, "部署")] == ["id:zh"]
            assert [line.owner for line in matching_lines(library, "cats")] == ["id:en"]
    with Library.open(tmp_path / "lib") as library:
        assert [line.owner for line in lines_with_phrase(library, "部署")] == ["id:zh"]
        names = {name for (name,) in library.db.execute("SELECT name FROM sqlite_master")}
        assert not {name for name in names if name.startswith("texts_fts") or name == "texts_added"}
        library.remove(["zh"])
        assert lines_with_phrase(library, "部署") == []
        assert b"\xe9\x83\xa8" not in (tmp_path / "lib" / "library.db").read_bytes()  # gone from the disk too
        with library.saving():
            library.put_texts("id:en", "speech", [Text("now 部署", 0, 1, "said")])
        assert [line.text for line in lines_with_phrase(library, "部署")] == ["now 部署"]
    with Library.open(tmp_path / "lib") as library:
        assert [line.text for line in matching_lines(library, "部署")] == ["now 部署"]
