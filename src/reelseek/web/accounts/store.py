"""Accounts, their tokens and their signed-in browsers, in SQLite; nothing in it lets anybody in who reads it.

Passwords are hashed by argon2id with the parameters of argon2-cffi. Tokens and cookies are 256 random bits, of which
SHA-256 is kept: nothing slower is needed for what cannot be guessed.
"""

import contextlib
import hashlib
import json
import re
import secrets
import sqlite3
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from reelseek.errors import LibraryError, UsageError, suggest
from reelseek.web.service import SCOPES, Caller, Scope
from reelseek.web.state import Database, now

__all__ = ["Account", "Accounts", "Token", "check_scopes"]

_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")
_SHORTEST_PASSWORD, _LONGEST_PASSWORD = 10, 1000
_SESSION_SECONDS = 14 * 24 * 3600.0  # since it was last used
_LONGEST_SESSION_SECONDS = 90 * 24 * 3600.0
_USED_SECONDS = 60.0  # how exactly it is noted when a token or a cookie was last used
_TOKEN = re.compile(r"rsk_[A-Za-z0-9_-]{43}")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (
  name TEXT PRIMARY KEY, password TEXT, scopes TEXT NOT NULL, libraries TEXT,
  created REAL NOT NULL, disabled INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tokens (
  id TEXT PRIMARY KEY, account TEXT NOT NULL REFERENCES accounts(name) ON DELETE CASCADE,
  label TEXT NOT NULL, hash BLOB NOT NULL UNIQUE, scopes TEXT NOT NULL,
  created REAL NOT NULL, expires REAL, used REAL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
  hash BLOB PRIMARY KEY, account TEXT NOT NULL REFERENCES accounts(name) ON DELETE CASCADE,
  created REAL NOT NULL, used REAL NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Account:
    """Somebody who may come in.

    Args:
        libraries: names of those that they may see; None is all.
        has_password: False for programs and for who signs in elsewhere.
    """

    name: str
    scopes: frozenset[Scope]
    libraries: frozenset[str] | None
    created: float
    disabled: bool
    has_password: bool

    def caller(self, scopes: Iterable[Scope] | None = None) -> Caller:
        """Who asks, with no more scopes than the account has."""
        return Caller(self.name, self.scopes & frozenset(self.scopes if scopes is None else scopes), self.libraries)


@dataclass(frozen=True)
class Token:
    """A program's way in; the secret itself was shown once and is not kept."""

    id: str
    account: str
    label: str
    scopes: frozenset[Scope]
    created: float
    expires: float | None
    used: float | None


class Accounts:
    """The tables of accounts, tokens and sessions.

    Args:
        path: of the database.
        hasher: tests pass a quick one.
    """

    def __init__(self, path: Path, *, hasher: PasswordHasher | None = None) -> None:
        self._database = Database(path, _SCHEMA)
        self._hasher = hasher or PasswordHasher()
        self._nobody = self._hasher.hash(secrets.token_hex(16))
        self._hashing = threading.Semaphore(2)  # each takes 64 MiB of memory

    def close(self) -> None:
        self._database.close()

    # Accounts

    def all(self) -> list[Account]:
        """All accounts in order of name."""
        return [_account(row) for row in self._database.rows("SELECT * FROM accounts ORDER BY name")]

    def get(self, name: str) -> Account | None:
        """The account of a name, in any case of its letters."""
        row = self._database.row("SELECT * FROM accounts WHERE name = ?", (name.lower(),))
        return _account(row) if row is not None else None

    def add(
        self, name: str, *, password: str | None, scopes: Collection[str], libraries: Collection[str] | None = None
    ) -> Account:
        """Begin an account.

        Args:
            password: None for programs, which have tokens, and for who signs in at a proxy.

        Raises:
            UsageError: the name is taken or holds strange signs, the password is short, a scope is unknown.
        """
        if not _NAME.fullmatch(name.lower()):
            raise UsageError(f"{name!r} is no name of an account; it takes up to 64 of a-z 0-9 . _ @ + -")
        row = (
            name.lower(), self._hash(password) if password is not None else None, _join(check_scopes(scopes)),
            json.dumps(sorted(libraries)) if libraries is not None else None, now(),
        )  # fmt: skip
        try:
            with self._database.transaction() as connection:
                connection.execute(
                    "INSERT INTO accounts(name, password, scopes, libraries, created) VALUES (?, ?, ?, ?, ?)", row
                )
        except sqlite3.IntegrityError as error:
            raise UsageError(f"there is an account {name!r} already; change it, or choose another name") from error
        return self._require(name)

    def change(
        self,
        name: str,
        *,
        password: str | None = None,
        scopes: Collection[str] | None = None,
        libraries: Collection[str] | None = None,
        all_libraries: bool = False,
        disabled: bool | None = None,
    ) -> Account:
        """Change what is named; a new password or less rights sign the account's browsers out.

        Raises:
            UsageError: there is no such account, or what it is to become is refused.
        """
        account = self._require(name)
        changes: dict[str, object] = {}
        if password is not None:
            changes["password"] = self._hash(password)
        if scopes is not None:
            changes["scopes"] = _join(check_scopes(scopes))
        if libraries is not None or all_libraries:
            changes["libraries"] = None if all_libraries else json.dumps(sorted(libraries or ()))
        if disabled is not None:
            changes["disabled"] = int(disabled)
        with self._database.transaction() as connection:
            for column, value in changes.items():
                connection.execute(f"UPDATE accounts SET {column} = ? WHERE name = ?", (value, account.name))
            connection.execute("DELETE FROM sessions WHERE account = ?", (account.name,))
            if not connection.execute("SELECT 1 FROM accounts WHERE disabled = 0").fetchone():
                raise UsageError("this would leave no account that can be used; add another one first")
        return self._require(name)

    def remove(self, name: str) -> None:
        """Remove an account with its tokens; its browsers are signed out.

        Raises:
            UsageError: there is no such account.
        """
        account = self._require(name)
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM accounts WHERE name = ?", (account.name,))

    def _require(self, name: str) -> Account:
        account = self.get(name)
        if account is None:
            raise UsageError(f"there is no account {name!r}; list them with: reelseek accounts list")
        return account

    def _hash(self, password: str) -> str:
        if not _SHORTEST_PASSWORD <= len(password) <= _LONGEST_PASSWORD:
            raise UsageError(
                f"a password has {_SHORTEST_PASSWORD} to {_LONGEST_PASSWORD} letters; this has another length"
            )
        with self._hashing:
            return self._hasher.hash(password)

    # Signing in

    def check_password(self, name: str, password: str) -> Account | None:
        """The account that a name and a password belong to; None takes as long as a right one."""
        row = self._database.row("SELECT * FROM accounts WHERE name = ?", (name.lower(),))
        digest = row["password"] if row is not None and row["password"] else self._nobody
        try:
            with self._hashing:
                self._hasher.verify(digest, password[: _LONGEST_PASSWORD + 1])
        except (VerificationError, InvalidHashError):
            return None
        if row is None or not row["password"] or row["disabled"]:
            return None
        if self._hasher.check_needs_rehash(digest):
            with self._database.transaction() as connection:
                connection.execute(
                    "UPDATE accounts SET password = ? WHERE name = ?", (self._hash(password), row["name"])
                )
        return _account(row)

    def begin_session(self, account: Account) -> str:
        """Sign a browser in and return its cookie, which is new each time."""
        cookie = secrets.token_urlsafe(32)
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE used < ?", (now() - _SESSION_SECONDS,))
            connection.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, ?)", (_digest(cookie), account.name, now(), now())
            )
        return cookie

    def session(self, cookie: str) -> Account | None:
        """The account that a cookie was given to, while it lasts."""
        query = (
            "SELECT accounts.*, sessions.used AS last_used FROM sessions JOIN accounts ON name = account"
            " WHERE hash = ? AND used > ? AND sessions.created > ? AND disabled = 0"
        )
        limits = (now() - _SESSION_SECONDS, now() - _LONGEST_SESSION_SECONDS)
        row = self._database.row(query, (_digest(cookie), *limits))
        if row is None:
            return None
        self._note_use("sessions", "hash", _digest(cookie), row["last_used"])
        return _account(row)

    def end_session(self, cookie: str) -> None:
        """Sign a browser out."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE hash = ?", (_digest(cookie),))

    # Tokens

    def add_token(
        self, name: str, label: str, scopes: Collection[str] | None = None, *, days: float | None = None
    ) -> tuple[Token, str]:
        """Begin a token; the secret that is returned beside it cannot be shown again.

        Args:
            scopes: None takes those of the account; a token never has more than its account has at the moment.
            days: after which it ends; None never.

        Raises:
            UsageError: there is no such account, or it does not have these scopes.
        """
        account = self._require(name)
        selected = check_scopes(account.scopes if scopes is None else scopes)
        if not selected <= account.scopes:
            missing = ", ".join(sorted(selected - account.scopes))
            raise UsageError(f"{account.name} has no scope {missing}, which a token of theirs could have")
        if days is not None and not 0 < days <= 36_500:
            raise UsageError(f"a token lasts more than 0 and at most 36,500 days, not {days:g}")
        secret = f"rsk_{secrets.token_urlsafe(32)}"
        token = Token(
            secrets.token_hex(6), account.name, label[:100], selected, now(),
            now() + days * 86_400 if days is not None else None, None,
        )  # fmt: skip
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
                (token.id, token.account, token.label, _digest(secret), _join(selected), token.created, token.expires),
            )
        return token, secret

    def tokens(self, name: str | None = None) -> list[Token]:
        """The tokens of an account, or of all."""
        query = "SELECT * FROM tokens WHERE ?1 IS NULL OR account = ?1 ORDER BY account, created"
        return [_token(row) for row in self._database.rows(query, (name.lower() if name else None,))]

    def remove_token(self, identifier: str) -> bool:
        """Revoke a token; False where there is none of this id."""
        with self._database.transaction() as connection:
            return connection.execute("DELETE FROM tokens WHERE id = ?", (identifier,)).rowcount > 0

    def token_caller(self, secret: str) -> Caller | None:
        """Who a token's secret belongs to, with the scopes that both it and its account have."""
        if not _TOKEN.fullmatch(secret):
            return None
        query = (
            "SELECT accounts.*, tokens.scopes AS token_scopes, tokens.used AS last_used FROM tokens"
            " JOIN accounts ON name = account WHERE hash = ? AND disabled = 0 AND (expires IS NULL OR expires > ?)"
        )
        row = self._database.row(query, (_digest(secret), now()))
        if row is None:
            return None
        self._note_use("tokens", "hash", _digest(secret), row["last_used"])
        return _account(row).caller(_split(row["token_scopes"]))

    def _note_use(self, table: str, column: str, key: bytes, used: float | None) -> None:
        if used is None or now() - used > _USED_SECONDS:
            # Where the disk is full, people can still look; when they did is not worth shutting them out.
            with contextlib.suppress(LibraryError), self._database.transaction() as connection:
                connection.execute(f"UPDATE {table} SET used = ? WHERE {column} = ?", (now(), key))


def check_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Scopes by their names.

    Raises:
        UsageError: one is unknown, or there is none.
    """
    selected = frozenset(scope for scope in SCOPES if scope in set(names))
    unknown = sorted(set(names) - SCOPES)
    if unknown or not selected:
        guess = suggest(unknown[0], SCOPES) if unknown else ""
        raise UsageError(f"scopes are {', '.join(get_args(Scope))}; got: {', '.join(unknown) or 'none'}{guess}")
    return selected


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _join(scopes: Iterable[Scope]) -> str:
    return " ".join(sorted(scopes))


def _split(text: str) -> frozenset[Scope]:
    parts: Sequence[str] = text.split()
    return frozenset(scope for scope in SCOPES if scope in parts)


def _account(row: sqlite3.Row) -> Account:
    libraries = frozenset(json.loads(row["libraries"])) if row["libraries"] is not None else None
    return Account(
        row["name"],
        _split(row["scopes"]),
        libraries,
        row["created"],
        bool(row["disabled"]),
        row["password"] is not None,
    )


def _token(row: sqlite3.Row) -> Token:
    return Token(
        row["id"], row["account"], row["label"], _split(row["scopes"]), row["created"], row["expires"], row["used"]
    )
