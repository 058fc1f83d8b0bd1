"""What the cells of a row mean: a name, a number of seconds, captions."""

import ast
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from reelseek.library.tables import parse_json
from reelseek.library.texts import is_unicode

__all__ = ["caption_text", "caption_texts", "cell_name", "cell_seconds", "cell_value"]

_LONGEST_CAPTION = 20_000
_DEEPEST = 50  # brackets within brackets
_NO_TEXT = frozenset(("nan", "NaN", "None", "null", "NULL", "<NA>"))  # what programs write for "nothing"
_NO_COMMA = re.compile(r"""(['"])\s+\1""")


def caption_texts(value: Any) -> list[str]:
    """Return the captions of a cell: a text, a list of texts, or such a list as JSON or Python writes it.

    Raises:
        ValueError: it is something else, and no caption can be made of it.
    """
    if isinstance(value, str):
        value = _listed(value)
    texts = [caption_text(text) for text in (value if isinstance(value, list | tuple) else [value]) if text is not None]
    return [text for text in texts if text]


def _listed(text: str) -> Any:
    """The list that a text spells, else the text: captions may begin with a bracket too (`[music] a man sings`)."""
    start, end = text.strip()[:1], text.strip()[-1:]
    if start in ("[", "(", "{") and _depth(text) > _DEEPEST:
        raise ValueError(f"brackets {_depth(text)} deep are no list of texts")
    if (start, end) == ("{", "}") and _is_json(text):
        raise ValueError(f"{_short(text)} is an object, not a text or a list of texts")
    if (start, end) not in (("[", "]"), ("(", ")")):
        return text
    if not re.match(r"""[\[(]\s*([ubUB]?['"]|[\[({\])])""", text.strip()):
        return text
    try:
        return parse_json(text)
    except ValueError:
        pass
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = None
    if isinstance(value, list | tuple) and not _NO_COMMA.search(text):
        return value
    if start == "(":
        return text
    raise ValueError(f"{_short(text)} looks like a list of texts and is not one of JSON or Python")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _depth(text: str) -> int:
    depth = deepest = 0
    for sign in re.findall(r"[\[\](){}]", text):
        depth = depth + 1 if sign in "[({" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest


def caption_text(value: Any) -> str:
    """Return one caption with single blanks; '' where it says nothing.

    Raises:
        ValueError: it is no text, is longer than captions are, or holds what is no character.
    """
    if not isinstance(value, str) or value.strip() in _NO_TEXT:
        raise ValueError(f"{_short(str(value))} is no caption{_kind(value)}; wanted a text or a list of texts")
    words = " ".join(value.split())
    if "\0" in words:
        raise ValueError("the caption holds a NUL byte")
    if not is_unicode(words):
        raise ValueError("the caption holds bytes or half characters that are no Unicode")
    if len(words) > _LONGEST_CAPTION:
        raise ValueError(f"the caption has {len(words)} characters; at most {_LONGEST_CAPTION}")
    return words


def _kind(value: Any) -> str:
    kinds = {
        bool: "a truth value",
        int: "a number",
        float: "a number",
        dict: "an object",
        list: "a list",
        bytes: "bytes",
    }
    kind = kinds.get(type(value))
    return f" but {kind}" if kind else ""


def cell_value(row: dict[str, Any], columns: Sequence[str]) -> Any:
    """Return the first of some columns that the row fills; None where it fills none."""
    return next((row[column] for column in columns if row.get(column) not in (None, "")), None)


def cell_name(row: dict[str, Any], columns: Sequence[str]) -> str:
    """Return the name in the first of some columns that the row fills; '' where it fills none.

    Raises:
        ValueError: it is no text and no whole number, or holds what no name can hold.
    """
    value = cell_value(row, columns)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{_short(str(value))} is no name{_kind(value)}; wanted a text")
    try:
        name = str(value).strip()
    except ValueError:  # a number of more digits than Python writes
        raise ValueError("a number of thousands of digits is no name") from None
    if "\0" in name:
        raise ValueError(f"the name {_short(name)!r} holds a NUL byte")
    if not is_unicode(name):
        raise ValueError(f"the name {_short(ascii(name))} holds bytes or half characters that are no Unicode")
    return name


def cell_seconds(row: dict[str, Any], columns: Sequence[str]) -> float | None:
    """Return the number of seconds in the first of some columns that the row fills.

    Raises:
        ValueError: it is no time.
    """
    value = cell_value(row, columns)
    if (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or (isinstance(value, str) and not value.strip())
    ):
        return None
    try:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{columns[0]} is {_short(repr(value))}, not a number of seconds") from None
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{columns[0]} is {_short(repr(value))}, not a time in seconds")
    return number


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."
