"""The code reads as plain engineering English: few empty names, short functions, no file that holds everything."""

import ast
from functools import cache
from pathlib import Path
from statistics import median, quantiles

SOURCE = Path(__file__).parents[1] / "src" / "reelseek"
# Words that say nothing of what a value is; a name says what it holds.
EMPTY = frozenset(
    "found told there each kept given known asked own some wanted drawn how said made chosen seen whole left about "
    "print_ owed".split()
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def _functions() -> list[tuple[str, Function]]:
    return [
        (f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}", node)
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, Function)
    ]


def _bound_names(function: Function) -> set[str]:
    """Names of parameters and local variables, those of nested functions aside."""
    arguments = function.args
    optional = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    names = {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *optional)}
    stack: list[ast.AST] = list(function.body)
    while stack:
        node = stack.pop()
        if isinstance(node, Function | ast.ClassDef):
            names.add(node.name)
            continue
        if isinstance(node, ast.Lambda):
            names |= {argument.arg for argument in node.args.args}
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        stack += ast.iter_child_nodes(node)
    return {name.lstrip("_") for name in names}


def test_few_functions_hold_an_empty_name() -> None:
    functions = _functions()
    empty = [(place, sorted(names)) for place, function in functions if (names := _bound_names(function) & EMPTY)]
    assert len(empty) / len(functions) < 0.03, "\n".join(f"{place}: {', '.join(names)}" for place, names in empty)


def _first_statement(function: Function) -> ast.stmt:
    """The first one behind the docstring."""
    return function.body[1 if ast.get_docstring(function) is not None and len(function.body) > 1 else 0]


def test_functions_are_short() -> None:
    lengths = {place: (node.end_lineno or node.lineno) - node.lineno + 1 for place, node in _functions()}
    # A command's options and a docstring's list of them are long, and easy to read: what is done counts.
    bodies = {place: (node.end_lineno or 0) - _first_statement(node).lineno + 1 for place, node in _functions()}
    assert [f"{place}: {length} lines" for place, length in bodies.items() if length > 55] == []
    assert median(lengths.values()) <= 9
    assert quantiles(lengths.values(), n=10)[-1] <= 26
