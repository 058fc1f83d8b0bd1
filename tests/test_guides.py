"""The guides run as they stand: files are written, packages installed, blocks executed in order."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.experts import known_experts, load_expert
from reelseek.models import SYSTEMS
from tests.foreign import install

DOCS = Path(__file__).parents[1] / "docs"
GUIDES = ("use-a-loss", "write-a-system", "write-an-expert", "notebook")
_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    language: str
    title: str
    text: str


def _blocks(guide: str) -> list[Block]:
    return [Block(*match.groups(default="")) for match in _BLOCK.finditer((DOCS / f"{guide}.md").read_text("utf-8"))]


def _run_shell(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run lines of a shell: an installation writes what pip would, Reelseek's commands run in this process."""
    for line in text.splitlines():
        program, *arguments = shlex.split(line)
        if program == "pip":
            project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
            groups = project["entry-points"].items()
            points = {group: [f"{name} = {target}" for name, target in entries.items()] for group, entries in groups}
            install(Path.cwd(), monkeypatch, f"{project['name']}-{project['version']}", {}, points)
            known_experts.cache_clear()
        elif program == "reelseek":
            result = CliRunner().invoke(app, arguments, catch_exceptions=False)
            assert result.exit_code == 0, (line, result.output)
        else:
            assert program == "pytest"
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
            ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3000)
            assert ran.returncode == 0, (line, ran.stdout[-3000:], ran.stderr[-3000:])


@pytest.fixture
def folder(tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a reader of a guide works: an empty folder but for some videos; what a guide registers goes with it."""
    shutil.copytree(archive, tmp_path / "videos", ignore=lambda _, names: _after(names, 3))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    monkeypatch.setattr(SYSTEMS, "_entries", dict(SYSTEMS._entries))
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(tmp_path) in (getattr(module, "__file__", None) or ""):
            del sys.modules[name]
    known_experts.cache_clear()
    load_expert.cache_clear()


@pytest.mark.long
@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_runs_as_it_stands(guide: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, object] = {"__name__": "__guide__"}
    for block in _blocks(guide):
        if block.title:
            (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.title).write_text(block.text)
        elif block.language == "python":
            exec(compile(block.text, f"{guide}.md", "exec"), names)
        elif block.language == "bash":
            _run_shell(block.text, monkeypatch)


def _after(names: list[str], count: int) -> list[str]:
    """All films but the first few, so that a guide is quick."""
    films = sorted({Path(name).stem.split(".")[0] for name in names if Path(name).suffix in (".mp4", ".mkv", ".webm")})
    return [name for name in names if Path(name).stem.split(".")[0] in films[count:]]


def test_every_guide_is_a_guide_that_runs() -> None:
    assert all(_blocks(guide) for guide in GUIDES)
    titled = {path.stem for path in DOCS.glob("*.md") if 'title="' in path.read_text("utf-8")}
    assert titled <= set(GUIDES)
