"""`reelseek accounts`: who may come into a server that runs with `--accounts`."""

import getpass
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelseek.cli.lists import names_in
from reelseek.cli.show import print_json, print_table, say
from reelseek.cli.state import State
from reelseek.errors import UsageError

if TYPE_CHECKING:
    from reelseek.web.accounts.store import Accounts

__all__ = ["app"]

app = typer.Typer(name="accounts", help="Accounts and tokens of a server.", no_args_is_help=True, rich_markup_mode=None)
LibraryFolder = Annotated[Path, typer.Argument(help="Folder of the first library that the server serves.")]
Name = Annotated[str, typer.Argument(help="Name of the account.")]
Scopes = Annotated[
    list[str] | None,
    typer.Option(help="Of read, review, write and admin; a,b or the option again. Default: read."),
]
OnlyLibraries = Annotated[
    list[str] | None,
    typer.Option("--libraries", help="Names of libraries; a,b or the option again. Default: all, later ones too."),
]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


@app.command(epilog="Example: reelseek accounts add my.library ada --scopes read,review")
def add(
    library: LibraryFolder,
    name: Name,
    scopes: Scopes = None,
    libraries: OnlyLibraries = None,
    password_stdin: FromStdin = False,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="For a program, or for who signs in at a proxy.")
    ] = False,
    state: State = None,
) -> None:
    """Begin an account; its password is asked for."""
    if no_password and password_stdin:
        raise UsageError("--no-password and --password-stdin contradict each other; leave one out")
    with _accounts(library, state, f"accounts add {name}") as accounts:
        password = None if no_password else _password(from_stdin=password_stdin)
        account = accounts.add(
            name, password=password, scopes=names_in(scopes or ["read"]) or [], libraries=names_in(libraries)
        )
    print(f"{account.name} may {', '.join(sorted(account.scopes))}")


@app.command(epilog="Example: reelseek accounts change my.library ada --scopes read,review,write")
def change(
    library: LibraryFolder,
    name: Name,
    scopes: Annotated[
        list[str] | None, typer.Option(help="Of read, review, write and admin; a,b or the option again.")
    ] = None,
    libraries: Annotated[
        list[str] | None,
        typer.Option("--libraries", help="Names of libraries, or: all; a,b or the option again."),
    ] = None,
    password: Annotated[bool, typer.Option("--password", help="Ask for a new password.")] = False,
    password_stdin: FromStdin = False,
    disable: Annotated[bool | None, typer.Option("--disable/--enable", help="Let nobody in by it, or again.")] = None,
    state: State = None,
) -> None:
    """Change an account; its browsers are signed out."""
    named = names_in(libraries)
    everywhere = named == ["all"]
    with _accounts(library, state, f"accounts change {name}") as accounts:
        account = accounts.change(
            name,
            password=_password(from_stdin=password_stdin) if password or password_stdin else None,
            scopes=names_in(scopes),
            libraries=None if everywhere else named,
            all_libraries=everywhere,
            disabled=disable,
        )
    print(f"{account.name} may {', '.join(sorted(account.scopes))}{', but is disabled' if account.disabled else ''}")


@app.command("list", epilog="Example: reelseek accounts list my.library")
def list_(
    library: LibraryFolder,
    json: Annotated[bool, typer.Option("--json", help="A JSON line an account.")] = False,
    state: State = None,
) -> None:
    """All accounts with their tokens."""
    with _accounts(library, state) as accounts:
        tokens = accounts.tokens()
        rows = [(account, [token for token in tokens if token.account == account.name]) for account in accounts.all()]
    if json:
        for account, of_account in rows:
            print_json(
                {
                    "name": account.name, "scopes": sorted(account.scopes), "disabled": account.disabled,
                    "libraries": sorted(account.libraries) if account.libraries is not None else None,
                    "tokens": [{"id": token.id, "label": token.label} for token in of_account],
                }
            )  # fmt: skip
        return
    cells = [
        (
            account.name,
            ", ".join(sorted(account.scopes)),
            "all" if account.libraries is None else ", ".join(sorted(account.libraries)),
            ", ".join(f"{token.id} ({token.label or 'no label'})" for token in of_account),
            "disabled" if account.disabled else "",
        )
        for account, of_account in rows
    ]
    print_table(["account", "scopes", "libraries", "tokens", ""], cells)


