"""Where commands write: `--out` is a folder in every command; a file has an option that says what it holds."""

from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand

from reelseek.cli.show import say
from reelseek.errors import UsageError

__all__ = ["file_option", "folder_option", "with_file_option", "writes_file"]

_OUT = "--out"


def folder_option(holds: str) -> Any:
    """`--out FOLDER`, in the same words in every command.

    Args:
        holds: what the command writes there.
    """
    words = f"Folder to write to, made if it does not exist: {holds}."
    return typer.Option(_OUT, metavar="FOLDER", file_okay=False, help=words)


def file_option(option: str, holds: str, *, metavar: str = "FILE") -> Any:
    """An option for a file that the command writes, named after what the file holds."""
    return typer.Option(option, metavar=metavar, help=holds)


def writes_file(option: str, base: type[TyperCommand] = TyperCommand) -> type[TyperCommand]:
    """A kind of command that writes a file and still takes `--out` for the option that names it, as it once was spelt.

    Args:
        option: such as `--pairs`.
        base: the kind of command that it is otherwise.
    """

    class WritesFile(base):  # type: ignore[valid-type, misc]
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            arguments = with_file_option(args, option)
            if arguments != args:
                say(f"note: {_OUT} names a folder in every command now; write {option} instead, here {_OUT} will go")
            parsed: list[str] = super().parse_args(ctx, arguments)
            return parsed

    return WritesFile


def with_file_option(arguments: Sequence[str], option: str) -> list[str]:
    """Write `--out` as the option of the file.

    Raises:
        UsageError: both are there.

    >>> with_file_option(["my.library", "--out", "x", "--", "--out"], "--pairs")
    ['my.library', '--pairs', 'x', '--', '--out']
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [
        option + argument.removeprefix(_OUT) if argument == _OUT or argument.startswith(f"{_OUT}=") else argument
        for argument in arguments[:end]
    ]
    if sum(argument.partition("=")[0] == option for argument in options) > 1 and options != list(arguments[:end]):
        raise UsageError(f"{option} and {_OUT} both name the file; leave {_OUT} out")
    return [*options, *arguments[end:]]
