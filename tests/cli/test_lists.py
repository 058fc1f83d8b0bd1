"""Options that take several names are written one way everywhere, and a misspelt name gets a suggestion."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from reelseek.cli.lists import names_in
from reelseek.cli.main import app
from reelseek.cli.train import seed_numbers
from reelseek.errors import ReelseekError, UsageError, suggest
from reelseek.library import Library


def test_names_stand_between_commas_or_in_an_option_each() -> None:
    assert names_in(["a,b"]) == names_in(["a", "b"]) == names_in([" a , ", "b,"]) == ["a", "b"]
    assert names_in(None) is names_in([]) is None
    with pytest.raises(UsageError, match="names nothing"):
        names_in([","])
    assert seed_numbers(["1,2", "3"]) == [1, 2, 3]


def test_every_option_of_several_names_says_so_and_is_read_so() -> None:
    several = {"experts", "modalities", "tables", "seeds", "scopes", "libraries", "without", "weights"}
    seen = set()

    def visit(command: object, path: str) -> None:
        for name, inner in getattr(command, "commands", {}).items():
            visit(inner, f"{path} {name}")
        for parameter in getattr(command, "params", []):
            if parameter.param_type_name == "option" and parameter.name in several:
                seen.add(parameter.name)
                assert parameter.multiple, f"{path} --{parameter.name}"
                assert "the option again" in " ".join(parameter.help.split()), f"{path} --{parameter.name}"

    visit(typer.main.get_command(app), "reelseek")
    assert seen == several


def test_the_nearest_name_is_suggested() -> None:
    assert suggest("audoi", ["audio", "Motion"]) == "; did you mean 'audio'?"
    assert suggest("moton", ["audio", "Motion"]) == "; did you mean 'Motion'?"
    assert suggest("x", ["audio"]) == suggest("x", []) == ""


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("add LIBRARY . --experts audoi", "audio"),
        ("add LIBRARY . --experts audio --experts motoin", "motion"),
        ("add LIBRARY . --preset standart", "standard"),
        ("evaluate concepts --library LIBRARY --protocol msrvtt-1ka", "msrvtt-1k-a"),
        ("models show zoro", "zorro"),
        ("experiment ummi", "umi"),
        ("experiment umi --tables sytems", "systems"),
        ("export LIBRARY out --to parqet", "parquet"),
        ("data import msrvt x --library LIBRARY", "msrvtt"),
        ("search LIBRARY dog --model concept", "concepts"),
        ("search LIBRARY dog --group-by vidoe", "video"),
    ],
)
def test_a_misspelt_name_gets_a_suggestion(tmp_path: Path, command: str, meant: str) -> None:
    library = tmp_path / "library"
    Library.open(library, create=True).close()
    words = [str(library) if word == "LIBRARY" else word for word in command.split()]
    outcome = CliRunner().invoke(app, words)
    assert isinstance(outcome.exception, ReelseekError), outcome.output
    assert f"did you mean {meant!r}?" in str(outcome.exception)
