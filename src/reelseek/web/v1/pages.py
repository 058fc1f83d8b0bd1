"""Page tokens: where an answer ended, for which request, and in which state of the library."""

import base64
import binascii
import hashlib
import json

from reelseek.web.problems import Problem
from reelseek.web.v1.schema import SearchRequest

__all__ = ["PageToken"]

_MOST_HITS = 10_000


class PageToken:
    """Reads and writes the tokens of pages of hits."""

    @staticmethod
    def of(body: SearchRequest, generation: str, offset: int) -> str | None:
        """The token of the hits from an offset on; None where there are no more pages."""
        if offset >= _MOST_HITS:
            return None
        text = json.dumps([_request_digest(body), generation, offset])
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @staticmethod
    def offset_of(body: SearchRequest, generation: str) -> int:
        """Where the page of a request begins.

        Raises:
            Problem: the token is none, is of another request, or of another state of the library.
        """
        if body.page_token is None:
            return 0
        try:
            text = base64.b64decode(body.page_token + "=" * (-len(body.page_token) % 4), b"-_", validate=True)
            digest, of_generation, offset = json.loads(text)
        except (binascii.Error, ValueError, TypeError) as error:
            raise Problem(400, "no page token", "page_token is none that this server gave; leave it out") from error
        if digest != _request_digest(body):
            raise Problem(
                400, "a page of another request", "page_token is of another request; repeat that one, or leave it out"
            )
        if of_generation != generation:
            raise Problem(
                409,
                "the library has changed",
                "the library has changed since the page before; ask from the first page on",
            )
        if not (isinstance(offset, int) and 0 <= offset < _MOST_HITS):
            raise Problem(400, "no page token", "page_token is none that this server gave; leave it out")
        return offset


def _request_digest(body: SearchRequest) -> str:
    """What tells one question from another; a page may be larger or smaller than the one before."""
    question = body.model_dump_json(exclude={"page_token", "limit", "explain"})
    return hashlib.sha256(question.encode()).hexdigest()[:16]
