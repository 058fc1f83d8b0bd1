"""Filters: which videos count, in one grammar for the query box, the command line, HTTP and Python.

A filter is terms such as `folder:holiday before:2020 -has:speech`, all of which must hold; `-` in front of one negates
it, and a value with blanks stands in double quotes.
"""

import math
import re
import unicodedata
from dataclasses import dataclass, field
from datetime import date

from reelseek.errors import QueryError, suggest

__all__ = ["FILTER_KEYS", "NO_FILTER", "TYPED", "Condition", "Filter", "parse_filter", "split_filter"]

FILTER_KEYS: dict[str, str] = {
    "folder": "folder:holiday",
    "name": "name:pancake",
    "before": "before:2020, before:2020-05 or before:2020-05-17",
    "after": "after:2020, after:2020-05 or after:2020-05-17",
    "longer": "longer:90s, longer:5m or longer:1h30m",
    "shorter": "shorter:90s, shorter:5m or shorter:1h30m",
    "split": "split:test",
    "has": "has:speech",
    "tag": "tag:holiday",
}
"""The keys, each with examples."""

_LONGEST = 2_000
_MOST_TERMS = 50
# A key is two letters or more, and its value follows the colon directly: `12:30`, `C:\films`, `note: this` are words.
# What goes on with `//` or another colon is an address or a name of a program (`https://a.b`, `std::sort`).
_TERM = re.compile(
    r'(?<!\S)(?P<minus>-?)(?P<key>[A-Za-z]{2,}):(?!//|:)(?:"(?P<quoted>[^"]*)"|(?P<plain>[^\s"]*))(?!\S)'
)
_PHRASE = re.compile(r'(?<!\S)-?"[^"]*"')
# as phones and other scripts type quotes and minus
TYPED = str.maketrans(dict.fromkeys("“”„‟«»「」『』〝〞", '"') | {"\u2212": "-"})
_DATE = re.compile(r"(?P<year>\d{4})(?:-(?P<month>\d{1,2})(?:-(?P<day>\d{1,2}))?)?")
_DURATION = re.compile(r"(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m(?:in)?)?(?:(?P<s>\d+(?:\.\d+)?)s)?", re.I)


@dataclass(frozen=True)
class Condition:
    """One term of a filter.

    Args:
        key: one of `FILTER_KEYS`.
        value: as typed; of a date its first day as ISO (`2020-05-01`), of a duration its seconds.
        negated: videos of which it holds are left out.
        text: the term as it was typed.
    """

    key: str
    value: str
    negated: bool = False
    text: str = field(default="", compare=False)

    @property
    def seconds(self) -> float:
        """The value of `longer` and `shorter`."""
        return float(self.value)


@dataclass(frozen=True)
class Filter:
    """Conditions that must all hold; without any, every video counts."""

    conditions: tuple[Condition, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.conditions)

    def __str__(self) -> str:
        return " ".join(condition.text for condition in self.conditions)

    def __and__(self, other: "Filter") -> "Filter":
        """Both filters.

        Raises:
            QueryError: they contradict each other.
        """
        return _checked((*self.conditions, *other.conditions))


NO_FILTER = Filter()


def parse_filter(text: str) -> Filter:
    """Read a filter that stands alone.

    >>> [(c.key, c.value) for c in parse_filter('folder:"my trips" before:2020-05').conditions]
    [('folder', 'my trips'), ('before', '2020-05-01')]

    Raises:
        QueryError: a word that is no term, an unknown key, a value that cannot be read, or terms that contradict each
            other; says what to write.
    """
    rest, conditions = split_filter(text)
    if rest:
        raise QueryError(f"{rest!r} in the filter is no term of one; wanted key:value, such as {FILTER_KEYS['folder']}")
    return conditions


