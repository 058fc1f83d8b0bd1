"""Accounts: signing in, tokens, guessing, other sites' pages, proxies, and the log of what was changed."""

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.web.conftest import PASSWORD, Team

from reelseek.errors import UsageError
from reelseek.web.accounts.identity import COOKIE
from reelseek.web.accounts.proxy import check_prefix, check_proxies
from reelseek.web.accounts.store import Accounts

HERE = {"Origin": "http://127.0.0.1"}


def _sign_in(team: Team, name: str = "ada", password: str = PASSWORD, **headers: str):
    return team.client.post("/v1/session", json={"name": name, "password": password}, headers={**HERE, **headers})


@pytest.fixture
def ada(team: Team) -> Team:
    team.services.identities.accounts.add("ada", password=PASSWORD, scopes=["read", "review"])
    return team


def test_a_cookie_that_scripts_and_other_sites_do_not_get(ada: Team) -> None:
    answer = _sign_in(ada, "Ada")
    assert answer.json() == {"name": "ada", "scopes": ["read", "review"], "libraries": None}
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/" in cookie
    assert ada.client.get("/v1/session").json()["name"] == "ada"
    assert ada.client.get("/v1/libraries").status_code == 200
    assert ada.client.delete("/v1/session", headers=HERE).status_code == 204
    assert ada.client.get("/v1/session").status_code == 401


