"""Which videos a filter selects: its terms as conditions in SQL, answered by the tables as they are."""

from collections.abc import Callable

from reelseek.errors import QueryError, suggest
from reelseek.experts.expert import MODALITIES
from reelseek.library.catalog.changes import Changes
from reelseek.library.catalog.connection import Connection
from reelseek.library.catalog.spelling import folders_of
from reelseek.library.catalog.tags import Tags
from reelseek.library.filters import Condition, Filter
from reelseek.library.names import name_some
from reelseek.library.words import fold

__all__ = ["Selection"]

_MTIME = "strftime('%Y-%m-%dT%H:%M:%S', v.mtime_ns / 1000000000, 'unixepoch')"
# When it was taken, as the file says; else when the file last changed. What a store keeps has a number of a tag there.
_TAKEN = "(SELECT json_extract(info, '$.taken') FROM contents WHERE hash = v.content)"
_DATE = f"coalesce({_TAKEN}, CASE WHEN substr(v.path, 1, 1) = x'2f' THEN {_MTIME} END)"
_OWNERS = "(v.content, 'id:' || v.id)"
_TRACKS = f"EXISTS (SELECT 1 FROM tracks t WHERE t.owner IN {_OWNERS} AND t.steps > 0 AND ? IN (t.modality, t.expert))"
_LINES = f"EXISTS (SELECT 1 FROM texts t WHERE t.owner IN {_OWNERS} AND t.kind = ?)"
_SOUND = (
    "coalesce((SELECT json_extract(info, '$.audio_streams') FROM contents WHERE hash = v.content), 0) > 0"
    f" OR EXISTS (SELECT 1 FROM tracks t WHERE t.owner IN {_OWNERS} AND t.steps > 0 AND t.modality = 'audio')"
)
_CAPTIONS = "EXISTS (SELECT 1 FROM captions c WHERE c.video = v.id)"
_SPLIT = "v.split = ? OR EXISTS (SELECT 1 FROM captions c WHERE c.video = v.id AND c.split = ?)"
_MEMBER = " OR EXISTS (SELECT 1 FROM memberships m WHERE m.video = v.id AND m.split = ?)"
_TAGGED = "EXISTS (SELECT 1 FROM tags g WHERE g.video = v.id AND g.folded = ?)"  # itself, or a moment of it
Sql = tuple[str, tuple[object, ...]]


