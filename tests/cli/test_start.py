"""What a command imports: seconds of every call."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reelseek.cli.models import SYSTEM_LISTING, list_systems

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


def test_a_search_imports_neither_transformers_nor_what_decodes(library_path: Path) -> None:
    modules = ["av", "cv2", "fsspec", "jinja2", "matplotlib", "onnxruntime", "pandas", "sklearn", "transformers"]
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
