"""Refusals and errors as RFC 9457 has them, and JSON that any name and any number can be put into."""

import json
import math
import sqlite3
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from reelseek.errors import LibraryError, QueryError, ReelseekError, UsageError

__all__ = ["AnyJSON", "Problem", "add_handlers", "answer", "problem"]

_LONGEST_DETAIL = 2000


class AnyJSON(JSONResponse):
    """JSON of names that are no UTF-8 (their lone surrogates stay escapes) and of numbers that are none (null)."""

    def render(self, content: Any) -> bytes:
        try:
            return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
        except ValueError:
            return json.dumps(_finite(content), allow_nan=False, separators=(",", ":")).encode()


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, list | tuple) else content


class Problem(Exception):
    """A request that is answered with an error.

    Args:
        retry_seconds: after which time the same request may be answered otherwise.
        errors: each field that is wrong, by `field` and `detail`.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str = "",
        *,
        retry_seconds: float | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(title, detail)
        self.status, self.title, self.detail, self.retry_seconds = status, title, detail, retry_seconds
        self.errors = errors


def problem(
    status: int,
    title: str,
    detail: str = "",
    *,
    retry_seconds: float | None = None,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Mapping[str, str]] = (),
) -> JSONResponse:
    """An error as RFC 9457 has it."""
    if len(detail) > _LONGEST_DETAIL:
        detail = f"{detail[:_LONGEST_DETAIL]}… ({len(detail)} letters)"
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if errors:
        body["errors"] = errors
    extra = {"Retry-After": str(math.ceil(retry_seconds))} if retry_seconds is not None else {}
    return AnyJSON(
        body, status, {"Cache-Control": "no-store", **extra, **(headers or {})}, media_type="application/problem+json"
    )


def answer(error: Problem) -> JSONResponse:
    """The answer to a request that is refused."""
    return problem(error.status, error.title, error.detail, retry_seconds=error.retry_seconds, errors=error.errors)


def _field(place: Sequence[int | str]) -> str:
    """Where in a request a field stands, such as `body.then.within`."""
    return ".".join(str(part)[:100].encode("utf-8", "backslashreplace").decode() for part in place)


def add_handlers(app: FastAPI) -> None:
    """Let every error of an application be answered as a problem."""

    @app.exception_handler(Problem)
    async def refused(request: Request, error: Problem) -> JSONResponse:
        return answer(error)

    @app.exception_handler(ReelseekError)
    async def failed(request: Request, error: ReelseekError) -> JSONResponse:
        if isinstance(error, QueryError | UsageError):
            return problem(400, "what was asked cannot be done", str(error))
        return problem(503 if isinstance(error, LibraryError) else 422, "failed", str(error))

    @app.exception_handler(sqlite3.Error)
    async def unreadable(request: Request, error: sqlite3.Error) -> JSONResponse:
        return problem(503, "the library cannot be read", str(error), retry_seconds=5)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [{"field": _field(e["loc"]), "detail": str(e["msg"])[:500]} for e in error.errors()[:20]]
        detail = "; ".join(f"{e['field'].rpartition('.')[2]}: {e['detail']}" for e in errors)
        broken = next((e for e in error.errors() if e["type"] == "json_invalid"), None)
        is_json = broken is None
        if broken is not None:
            reason = broken.get("ctx", {}).get("error", broken["msg"])
            detail = f"the body is no JSON: {reason}, at letter {broken['loc'][-1]}"
        elif isinstance(error.body, bytes):  # FastAPI reads JSON alone, where the header says that it is some
            detail = "the body is not read as JSON; send it with the header Content-Type: application/json"
        status = 422 if is_json and request.url.path.startswith(f"{request.scope.get('root_path', '')}/v1/") else 400
        return problem(status, "a parameter is wrong", detail, errors=errors)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        phrase = HTTPStatus(error.status_code).phrase
        detail = error.detail
        if detail == phrase:  # Starlette has nothing to say
            detail = {
                404: "there is nothing at this address; /openapi.json lists all that programs may ask for",
                405: f"this address does not take {request.method[:20]}; see the header Allow, and /openapi.json",
            }.get(error.status_code, detail)
        return problem(error.status_code, phrase, detail, headers=error.headers)
