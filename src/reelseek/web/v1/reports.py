"""`/v1/reports`: evaluations, trainings and pages of reports, as tables and files."""

from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from reelseek.web.problems import AnyJSON, Problem
from reelseek.web.reports import Report, ReportFile
from reelseek.web.service import Reader
from reelseek.web.state_services import ReportsOf
from reelseek.web.v1 import schema
from reelseek.web.v1.answers import problems
from reelseek.web.v1.hits import shown

__all__ = ["router"]

router = APIRouter(prefix="/v1/reports", tags=["reports"], responses=problems(409))
Identifier = Annotated[str, Path(max_length=300, description="id of the report")]
_SANDBOX = {
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
}
_TYPES = {".html": "text/html; charset=utf-8", ".png": "image/png", ".svg": "image/svg+xml"}
_MOST_BYTES = 200 * 10**6


class ReportSummary(schema.Document):
    """A report in a list."""

    id: str
    kind: Literal["evaluation", "training", "page"]
    title: str
    library: str | None = Field(description="whose videos were measured; null of pages, which do not say")
    time: float = Field(description="when it was made, in seconds since 1970")
    summary: str = Field(description="the figure that matters most; '' where there is none")


class ReportList(schema.Document):
    """What was measured on libraries that you may see, the newest first."""

    data: list[ReportSummary]


class RowJSON(schema.Document):
    """A row of a table."""

    cells: list[str]
    report: str | None = Field(description="id of the report that the row is about, if that is another one")


class TableJSON(schema.Document):
    """A table; its first column names the rows."""

    title: str
    columns: list[str]
    rows: list[RowJSON]
    note: str


class FileJSON(schema.Document):
    """A file of a report."""

    name: str
    url: str
    bytes: int


class ReportJSON(ReportSummary):
    """A report."""

    tables: list[TableJSON]
    notes: list[str]
    page: str | None = Field(description="address of the page that it is; it runs no program")
    files: list[FileJSON]


@router.get("", operation_id="list_reports", response_model=ReportList)
async def list_reports(
    reports: ReportsOf, caller: Reader, library: Annotated[str | None, Query(max_length=200)] = None
) -> AnyJSON:
    """Evaluations and trainings of libraries that you may see, and pages where you may see all libraries."""
    rows = await run_in_threadpool(reports.all, caller)
    return AnyJSON({"data": [_summary(row) for row in rows if library in (None, row.library)]})


@router.get("/{id}", operation_id="get_report", response_model=ReportJSON)
async def get_report(request: Request, id: Identifier, reports: ReportsOf, caller: Reader) -> AnyJSON:
    """A report with its tables, notes and files."""
    report = await run_in_threadpool(reports.get, id, caller)
    if report is None:
        raise _missing()
    return AnyJSON(await run_in_threadpool(_whole, request, report))


@router.get(
    "/{id}/files/{name:path}",
    operation_id="get_report_file",
    response_class=Response,
    responses={200: {"description": "The file.", "content": {"*/*": {}}}},
)
async def get_report_file(
    id: Identifier, name: Annotated[str, Path(max_length=600)], reports: ReportsOf, caller: Reader
) -> Response:
    """A file of a report. A page is shown as it is, without any program in it; nothing else of it runs either."""

    def read() -> tuple[ReportFile, bytes]:
        report = reports.get(id, caller)
        file = next((file for file in report.files if file.name == name), None) if report is not None else None
        if file is None:
            raise _missing()
        try:
            if file.path.stat().st_size > _MOST_BYTES:
                raise Problem(422, "too large", f"the file has more than {_MOST_BYTES // 10**6} MB; read it itself")
            return file, file.path.read_bytes()
        except OSError as error:
            raise _missing() from error

    file, content = await run_in_threadpool(read)
    media_type = _TYPES.get(file.path.suffix, "text/plain; charset=utf-8")
    return Response(content, media_type=media_type, headers={**_SANDBOX, "Cache-Control": "no-cache"})


def _missing() -> Problem:
    return Problem(404, "no such report", "there is no such report or file of one; GET /v1/reports lists them")


def _summary(report: Report) -> dict[str, Any]:
    return {
        "id": shown(report.id), "kind": report.kind, "title": shown(report.title), "library": report.library,
        "time": report.time, "summary": report.summary,
    }  # fmt: skip


def _whole(request: Request, report: Report) -> dict[str, Any]:
    root = f"{request.scope.get('root_path', '')}/v1/reports/{quote(report.id, safe='')}/files"
    files = [
        {"name": shown(file.name), "url": f"{root}/{quote(file.name, safe='/')}", "bytes": file.path.stat().st_size}
        for file in report.files
    ]
    tables = [
        {
            "title": table.title, "columns": list(table.columns), "note": table.note,
            "rows": [{"cells": [shown(cell) for cell in row.cells], "report": row.report} for row in table.rows],
        }
        for table in report.tables
    ]  # fmt: skip
    page = next((file["url"] for file in files if file["name"] == report.page), None)
    return {
        **_summary(report), "tables": tables, "notes": [shown(note) for note in report.notes], "page": page,
        "files": files,
    }  # fmt: skip
