"""Exit codes say what happened: an error inside is no Ctrl-C, and a reader who has enough is no error."""

import subprocess
import sys

import pytest

_COMMAND = """
import errno, os, signal, sys
from reelseek.cli.main import app, main
@app.command()
def fail():
    {body}
main()
"""


def _run(body: str, **options: object) -> subprocess.CompletedProcess[str]:
    program = _COMMAND.format(body=body)
    return subprocess.run(
        [sys.executable, "-c", program, "fail"], capture_output=True, text=True, timeout=300, check=False, **options
    )


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("import numpy as np, io; np.load(io.BytesIO(b''))", 1, "error: a file or a pipe ended too early"),
        ("os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(60)", 130, "stopped; what was finished is kept"),
        ("raise BrokenPipeError(errno.EPIPE, 'a worker is gone')", 1, "a worker is gone"),
        ("raise OSError(errno.ENOSPC, 'No space left on device')", 1, "error: [Errno 28] No space left"),
        ("from reelseek.errors import UsageError; raise UsageError('two at once')", 2, "error: two at once"),
        ("import typer; raise typer.Exit(1)", 1, ""),
        ("pass", 0, ""),
    ],
)
def test_every_end_has_its_own_code_and_sentence(body: str, code: int, words: str) -> None:
    done = _run(body)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_whoever_has_read_enough_is_no_error() -> None:
    program = _COMMAND.format(body="[print('x' * 1000) for _ in range(10_000)]")
    with subprocess.Popen(
        [sys.executable, "-c", program, "fail"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(300) == 0
        assert process.stderr.read() == ""


def test_an_unknown_option_is_wrong_usage() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reelseek.cli.main", "search", "--no-such-option"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no-such-option" in done.stderr
