"""`reelseek accounts`, and the options of `reelseek serve` that contradict each other."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.cli.state import StateOptions, tls_files
from reelseek.errors import UsageError
from reelseek.library import Library
from reelseek.web.accounts.store import Accounts
from reelseek.web.server import serve_app
from reelseek.web.state import default_state

PASSWORD = "correct horse battery"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Library.open(tmp_path / "my.library", create=True) as library:
        return library.path


def _run(*arguments: str, text: str = "") -> str:
    outcome = CliRunner().invoke(app, ["accounts", *map(str, arguments)], input=text, catch_exceptions=False)
    return outcome.stdout


def test_accounts_from_the_first_to_the_last(folder: Path) -> None:
    state = folder.with_name("my.library.state")
    added = _run("add", folder, "Ada", "--scopes", "read,write", "--password-stdin", text=f"{PASSWORD}\n")
    assert added == "ada may read, write\n"
    secret = _run("token", folder, "ada", "--label", "backup", "--scopes", "read", "--days", "90").strip()
    accounts = Accounts(state / "accounts.db")
    try:
        assert accounts.check_password("ada", PASSWORD).name == "ada"
        assert accounts.check_password("ada", PASSWORD + "!") is None
        assert accounts.token_caller(secret).scopes == {"read"}
        assert _run("change", folder, "ada", "--scopes", "read", "--libraries", "a,b") == "ada may read\n"
        listed = json.loads(_run("list", folder, "--json"))
        assert (listed["scopes"], listed["libraries"]) == (["read"], ["a", "b"])
        _run("change", folder, "ada", "--libraries", "all")
        assert json.loads(_run("list", folder, "--json"))["libraries"] is None
        assert _run("revoke", folder, listed["tokens"][0]["id"]).startswith("revoked")
        assert accounts.token_caller(secret) is None
        assert _run("remove", folder, "ada") == "removed ada\n"
        assert accounts.all() == []
    finally:
        accounts.close()
    actions = [json.loads(line)["action"] for line in _run("audit", folder, "--json").splitlines()]
    assert [action.split()[1] for action in actions] == ["remove", "revoke", "change", "change", "token", "add"]
    assert secret not in _run("audit", folder, "--json")
    assert state.stat().st_mode & 0o077 == 0


def test_what_is_wrong_is_said_in_words(folder: Path) -> None:
    for arguments, words in (
        (["add", folder, "ada"], "--password-stdin"), (["remove", folder, "nobody"], "no account"),
        (["revoke", folder, "0" * 12], "no token"), (["token", folder, "nobody"], "no account"),
        (["add", folder, "ada", "--no-password", "--scopes", "root"], "scopes are"),
        (["add", folder / "none", "ada", "--no-password"], "is not a library"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=words):
            _run(*arguments)


def test_options_that_contradict_each_other() -> None:
    def options(**changes: object) -> StateOptions:
        config = {
            "state": None, "accounts": False, "roots": None, "prefix": "", "trust_proxy": None, "user_header": None,
            "token": None,
        }  # fmt: skip
        return StateOptions.of(**{**config, **changes})

    assert options(prefix="films/").prefix == "/films"
    for changes, words in (
        ({"trust_proxy": ["10.0.0.5"]}, "take --accounts or --token"),
        ({"user_header": "X-User"}, "takes --accounts"),
        ({"user_header": "X-User", "accounts": True}, "--trust-proxy"),
        ({"accounts": True, "trust_proxy": ["0.0.0.0/0"]}, "whoever connects"),
    ):
        with pytest.raises(UsageError, match=words):
            options(**changes)


def test_files_of_tls_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="go together"):
        tls_files(tmp_path / "cert.pem", None)
    (tmp_path / "cert.pem").write_text("no certificate")
    files = tls_files(tmp_path / "cert.pem", tmp_path / "cert.pem")
    with pytest.raises(UsageError, match="no certificate and its key"):
        serve_app(lambda: pytest.fail("it was made"), host="127.0.0.1", port=0, token=None, tls=files)


def test_other_machines_need_accounts_or_a_token() -> None:
    with pytest.raises(UsageError, match="--accounts"):
        serve_app(lambda: pytest.fail("it was made"), host="0.0.0.0", port=0, token=None)
    with pytest.raises(UsageError, match="leave one out"):
        serve_app(lambda: pytest.fail("it was made"), host="127.0.0.1", port=0, token="a-secret-word", accounts=True)


def test_the_state_lies_beside_the_library(tmp_path: Path) -> None:
    assert default_state(tmp_path / "my.library") == tmp_path / "my.library.state"
