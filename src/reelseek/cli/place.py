"""`--library FOLDER` also in the commands that take the library as their first argument."""

from collections.abc import Sequence
from typing import Any

__all__ = ["with_library_first"]

_OPTION = "--library"
_NAMES = ("library", "source")  # of the first argument; a source may be a library


def with_library_first(command: Any, arguments: Sequence[str]) -> list[str]:
    """Put the value of `--library` first where a command takes the library as its first argument.

    Args:
        command: the whole command line's, as Typer builds it.
    """
    before: list[str] = []
    rest = list(arguments)
    while hasattr(command, "commands"):
        if not rest or rest[0] not in command.commands:
            return list(arguments)
        command = command.commands[rest[0]]
        before.append(rest.pop(0))
    parameters = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    if not parameters or parameters[0].name not in _NAMES:
        return list(arguments)
    end = rest.index("--") if "--" in rest else len(rest)
    for place, argument in enumerate(rest[:end]):
        if argument == _OPTION and place + 1 < end:
            return [*before, rest[place + 1], *rest[:place], *rest[place + 2 :]]
        if argument.startswith(f"{_OPTION}="):
            return [*before, argument.removeprefix(f"{_OPTION}="), *rest[:place], *rest[place + 1 :]]
    return list(arguments)
