"""Text files that people give, decoded and split into lines."""

import re
from pathlib import Path

from reelseek.errors import CollectionError
from reelseek.library.names import printable
from reelseek.media.charset import decode_text
from reelseek.media.notice import Notice

__all__ = ["is_unicode", "read_lines", "read_text", "split_lines"]

_LINE_END = re.compile(r"\r\n|\n|\r")
_BYTES_LINE_END = re.compile(rb"\r\n|\n|\r")


def is_unicode(text: str) -> bool:
    """Whether a text can be written down: halves of surrogate pairs, which JSON can spell, cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def split_lines(text: str) -> list[str]:
    """Split at line feeds and carriage returns alone; `str.splitlines` would split at U+2028 and form feeds too."""
    return _LINE_END.split(text)


def read_text(path: Path, notices: list[Notice] | None = None) -> str:
    """Read a text file; bytes that are no character in a file of UTF-8 become lone surrogates (see `is_unicode`).

    Args:
        notices: takes a guess at the encoding; without it a guess is refused.

    Raises:
        CollectionError: it cannot be read, or its encoding has to be guessed and `notices` is None.
    """
    if not path.is_file():
        raise CollectionError(f"{printable(path)}: no such file, or not a regular one")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CollectionError(f"{printable(path)} cannot be read: {error.strerror}") from error
    decoded = None if _is_mostly_utf8(raw) else decode_text(raw)
    if decoded is None or decoded.encoding == "utf-8":
        return raw.decode("utf-8-sig", "surrogateescape")
    if decoded.message and notices is None:
        raise CollectionError(f"{printable(path)} cannot be read for certain ({decoded.message}); save it as UTF-8")
    if decoded.message and notices is not None:
        notices.append(Notice(printable(path), decoded.message, lost=decoded.damaged > 0))
    return decoded.text


def _is_mostly_utf8(raw: bytes) -> bool:
    """Whether bytes are UTF-8 but for some damaged lines or a few NULs: those are lost, and nothing is guessed."""
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) or raw.count(b"\0") > len(raw) / 5:
        return False
    good = bad = 0
    for line in _BYTES_LINE_END.split(raw):
        if not line.isascii():
            try:
                line.decode("utf-8")
                good += 1
            except UnicodeDecodeError:
                bad += 1
    return good > bad or (bad == 0 and b"\0" in raw)


def read_lines(path: Path, notices: list[Notice] | None = None) -> list[tuple[int, str]]:
    """Read the lines of a file that are not blank, each with its number (from 1), without surrounding blanks.

    Raises:
        CollectionError: as `read_text`, or a line holds what is no character.
    """
    lines = [(number, line.strip()) for number, line in enumerate(split_lines(read_text(path, notices)), 1)]
    for number, line in lines:
        if "\0" in line or not is_unicode(line):
            raise CollectionError(f"{printable(path)}, line {number} holds bytes that are no text")
    return [(number, line) for number, line in lines if line]
