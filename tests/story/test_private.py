"""Nobody is called and nothing is left behind: the first hour's commands, with all their processes' calls on record."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

_NETWORK = "connect,sendto,sendmsg,sendmmsg"
_HERE = ("::1", "0.0.0.0", "::")
_FILES = "openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat"

# Each part as a user would type it; the resident process of searches goes with its folder, else it would wait.
WALK = """
import json, os, shutil, signal, subprocess, sys, time, urllib.request
from pathlib import Path

library, film, model, recipe = sys.argv[1:]
home = Path(os.environ["HOME"])

def reelseek(*words):
    subprocess.run([sys.executable, "-m", "reelseek", *words], check=True, stdin=subprocess.DEVNULL)

reelseek("add", library, film, "--experts", "ocr,speech,appearance")
reelseek("search", library, "a cat")
assert list(home.glob(".cache/reelseek/helper-*/*")), "a search leaves a process behind"
reelseek("search", library, "a red ball")
sets = ["train.epochs=1", "model.width=16", "model.inner=16", "model.depth=1", "train.batch=4"]
reelseek("train", recipe, "--library", library, "--out", model, *(word for part in sets for word in ("--set", part)))

command = [sys.executable, "-m", "reelseek", "serve", library, "--port", "0"]
server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
try:
    address = next(word for line in server.stdout for word in line.split() if word.startswith("http://"))
    assert urllib.request.urlopen(address, timeout=600).status == 200
    body = json.dumps({"query": "a cat"}).encode()
    request = urllib.request.Request(address.rstrip("/") + "/v1/search", body, {"content-type": "application/json"})
    assert json.load(urllib.request.urlopen(request, timeout=600))["data"]
    time.sleep(3)  # what reports in the background does so a little later
    server.send_signal(signal.SIGINT)
    server.wait(600)
finally:
    server.kill()
    shutil.rmtree(next(home.glob(".cache/reelseek/helper-*")))
"""

CHILD = """
import socket, subprocess, sys
from pathlib import Path
call = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('192.0.2.1', 9))"
subprocess.run([sys.executable, "-c", call])
Path(sys.argv[1]).write_text("left behind")
listening = socket.create_server(("127.0.0.1", 0))
socket.create_connection(listening.getsockname())
"""


def _trace(command: Sequence[object], record: Path, **environment: str) -> None:
    """Run a command, with the calls of all its processes on record; where that is not possible, skip."""
    if shutil.which("strace") is None:
        pytest.skip("strace, which records calls of the system, is absent")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "REELSEEK_"))}
    options = ["-f", "-y", "-qq", "--seccomp-bpf", "-s", "4096", "-e", f"trace={_NETWORK},{_FILES}", "-o", record]
    traced, variables = ["strace", *map(str, options), *map(str, command)], {**clean, **environment}
    done = subprocess.run(traced, env=variables, capture_output=True, text=True, timeout=3000, check=False)
    if "PTRACE" in done.stderr or "ptrace" in done.stderr:
        pytest.skip(f"processes cannot be traced here: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr


def _addresses_abroad(record: Path) -> set[str]:
    """Addresses of the network that were called, those of this machine left out."""
    calls = record.read_text("utf-8", "replace")
    addresses = set(re.findall(r"(?:sin_addr=inet_addr\(|inet_pton\(AF_INET6, )\"([^\"]+)", calls))
    return {address for address in addresses if not address.startswith("127.") and address not in _HERE}


def _files_outside(record: Path, allowed: Sequence[Path]) -> set[str]:
    """Files and folders that were made or written and lie in none of some folders, nor are the system's own."""
    outside = set()
    for line in record.read_text("utf-8", "replace").splitlines():
        call = re.match(r"\d+ +(\w+)\((.*)\) += (-?\d+)", line)
        if call is None or call[3].startswith("-") or call[1] in _NETWORK.split(","):
            continue
        if call[1] in ("open", "openat") and not re.search(r"O_WRONLY|O_RDWR|O_CREAT", call[2]):
            continue
        opened = re.search(r"= \d+<([^>]+)>", line)
        named = re.findall(r'(?:AT_FDCWD<([^>]*)>|\d+<([^>]*)>)?(?:, )?"((?:[^"\\]|\\.)*)"', call[2])
        base = named[-1][0] or named[-1][1] if named else ""
        path = opened[1] if opened else os.path.normpath(os.path.join(base, named[-1][2])) if named else ""
        path = path.removesuffix(" (deleted)").removesuffix("(deleted)")
        is_file = path.startswith("/") and not path.startswith(("/dev/", "/proc/", "/memfd:", "/anon_hugepage"))
        if is_file and not any(Path(path).is_relative_to(folder) for folder in allowed):
            outside.add(path)
    return outside


@pytest.mark.long
def test_ingest_search_training_and_service_call_nobody_and_leave_nothing(
    archive: Path, library_path: Path, tmp_path: Path
) -> None:
    library, home, temporary = tmp_path / "library", tmp_path / "home", tmp_path / "temporary"
    shutil.copytree(library_path, library)
    home.mkdir()
    temporary.mkdir()
    film = shutil.copy(min(path for path in archive.iterdir() if path.suffix == ".mp4"), tmp_path / "new.mp4")
    recipe = Path(__file__).parents[2] / "recipes" / "mmt.toml"
    record = tmp_path / "calls.txt"
    command = [sys.executable, "-c", WALK, library, film, tmp_path / "model", recipe]
    settings = {"HOME": str(home), "TMPDIR": str(temporary), "ORT_DISABLE_TELEMETRY": "0"}
    _trace(command, record, **settings, PYTHONDONTWRITEBYTECODE="1")
    assert _addresses_abroad(record) == set()
    cache, state = home / ".cache" / "reelseek", tmp_path / "library.state"
    assert _files_outside(record, [library, state, tmp_path / "model", cache, home / ".cache", temporary]) == set()
    assert {path.relative_to(home).parts[:2] for path in home.rglob("*") if path.is_file()} <= {(".cache", "reelseek")}
    assert [path for path in temporary.rglob("*") if path.is_file()] == []


def test_the_record_tells_a_call_and_a_file_of_a_child(tmp_path: Path) -> None:
    record, inside = tmp_path / "calls.txt", tmp_path / "inside"
    inside.mkdir()
    _trace([sys.executable, "-c", CHILD, inside / "file"], record, PYTHONDONTWRITEBYTECODE="1")
    assert _addresses_abroad(record) == {"192.0.2.1"}
    assert _files_outside(record, [inside]) == set()
    assert _files_outside(record, [tmp_path / "elsewhere"]) == {str(inside / "file")}
