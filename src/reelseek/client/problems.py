"""What a server answers instead of what was asked for, as exceptions.

ServiceError
├── ConnectionFailed      the server cannot be reached, or the connection ended
└── ProblemError          it answered with a problem (RFC 9457)
    ├── InvalidRequest      400, 413, 414, 415, 422: the request cannot be answered as it stands
    ├── NotSignedIn         401
    ├── NotAllowed          403, 421
    ├── NotFound            404, 410
    ├── Conflict            409: the state of the library, of a job or of a collection does not allow it
    ├── TooManyRequests     429
    └── Unavailable         503: the server cannot answer at the moment; `retry_seconds` says when to ask again
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from reelseek.errors import ReelseekError

__all__ = [
    "Conflict",
    "ConnectionFailed",
    "InvalidRequest",
    "NotAllowed",
    "NotFound",
    "NotSignedIn",
    "ProblemError",
    "ServiceError",
    "TooManyRequests",
    "Unavailable",
    "problem_of",
]


class ServiceError(ReelseekError):
    """A server did not do what was asked for."""


class ConnectionFailed(ServiceError):
    """The server cannot be reached, or the connection ended before the answer did."""


class ProblemError(ServiceError):
    """A server answered with a problem.

    Attributes:
        status: of HTTP.
        title: the same for every error of a kind.
        detail: what is wrong with this request, and what to do.
        errors: each field that is wrong, by `field` and `detail`.
        retry_seconds: after which time the same request may be answered otherwise; None where that is unknown.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        errors: Sequence[Mapping[str, str]] = (),
        retry_seconds: float | None = None,
    ) -> None:
        super().__init__(f"{status} {title}{': ' if detail else ''}{detail}")
        self.status, self.title, self.detail, self.errors = status, title, detail, errors
        self.retry_seconds = retry_seconds


class InvalidRequest(ProblemError):
    """The request cannot be answered as it stands."""


class NotSignedIn(ProblemError):
    """A token is needed, or it is wrong."""


class NotAllowed(ProblemError):
    """The token's scopes do not allow it."""


class NotFound(ProblemError):
    """There is no such thing, or it was removed."""


class Conflict(ProblemError):
    """The state of what was named does not allow it."""


class TooManyRequests(ProblemError):
    """Too many wrong tokens were tried."""


class Unavailable(ProblemError):
    """The server cannot answer at the moment."""


_KINDS: dict[int, type[ProblemError]] = {
    **dict.fromkeys((400, 413, 414, 415, 422), InvalidRequest),
    401: NotSignedIn,
    **dict.fromkeys((403, 421), NotAllowed),
    **dict.fromkeys((404, 410), NotFound),
    409: Conflict,
    429: TooManyRequests,
    503: Unavailable,
}


def problem_of(answer: httpx.Response) -> ProblemError:
    """The exception of an answer whose status is an error's; its body has been read."""
    try:
        body: Any = answer.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        body = None
    if not isinstance(body, dict):  # something between this client and the server answered
        body = {"title": answer.reason_phrase, "detail": answer.text[:500]}
    seconds = answer.headers.get("retry-after", "")
    return _KINDS.get(answer.status_code, ProblemError)(
        answer.status_code,
        str(body.get("title", "")),
        str(body.get("detail", "")),
        body.get("errors") or (),
        float(seconds) if seconds.isdigit() else None,
    )
