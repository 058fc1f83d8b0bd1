"""The MCP server by the SDK's own client: in process, over standard input and output, and over HTTP."""

import asyncio
import base64
import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from mcp import Client, StdioServerParameters
from reelseek.library import Library
from reelseek.mcp.server import create_server
from reelseek.mcp.tools import LibraryTools
from reelseek.search import Searcher
from reelseek.web.accounts.audit import AuditLog
from reelseek.web.jobs.roots import Roots
from reelseek.web.jobs.service import Jobs
from reelseek.web.media import opaque_id
from reelseek.web.service import serve_library
from reelseek.web.state import StateFolder

TOOLS = {"search", "look_inside", "transcript", "frames", "status", "add_job"}


@pytest.fixture(scope="module")
def searcher(library_path: Path) -> Searcher:
    return Searcher(Library.open(library_path))


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    folder = StateFolder(tmp_path / "state")
    jobs = Jobs(folder, Roots(), runs=False)
    yield jobs
    jobs.close()
    folder.close()


def _run(searcher: Searcher, jobs: Jobs | None, steps: Callable[[Client], Any], audit: AuditLog | None = None) -> None:
    """Steps of a client beside a server in this process."""

    async def run() -> None:
        served = serve_library(searcher, copies_gb=0)
        server = create_server(LibraryTools(lambda: served, jobs, audit), read_only=jobs is None)
        async with Client(server) as client:
            await steps(client)

    asyncio.run(run())


async def _call(client: Client, name: str, **arguments: Any) -> Any:
    answer = await client.call_tool(name, arguments)
    assert not answer.is_error, answer.content
    return json.loads(answer.content[0].text)


