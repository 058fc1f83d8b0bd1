"""What commands do, run by the program's `main` in the process of the tests: it has imported what each would import."""

import subprocess
from collections.abc import Callable

__all__ = ["Run", "checked"]

Run = Callable[..., subprocess.CompletedProcess[str]]
"""The fixture `run`: words of a command line, and the exit status that is wanted."""


def checked(done: subprocess.CompletedProcess[str], code: int) -> subprocess.CompletedProcess[str]:
    """Return a command that ended with the exit status that is wanted, and with no traceback."""
    assert done.returncode == code, (done.args, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done
