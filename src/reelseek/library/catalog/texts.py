"""What was said, written and labelled, and the full text over it."""

import json
import sqlite3
import threading
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice

from reelseek.experts.expert import Text
from reelseek.library.catalog.connection import Connection
from reelseek.library.catalog.words import create_words, fill_words, has_full_text

__all__ = ["Stemmer", "TextMatch", "Texts", "match_any"]

_MATCHES = (
    "SELECT t.owner, t.kind, t.text, t.start_seconds, t.end_seconds, f.words FROM texts_words f"
    " JOIN texts t ON t.id = f.rowid WHERE texts_words MATCH ? AND t.kind != 'label'"
)
_FEW_OWNERS = 2000  # that SQLite is given; of more each line is looked at, and there are enough soon
_MOST_COUNTED = 5000
_MOST_STEMMED = 100_000  # words whose stems are remembered


@dataclass(frozen=True)
class TextMatch:
    """A text that was said or written and holds words; `words` are all of its folded words between blanks."""

    owner: str
    kind: str
    text: str
    start_seconds: float
    end_seconds: float
    words: str


class Texts:
    """The tables of texts and of their words."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of_owner(self, owner: str) -> list[tuple[str, Text]]:
        """Expert and text of all words of one owner, in order of time."""
        rows = self._connection.execute(
            "SELECT expert, text, start_seconds, end_seconds, kind, score FROM texts WHERE owner = ?"
            " ORDER BY start_seconds, end_seconds, text",
            (owner,),
        )
        return [(expert, Text(*cells)) for expert, *cells in rows]

    def put(self, owner: str, source: str, texts: Sequence[Text]) -> None:
        """Store words of one source, replacing what it had for this owner."""
        self.remove(owner, source)
        self._connection.executemany(
            "INSERT INTO texts(owner, expert, kind, text, start_seconds, end_seconds, score) VALUES (?,?,?,?,?,?,?)",
            [
                (owner, source, t.kind, unicodedata.normalize("NFC", t.text), t.start_seconds, t.end_seconds, t.score)
                for t in texts
            ],
        )
        query = "SELECT id, text FROM texts WHERE owner = ? AND expert = ?"
        fill_words(self._connection, "main", self._connection.execute(query, (owner, source)).fetchall())

    def remove(self, owner: str, source: str) -> None:
        """Remove the words of one source and owner."""
        self._connection.execute("DELETE FROM texts WHERE owner = ? AND expert = ?", (owner, source))

    def count_owners(self, source: str) -> int:
        """How many owners have words of one source."""
        query = "SELECT count(DISTINCT owner) FROM texts WHERE expert = ?"
        return int(self._connection.execute(query, (source,)).fetchone()[0])

    def commonest_labels(self, source: str, most: int) -> list[str]:
        """The labels that one source gave most often."""
        rows = self._connection.execute(
            "SELECT text FROM texts WHERE kind = 'label' AND expert = ? GROUP BY text ORDER BY count(*) DESC LIMIT ?",
            (source, most),
        )
        return [text for (text,) in rows]

    def surest_lines(self, most: int) -> list[str]:
        """What was said or written, best recognised first."""
        query = "SELECT text FROM texts WHERE kind != 'label' ORDER BY score DESC, id LIMIT ?"
        return [text for (text,) in self._connection.execute(query, (most,))]

    # Full text

    def best_matches(
        self,
        phrases: Sequence[str],
        most: int,
        owners: Collection[str] | None = None,
        *,
        without: Collection[str] = (),
    ) -> list[TextMatch]:
        """Lines that hold any of some phrases of folded words, by SQLite's own rank.

        Args:
            owners: only lines of these; None is all.
            without: kinds of lines that do not count.
        """
        self._ensure_words()
        query = f"{_MATCHES}{''.join(f' AND t.kind != {kind!r}' for kind in without)}"
        condition, values = "", [match_any(phrases)]
        if owners is not None and len(owners) <= _FEW_OWNERS:
            condition, values = " AND t.owner IN (SELECT value FROM json_each(?))", [*values, json.dumps(list(owners))]
        limit = "" if owners is not None and not condition else f" LIMIT {most:d}"
        rows = self._connection.execute(f"{query}{condition} ORDER BY f.rank{limit}", values)
        matches = (TextMatch(*row) for row in rows)
        return list(islice((match for match in matches if owners is None or match.owner in owners), most))

    def phrase_matches(self, phrase: str) -> list[TextMatch]:
        """Every line that holds a phrase of folded words by their stems, in the order in which lines were stored."""
        self._ensure_words()
        rows = self._connection.execute(f"{_MATCHES} ORDER BY t.id", (match_any([phrase]),)).fetchall()
        return [TextMatch(*row) for row in rows]

    def count_matches(self, phrase: str) -> int:
        """How many texts hold a phrase of folded words; counted up to 5,000."""
        self._ensure_words()
        query = f"SELECT count(*) FROM (SELECT 1 FROM texts_words WHERE texts_words MATCH ? LIMIT {_MOST_COUNTED})"
        return int(self._connection.execute(query, (match_any([phrase]),)).fetchone()[0])

    def terms(self, beginning: str) -> list[str]:
        """The stems in the full text that begin with some letters."""
        self._ensure_words()
        schema = "main" if has_full_text(self._connection, "main", "texts_words") else "temp"
        self._connection.execute(
            f"CREATE VIRTUAL TABLE IF NOT EXISTS temp.vocabulary USING fts5vocab({schema}, texts_words, row)"
        )
        query = "SELECT term FROM temp.vocabulary WHERE term >= ? AND term < ?"
        return [term for (term,) in self._connection.execute(query, (beginning, beginning + chr(0x10FFFF)))]

    def last_id(self) -> int:
        """The highest number that a text has, at least 1: about how many there are."""
        return int(self._connection.execute("SELECT coalesce(max(id), 1) FROM texts").fetchone()[0])

    def rebuild_words(self) -> None:
        """Build the full text anew, which otherwise holds words that were removed."""
        self._connection.execute("INSERT INTO texts_words(texts_words) VALUES ('rebuild')")

    def _ensure_words(self) -> None:
        """For an older library that cannot be written, make the full text in memory."""
        if not any(has_full_text(self._connection, schema, "texts_words") for schema in ("main", "temp")):
            self._connection.execute("PRAGMA temp_store = MEMORY")
            create_words(self._connection, "temp")
            self._connection.commit_derived()


def match_any(phrases: Sequence[str]) -> str:
    """SQLite's spelling of a search for any of some phrases."""
    return " OR ".join('"' + phrase.replace('"', '""') + '"' for phrase in phrases)


