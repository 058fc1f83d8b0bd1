"""`reelseek info` reads every row for the digest alone, and only where it is shown."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.library import Library


@pytest.fixture
def library(tmp_path: Path) -> str:
    with Library.open(tmp_path / "lib", create=True) as opened, opened.saving():
        opened.db.execute("INSERT INTO videos(id) VALUES ('one')")
    return str(tmp_path / "lib")


def test_the_digest_is_computed_only_where_it_is_shown(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Library.open(library) as opened:
        digest = opened.digest()
    run = CliRunner().invoke
    assert json.loads(run(app, ["info", library, "--json"]).stdout)["digest"] == digest
    assert f"digest {digest}" in run(app, ["info", library, "--verify"]).stdout
    monkeypatch.delattr(Library, "digest")
    plain = run(app, ["info", library])
    assert plain.exit_code == 0, plain.stderr
    assert "show it with --verify or --json" in plain.stdout
    assert run(app, ["info", library, "--json"]).exit_code != 0
