"""Two processes that train together, started by the variables that `torchrun` sets, which takes half its time."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["free_port", "run_two", "start_two"]


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def start_two(
    *commands: Sequence[str | Path], folders: Sequence[Path | None] = (None, None), **variables: str
) -> list[subprocess.Popen[str]]:
    """Start `python ARGUMENTS` as rank 0 and 1 of two processes.

    Args:
        commands: the arguments of both, or of each.
        folders: in which they run.
        variables: of the environment, beside those that name the two.
    """
    shared: Mapping[str, str] = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = []
    for rank, folder in enumerate(folders):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "RANK": str(rank), "LOCAL_RANK": str(rank)}
        arguments = [str(part) for part in commands[rank % len(commands)]]
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=environment | shared | variables, **pipes
        )
        running.append(process)
    return running


def run_two(*commands: Sequence[str | Path], **variables: str) -> list[tuple[int, str, str]]:
    """Run them to their ends: exit status, standard output and standard error of each."""
    running = start_two(*commands, **variables)
    outputs = [process.communicate(timeout=3000) for process in running]
    return [(process.returncode, *output) for process, output in zip(running, outputs, strict=True)]
