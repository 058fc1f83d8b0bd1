"""docs/coverage.md names commands, recipes and files that are there; every page names tables that are."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from reelseek.cli.lists import names_in
from reelseek.cli.main import app
from reelseek.cli.place import with_library_first
from reelseek.errors import UsageError
from reelseek.experiments import EXPERIMENTS
from reelseek.experiments.claims import ordered_tables
from reelseek.experiments.experiment import narrowed
from reelseek.experiments.reproduction.tables import find_table
from reelseek.training.recipe import packaged_recipes

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "coverage.md").read_text("utf-8")
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in TEXT.splitlines() if line.startswith("| ")]
PROGRAM: Any = get_command(app)
COMMANDS = sorted({quoted for quoted in re.findall(r"`([^`]+)`", TEXT) if "reelseek " in quoted})


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_one_that_the_program_reads(command: str) -> None:
    words = with_library_first(PROGRAM, shlex.split(command.partition("reelseek ")[2]))
    program: Any = PROGRAM
    context = typer.Context(program, info_name="reelseek")
    while hasattr(program, "get_command"):  # a group
        assert words, command
        name, words = words[0], words[1:]
        child = program.get_command(context, name)
        assert child is not None, f"{command}: there is no {name}"
        program, context = child, typer.Context(child, info_name=name, parent=context)
    if "import" not in command or len(words) > 1:  # `reelseek data import ce` names a format in running text
        program.make_context(program.name, words, resilient_parsing=False)


def require_tables(command: str) -> None:
    """Refuse an `experiment` or `reproduce` of a table that does not exist; names in capitals stand for any.

    Raises:
        UsageError: no experiment or published table is called so.
    """
    kind, *words = shlex.split(command.partition("reelseek ")[2], comments=True)
    options = [word for word, before in zip(words[1:], words, strict=False) if before == "--tables"]
    tables = names_in([name for name in options if not name.isupper() and name != "PAPER/TABLE"]) or []
    if not words or words[0].isupper() or words[0].startswith("-") or words[0] == "list":
        return
    if kind == "reproduce":
        find_table(words[0])
    elif words[0] == "claims":
        if unknown := set(tables) - set(ordered_tables()):
            raise UsageError(f"no table of claims is called {', '.join(unknown)}")
    else:
        if words[0] not in EXPERIMENTS:
            raise UsageError(f"no experiment is called {words[0]!r}")
        narrowed(EXPERIMENTS[words[0]], tables)


def test_every_page_names_experiments_and_tables_that_exist() -> None:
    commands = [
        (page.name, " ".join(command.split()))
        for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
        for command in re.findall(r"reelseek (?:experiment|reproduce)\b[^`\n]*", page.read_text("utf-8"))
    ]
    assert len(commands) > 30
    for page, command in commands:
        try:
            require_tables(command)
        except UsageError as error:
            pytest.fail(f"{page}: {command}: {error}")


@pytest.mark.parametrize(
    "command",
    [
        "reelseek experiment eao --tables ablation",
        "reelseek experiment eao --tables shape,ablation",
        "reelseek experiment eoa",
        "reelseek experiment claims --tables eao/ablation --quick",
        "reelseek reproduce crossclr-4 --features L",
    ],
)
def test_a_table_that_does_not_exist_would_be_noticed(command: str) -> None:
    with pytest.raises(UsageError):
        require_tables(command)


def test_recipes_and_files_that_rows_name_exist() -> None:
    recipes = set(packaged_recipes())
    for name in re.findall(r"(?<![\w/])(?:published|small|ranges|captions)/[\w-]+(?!\.py)\b(?!\.py)", TEXT):
        assert name in recipes, name
    for row in ROWS:
        for path in re.findall(r"`([\w/-]+\.(?:py|toml))`", row[1]):
            where = ROOT if path.startswith("recipes/") else ROOT / "src" / "reelseek"
            assert (where / path).is_file(), path


def test_every_row_has_a_verdict() -> None:
    rows = [row for row in ROWS if row[0] != "text"]
    assert len(rows) > 60
    for row in rows:
        assert len(row) == 4, row
        assert re.match(r"(\*\*)?[WPMD]\b|out of scope", row[3].strip("* ")), row