@app.command(epilog="Example: reelseek accounts remove my.library ada")
def remove(library: LibraryFolder, name: Name, state: State = None) -> None:
    """Remove an account, its tokens and its signed-in browsers."""
    with _accounts(library, state, f"accounts remove {name}") as accounts:
        accounts.remove(name)
    print(f"removed {name}")


@app.command(epilog="Example: reelseek accounts token my.library ada --label backup --scopes read --days 90")
def token(
    library: LibraryFolder,
    name: Name,
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    scopes: Annotated[
        list[str] | None, typer.Option(help="a,b or the option again. Default: those of the account.")
    ] = None,
    days: Annotated[float | None, typer.Option(help="After which it ends; default: never.")] = None,
    state: State = None,
) -> None:
    """Begin a token for a program and print it; it cannot be shown again."""
    with _accounts(library, state, f"accounts token {name}") as accounts:
        created, secret = accounts.add_token(name, label, names_in(scopes), days=days)
    ends = "" if created.expires is None else time.strftime(", until %Y-%m-%d", time.localtime(created.expires))
    say(f"token {created.id} of {created.account}: {', '.join(sorted(created.scopes))}{ends}; it is shown this once")
    print(secret)


@app.command(epilog="Example: reelseek accounts revoke my.library 3fa94c0d12ab")
def revoke(
    library: LibraryFolder,
    identifier: Annotated[str, typer.Argument(help="Id of the token, as `list` names it.")],
    state: State = None,
) -> None:
    """End a token: it lets nobody in any more."""
    with _accounts(library, state, f"accounts revoke {identifier}") as accounts:
        if not accounts.remove_token(identifier):
            raise UsageError(f"there is no token {identifier!r}; list them with: reelseek accounts list {library}")
    print(f"revoked {identifier}")


@app.command(epilog="Example: reelseek accounts audit my.library --last 20")
def audit(
    library: LibraryFolder,
    last: Annotated[int, typer.Option(min=1, max=100_000, help="How many rows.")] = 50,
    json: Annotated[bool, typer.Option("--json", help="A JSON line a row.")] = False,
    state: State = None,
) -> None:
    """Who changed what, newest first."""
    from reelseek.web.accounts.audit import AuditLog
    from reelseek.web.state_services import AUDIT

    log = AuditLog(_state_folder(library, state) / AUDIT)
    try:
        rows = log.rows(limit=last)
    finally:
        log.close()
    if json:
        for row in rows:
            print_json(row)
        return
    cells = [
        (
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["time"])), row["who"] or "?", row["address"],
            row["action"], row["status"] or "", " ".join(f"{key}={value}" for key, value in row["facts"].items()),
        )
        for row in rows
    ]  # fmt: skip
    print_table(["time", "who", "from", "what", "status", ""], cells)


@contextmanager
def _accounts(library: Path, state: Path | None, action: str = "") -> "Iterator[Accounts]":
    """The accounts of a server, also while it runs; a change is noted in its audit log."""
    from reelseek.web.accounts.audit import AuditLog
    from reelseek.web.accounts.store import Accounts
    from reelseek.web.state_services import ACCOUNTS, AUDIT

    folder = _state_folder(library, state)
    accounts, log = Accounts(folder / ACCOUNTS), AuditLog(folder / AUDIT)
    try:
        row = log.begin(_user(), "command line", action) if action else None
        yield accounts
        if row is not None:
            log.complete(row, 200)
    finally:
        accounts.close()
        log.close()


def _user() -> str:
    """Who runs this command; a container may have no name for it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"user {os.getuid()}"


def _state_folder(library: Path, state: Path | None) -> Path:
    from reelseek.web.state import StateFolder, default_state

    if state is None and not (library / "library.db").is_file():
        raise UsageError(f"{library} is not a library; name the first library of the server, or its folder: --state")
    folder = StateFolder(state if state is not None else default_state(library))
    folder.close()
    return folder.path


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise UsageError("a password is asked for on a terminal; take --password-stdin, or --no-password")
    password = getpass.getpass("password: ")
    if getpass.getpass("again: ") != password:
        raise UsageError("the two passwords differ; try again")
    return password
