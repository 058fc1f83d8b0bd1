"""`--out` is a folder in every command, in the same words; files have options of their own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.cli.outputs import with_file_option
from reelseek.errors import UsageError


def _commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    command = command or typer.main.get_command(app)
    if not hasattr(command, "commands"):
        yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*path, name))


def _options(command: Any) -> dict[str, Any]:
    return {name: option for option in command.params if option.param_type_name == "option" for name in option.opts}


def test_out_is_a_folder_in_every_command(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    folders = set()
    for path, command in _commands():
        option = _options(command).get("--out")
        if option is None:
            continue
        folders.add(" ".join(path))
        assert option.metavar == "FOLDER", path
        assert option.help.startswith("Folder to write to, made if it does not exist: "), path
        with pytest.raises(Exception, match="is a file"):
            option.process_value(typer.Context(command), str(file))
    assert folders >= {"train", "tune", "experiment", "models convert", "overlap export", "captioner train"}


def test_files_have_options_of_their_own_and_out_stands_for_them_with_a_note() -> None:
    options = {"--pairs", "--curve", "--report", "--page", "--figure"}
    former = set()
    for path, command in _commands():
        if "--out" in _options(command) or type(command).__name__ != "WritesFile":
            continue
        former.add(" ".join(path))
        required = {name for name, option in _options(command).items() if option.required}
        (option,) = options & required
        assert "--out" not in command.get_help(typer.Context(command)), path
        context = typer.Context(command, resilient_parsing=True)
        command.parse_args(context, ["x", "--out", "there"])
        assert str(context.params["out"]) == "there", (path, option)
    reports = {f"report {name}" for name in ("table", "combinations", "examples", "map", "influence", "curves")}
    assert former == {"overlap scan", "overlap curve", *reports}


@pytest.mark.long
def test_a_report_is_the_same_by_its_option_and_by_out(library_path: Path, tmp_path: Path) -> None:
    pages = []
    for option, name in (("--page", "new.html"), ("--out", "former.html")):
        command = ["report", "examples", "concepts", "--library", str(library_path), "--count", "1", "--split", "train"]
        done = CliRunner().invoke(app, [*command, option, str(tmp_path / name)], catch_exceptions=False)
        assert done.exit_code == 0
        assert ("note: --out names a folder" in done.stderr) == (option == "--out")
        assert ("write --page instead" in done.stderr) == (option == "--out")
        pages.append((tmp_path / name).read_text("utf-8"))
    assert pages[0] == pages[1]


def test_out_becomes_the_option_of_the_file() -> None:
    assert with_file_option(["a", "--out=b", "--", "--out"], "--page") == ["a", "--page=b", "--", "--out"]
    assert with_file_option(["--outer", "x"], "--page") == ["--outer", "x"]
    with pytest.raises(UsageError, match="both name the file"):
        with_file_option(["--page", "a", "--out", "b"], "--page")
