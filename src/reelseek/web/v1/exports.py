"""Moments as files: tables, subtitles, timelines, a ZIP of cuts, and one cut alone."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from reelseek.web.collections.archive import Archive, check_archive
from reelseek.web.collections.rows import ExportRow, export_rows, safe_file_name
from reelseek.web.collections.store import Collection, SavedMoment
from reelseek.web.collections.tables import to_csv, to_jsonl, to_srt
from reelseek.web.collections.timeline import to_edl, to_otio
from reelseek.web.decoding import busy, finished
from reelseek.web.media import without_path
from reelseek.web.problems import Problem
from reelseek.web.ranges import RangedFile
from reelseek.web.service import ServedLibrary
from reelseek.web.state_services import StateServices

__all__ = ["EXPORTS", "Format", "Mode", "cut_file", "export"]

Format = Annotated[Literal["csv", "jsonl", "edl", "otio", "srt", "zip"], Query(description="of the file")]
Mode = Literal["copy", "exact"]
_TYPES = {
    "csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson", "edl": "text/plain; charset=utf-8",
    "otio": "application/json", "srt": "application/x-subrip; charset=utf-8", "zip": "application/zip",
}  # fmt: skip
EXPORTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file.", "content": {kind.partition(";")[0]: {} for kind in _TYPES.values()}}
}
_TABLES: Mapping[str, Callable[[Sequence[ExportRow]], str]] = {"csv": to_csv, "jsonl": to_jsonl, "srt": to_srt}
_PATIENCE_SECONDS = 25.0
_archives = asyncio.Semaphore(2)


async def export(
    request: Request,
    served: ServedLibrary,
    collection: Collection,
    moments: Sequence[SavedMoment],
    format: str,
    *,
    mode: Mode,
    rate: float | None,
) -> Response:
    """A collection as a file that is saved under its name.

    Raises:
        Problem, ReelseekError: it cannot be exported like that.
    """
    if not moments:
        raise Problem(422, "nothing to export", "the collection holds no moments; keep some first")
    rows = await run_in_threadpool(export_rows, served.library, moments)
    headers = {"Content-Disposition": _attachment(collection.name, format), "Cache-Control": "no-store"}
    if format == "zip":
        check_archive(rows, exact=mode == "exact")
        if _archives.locked():
            raise Problem(503, "too busy", "other archives are being made; ask again later", retry_seconds=30)
        services: StateServices = request.app.state.services
        archive = Archive(rows, exact=mode == "exact", scratch=services.folder.subfolder("scratch"))
        return StreamingResponse(_bounded(archive), media_type=_TYPES[format], headers=headers)
    if format in _TABLES:
        text = await run_in_threadpool(_TABLES[format], rows)
    else:
        write = to_edl if format == "edl" else to_otio
        text = await run_in_threadpool(lambda: write(collection.name, rows, rate=rate))
    return Response(text.encode("utf-8", "backslashreplace"), media_type=_TYPES[format], headers=headers)


async def _bounded(archive: Archive) -> AsyncIterator[bytes]:
    async with _archives:
        async for chunk in archive.chunks():
            yield chunk


def _attachment(name: str, ending: str) -> str:
    """Save under this name, whatever letters it has (RFC 6266)."""
    file = f"{safe_file_name(name.replace('/', '_'))}.{ending}"  # a title is no path
    plain = "".join(sign if sign.isascii() and sign not in '"\\%' else "_" for sign in file)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file, safe='')}"


async def cut_file(request: Request, served: ServedLibrary, moment: SavedMoment) -> Response:
    """A moment alone, cut at its very frames.

    Raises:
        Problem: its file is gone, or the cut is not ready yet.
    """
    rows = await run_in_threadpool(export_rows, served.library, [moment])
    path, content = rows[0].path, rows[0].content
    if path is None or content is None:
        raise Problem(410, "gone", "the video's file is not at hand; it was moved or deleted since it was added")
    services: StateServices = request.app.state.services
    future = services.cuts.request(content, path, moment.start, moment.end)
    if not await finished(future, request, _PATIENCE_SECONDS):
        raise busy("the moment is being cut out of its video", 5)
    try:
        cut = future.result()
    except Exception as error:
        raise Problem(422, "no cut", without_path(str(error), path, "the video")) from error
    return await run_in_threadpool(RangedFile, cut, media_type="video/mp4")
