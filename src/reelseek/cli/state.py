"""Options of a server: its state folder and accounts, what jobs may read, and the proxy or TLS in front of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelseek.cli.show import say
from reelseek.errors import LibraryError, UsageError

if TYPE_CHECKING:
    from reelseek.web.server import TLSFiles
    from reelseek.web.state import StateFolder
    from reelseek.web.state_services import StateServices

__all__ = [
    "AccountsOption",
    "Prefix",
    "Roots",
    "State",
    "StateOptions",
    "TLSCertificate",
    "TLSKey",
    "TrustProxy",
    "UserHeader",
    "claim_state",
    "tls_files",
]

State = Annotated[
    Path | None,
    typer.Option(help="Folder for jobs, accounts and collections; default: LIBRARY.state beside the first library."),
]
AccountsOption = Annotated[
    bool, typer.Option("--accounts", help="Let in who has an account (see: reelseek accounts add), and nobody else.")
]
Roots = Annotated[
    list[Path] | None,
    typer.Option(help="Folder that jobs may read, besides those where the library's videos lie. Several times."),
]
Prefix = Annotated[str, typer.Option(help="Prefix of all addresses behind a reverse proxy, such as /media.")]
TrustProxy = Annotated[
    list[str] | None,
    typer.Option(help="Address or network of a reverse proxy, whose X-Forwarded headers are believed. Several times."),
]
UserHeader = Annotated[
    str | None,
    typer.Option(
        "--proxy-user-header",
        help="Header in which a trusted proxy names who has signed in with it, such as X-Forwarded-User.",
    ),
]
TLSCertificate = Annotated[Path | None, typer.Option("--tls-cert", help="PEM file: certificate and its chain.")]
TLSKey = Annotated[Path | None, typer.Option("--tls-key", help="PEM file: the certificate's key.")]


@dataclass(frozen=True)
class StateOptions:
    """What was asked for on the command line."""

    state: Path | None
    accounts: bool
    roots: tuple[Path, ...]
    prefix: str
    proxies: tuple[str, ...]
    user_header: str

    @classmethod
    def of(
        cls,
        state: Path | None,
        accounts: bool,
        roots: Sequence[Path] | None,
        prefix: str,
        trust_proxy: Sequence[str] | None,
        user_header: str | None,
        token: str | None,
    ) -> "StateOptions":
        """Check options, alone and against each other.

        Raises:
            UsageError: one is wrong, or contradicts another.
        """
        from reelseek.web.accounts.proxy import check_prefix, check_proxies

        proxies = tuple(check_proxies(trust_proxy or ()))
        if proxies and not accounts and token is None:
            raise UsageError("--trust-proxy lets a proxy's visitors in: take --accounts or --token with it")
        if user_header and not (proxies and accounts):
            raise UsageError("--proxy-user-header takes --accounts, and --trust-proxy with the proxy's address")
        return cls(state, accounts, tuple(roots or ()), check_prefix(prefix), proxies, user_header or "")

    def open(self, library: Path) -> "StateServices | None":
        """Open the state folder and say where it is; None where it is not asked for and cannot be had.

        Raises:
            LibraryError: it cannot be opened, or another server has it.
            UsageError: there is no account yet, or a root is no folder.
        """
        from reelseek.web.jobs.roots import Roots as AllowedRoots
        from reelseek.web.state_services import StateServices

        roots = AllowedRoots(self.roots)
        try:
            folder = claim_state(library, self.state)
        except LibraryError as error:
            if self.state is not None or self.accounts:
                raise
            say(f"no jobs and collections here: {error}")
            return None
        services = StateServices.open(
            folder, accounts=self.accounts, roots=roots, prefix=self.prefix, proxies=self.proxies,
            user_header=self.user_header,
        )  # fmt: skip
        if services.identities is not None and not services.identities.accounts.all():
            services.close()
            raise UsageError(
                f"{folder.path} has no account yet; begin with: reelseek accounts add {library} NAME "
                "--scopes read,review,write,admin"
            )
        say(f"jobs, accounts and collections: {folder.path}")
        return services


def claim_state(library: Path, state: Path | None) -> "StateFolder":
    """The state folder of a library, taken for this process.

    Raises:
        LibraryError: it cannot be made, or another server has it.
    """
    from reelseek.web.state import StateFolder, default_state

    folder = StateFolder(state if state is not None else default_state(library))
    if not folder.claim():
        folder.close()
        raise LibraryError(f"another server uses {folder.path}; end it, or name another folder with --state")
    return folder


def tls_files(certificate: Path | None, key: Path | None) -> "TLSFiles | None":
    """The files of TLS, both or none.

    Raises:
        UsageError: one without the other.
    """
    from reelseek.web.server import TLSFiles

    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise UsageError("--tls-cert and --tls-key go together; name both files")
    return TLSFiles(certificate, key)
