"""The server: what `LibraryTools` does, as tools that assistants list and call."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool

from reelseek.mcp.tools import LibraryTools, ToolFailure, in_words
from reelseek.web.gate import Gate

__all__ = ["create_server", "http_app"]

_READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
_CHANGES = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=False)
_INSTRUCTIONS = """A library of videos. `search` finds moments by what is seen, heard, said, written or done; a moment
is named VIDEO@START-END in seconds. Look closer with `look_inside`, `transcript` and `frames`. Scores compare
within one query alone; `strength` says how sure the search is."""

Query = Annotated[str, Field(max_length=2000, description='words; -word leaves out, "word" must occur')]
VideoName = Annotated[str, Field(max_length=1000, description="the part of a moment before @, or a name")]


def create_server(tools: LibraryTools, *, read_only: bool) -> MCPServer:
    """The server of a library.

    Args:
        read_only: leave out the tool that changes something.
    """
    server = MCPServer("reelseek", instructions=_INSTRUCTIONS, log_level="WARNING")
    _add_reading(server, tools)
    _add_looking(server, tools)
    if not read_only:
        _add_jobs(server, tools)
    return server


def _add_reading(server: MCPServer, tools: LibraryTools) -> None:
    @server.tool(annotations=_READS)
    async def search(
        query: Query,
        limit: Annotated[int, Field(ge=1, le=50)] = 10,
        group_by: Literal["moment", "video"] = "moment",
        without: Annotated[list[str] | None, Field(description="modalities or experts that shall not count")] = None,
        filter: Annotated[str, Field(description="such as: folder:holiday before:2020 has:speech")] = "",
    ) -> dict[str, Any]:
        """Find moments in the library, the best first, each with reasons."""
        return await _call(tools.search, query, limit=limit, group_by=group_by, without=without or [], filter=filter)

    @server.tool(annotations=_READS)
    async def look_inside(
        video: VideoName, query: Query, limit: Annotated[int, Field(ge=1, le=20)] = 5
    ) -> dict[str, Any]:
        """Find where in one video a query is answered best, second by second."""
        return await _call(tools.look_inside, video, query, limit=limit)

    @server.tool(annotations=_READS)
    async def status(
        job: Annotated[str | None, Field(description="id of a job; leave out for the library")] = None,
    ) -> dict[str, Any]:
        """What the library holds and which jobs there are; or how far one job is."""
        return await _call(tools.status, job)


def _add_looking(server: MCPServer, tools: LibraryTools) -> None:
    @server.tool(annotations=_READS)
    async def transcript(
        video: VideoName,
        start: Annotated[float, Field(ge=0, description="seconds")] = 0.0,
        end: Annotated[float | None, Field(gt=0, description="seconds")] = None,
        sources: Annotated[list[str] | None, Field(description="such as speech, ocr, object; all if left out")] = None,
    ) -> dict[str, Any]:
        """Read what is said, written on screen and labelled in a video, in order of time."""
        return await _call(tools.transcript, video, start=start, end=end, sources=sources or [])

    @server.tool(annotations=_READS, structured_output=False)
    async def frames(
        moment: Annotated[str, Field(max_length=100, description="VIDEO@START-END, as search names it")],
        count: Annotated[int, Field(ge=1, le=16)] = 4,
    ) -> list[Any]:
        """See a moment: pictures evenly spread over it, each after its time."""
        pictures = await _call(tools.frames, moment, count=count)
        return [part for second, jpeg in pictures for part in (f"{second:.2f} s", Image(data=jpeg, format="jpeg"))]


def _add_jobs(server: MCPServer, tools: LibraryTools) -> None:
    @server.tool(annotations=_CHANGES)
    async def add_job(
        kind: Literal["add", "remove", "index", "scan", "caption", "train", "evaluate"],
        arguments: Annotated[
            dict[str, Any],
            Field(
                description='add: {"paths": ["/folder"]}; remove or caption: {"videos": ["VIDEO"]}; '
                'index: {"action": "build"}; evaluate: {"split": "test"}'
            ),
        ],
    ) -> dict[str, Any]:
        """Start work that changes or measures the library; ask for its progress with status."""
        return await _call(tools.add_job, kind, arguments)


async def _call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call in a thread; what was expected to fail is said in words."""
    try:
        return await run_in_threadpool(in_words(function), *arguments, **options)
    except ToolFailure as failure:
        raise ToolError(str(failure)) from failure


def http_app(server: MCPServer, *, token: str | None, host: str) -> Starlette:
    """The server over HTTP at `/mcp`, behind the page's own gate: a token off loopback, else this machine alone."""
    app = server.streamable_http_app(host=host)
    app.add_middleware(Gate, token=token, host=host)
    app.state.resources = []
    return app