def test_search_look_read_and_see(searcher: Searcher, jobs: Jobs) -> None:
    async def steps(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == TOOLS
        assert tools["search"].annotations.read_only_hint
        assert not tools["add_job"].annotations.read_only_hint
        hits = (await _call(client, "search", query="a cat", limit=5))["hits"]
        expected = searcher.search("a cat", k=5)
        assert [(hit["name"], hit["start"], hit["end"]) for hit in hits] == [
            (hit.video, hit.start, hit.end) for hit in expected
        ]
        moment = hits[0]["moment"]
        inside = await _call(client, "look_inside", video=moment, query="a cat")
        peaks = searcher.within("a cat", expected[0].video, k=5).hits
        assert [(peak["start"], peak["end"]) for peak in inside["peaks"]] == [(hit.start, hit.end) for hit in peaks]
        lines = (await _call(client, "transcript", video=hits[0]["name"]))["lines"]
        assert {line["source"] for line in lines} <= set(searcher.library.experts()) | {"captions"}
        assert [line["start"] for line in lines] == sorted(line["start"] for line in lines)
        pictures = await client.call_tool("frames", {"moment": moment, "count": 2})
        kinds = [part.type for part in pictures.content]
        assert kinds == ["text", "image", "text", "image"]
        picture = Image.open(io.BytesIO(base64.b64decode(pictures.content[1].data)))
        assert (picture.format, picture.height) == ("JPEG", 360)

    _run(searcher, jobs, steps)


def test_jobs_by_an_assistant(searcher: Searcher, jobs: Jobs, tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "audit.db")

    async def steps(client: Client) -> None:
        video = searcher.library.videos()[0]
        job = await _call(client, "add_job", kind="remove", arguments={"videos": [video.id]})
        assert job["state"] == "queued"
        assert jobs.queue.get(job["id"]).arguments["videos"] == [opaque_id(video.id)]
        assert jobs.queue.get(job["id"]).by == "assistant"
        assert (await _call(client, "status", job=job["id"]))["kind"] == "remove"
        status = await _call(client, "status")
        assert (status["videos"], [row["id"] for row in status["jobs"]]) == (8, [job["id"]])
        for kind, arguments, words in (
            ("add", {"paths": ["/etc"]}, "--roots FOLDER"), ("add", {"path": "x"}, "no such job"),
            ("remove", {"videos": ["none.mp4"]}, "has no video"), ("index", {"model": "none"}, "there is no model"),
        ):  # fmt: skip
            answer = await client.call_tool("add_job", {"kind": kind, "arguments": arguments})
            assert answer.is_error
            assert words in answer.content[0].text
        *refused, noted = audit.rows()
        facts = {"job": job["id"], "kind": "remove", "library": "library"}
        assert (noted["who"], noted["action"], noted["status"], noted["facts"]) == (
            "assistant", "mcp add_job", 202, facts,
        )  # fmt: skip
        assert [row["status"] for row in refused] == [400] * 4

    _run(searcher, jobs, steps, audit)
    audit.close()


def test_what_cannot_be_answered_is_said_in_words(searcher: Searcher, jobs: Jobs) -> None:
    async def steps(client: Client) -> None:
        opaque = opaque_id(searcher.library.videos()[0].id)
        for name, arguments, words in (
            ("search", {"query": ""}, "empty"), ("look_inside", {"video": "none", "query": "cat"}, "has no video"),
            ("look_inside", {"video": "0" * 24, "query": "cat"}, "no video of this id"),
            ("frames", {"moment": "x"}, "no moment"), ("frames", {"moment": f"{opaque}@5.000-1.000"}, "ends after"),
            ("frames", {"moment": f"{opaque}@0.000-1.000", "count": 99}, "count"),
            ("status", {"job": "0" * 16}, "no job"), ("search", {"query": "cat", "limit": 0}, "limit"),
            ("transcript", {"video": "../../etc/passwd"}, "has no video"),
        ):  # fmt: skip
            answer = await client.call_tool(name, arguments)
            assert answer.is_error, name
            assert words in answer.content[0].text, (name, answer.content[0].text)

    _run(searcher, jobs, steps)


def test_read_only_has_no_tool_that_changes(searcher: Searcher) -> None:
    async def steps(client: Client) -> None:
        assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS - {"add_job"}

    _run(searcher, None, steps)


@pytest.mark.long
def test_over_standard_input_and_output(library_path: Path, tmp_path: Path) -> None:
    async def run() -> None:
        arguments = ["-m", "reelseek.cli.main", "mcp", str(library_path), "--state", str(tmp_path / "state")]
        server = StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))
        async with Client(server) as client:
            hits = (await _call(client, "search", query="a cat", limit=1))["hits"]
            assert len(hits) == 1
            job = await _call(client, "add_job", kind="index", arguments={"action": "verify"})
            async with asyncio.timeout(300):
                while (ended := await _call(client, "status", job=job["id"]))["state"] in ("queued", "running"):
                    await asyncio.sleep(0.2)
            assert ended["state"] == "succeeded", ended

    asyncio.run(run())


@contextlib.asynccontextmanager
async def _served(library: Path, *options: str) -> AsyncIterator[str]:
    command = [sys.executable, "-m", "reelseek.cli.main", "mcp", str(library), "--read-only", "--http", "--port", "0"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as process:
        lines = iter(process.stderr.readline, "")
        address = next(line for line in lines if line.startswith("http://")).split()[0]
        try:
            yield address
        finally:
            process.kill()


@pytest.mark.long
def test_over_http_with_a_token(library_path: Path) -> None:
    async def run() -> None:
        async with _served(library_path, "--token", "a-secret-word") as address:
            url = address.partition("?")[0]
            async with httpx2.AsyncClient(timeout=300) as http:
                assert (await http.post(url, json={})).status_code == 401
                evil = {"Authorization": "Bearer a-secret-word", "Origin": "http://evil.example"}
                assert (await http.post(url, json={}, headers=evil)).status_code == 403
            headers = {"Authorization": "Bearer a-secret-word"}
            async with (
                httpx2.AsyncClient(headers=headers, timeout=300) as http,
                Client(streamable_http_client(url, http_client=http)) as client,
            ):
                assert len((await _call(client, "search", query="a cat", limit=2))["hits"]) == 2

    asyncio.run(run())
