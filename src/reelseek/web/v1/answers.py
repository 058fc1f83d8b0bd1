"""Every answer that a route of `/v1` may give besides the one it is for, as OpenAPI describes it."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from reelseek.web.v1.schema import ProblemDocument

__all__ = ["JPEG", "VIDEO", "describe", "problems"]

_PROBLEM = "application/problem+json"
_MEANINGS = {
    400: "The request cannot be answered as it stands; `detail` says what to change.",
    401: "Nobody is signed in, or the token is wrong.",
    403: "The caller may not do this, or the request comes from a page of another site.",
    404: "There is no such thing, or the caller may not see it.",
    405: "The address takes other methods.",
    408: "The body did not arrive in time.",
    409: "The state of the library does not allow it; `detail` says what to do.",
    410: "It was removed, or its file is no longer at hand.",
    413: "The body is too large.",
    414: "The address is too long.",
    415: "The body is of a type that is not read.",
    416: "The file has no such range of bytes.",
    421: "The server does not answer to this name.",
    422: "A parameter or a field of the body is wrong, or the file cannot be decoded; `errors` names the fields.",
    429: "Too many wrong tokens; Retry-After says when the next one is looked at.",
    431: "The headers are too long.",
    500: "An error of the server; its log says more.",
    507: "What is to be changed cannot be noted in the audit log; nothing was changed.",
    503: "The server cannot answer at the moment; Retry-After says when to ask again.",
}
_TAGS = {
    "search": "Moments by words and by examples.",
    "videos": "What is in a library, and what is inside a video.",
    "uploads": "Pictures and clips to search by.",
    "libraries": "The libraries that are served, and the models that search them.",
    "jobs": "What changes or measures a library, as it runs.",
    "collections": "Moments that are kept, and their files.",
    "reviews": "Pairs of videos that may share footage, judged by people.",
    "reports": "Evaluations, trainings and pages of reports.",
    "shared": "What somebody shared by a link.",
    "session": "Signing in on a page.",
    "accounts": "Who may come in, and what they changed.",
    "server": "Whether the server is well, and how much it does.",
}
JPEG: dict[int | str, dict[str, Any]] = {200: {"description": "A JPEG picture.", "content": {"image/jpeg": {}}}}

VIDEO: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file, or a copy that browsers play.", "content": {"video/*": {}}},
    206: {"description": "The ranges of bytes that were asked for.", "content": {"video/*": {}}},
    304: {"description": "The file is the one that If-None-Match names."},
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the errors of a route by their statuses, for `responses`."""
    return {
        status: {
            "description": _MEANINGS[status],
            "content": {
                _PROBLEM: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "example": {
                        "type": "about:blank",
                        "title": HTTPStatus(status).phrase.lower(),
                        "status": status,
                        "detail": _MEANINGS[status],
                    },
                }
            },
        }
        for status in statuses
    }


_COMMON = problems(400, 401, 403, 404, 408, 413, 414, 421, 422, 429, 500, 503)
"""What any route of `/v1` may answer: the gate before it refuses, the library is missing, or the server fails."""


def _with_common_errors(answers: dict[str, Any]) -> dict[str, Any]:
    """The answers of an operation, with the errors that any may give, in order of status."""
    described = {status: answer for status, answer in answers.items() if "HTTPValidationError" not in str(answer)}
    return dict(sorted({**{str(status): answer for status, answer in _COMMON.items()}, **described}.items()))


def describe(app: FastAPI) -> None:
    """Let an application describe itself by OpenAPI, with its errors and the groups of its operations."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description="Search moments in video libraries. Every error is a problem document (RFC 9457).",
                routes=app.routes,
                tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
            )
            for path, operations in document["paths"].items():
                for operation in operations.values() if path.startswith("/v1/") else ():
                    operation["responses"] = _with_common_errors(operation["responses"])
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
            for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, in whose place problems stand
                schemas.pop(name, None)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