def test_a_page_of_another_site_changes_nothing(ada: Team) -> None:
    _sign_in(ada)
    body = {"library": "library", "name": "cats"}
    for headers in ({}, {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
                    {"Origin": "http://127.0.0.1.evil.example"}, {"Sec-Fetch-Site": "same-site"}):  # fmt: skip
        answer = ada.client.post("/v1/collections", json=body, headers=headers)
        assert answer.status_code == 403, headers
    assert ada.client.get("/v1/collections").json()["data"] == []
    assert ada.client.post("/v1/collections", json=body, headers=HERE).status_code == 201
    own = {"Sec-Fetch-Site": "same-origin"}
    assert ada.client.post("/v1/collections", json=body, headers=own).status_code == 201


def test_a_cookie_from_before_signing_in_is_worth_nothing(ada: Team) -> None:
    ada.client.cookies.set(COOKIE, "fixed-by-somebody-else")
    assert ada.client.get("/v1/session").status_code == 401
    first = _sign_in(ada).cookies[COOKIE]
    assert first != "fixed-by-somebody-else"
    ada.client.cookies.clear()
    second = _sign_in(ada, Cookie=f"{COOKIE}={first}").cookies[COOKIE]
    assert second != first
    ada.client.cookies.clear()
    assert ada.client.get("/v1/session", headers={"Cookie": f"{COOKIE}={first}"}).status_code == 401
    assert ada.client.get("/v1/session", headers={"Cookie": f"{COOKIE}={second}"}).status_code == 200


def test_guessing_passwords_and_tokens_is_slow(ada: Team) -> None:
    statuses = [_sign_in(ada, password=f"wrong wrong {number}").status_code for number in range(14)]
    assert statuses[0] == 401
    assert statuses[-1] == 429
    assert _sign_in(ada).status_code == 429, "the right one is not told from wrong ones either"
    guesses = [
        ada.client.get("/v1/libraries", headers={"Authorization": f"Bearer rsk_{number:043}"}).status_code
        for number in range(14)
    ]
    assert guesses[-1] == 429


def test_an_unknown_name_is_answered_like_a_wrong_password(ada: Team) -> None:
    wrong, unknown = _sign_in(ada, password="not the password"), _sign_in(ada, "nobody")
    assert (wrong.status_code, wrong.json()) == (unknown.status_code, unknown.json())


def test_a_token_ends_with_its_revocation_its_account_and_its_scopes(team: Team) -> None:
    accounts = team.services.identities.accounts
    accounts.add("ada", password=None, scopes=["read", "write"])
    accounts.add("other", password=None, scopes=["read"])
    token, secret = accounts.add_token("ada", "backup", ["read"])
    header = {"Authorization": f"Bearer {secret}"}
    assert team.client.get("/v1/session", headers=header).json()["scopes"] == ["read"]
    accounts.change("ada", scopes=["write"])
    assert team.client.get("/v1/session", headers=header).json()["scopes"] == []
    accounts.change("ada", scopes=["read"], disabled=True)
    assert team.client.get("/v1/session", headers=header).status_code == 401
    accounts.change("ada", disabled=False)
    assert team.client.get("/v1/session", headers=header).status_code == 200
    assert accounts.remove_token(token.id)
    assert team.client.get("/v1/session", headers=header).status_code == 401
    with pytest.raises(UsageError, match="no scope admin"):
        accounts.add_token("ada", "more", ["admin"])


def test_what_is_stored_lets_nobody_in(ada: Team) -> None:
    cookie = _sign_in(ada).cookies[COOKIE]
    _, secret = ada.services.identities.accounts.add_token("ada", "x")
    stored = b"".join(path.read_bytes() for path in ada.services.folder.path.glob("accounts.db*"))
    for text in (cookie, secret, secret.removeprefix("rsk_"), PASSWORD):
        assert text.encode() not in stored
    assert b"$argon2id$" in stored
    assert (ada.services.folder.path / "accounts.db").stat().st_mode & 0o077 == 0


def test_every_write_is_in_the_log_and_no_read_is(team: Team) -> None:
    everything = team.token(["read", "review", "write", "admin"])
    reader = team.token(["read"])
    team.client.post("/v1/collections", json={"library": "library", "name": "cats"}, headers=everything)
    team.client.post("/v1/collections", json={"library": "library", "name": "dogs"}, headers=reader)
    team.client.post("/v1/search", json={"query": "cat", "library": "library"}, headers=reader)
    _sign_in(team, "nobody")
    team.client.delete("/v1/jobs/0000000000000000")
    rows = team.client.get("/v1/audit", headers=everything).json()["data"]
    shown = [(row["who"], row["action"], row["status"]) for row in reversed(rows)]
    assert shown == [
        ("user0", "POST /v1/collections", 201),
        ("user1", "POST /v1/collections", 403),
        ("", "POST /v1/session", 401),
    ]
    assert rows[-1]["facts"]["library"] == "library"


def test_what_cannot_be_logged_is_not_done(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = team.token(["read", "review"])
    database = team.services.audit._database
    connection = database._connection
    connection.execute("PRAGMA query_only = ON")
    answer = team.client.post("/v1/collections", json={"library": "library", "name": "cats"}, headers=everything)
    assert answer.status_code == 507
    connection.execute("PRAGMA query_only = OFF")
    assert team.client.get("/v1/collections", headers=everything).json()["data"] == []


def test_the_secret_of_a_token_is_answered_once(team: Team) -> None:
    admin = team.token(["admin", "read"])
    created = team.client.post("/v1/tokens", json={"account": "user0", "label": "x"}, headers=admin)
    assert created.status_code == 201
    assert re.fullmatch(r"rsk_[\w-]{43}", created.json()["secret"])
    assert "secret" not in team.client.get("/v1/tokens", headers=admin).json()["data"][0]
    assert created.json()["secret"] not in team.client.get("/v1/audit", headers=admin).text
    assert team.client.delete(f"/v1/tokens/{created.json()['id']}", headers=admin).status_code == 204


# Proxies


@pytest.fixture
def behind(start_team: Callable[..., Team]) -> Callable[..., Team]:
    return lambda **options: start_team(base_url="http://127.0.0.1", **options)


def test_a_proxy_s_word_is_taken_from_its_address_alone(behind: Callable[..., Team]) -> None:
    team = behind(proxies=("203.0.113.5",), user_header="X-Forwarded-User")
    team.services.identities.accounts.add("ada", password=None, scopes=["read"])
    forged = {"X-Forwarded-User": "ada", "X-Forwarded-For": "203.0.113.5"}
    team.client._transport.client = ("198.51.100.9", 4000)
    assert team.client.get("/v1/session", headers=forged).status_code == 401
    team.client._transport.client = ("203.0.113.5", 4000)
    assert team.client.get("/v1/session", headers=forged).json()["name"] == "ada"
    stranger = team.client.get("/v1/session", headers={"X-Forwarded-User": "nobody"})
    assert stranger.status_code == 403
    write = {"X-Forwarded-User": "ada", "X-Forwarded-Host": "films.example", "X-Forwarded-Proto": "https"}
    body = {"library": "library", "name": "cats"}
    assert team.client.post("/v1/collections", json=body, headers=write).status_code == 403, "no origin"
    team.services.identities.accounts.change("ada", scopes=["read", "review"])
    write["Origin"] = "https://films.example"
    assert team.client.post("/v1/collections", json=body, headers=write).status_code == 201


def test_guesses_are_counted_by_the_client_behind_the_proxy(behind: Callable[..., Team]) -> None:
    team = behind(proxies=("203.0.113.5",))
    team.client._transport.client = ("203.0.113.5", 4000)

    def guess(number: int, address: str) -> int:
        headers = {"Authorization": f"Bearer rsk_{number:043}", "X-Forwarded-For": f"6.6.6.6, {address}"}
        return team.client.get("/v1/libraries", headers=headers).status_code

    assert [guess(number, "198.51.100.1") for number in range(14)][-1] == 429
    assert guess(0, "198.51.100.2") == 401


@pytest.mark.parametrize("strips", [True, False])
def test_a_prefix_whether_the_proxy_strips_it_or_not(behind: Callable[..., Team], strips: bool) -> None:
    team = behind(prefix="/films")
    header = team.token(["read", "review"])
    prefix = "" if strips else "/films"
    assert team.client.get(f"{prefix}/healthz").status_code == 200
    assert team.client.get(f"{prefix}/v1/libraries").status_code == 401
    assert team.client.get(f"{prefix}/v1/libraries", headers=header).status_code == 200
    assert team.client.get(f"{prefix}/index.html").status_code == 200
    hit = team.client.post(f"{prefix}/v1/search", json={"query": "cat", "library": "library"}, headers=header)
    picture = hit.json()["data"][0]["thumbnail"]
    assert picture.startswith("/films/v1/videos/")
    assert team.client.get(picture, headers=header).status_code == 200
    team.services.identities.accounts.add("ada", password=PASSWORD, scopes=["read"])
    body = {"name": "ada", "password": PASSWORD}
    signed = team.client.post(f"{prefix}/v1/session", json=body, headers=HERE)
    assert "path=/films" in signed.headers["set-cookie"].lower()


@pytest.mark.parametrize("prefix", ["a b", "/a//b", "../a", "/a?b"])
def test_a_prefix_that_is_none(prefix: str) -> None:
    with pytest.raises(UsageError, match="--prefix"):
        check_prefix(prefix)


@pytest.mark.parametrize("address", ["everybody", "0.0.0.0/0", "::/0", "*"])
def test_proxies_that_would_be_everybody(address: str) -> None:
    with pytest.raises(UsageError, match="--trust-proxy"):
        check_proxies([address])


# The tables


def test_names_passwords_and_scopes_that_are_refused(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "accounts.db")
    try:
        for name in ("", "-x", "a b", "a" * 65, "a/b", "ä"):
            with pytest.raises(UsageError, match="no name"):
                accounts.add(name, password=None, scopes=["read"])
        with pytest.raises(UsageError, match="password"):
            accounts.add("ada", password="short", scopes=["read"])
        with pytest.raises(UsageError, match="scopes are"):
            accounts.add("ada", password=None, scopes=["root"])
        with pytest.raises(UsageError, match="scopes are"):
            accounts.add("ada", password=None, scopes=[])
        accounts.add("ada", password=PASSWORD, scopes=["read"])
        with pytest.raises(UsageError, match="already"):
            accounts.add("ADA", password=None, scopes=["read"])
        with pytest.raises(UsageError, match="no account that can be used"):
            accounts.change("ada", disabled=True)
        assert not accounts.get("ada").disabled
    finally:
        accounts.close()


def test_a_database_that_is_none_is_said_in_words(tmp_path: Path) -> None:
    from reelseek.errors import LibraryError

    (tmp_path / "accounts.db").write_bytes(b"not a database" * 100)
    with pytest.raises(LibraryError, match="cannot be used"):
        Accounts(tmp_path / "accounts.db")
    assert not isinstance(LibraryError("x"), sqlite3.Error)
