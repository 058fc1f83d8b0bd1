"""`reelseek search` in a process that has its imports behind it: the same answers, and nothing of it is left."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reelseek.cli import resident
from reelseek.cli.resident import answer_elsewhere, private_folder, receive, send, state_of_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, which other systems' libraries do not survive")
HANGS = 600.0  # seconds


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The environment of a user of one's own; the process that was started there is ended."""
    for name, value in {"REELSEEK_HELPER": "", "XDG_CACHE_HOME": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    yield dict(os.environ)
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    deadline = time.monotonic() + HANGS
    while _resident_processes(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _resident_processes(folder: Path) -> list[int]:
    """Processes that were started for the socket in `folder`."""
    numbers = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (place / "cmdline").read_bytes(), (place / "environ").read_bytes()
        except OSError:
            continue
        if b"resident_process" in command and os.fsencode(folder) in environment:
            numbers.append(int(place.name))
    return numbers


def _search(*arguments: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reelseek", "search", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANGS, cwd=cwd, env=env)


@pytest.mark.long
def test_the_same_answers_come_from_one_process_which_goes_with_its_socket(
    library_path: Path, settings: dict[str, str], tmp_path: Path
) -> None:
    folder = library_path.parent
    asked = (library_path.name, "a red ball -cat", "--json")  # a relative path
    here = _search(*asked, "--no-helper", cwd=folder, env=settings)
    assert not _resident_processes(tmp_path)
    there = _search(*asked, cwd=folder, env=settings)
    (process,) = _resident_processes(tmp_path)
    assert (there.returncode, there.stdout, there.stderr) == (here.returncode, here.stdout, here.stderr)
    assert len(here.stdout.splitlines()) > 1
    assert json.loads(here.stdout.splitlines()[0])["video"]

    before = _children_seconds(process)
    wrong = _search(library_path.name, "ball", cwd=folder, env=settings | {"REELSEEK_DEVICE": "cuda:77"})
    assert wrong.returncode == 2
    assert "cuda:77" in wrong.stderr
    table = _search(library_path.name, "ball", "-k", "2", cwd=folder, env=settings | {"COLUMNS": "60"})
    assert table.returncode == 0
    assert table.stdout.startswith("video")
    assert _resident_processes(tmp_path) == [process]
    assert _children_seconds(process) > before

    place = private_folder()
    assert place.stat().st_mode & 0o777 == 0o700
    refusal = _ask_as_another(place, process)
    assert refusal == {"begun": False}


def _children_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def _ask_as_another(folder: Path, process: int) -> dict[str, object]:
    """What a process of other code or settings is answered; the one that answers it ends then."""
    with socket.socket(socket.AF_UNIX) as connection, open(os.devnull) as nothing:
        with resident.short_address(folder) as address:
            connection.connect(address)
        send(connection, {"state": "another", "arguments": ["search"]}, [nothing.fileno()] * 4)
        reply = receive(connection)
    deadline = time.monotonic() + HANGS
    while Path(f"/proc/{process}").exists() and "Z" not in Path(f"/proc/{process}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (folder / "socket").exists()
    return reply


@pytest.mark.long
def test_an_interrupted_search_stops_there_too(library_path: Path, settings: dict[str, str], tmp_path: Path) -> None:
    queries = tmp_path / "queries"
    queries.write_text("a red ball\n" * 20_000)  # which would take minutes
    command = [sys.executable, "-m", "reelseek", "search", str(library_path), "--queries", str(queries), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=settings) as client:
        assert client.stdout is not None
        assert json.loads(client.stdout.readline())["query_id"] == "1"
        client.send_signal(signal.SIGINT)
        _, errors = client.communicate(timeout=HANGS)
    assert client.returncode == 130, errors
    assert errors.count("stopped; what was finished is kept") == 1
    (process,) = _resident_processes(tmp_path)  # without its fork
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=settings) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline()
        killed.kill()  # what was asked for stops with whoever asked
    deadline = time.monotonic() + HANGS
    while _resident_processes(tmp_path) != [process]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_no_process_is_asked_where_it_would_not_help(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr(resident, "private_folder", refuse)
    monkeypatch.setenv("REELSEEK_HELPER", "")
    assert answer_elsewhere(["search"]) is None  # torch is loaded here
    monkeypatch.delitem(sys.modules, "torch")
    with pytest.raises(AssertionError, match="asked"):
        answer_elsewhere(["search"])
    monkeypatch.setenv("REELSEEK_HELPER", "0")
    assert answer_elsewhere(["search"]) is None


def test_a_folder_that_others_may_enter_is_not_used(settings: dict[str, str]) -> None:
    folder = private_folder()
    folder.chmod(0o750)
    with pytest.raises(PermissionError, match="not private"):
        private_folder()


def test_what_a_fork_cannot_take_over_tells_processes_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    state = state_of_process()
    monkeypatch.setenv("COLUMNS", "77")
    assert state_of_process() == state
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    assert state_of_process() != state
