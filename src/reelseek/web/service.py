"""What every router of `/v1` stands on: the libraries that are served, by name, and who asks for what.

A router takes the service and the caller as dependencies::

    @router.get("/v1/things")
    async def things(service: ServiceOf, caller: Reader) -> list[Thing]:
        served = service.library(None, caller)
"""

import hashlib
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from reelseek.library import Library
from reelseek.media.picture import browser_plays
from reelseek.search import Searcher
from reelseek.web import DEFAULT_COPIES_GB
from reelseek.web.decoding import DecodeQueue
from reelseek.web.media import Media, library_media
from reelseek.web.models import ModelNames, OtherModels
from reelseek.web.problems import Problem
from reelseek.web.searching import SideBySide
from reelseek.web.uploads import Uploads

__all__ = [
    "SCOPES",
    "Caller",
    "Reader",
    "Scope",
    "ServedLibrary",
    "Service",
    "ServiceOf",
    "Who",
    "require",
    "serve_library",
]

Scope = Literal["read", "review", "write", "admin"]
Answer = TypeVar("Answer")
_WAITING_SEARCHES = 256  # as many as there may be connections
SCOPES: frozenset[Scope] = frozenset(("read", "review", "write", "admin"))


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Args:
        name: as it stands in the audit log.
        scopes: what they may do.
        libraries: the names of those that they may see; None is all.
    """

    name: str
    scopes: frozenset[Scope]
    libraries: frozenset[str] | None = None

    def may_see(self, library: str) -> bool:
        return self.libraries is None or library in self.libraries


Who = Callable[[Request], Awaitable[Caller]]
"""Names the caller of a request; it raises a Problem of status 401 where nobody is signed in."""


async def this_machines_user(request: Request) -> Caller:
    """Who has passed the gate of a server without accounts may do everything."""
    return Caller("local", SCOPES)


@dataclass(frozen=True)
class ServedLibrary:
    """An open library, what searches it, and what shows its videos.

    Args:
        name: by which requests name it.
        model: by which they name what it is searched by.
    """

    name: str
    library: Library
    searcher: Searcher
    media: Media
    turns: SideBySide
    model: str = "concepts"

    def generation(self, searcher: Searcher) -> str:
        """Names the state of the library and of its index that a searcher answered from; another one may differ."""
        stamp = (searcher.current.followed[0], [segment.record.name for segment in searcher.index.segments])
        return hashlib.sha256(repr(stamp).encode()).hexdigest()[:16]

    def modality(self, expert: str) -> str:
        """The modality of an expert; the name itself where the library has no such expert."""
        return str(self.library.experts().get(expert, {}).get("modality", expert))

    def notes(self, searcher: Searcher) -> list[str]:
        """What is missing from every answer, in words."""
        index, notes = searcher.index, []
        if searcher.left_out:
            notes.append(searcher.left_out)
        if index.left_out:
            notes.append(f"{len(index.left_out)} videos are not searched, since their tracks are damaged")
        if index.damaged:
            clips = sum(segment.clips for segment in index.damaged)
            notes.append(f"{clips} clips are not searched, since their part of the index is damaged")
        return notes

    async def ask(
        self, request: Request, function: Callable[[Searcher], Answer], *, text: str = "", long: bool = False
    ) -> Answer:
        """What a function makes of a searcher, see `SideBySide.result`."""

        def call(searcher: Searcher) -> Answer:
            searcher.refresh()
            return function(searcher)

        return await self.turns.result(request, call, text=text, long=long)

    def start(self) -> None:
        """Let every thread open the library, so that no request waits for it."""
        self.turns.start()

    def close(self) -> None:
        """End all searches and all work on media files; the library stays open."""
        self.turns.close()
        self.media.close()


def serve_library(
    searcher: Searcher,
    name: str | None = None,
    *,
    model: str = "concepts",
    copies_gb: float = DEFAULT_COPIES_GB,
    threads: int | None = None,
) -> ServedLibrary:
    """What is served of the library of a searcher.

    Args:
        name: by which requests name it; None is the name of its folder.
        model: by which they name the searcher's model.
        copies_gb: disk space for copies that browsers can play, in 10^9 bytes.
        threads: how many searches run at a time; None is one for each core, up to four.
    """
    library = searcher.library
    media = library_media(library, copies_gb=copies_gb)
    return ServedLibrary(
        name or library.path.name, library, searcher, media, SideBySide(searcher, _WAITING_SEARCHES, threads), model
    )


class Service:
    """The libraries that are served.

    Args:
        state: the folder of jobs, accounts and collections; None where nothing outlives the server.
        who: names the caller of a request.
    """

    def __init__(
        self, libraries: Iterable[ServedLibrary], *, state: Path | None = None, who: Who = this_machines_user
    ) -> None:
        self.who = who
        self.keep_in(state)
        self.uploads = Uploads(state)
        self.decoding = DecodeQueue()
        self._libraries: dict[str, ServedLibrary] = {}
        self._lock = threading.Lock()
        for served in libraries:
            self.add_library(served)

    def keep_in(self, state: Path | None) -> None:
        """Take a folder for what outlives the server."""
        self.state, self.models = state, OtherModels(ModelNames(state))

    def add_library(self, served: ServedLibrary) -> None:
        """Serve one more library from now on.

        Raises:
            Problem: another one has its name.
        """
        with self._lock:
            if served.name in self._libraries:
                raise Problem(409, "the name is taken", f"a library {served.name!r} is served already")
            served.media.decoding = self.decoding
            self._libraries = {**self._libraries, served.name: served}

    def start(self) -> None:
        """Start what decodes and what searches, so that the first request does not wait for it."""
        self.decoding.start(browser_plays, Path("no such file"))
        for served in self.libraries():
            served.start()

    def close(self) -> None:
        """End all work on media files, and delete uploads."""
        self.decoding.close()
        self.models.close()
        for served in self.libraries():
            served.close()
        self.uploads.close()

    def libraries(self, caller: Caller | None = None) -> list[ServedLibrary]:
        """All libraries in the order in which they were added, or those that a caller may see."""
        return [served for served in self._libraries.values() if caller is None or caller.may_see(served.name)]

    def library(self, name: str | None, caller: Caller) -> ServedLibrary:
        """The library of a name, or the only one that the caller may see.

        Raises:
            Problem: there is none of this name for this caller, or the name is missing and there are several.
        """
        visible = {served.name: served for served in self.libraries(caller)}
        if name is not None:
            if name not in visible:
                raise Problem(
                    404, "no such library", f"no library {name!r} is served here; GET /v1/libraries lists them"
                )
            return visible[name]
        if len(visible) == 1:
            return next(iter(visible.values()))
        if not visible:
            raise Problem(404, "no such library", "there is no library that you may see")
        raise Problem(422, "which library?", f"name one with `library`: {', '.join(sorted(visible))}")

    async def by_model(self, served: ServedLibrary, model: str | None) -> ServedLibrary:
        """A library as it is searched by a model; None is the one that the server was started with.

        Raises:
            ModelError, Problem: see `OtherModels.library`.
        """
        if model is None or model == served.model:
            return served
        return await run_in_threadpool(self.models.library, served, model)


async def _service_of(request: Request) -> Service:
    return request.app.state.service


def require(scope: Scope) -> Callable[[Request], Awaitable[Caller]]:
    """What a route depends on that only callers of a scope may use; it returns the caller."""

    async def caller(request: Request) -> Caller:
        who = await request.app.state.service.who(request)
        if scope not in who.scopes:
            raise Problem(403, "not allowed", f"this takes the scope {scope!r}; {who.name} has {_names(who.scopes)}")
        return who

    return caller


def _names(scopes: frozenset[Scope]) -> str:
    return ", ".join(scope for scope in ("read", "review", "write", "admin") if scope in scopes) or "none"


ServiceOf = Annotated[Service, Depends(_service_of)]
Reader = Annotated[Caller, Depends(require("read"))]
