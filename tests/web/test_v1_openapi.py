"""Every answer that the OpenAPI document does not describe is an error: requests are made from the document itself."""

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.types import Receive, Scope, Send

from reelseek.library import Library
from reelseek.search import Searcher
from reelseek.web.app import create_app
from reelseek.web.media import opaque_id
from reelseek.web.service import Service, serve_library
from reelseek.web.state import StateFolder
from reelseek.web.state_services import StateServices

HOST = {"Host": "127.0.0.1"}
# Of the document alone: what is well-formed may still be no query, no filter, and no id of this library.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def app(library_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """With jobs and collections; no job runs, and no folder may be added."""
    folder = StateFolder(tmp_path_factory.mktemp("state"))
    assert folder.claim()
    services = StateServices.open(folder)
    with Library.open(library_path) as library:
        service = Service([serve_library(Searcher(library))])
        service.start()
        yield create_app(service, services=services)
        service.close()
        services.close()


def _without_lifespan(app: FastAPI) -> Callable[..., Awaitable[None]]:
    """The application for clients that each begin and end it."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await app(scope, receive, send)
            return
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})

    return answer


@pytest.mark.long
def test_every_answer_is_described(app: FastAPI, library_path: Path) -> None:
    with Library.open(library_path) as library:
        identifier = opaque_id(library.videos()[0].id)
    document = schemathesis.openapi.from_asgi("/openapi.json", _without_lifespan(app), headers=HOST)
    operations = [result.ok() for result in document.get_all_operations()]
    assert len(operations) == len(list(_operations(app)))
    for operation in operations:
        _answer_what_the_document_allows(operation, identifier)


def _answer_what_the_document_allows(operation: APIOperation, identifier: str) -> None:
    @settings(max_examples=8, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(), of_a_video=st.booleans())
    def check(case: Case, of_a_video: bool) -> None:
        if of_a_video and "id" in case.path_parameters:
            case.path_parameters["id"] = identifier
        case.call_and_validate(headers=HOST, checks=CHECKS, timeout=600)

    check()


def _operations(app: FastAPI) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in app.openapi()["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


def test_operations_are_named_grouped_and_have_their_errors(app: FastAPI) -> None:
    operations = list(_operations(app))
    names = [operation["operationId"] for _, _, operation in operations]
    assert len(set(names)) == len(names)
    for path, _, operation in operations:
        assert operation["tags"], path
        assert operation["summary"], path
        if path.startswith("/v1/"):
            statuses = set(operation["responses"])
            assert statuses >= {"400", "401", "403", "404", "413", "421", "422", "429", "500", "503"}, path
            errors = [answer for status, answer in operation["responses"].items() if status >= "400"]
            assert all(list(answer["content"]) == ["application/problem+json"] for answer in errors), path
    assert "HTTPValidationError" not in json.dumps(app.openapi())


def test_examples_of_requests_are_answered(app: FastAPI) -> None:
    client = TestClient(app, base_url="http://127.0.0.1")
    body = app.openapi()["paths"]["/v1/search"]["post"]["requestBody"]["content"]["application/json"]
    assert len(body["examples"]) >= 3
    for name, example in body["examples"].items():
        answer = client.post("/v1/search", json=example["value"])
        assert answer.status_code in (200, 400), name
        if answer.status_code == 400:
            assert (
                "no video lies in such a folder" in answer.json()["detail"]
            )  # the one thing that it says of a library
