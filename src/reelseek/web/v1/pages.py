"""Page tokens: where an answer ended, for which request, and in which state of the library."""

import base64
import binascii
import hashlib
import json
from typing import Any

from reelseek.web.problems import Problem
from reelseek.web.v1.schema import SearchRequest

__all__ = ["encode_token", "name_after", "offset_of", "page_token"]

_MOST_HITS = 10_000
_NO_TOKEN = "page_token is none that this server gave; leave it out"


def encode_token(*parts: str | int) -> str:
    """Parts of a token as text that stands in addresses."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def _decode_token(token: str, *kinds: type) -> list[Any]:
    """The parts of a token.

    Raises:
        Problem: they are not of these types: it is no token, or one of another list.
    """
    try:
        parts = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise Problem(400, "no page token", _NO_TOKEN) from error
    if not isinstance(parts, list) or [type(part) for part in parts] != list(kinds):
        raise Problem(400, "no page token", _NO_TOKEN)
    return parts


def page_token(body: SearchRequest, generation: str, offset: int) -> str | None:
    """The token of the hits from an offset on; None where there are no more pages."""
    return encode_token(_digest(body), generation, offset) if offset < _MOST_HITS else None


def offset_of(body: SearchRequest, generation: str) -> int:
    """Where the page of a search begins.

    Raises:
        Problem: the token is none, is of another request, or of another state of the library.
    """
    if body.page_token is None:
        return 0
    digest, of_generation, offset = _decode_token(body.page_token, str, str, int)
    if digest != _digest(body):
        message = "page_token is of another request; repeat that one with it, or leave it out"
        raise Problem(400, "a page of another request", message)
    if of_generation != generation:
        message = "the library has changed since the page before; ask again from the first page on"
        raise Problem(409, "the library has changed", message)
    if not 0 <= offset < _MOST_HITS:
        raise Problem(400, "no page token", _NO_TOKEN)
    return offset


def _digest(body: SearchRequest) -> str:
    """What tells one question from another; a page may be larger or smaller than the one before."""
    question = body.model_dump_json(exclude={"page_token", "limit", "explain"})
    return hashlib.sha256(question.encode()).hexdigest()[:16]


def name_after(token: str | None) -> str:
    """The name after which a page of a list begins; '' is the first page.

    Raises:
        Problem: the token is none.
    """
    return _decode_token(token, str)[0] if token is not None else ""
