"""What a command imports: seconds of every call."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import reelseek
from reelseek.cli.main import app
from reelseek.cli.models import SYSTEM_LISTING, list_systems
from reelseek.cli.place import with_library_first

_RUN = """
import sys
from reelseek.cli.main import main
sys.argv[1:] = {arguments!r}
try:
    main()
except SystemExit as stop:
    print("exit", stop.code, *sorted(name for name in {modules!r} if name in sys.modules), file=sys.stderr)
"""


def _imported(arguments: list[str], modules: list[str]) -> str:
    code = _RUN.format(arguments=arguments, modules=modules)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout
    return done.stderr.splitlines()[-1]


@pytest.mark.long
def test_a_search_imports_neither_transformers_nor_what_decodes(library_path: Path) -> None:
    modules = ["av", "fsspec", "jinja2", "matplotlib", "onnxruntime", "pandas", "sklearn", "transformers"]
    arguments = ["search", str(library_path), "a red ball", "-k", "3"]
    assert _imported(arguments, modules) == "exit 0"


@pytest.mark.parametrize("arguments", [["models", "list"], ["models", "list", "--json"], ["--help"]])
def test_what_computes_nothing_imports_no_torch(arguments: list[str]) -> None:
    assert _imported(arguments, ["torch", "numpy", "transformers"]) == "exit 0"


def test_the_listing_is_that_of_the_systems() -> None:
    offered, absent = list_systems()
    expected = json.loads(json.dumps({"offered": offered, "absent": absent}))
    listing = json.loads(SYSTEM_LISTING.read_text("utf-8"))
    assert listing == expected, "run: python benchmarks/packaged/system_listing.py"
    assert list(listing["offered"]) == list(expected["offered"])


def _says(*arguments: str, module: str = "reelseek", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "100", **environment},
    )  # fmt: skip


def test_the_version_and_help_are_where_everyone_looks() -> None:
    assert _says("--version").stdout == f"reelseek {reelseek.__version__}\n"
    short, long = _says("-h"), _says("--help")
    assert short.returncode == long.returncode == 0
    assert short.stdout == long.stdout
    assert "..." not in long.stdout.partition("Commands:")[2], "summaries are not cut"
    assert "captioner" in long.stdout
    inner = _says("overlap", "scan", "-h")
    assert inner.returncode == 0
    assert "-h, --help" in inner.stdout


def test_a_shell_completes_commands() -> None:
    asked = {"_REELSEEK_COMPLETE": "complete_bash", "COMP_WORDS": "reelseek se", "COMP_CWORD": "1"}
    assert {"search", "segment", "serve"} <= set(_says(**asked).stdout.split())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["search", "--library", "lib", "a dog", "-k", "3"], ["search", "lib", "a dog", "-k", "3"]),
        (["search", "a dog", "--library=lib"], ["search", "lib", "a dog"]),
        (["overlap", "check", "--test", "a", "--library", "lib"], ["overlap", "check", "lib", "--test", "a"]),
        (["overlap", "scan", "--test", "a", "--library", "lib"], ["overlap", "scan", "lib", "--test", "a"]),
        (["search", "lib", "--", "--library", "x"], ["search", "lib", "--", "--library", "x"]),
        (["train", "mmt", "--library", "lib"], ["train", "mmt", "--library", "lib"]),
        (["evaluate", "m", "--library=lib"], ["evaluate", "m", "--library=lib"]),
        (["--version"], ["--version"]),
        (["nonsense", "--library", "x"], ["nonsense", "--library", "x"]),
        (["info", "--library"], ["info", "--library"]),
    ],
)
def test_the_library_can_be_named_the_same_way_everywhere(arguments: list[str], expected: list[str]) -> None:
    assert with_library_first(typer.main.get_command(app), arguments) == expected
