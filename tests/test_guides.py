"""The guides run as they stand: files are written, packages installed, blocks executed in order."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
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
    for line in text.splitlines():
        if line.startswith("pip install -e"):
            project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
            points = {group: [f"{name} = {target}" for name, target in entries.items()]
                      for group, entries in project["entry-points"].items()}  # fmt: skip
            install(Path.cwd(), monkeypatch, f"{project['name']}-{project['version']}", {}, points)
            continue
        command = line.replace("reelseek ", f"{sys.executable} -m reelseek.cli.main ", 1)
        command = command.replace("pytest ", f"{sys.executable} -m pytest -q -p no:cacheprovider ", 1)
        ran = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, timeout=3000)  # noqa: S602
        assert ran.returncode == 0, (line, ran.stdout[-3000:], ran.stderr[-3000:])


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_runs_as_it_stands(guide: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: Path) -> None:
    shutil.copytree(archive, tmp_path / "videos", ignore=lambda _, names: _after(names, 3))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    names: dict[str, object] = {"__name__": "__guide__"}
    for block in _blocks(guide):
        if block.title:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.text)
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