def split_filter(text: str) -> tuple[str, Filter]:
    """Take the terms of a filter out of a query.

    A word is a term where a key of two letters or more is directly followed by a colon and a value. An address
    (`https://...`), a time (`12:30`), a drive (`C:\\films`), and whatever stands in quotes is none. An unknown key is
    an error, so that no misspelt filter is silently searched for as a word; in front of a blank it is a word.

    Returns:
        The other words of the query, and the filter.

    >>> rest, conditions = split_filter("dog at 12:30 -folder:old")
    >>> rest, str(conditions)
    ('dog at 12:30', '-folder:old')

    Raises:
        QueryError: see `parse_filter`.
    """
    if len(text) > _LONGEST:
        raise QueryError(f"the query has {len(text)} characters; at most {_LONGEST} are read")
    typed = unicodedata.normalize("NFKC", text).translate(TYPED)
    phrases = [match.span() for match in _PHRASE.finditer(typed)]
    conditions, rest, end = [], [], 0
    for match in _TERM.finditer(typed):
        in_phrase = any(start <= match.start() < stop for start, stop in phrases)
        if in_phrase or (match["plain"] == "" and match["key"].lower() not in FILTER_KEYS):
            continue
        conditions.append(_condition(match))
        rest.append(typed[end : match.start()])
        end = match.end()
    if len(conditions) > _MOST_TERMS:
        raise QueryError(f"the filter has {len(conditions)} terms; at most {_MOST_TERMS} are read")
    words = text if not conditions else "".join([*rest, typed[end:]])
    return " ".join(words.split()), _checked(tuple(conditions))


def _condition(match: re.Match[str]) -> Condition:
    text, key = match[0], match["key"].lower()
    if key not in FILTER_KEYS:
        raise QueryError(
            f"{text!r}: there is no filter {key!r}{suggest(key, FILTER_KEYS)}; the filters are "
            f"{', '.join(FILTER_KEYS)}. To search for it as words put it into quotes, or a blank behind the colon"
        )
    value = (match["plain"] if match["quoted"] is None else match["quoted"]).strip()
    if not value:
        raise QueryError(f"{text!r}: the value of {key} follows the colon directly, such as {FILTER_KEYS[key]}")
    if key in ("before", "after"):
        value = _iso_date(value, text, key)
    elif key in ("longer", "shorter"):
        value = repr(_seconds(value, text, key))
    return Condition(key, value, bool(match["minus"]), text)


def _iso_date(value: str, text: str, key: str) -> str:
    """The first day of a year, a month or a day, in the form in which it sorts."""
    match = _DATE.fullmatch(value)
    if match is None:
        raise QueryError(f"{text!r}: {value!r} is no date; write {FILTER_KEYS[key]}")
    year, month, day = int(match["year"]), int(match["month"] or 1), int(match["day"] or 1)
    try:
        return date(year, month, day).isoformat()
    except ValueError as error:
        raise QueryError(f"{text!r}: there is no day {value}; write {FILTER_KEYS[key]}") from error


def _seconds(value: str, text: str, key: str) -> float:
    match = _DURATION.fullmatch(value)
    if match is None or not any(match.groups()):
        unit = f" has no unit: is it {value}s, {value}m or {value}h?" if re.fullmatch(r"\d+(\.\d+)?", value) else ""
        reason = unit or f" is no duration; write {FILTER_KEYS[key]}"
        raise QueryError(f"{text!r}: {value!r}{reason}")
    seconds = sum(factor * float(match[unit] or 0) for unit, factor in (("h", 3600), ("m", 60), ("s", 1)))
    if not math.isfinite(seconds):
        raise QueryError(f"{text!r}: {value!r} is no duration; write {FILTER_KEYS[key]}")
    return seconds


def _checked(conditions: tuple[Condition, ...]) -> Filter:
    """Refuse conditions that no video can meet, whatever the library has."""
    required = [condition for condition in conditions if not condition.negated]
    for low, high in (("after", "before"), ("longer", "shorter")):
        for lower in (c for c in required if c.key == low):
            for upper in (c for c in required if c.key == high):
                empty = lower.value >= upper.value if low == "after" else lower.seconds >= upper.seconds
                if empty:
                    raise QueryError(f"{lower.text} and {upper.text} contradict each other: no video can be both")
    for refused in (condition for condition in conditions if condition.negated):
        for other in required:
            if (refused.key, refused.value.casefold()) == (other.key, other.value.casefold()):
                raise QueryError(f"{other.text} and {refused.text} contradict each other: no video can be both")
    return Filter(tuple(dict.fromkeys(conditions)))
