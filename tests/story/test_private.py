"""Nobody is called and nothing is left behind: the whole walk, with every call for the network on record."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WALK = """
import asyncio, sys, time, httpx
from pathlib import Path
from reelseek import Library, Searcher, add
from reelseek.web.app import create_app
from reelseek.web.service import Service, serve_library

folder, film = map(Path, sys.argv[1:])
with Library.open(folder / "lib", create=True) as library:
    report = add(library, [film], experts=["ocr", "speech", "appearance"])
    assert not report.failed and not report.skipped_experts, report
    searcher = Searcher(library)
    assert searcher.search("a cat")

    async def ask():
        transport = httpx.ASGITransport(create_app(Service([serve_library(searcher)])))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            assert (await client.get("/")).status_code == 200
    asyncio.run(ask())
time.sleep(3)  # what reports in the background does so a little later
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace, which records calls of the system, is absent")
def test_ingest_search_and_service_call_nobody_and_leave_nothing(archive: Path, tmp_path: Path) -> None:
    home, record = tmp_path / "home", tmp_path / "calls.txt"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "REELSEEK_"))}
    film = min(path for path in archive.iterdir() if path.suffix in (".webm", ".mp4", ".mov", ".mkv"))
    command = [sys.executable, "-c", WALK, tmp_path, film]
    done = subprocess.run(
        ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", record, *command],
        env={**environment, "HOME": str(home), "ORT_DISABLE_TELEMETRY": "0"},
        capture_output=True, text=True, timeout=2500, check=False,
    )  # fmt: skip
    if "PTRACE" in done.stderr or "ptrace" in done.stderr:
        pytest.skip(f"processes cannot be traced here: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    calls = record.read_text("utf-8", "replace")
    addresses = re.findall(r"(?:sin_addr=inet_addr\(|inet_pton\(AF_INET6, )\"([^\"]+)", calls)
    assert [address for address in addresses if not address.startswith("127.") and address != "::1"] == []
    assert {path.relative_to(home).parts[:2] for path in home.rglob("*") if path.is_file()} <= {(".cache", "reelseek")}
