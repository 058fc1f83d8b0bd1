"""`reelseek`: verbs on a library. Results go to standard output, progress to standard error.

Exit codes: 0 done, 1 something failed (the rest of the work is done), 2 wrong usage.
"""

import os
import select
import sqlite3
import sys
from typing import Annotated

import typer

import reelseek
from reelseek.cli import (
    accounts,
    add,
    caption,
    compare,
    data,
    demo,
    doctor,
    evaluate,
    experiment,
    export,
    features,
    index,
    info,
    localize,
    mcp,
    models,
    overlap,
    probe,
    remove,
    report,
    reproduce,
    score,
    search,
    segment,
    serve,
    tag,
    train,
    tune,
)
from reelseek.cli.place import with_library_first
from reelseek.cli.progress import open_pipe
from reelseek.cli.show import say
from reelseek.errors import QueryError, RecipeError, ReelseekError, UsageError

__all__ = ["app", "main"]

app = typer.Typer(
    name="reelseek",
    help="Find the moment in a video collection by what is seen, heard, said, written or done.",
    epilog="Begin with: reelseek add my.library ~/Videos, then: reelseek search my.library 'a dog on a beach'",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"reelseek {reelseek.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Find the moment in a video collection by what is seen, heard, said, written or done."""


for module in (
    add,
    remove,
    train,
    tune,
    evaluate,
    score,
    compare,
    experiment,
    reproduce,
    search,
    localize,
    segment,
    caption,
    probe,
    serve,
    mcp,
    info,
    doctor,
    export,
    demo,
):
    module.register(app)
app.add_typer(accounts.app, name="accounts")
app.add_typer(tag.app, name="tag")
app.add_typer(features.app, name="features")
app.add_typer(index.app, name="index")
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")
app.add_typer(report.app, name="report")
app.add_typer(overlap.app, name="overlap")
app.add_typer(caption.app, name="captioner")
_COMPLETION = "_REELSEEK_COMPLETE"  # set by a shell that asks how a line could go on


def _summarise(group: typer.Typer) -> None:
    """List every command with the whole first sentence of what it says of itself, else cut after 45 letters."""
    for command in group.registered_commands:
        if command.callback is not None and command.callback.__doc__:
            command.short_help = " ".join(command.callback.__doc__.partition("\n\n")[0].split())
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            _summarise(inner.typer_instance)


_summarise(app)


def main() -> None:
    """Run the command line; every expected error is one sentence on standard error."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        open_pipe()
        code = _run(sys.argv[1:])
        sys.stdout.flush()
    except typer.Exit as stop:
        code = stop.exit_code
    except (typer.Abort, KeyboardInterrupt):
        say("stopped; what was finished is kept, and the same command goes on from there")
        code = 130
    except BrokenPipeError as error:
        code = _broken_pipe(error)
    except (UsageError, QueryError, RecipeError) as error:
        say(f"error: {error}")
        code = 2
    except EOFError as error:
        say(f"error: a file or a pipe ended too early: {error}")
        code = 1
    except (ReelseekError, sqlite3.Error, OSError) as error:
        say(f"error: {error}")
        code = 1
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported for every command
            reason = str(error).partition(".")[0]
            say(f"error: the device has too little memory: {reason}; free some, or take --device cpu")
            sys.exit(1)
        # typer carries its own copy of click, whose usage errors are known by what they can do
        if not (hasattr(error, "show") and hasattr(error, "exit_code")):
            raise
        error.show()
        code = error.exit_code
    sys.exit(code or 0)


def _run(arguments: list[str]) -> int:
    """Parse and call, without typer's own way of ending: it takes every EOFError for Ctrl-D (and the command for
    stopped by its user), says nothing at Ctrl-C, and ends with 1 where whoever read the results has enough of them."""
    command = typer.main.get_command(app)
    if _COMPLETION in os.environ:
        command.main(arguments, prog_name="reelseek")  # answers the shell, and exits
    with command.make_context("reelseek", with_library_first(command, arguments), obj=arguments) as context:
        command.invoke(context)
    return 0


def _broken_pipe(error: BrokenPipeError) -> int:
    """0 where whoever read the results has enough of them, 1 where it was another pipe that broke."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in output.poll(0)):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    say(f"error: a process that this one talks to has ended: {error}")
    return 1


if __name__ == "__main__":
    main()
