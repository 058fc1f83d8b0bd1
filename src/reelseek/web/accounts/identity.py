"""Who a request comes from: a token, a browser that signed in, or a name that a trusted proxy vouches for."""

from dataclasses import dataclass
from typing import Literal

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from reelseek.web.accounts.store import Account, Accounts
from reelseek.web.guesses import Guesses
from reelseek.web.problems import Problem
from reelseek.web.service import Caller

__all__ = ["COOKIE", "Identities", "Identity"]

COOKIE = "reelseek_session"
Means = Literal["token", "cookie", "proxy"]


@dataclass(frozen=True)
class Identity:
    """A caller, and by what they are known; a browser sends cookies and proxy headers unasked, a token never."""

    caller: Caller
    means: Means

    @property
    def is_ambient(self) -> bool:
        return self.means != "token"


class Identities:
    """Finds out who asks.

    Args:
        user_header: name of the header in which trusted proxies name the user, in lower case; '' for none.
    """

    def __init__(self, accounts: Accounts, *, user_header: str = "") -> None:
        self.accounts, self._user_header = accounts, user_header.lower()
        self.guesses = Guesses()
        self.name_guesses = Guesses(tries=50)  # of one account, from wherever

    async def identify(self, request: Request) -> Identity | None:
        """Who asks; None where nobody says who they are.

        Raises:
            Problem: a token is wrong, or too many were.
        """
        header = request.headers.get("authorization", "")
        if header[:7].lower() == "bearer ":
            return Identity(await self._by_token(request, header[7:].strip()), "token")
        cookie = request.cookies.get(COOKIE, "")
        if cookie:
            account = await run_in_threadpool(self.accounts.session, cookie)
            if account is not None:
                return Identity(account.caller(), "cookie")
        if self._user_header and request.scope.get("reelseek.trusted_peer"):
            name = request.headers.get(self._user_header, "")
            account = await run_in_threadpool(self.accounts.get, name) if name else None
            if account is not None and not account.disabled:
                return Identity(account.caller(), "proxy")
            if name:
                raise Problem(
                    403, "no account", "you are signed in, but have no account here; ask who runs this server"
                )
        return None

    async def _by_token(self, request: Request, secret: str) -> Caller:
        address = client_address(request)
        wait = self.guesses.seconds_to_wait(address)
        if wait > 0:
            raise Problem(429, "too many wrong tokens", "wait before you try another one", retry_seconds=max(1.0, wait))
        caller = await run_in_threadpool(self.accounts.token_caller, secret)
        if caller is None:
            self.guesses.add_wrong(address)
            raise Problem(401, "the token is not valid", "it is wrong, has ended, or was revoked")
        return caller

    async def sign_in(self, request: Request, name: str, password: str) -> Account:
        """The account of a name and a password.

        Raises:
            Problem: they are wrong, or too many were.
        """
        address = client_address(request)
        wait = max(self.guesses.seconds_to_wait(address), self.name_guesses.seconds_to_wait(name.lower()[:64]))
        if wait > 0:
            raise Problem(429, "too many wrong passwords", "wait before you try again", retry_seconds=max(1.0, wait))
        self.guesses.add_wrong(address)  # before it is looked at, lest many are tried at the same time
        self.name_guesses.add_wrong(name.lower()[:64])
        account = await run_in_threadpool(self.accounts.check_password, name, password)
        if account is None:
            raise Problem(401, "name or password is wrong", "try again, or ask who runs this server for a new password")
        self.guesses.forgive(address)
        self.name_guesses.forgive(name.lower()[:64])
        return account


def client_address(request: Request) -> str:
    """Where a request comes from; a trusted proxy's word for it is in the scope already."""
    return request.client.host if request.client else ""
