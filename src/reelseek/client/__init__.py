"""A typed client of the interface `/v1`, synchronous and asynchronous.

`Client` and `AsyncClient` have a method for each operation that a server's OpenAPI document describes; `schema` holds
what they take and answer, `problems` what they raise.
"""

from reelseek.client.clients import AsyncClient, Client
from reelseek.client.problems import (
    Conflict,
    ConnectionFailed,
    InvalidRequest,
    NotAllowed,
    NotFound,
    NotSignedIn,
    ProblemError,
    ServiceError,
    TooManyRequests,
    Unavailable,
)
from reelseek.client.transport import Event

__all__ = [
    "AsyncClient",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "Event",
    "InvalidRequest",
    "NotAllowed",
    "NotFound",
    "NotSignedIn",
    "ProblemError",
    "ServiceError",
    "TooManyRequests",
    "Unavailable",
]
