"""A server as a team runs it: two libraries, accounts with tokens of every scope, jobs and collections."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from fastapi.testclient import TestClient

from reelseek.library import Library
from reelseek.search import Searcher
from reelseek.web.accounts.store import Accounts
from reelseek.web.app import create_app
from reelseek.web.jobs.roots import Roots
from reelseek.web.media import opaque_id
from reelseek.web.service import Service, serve_library
from reelseek.web.state import StateFolder
from reelseek.web.state_services import StateServices

PASSWORD = "correct horse battery"


@dataclass
class Team:
    """A running application and who may come in."""

    client: TestClient
    services: StateServices
    service: Service
    libraries: dict[str, Library]
    folder: Path

    def token(self, scopes: Sequence[str], libraries: Sequence[str] | None = None) -> dict[str, str]:
        """The header of a token of a new account with these scopes."""
        accounts = self.services.identities.accounts
        name = f"user{len(accounts.all())}"
        accounts.add(name, password=None, scopes=scopes, libraries=libraries)
        return {"Authorization": f"Bearer {accounts.add_token(name, 'test')[1]}"}

    def moment(self, name: str = "library", place: int = 0, start: float = 0.5, end: float = 2.0) -> str:
        """A moment of a library's video."""
        video = self.libraries[name].videos()[place]
        return f"{opaque_id(video.id)}@{start:.3f}-{end:.3f}"


@pytest.fixture(scope="session")
def two_libraries(library_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of two libraries of the same videos; what a test may leave in them are tags, taken off at its end."""
    other = tmp_path_factory.mktemp("second") / "other"
    shutil.copytree(library_path, other)
    return {"library": library_path, "other": other}


@pytest.fixture(scope="session")
def searchers(two_libraries: dict[str, Path]) -> dict[str, Searcher]:
    """What searches the two libraries, loaded once."""
    return {name: Searcher(Library.open(folder)) for name, folder in two_libraries.items()}


@pytest.fixture
def start_team(
    searchers: dict[str, Searcher], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Team]]:
    """Starts servers, with accounts unless told otherwise."""
    closing: list[Callable[[], None]] = []
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(
        "reelseek.web.state_services.open_accounts", lambda folder: Accounts(folder.path / "accounts.db", hasher=quick)
    )

    def start(*, accounts: bool = True, roots: Sequence[Path] = (), names: Sequence[str] = ("library", "other"),
              token: str | None = None, base_url: str = "http://127.0.0.1", **options: object) -> Team:  # fmt: skip
        folder = StateFolder(tmp_path / "state")
        assert folder.claim()
        services = StateServices.open(folder, accounts=accounts, roots=Roots(roots), settle_seconds=0.5, **options)
        service = Service([serve_library(searchers[name], name) for name in names])
        libraries = {name: searchers[name].library for name in names}
        app = create_app(service, token=token, services=services)
        services.start()
        client = TestClient(app, base_url=base_url)
        client.__enter__()
        closing.append(lambda: client.__exit__(None, None, None))
        return Team(client, services, service, libraries, tmp_path)

    yield start
    for close in closing:
        close()
    for searcher in searchers.values():
        library = searcher.library
        library.remove_tags([tag for video in library.videos() for tag in library.tags(video.id)])


@pytest.fixture
def team(start_team: Callable[..., Team]) -> Team:
    return start_team()
