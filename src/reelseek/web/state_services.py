"""Everything of a server that outlives it: jobs, accounts, the audit log and collections, in one state folder."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from reelseek.errors import ReelseekError
from reelseek.library import Library
from reelseek.web.accounts.audit import AuditLog
from reelseek.web.accounts.guard import Guard
from reelseek.web.accounts.identity import Identities
from reelseek.web.accounts.store import Accounts
from reelseek.web.collections.cuts import CutStore
from reelseek.web.collections.store import Collections
from reelseek.web.jobs.roots import Roots
from reelseek.web.jobs.service import Jobs
from reelseek.web.problems import Problem
from reelseek.web.reports import Reports
from reelseek.web.reviews import Reviews
from reelseek.web.service import Caller, ServedLibrary, Service
from reelseek.web.state import StateFolder

__all__ = [
    "AccountsOf", "AuditOf", "CollectionsOf", "JobsOf", "Opener", "ReportsOf", "ReviewsOf", "StateServices",
    "open_accounts", "opened_library", "still_admitted",
]  # fmt: skip

Opener = Callable[[Path, str], ServedLibrary]
_log = logging.getLogger("reelseek.web")
ACCOUNTS, AUDIT = "accounts.db", "audit.db"


@dataclass
class StateServices:
    """What lies in a state folder, open.

    Args:
        identities: None where there are no accounts.
        prefix, proxies: see `reelseek.web.accounts.proxy`.
    """

    folder: StateFolder
    jobs: Jobs
    collections: Collections
    audit: AuditLog
    identities: Identities | None = None
    prefix: str = ""
    proxies: tuple[str, ...] = ()
    user_header: str = ""
    guard: Guard = field(init=False)
    cuts: CutStore = field(init=False)
    reviews: Reviews = field(init=False)
    reports: Reports = field(init=False)
    _service: Service | None = field(init=False, default=None)
    _opener: Opener | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.guard = Guard(self.identities, self.audit)
        self.cuts = CutStore(self.folder.subfolder("cuts"))
        self.reviews = Reviews(self.folder.path / "scans")
        self.reports = Reports(self.folder.path, self.jobs.queue)

    @classmethod
    def open(
        cls,
        folder: StateFolder,
        *,
        accounts: bool = False,
        roots: Roots | None = None,
        prefix: str = "",
        proxies: tuple[str, ...] = (),
        user_header: str = "",
        settle_seconds: float = 10.0,
    ) -> "StateServices":
        """Open what lies in a folder that this process has claimed.

        Raises:
            LibraryError: it cannot be read or written.
        """
        identities = Identities(open_accounts(folder), user_header=user_header) if accounts else None
        jobs = Jobs(folder, roots or Roots(), settle_seconds=settle_seconds)
        collections = Collections(folder.path / "collections.db")
        audit = AuditLog(folder.path / AUDIT)
        return cls(folder, jobs, collections, audit, identities, prefix, proxies, user_header)

    def attach(self, service: Service, opener: Opener | None = None) -> None:
        """Let a service know who asks, and jobs which libraries it serves.

        Args:
            opener: opens a library that was begun while the server ran, once it holds something to search.
        """
        service.keep_in(self.folder.path)
        if self.identities is not None:
            service.who = self.guard.who

        self._service, self._opener = service, opener

    def start(self) -> None:
        """Run jobs, and serve libraries that were begun here earlier."""
        assert self._service is not None
        self.jobs.start({served.library.path: served.name for served in self._service.libraries()}, self._serve_begun)

    def _serve_begun(self, folder: Path, name: str) -> bool:
        """Serve a library that was begun here if it can be searched by now."""
        service, opener = self._service, self._opener
        if service is None or opener is None or any(served.name == name for served in service.libraries()):
            return False
        try:
            service.add_library(opener(folder, name))
        except ReelseekError as error:
            _log.info("%s cannot be searched yet: %s", folder, error)
            return False
        return True

    def close(self) -> None:
        """End jobs, which the next server goes on with, and close everything."""
        self.jobs.close()
        self.cuts.close()
        self.collections.close()
        self.audit.close()
        if self.identities is not None:
            self.identities.accounts.close()
        self.folder.close()


def open_accounts(folder: StateFolder) -> Accounts:
    """The accounts of a state folder; the server that has it follows what other processes change."""
    return Accounts(folder.path / ACCOUNTS)


def _services(request: Request) -> StateServices:
    services: StateServices | None = getattr(request.app.state, "services", None)
    if services is None:
        raise Problem(
            503, "no state folder", "this server keeps no jobs, collections and accounts; start it with --state FOLDER"
        )
    return services


async def _jobs(request: Request) -> Jobs:
    return _services(request).jobs


async def _collections(request: Request) -> Collections:
    return _services(request).collections


async def _reviews(request: Request) -> Reviews:
    return _services(request).reviews


async def _reports(request: Request) -> Reports:
    return _services(request).reports


async def _identities(request: Request) -> Identities:
    identities = _services(request).identities
    if identities is None:
        raise Problem(404, "no accounts", "this server has no accounts; start it with --accounts")
    return identities


async def _audit(request: Request) -> AuditLog:
    return _services(request).audit


@contextlib.contextmanager
def opened_library(service: Service, jobs: Jobs, name: str | None, caller: Caller) -> Iterator[tuple[Library, str]]:
    """The library of a name with that name, also one that was begun here and holds nothing yet.

    Raises:
        Problem: there is none of this name for this caller.
    """
    folder = jobs.begun().get(name) if name is not None and caller.may_see(name) else None
    if folder is not None and all(served.name != name for served in service.libraries()):
        with Library.open(folder, create=True) as library:
            yield library, str(name)
        return
    served = service.library(name, caller)
    yield served.library, served.name


async def still_admitted(request: Request, scope: str) -> bool:
    """Whether who asked a while ago might ask the same now."""
    guard = _services(request).guard
    try:
        await guard.admit(request)
        caller = await request.app.state.service.who(request)
    except Problem:
        return False
    return scope in caller.scopes


AccountsOf = Annotated[Identities, Depends(_identities)]
AuditOf = Annotated[AuditLog, Depends(_audit)]
CollectionsOf = Annotated[Collections, Depends(_collections)]
JobsOf = Annotated[Jobs, Depends(_jobs)]
ReportsOf = Annotated[Reports, Depends(_reports)]
ReviewsOf = Annotated[Reviews, Depends(_reviews)]
