"""What goes with a release says what is true of the code."""

import configparser
import os
import shlex
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import uvicorn
import yaml

import reelseek
from reelseek.cli.main import app
from reelseek.web.shell import new_app

ROOT = Path(__file__).parents[1]


def _yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text("utf-8"))


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == reelseek.__version__ == _yaml("CITATION.cff")["version"]
    assert _yaml("CITATION.cff")["license"] == project["license"]
    assert f"\n## {reelseek.__version__}\n" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def _parses(arguments: list[str]) -> None:
    """Parse a command line as the program would, without running it."""
    command: Any = typer.main.get_command(app)
    command.commands[arguments[0]].make_context(arguments[0], arguments[1:])


def _docker_commands() -> list[list[str]]:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    return [_list(line.removeprefix("CMD ")) for line in lines if line.startswith("CMD ")]


def _list(text: str) -> list[str]:
    items: list[str] = yaml.safe_load(text)
    return items


def test_what_containers_and_units_run_is_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELSEEK_TOKEN", "secret")
    (command,) = _docker_commands()
    _parses(command)
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign, assignment]
    unit.read_string((ROOT / "packaging" / "reelseek.service").read_text("utf-8"))
    start = shlex.split(unit["Service"]["ExecStart"])
    assert start[0].endswith("/bin/reelseek")
    _parses(start[1:])


def test_the_health_check_is_let_in_with_the_token_and_fails_without() -> None:
    image = (ROOT / "Dockerfile").read_text("utf-8")
    assert "HEALTHCHECK" in image
    check = _list(image.partition("    CMD ")[2].splitlines()[0])
    assert f"COPY packaging/healthy.py {check[-1]}" in image
    # What runs from the image is checked by the image's own command.
    assert "healthcheck" not in _yaml("compose.yaml")["services"]["reelseek"]
    server = uvicorn.Server(uvicorn.Config(new_app([], token="secret", host="0.0.0.0"), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
        assert thread.is_alive()
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    def run(token: str) -> int:
        environment = {**os.environ, "REELSEEK_ADDRESS": address, "REELSEEK_TOKEN": token}
        script = ROOT / "packaging" / "healthy.py"
        return subprocess.run([sys.executable, script], env=environment, capture_output=True, check=False).returncode

    try:
        assert run("secret") == 0
        assert run("another") != 0
    finally:
        server.should_exit = True
        thread.join(30)


def test_hooks_run_the_tools_of_make_lint() -> None:
    lint = (ROOT / "Makefile").read_text("utf-8").partition("\nlint:")[2].partition("\n\n")[0]
    for hook in _yaml(".pre-commit-config.yaml")["repos"][0]["hooks"]:
        tool = hook["entry"].split()[0].removeprefix(".venv/bin/")
        assert f"$(BIN)/{tool}" in lint
