"""What every request passes where there are accounts: who asks, whether a browser's write is its own, and the audit."""

import logging
import re
from collections.abc import Mapping
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from reelseek.errors import LibraryError
from reelseek.web.accounts.audit import AuditLog
from reelseek.web.accounts.identity import Identities, Identity, client_address
from reelseek.web.problems import Problem
from reelseek.web.service import Caller

__all__ = ["Guard", "is_public", "is_shared", "note", "route_path", "without_secret"]

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_PROTECTED = ("/v1/", "/metrics")
_UNSCOPED = ("/metrics",)
_PUBLIC = re.compile(r"/v1/session|/v1/shared/[^/]+(/.*)?")
_READING_POSTS = re.compile(r"/v1/search|/v1/uploads|/v1/videos/[^/]+/steps|/v1/reviews/[^/]+/(queue|leases|leave)")
_IDENTITY, _FACTS = "reelseek.identity", "reelseek.audit"
_log = logging.getLogger("reelseek.web")


class Guard:
    """Lets requests in and notes what they change.

    Args:
        identities: None lets everybody in whom the gate let in.
        audit: where every write is noted; None notes none.
    """

    def __init__(self, identities: Identities | None, audit: AuditLog | None) -> None:
        self.identities, self._audit = identities, audit

    async def admit(self, request: Request) -> None:
        """Find out who asks.

        Raises:
            Problem: nobody does, for what is not public; or another site made a browser ask.
        """
        if self.identities is None:
            return
        public = is_public(request)
        if is_shared(request):
            return
        identity = await self.identities.identify(request)
        request.scope[_IDENTITY] = identity
        if identity is None and not public:
            raise Problem(401, "sign in first", "sign in on the page, or send a token: Authorization: Bearer TOKEN")
        if identity is not None:
            _check_unscoped(route_path(request), identity.caller)
        if identity is not None and identity.is_ambient and request.method not in _SAFE_METHODS:
            _check_own_page(request)

    async def who(self, request: Request) -> Caller:
        """The caller of a request that was admitted.

        Raises:
            Problem: nobody is signed in.
        """
        identity: Identity | None = request.scope.get(_IDENTITY)
        if identity is None:
            raise Problem(401, "sign in first", "sign in on the page, or send a token: Authorization: Bearer TOKEN")
        return identity.caller

    async def begin(self, request: Request) -> int | None:
        """Note a write before it is made; None where it is none.

        Raises:
            Problem: it cannot be noted, so that it must not be made.
        """
        path = route_path(request)
        if self._audit is None or request.method in _SAFE_METHODS or _READING_POSTS.fullmatch(path):
            return None
        if is_shared(request) or not path.startswith("/v1/"):
            return None  # nothing is written there, and who fills the log with it may be anybody
        identity: Identity | None = request.scope.get(_IDENTITY)
        who = identity.caller.name if identity is not None else "" if self.identities is not None else "local"
        action = f"{request.method} {without_secret(path)}"
        try:
            return await run_in_threadpool(self._audit.begin, who, client_address(request), action)
        except LibraryError as error:
            _log.error("audit: %s", error)
            raise Problem(507, "the audit log cannot be written", "nothing was changed; is the disk full?") from error

    async def complete(self, number: int | None, request: Request, status: int) -> None:
        """Note what came of a write."""
        if self._audit is not None and number is not None:
            facts: Mapping[str, Any] = request.scope.get(_FACTS, {})
            try:
                await run_in_threadpool(self._audit.complete, number, status, facts)
            except LibraryError as error:
                _log.error("audit: the status %d of row %d is not noted: %s", status, number, error)


def note(request: Request, **facts: Any) -> None:
    """Add facts on a write to its row in the audit log."""
    request.scope[_FACTS] = {**request.scope.get(_FACTS, {}), **facts}


def route_path(request: Request) -> str:
    """The path below the server's prefix."""
    path, root = request.scope["path"], request.scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def is_public(request: Request) -> bool:
    """Whether anybody may ask: the page's own files, signing in, and what somebody shared by a link."""
    path = route_path(request)
    return not path.startswith(_PROTECTED) or _PUBLIC.fullmatch(path) is not None


def _check_unscoped(path: str, caller: Caller) -> None:
    """Refuse what routes do not check themselves: counts of all libraries, for who may not see them all.

    Raises:
        Problem: the caller may not read, or is limited to some libraries.
    """
    if path.startswith(_UNSCOPED) and ("read" not in caller.scopes or caller.libraries is not None):
        raise Problem(403, "not allowed", f"this takes the scope 'read' on all libraries, which {caller.name} has not")


def is_shared(request: Request) -> bool:
    """Whether it asks for something that somebody shared by a link, whose secret lets it in."""
    return route_path(request).startswith("/v1/shared/")


def _check_own_page(request: Request) -> None:
    """Refuse a browser's write unless it says that a page of this server asked for it (the gate compared Origin)."""
    if request.headers.get("origin") or request.headers.get("sec-fetch-site") == "same-origin":
        return
    raise Problem(403, "wrong origin", "only a page of this server may change something; programs send a token")


def without_secret(path: str) -> str:
    """A path for logs: what opens a shared collection is left out."""
    return re.sub(r"(/v1/shared/)[^/]+", r"\1...", path)