class Stemmer:
    """SQLite's own tokenizer, asked through a table in memory, so that words match outside as they match there.

    The stems of a word never change, so that those of the words seen last are remembered.
    """

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._connection.execute("CREATE VIRTUAL TABLE line USING fts5(text, tokenize='porter ascii')")
        self._connection.execute("CREATE VIRTUAL TABLE token USING fts5vocab(line, 'instance')")
        self._stems: dict[str, frozenset[str]] = {}
        self._lock = threading.Lock()

    def stems(self, texts: Sequence[str]) -> list[set[str]]:
        """The stems of each text, which is tokens between blanks."""
        split = [text.split(" ") for text in texts]
        words = {word for line in split for word in line}
        if len(self._stems) > _MOST_STEMMED:
            self._stems = {}
        remembered = self._stems
        if fresh := [word for word in words if word not in remembered]:
            remembered.update(self._stem(fresh))
        return [set().union(*(remembered[word] for word in line)) for line in split]

    def _stem(self, words: Sequence[str]) -> dict[str, frozenset[str]]:
        stems: list[set[str]] = [set() for _ in words]
        with self._lock:
            self._connection.execute("DELETE FROM line")
            self._connection.executemany("INSERT INTO line(rowid, text) VALUES (?, ?)", list(enumerate(words, 1)))
            for term, row in self._connection.execute("SELECT term, doc FROM token"):
                stems[row - 1].add(term)
        return dict(zip(words, map(frozenset, stems), strict=True))