class Selection:
    """Videos by filter."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def videos(self, conditions: Filter, among: str | None = None) -> list[str]:
        """The ids of the videos that a filter selects, in order.

        Args:
            among: the id of the one video that is looked at; None is all.

        Raises:
            QueryError: a term names a folder, a split or an evidence that the library has nothing of; suggests one.
        """
        condition, values = self.where(conditions)
        if among is not None:
            condition, values = f"v.id = ? AND {condition}", (among, *values)
        rows = self._connection.execute(f"SELECT v.id FROM videos v WHERE {condition} ORDER BY v.id", values)
        return [identifier for (identifier,) in rows]

    def members(self, conditions: Filter) -> list[tuple[int, str, str | None]]:
        """Number, id and content of the videos that a filter selects, in order of number.

        Raises:
            QueryError: as `videos`.
        """
        if not self._connection.has_table("changes"):
            ids = self.videos(conditions)
            numbers = Changes(self._connection).numbers(ids)
            contents = dict(self._connection.select_in("SELECT id, content FROM videos WHERE id IN (?)", ids))
            return sorted((numbers[identifier], identifier, contents[identifier]) for identifier in ids)
        condition, values = self.where(conditions)
        query = "SELECT c.number, v.id, v.content FROM changes c JOIN videos v ON c.video = v.id"
        return self._connection.execute(f"{query} WHERE {condition} ORDER BY c.number", values).fetchall()

    def date_sources(self) -> tuple[int, int, int]:
        """Of how many videos the date is when they were filmed, when their file last changed, and unknown."""
        taken, dated, total = self._connection.execute(
            f"SELECT count({_TAKEN}), count({_DATE}), count(*) FROM videos v"
        ).fetchone()
        return taken, dated - taken, total - dated

    def where(self, conditions: Filter) -> Sql:
        """A condition on a row `v` of the videos, and its values.

        Raises:
            QueryError: as `videos`.
        """
        parts = [self._condition(condition) for condition in conditions.conditions]
        return " AND ".join(part for part, _ in parts) or "1", tuple(value for _, values in parts for value in values)

    def _condition(self, condition: Condition) -> Sql:
        value = condition.value
        if condition.key in ("split", "has"):
            self._check_known(condition)
        if condition.key == "tag":
            self._check_tag(condition)
        by_key: dict[str, Callable[[], Sql]] = {
            "folder": lambda: self._folder(condition),
            "name": lambda: ("is_named(v.id, v.path, ?)", (fold(value),)),
            "before": lambda: (f"{_DATE} < ?", (value,)),
            "after": lambda: (f"{_DATE} >= ?", (value,)),
            "longer": lambda: ("v.duration > ?", (condition.seconds,)),
            "shorter": lambda: ("v.duration < ?", (condition.seconds,)),
            "split": lambda: self._split(value),
            "has": lambda: _has(value),
            "tag": lambda: (_TAGGED, (_folded(value),)),
        }
        sql, values = by_key[condition.key]()
        return f"{'NOT ' if condition.negated else ''}coalesce(({sql}), 0)", values

    def _folder(self, condition: Condition) -> Sql:
        value = fold(condition.value.replace("\\", "/"))
        query = "SELECT 1 FROM videos v WHERE in_folder(v.id, v.path, ?) LIMIT 1"
        if self._connection.execute(query, (value,)).fetchone() is None:
            rows = self._connection.execute("SELECT id, path FROM videos")
            folders = {part for identifier, path in rows for parts in folders_of(identifier, path) for part in parts}
            last = value.rstrip("/").rpartition("/")[2]
            raise QueryError(f"{condition.text!r}: no video lies in such a folder{suggest(last, folders)}")
        return "in_folder(v.id, v.path, ?)", (value,)

    def _check_known(self, condition: Condition) -> None:
        """Refuse a split or a kind of evidence that the library does not have."""
        names = self.splits() if condition.key == "split" else self.evidence()
        if condition.value not in names:
            raise QueryError(
                f"{condition.text!r}: there is no {'split' if condition.key == 'split' else 'evidence'} "
                f"{condition.value!r}{suggest(condition.value, names)}; there are {', '.join(names) or 'none'}"
            )

    def _check_tag(self, condition: Condition) -> None:
        """Refuse a tag that nothing in the library has."""
        names = Tags(self._connection).names()
        if _folded(condition.value) not in names:
            listed = name_some(list(names.values())) or "none"
            hint = suggest(_folded(condition.value), names)
            raise QueryError(f"{condition.text!r}: there is no tag {condition.value!r}{hint}; there are {listed}")

    def _split(self, name: str) -> Sql:
        lists = self._connection.has_table("memberships")
        return (_SPLIT + _MEMBER, (name, name, name)) if lists else (_SPLIT, (name, name))

    def splits(self) -> list[str]:
        """The splits that videos, captions or lists name."""
        tables = ["videos", "captions", *(["memberships"] if self._connection.has_table("memberships") else [])]
        query = " UNION ".join(f"SELECT split FROM {table} WHERE split IS NOT NULL" for table in tables)
        return sorted(split for (split,) in self._connection.execute(query))

    def evidence(self) -> list[str]:
        """What `has:` takes: words for everybody, modalities, and the experts of the library."""
        experts = {expert for (expert,) in self._connection.execute("SELECT DISTINCT expert FROM tracks")}
        return [*_EVIDENCE, *(name for name in MODALITIES if name not in _EVIDENCE), *sorted(experts - {*MODALITIES})]


_EVIDENCE: dict[str, Sql] = {
    "sound": (_SOUND, ()),
    "speech": (f"{_TRACKS} OR {_LINES}", ("speech", "said")),
    "text": (f"{_TRACKS} OR {_LINES}", ("ocr", "written")),
    "captions": (_CAPTIONS, ()),
}


def _has(name: str) -> Sql:
    return _EVIDENCE.get(name, (_TRACKS, (name,)))


def _folded(tag: str) -> str:
    return " ".join(fold(tag).split())
