"""Requests of a client over httpx: what is sent, what is read, what is repeated, and what is an error."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import httpx
import httpx_sse

from reelseek.client.problems import ConnectionFailed, Unavailable, problem_of

__all__ = ["AsyncTransport", "Body", "Event", "Operation", "SyncTransport"]

Content = Literal["json", "bytes", "text", "nothing", "events"]


class Operation(NamedTuple):
    """A request that the OpenAPI document describes: its method, its path, and what is answered."""

    method: str
    path: str
    content: Content


@dataclass(frozen=True)
class Body:
    """What a request carries: values as JSON, or bytes of a type."""

    values: object = None
    content: bytes | None = None
    content_type: str = "application/json"

    def arguments(self) -> dict[str, Any]:
        """As httpx takes it; None values of an object are left away, which means the same."""
        if self.content is not None:
            return {"content": self.content, "headers": {"Content-Type": self.content_type}}
        values = self.values
        if isinstance(values, Mapping):
            values = {name: value for name, value in values.items() if value is not None}
        return {"content": json.dumps(values).encode(), "headers": {"Content-Type": self.content_type}}


class Event(NamedTuple):
    """What a server tells while something runs.

    Args:
        kind: such as `progress`, `log` and `end`.
        data: its JSON.
        id: after which it can be followed again; '' where it has none.
    """

    kind: str
    data: Any
    id: str


class _Transport:
    """What both transports have in common."""

    def __init__(self, wait_seconds: float) -> None:
        self._wait_seconds = wait_seconds

    def _request(
        self, operation: Operation, path: Mapping[str, object], query: Mapping[str, object], body: Body | None
    ) -> dict[str, Any]:
        """The arguments of a request as httpx takes them."""
        parts = {name: quote(str(value), safe="@") for name, value in path.items()}
        parameters = {name: value for name, value in query.items() if value is not None}
        arguments: dict[str, Any] = {
            "method": operation.method,
            "url": operation.path.format(**parts).lstrip("/"),
            "params": {name: _text(value) for name, value in parameters.items()},
        }
        return arguments | (body.arguments() if body is not None else {})

    def _pause(self, answer: httpx.Response, end: float) -> float | None:
        """How long to wait before asking again; None where the answer stands."""
        error = problem_of(answer)
        if not isinstance(error, Unavailable) or error.retry_seconds is None:
            return None
        return error.retry_seconds if time.monotonic() + error.retry_seconds <= end else None


def _text(value: object) -> Any:
    if isinstance(value, list | tuple):
        return [_text(element) for element in value]
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _content(operation: Operation, answer: httpx.Response) -> Any:
    if operation.content == "json":
        return answer.json()
    if operation.content == "text":
        return answer.text
    return answer.content if operation.content == "bytes" else None


def _event(event: httpx_sse.ServerSentEvent) -> Event:
    return Event(event.event, event.json(), event.id)


class SyncTransport(_Transport):
    """Sends the requests of a client, one at a time."""

    def __init__(self, http: httpx.Client, wait_seconds: float) -> None:
        super().__init__(wait_seconds)
        self.http = http

    def call(
        self,
        operation: Operation,
        path: Mapping[str, object],
        query: Mapping[str, object],
        body: Body | None = None,
    ) -> Any:
        """What is answered.

        Raises:
            ServiceError: what the server says is wrong, or it cannot be reached.
        """
        arguments, end = self._request(operation, path, query, body), time.monotonic() + self._wait_seconds
        while True:
            try:
                answer = self.http.request(**arguments)
            except httpx.TransportError as error:
                raise ConnectionFailed(f"{self.http.base_url}: {error or type(error).__name__}") from error
            if answer.is_success:
                return _content(operation, answer)
            pause = self._pause(answer, end)
            if pause is None:
                raise problem_of(answer)
            time.sleep(pause)

    def follow(self, operation: Operation, path: Mapping[str, object], headers: Mapping[str, str]) -> Iterator[Event]:
        """The events of something that runs, until it ends.

        Raises:
            ServiceError: as `call`.
        """
        arguments = self._request(operation, path, {}, None)
        try:
            with httpx_sse.connect_sse(self.http, **arguments, headers=dict(headers), timeout=None) as source:
                if not source.response.is_success:
                    source.response.read()
                    raise problem_of(source.response)
                if source.response.status_code != 204:  # all was told before
                    yield from (_event(event) for event in source.iter_sse() if event.data)
        except httpx.TransportError as error:
            raise ConnectionFailed(f"{self.http.base_url}: {error or type(error).__name__}") from error


class AsyncTransport(_Transport):
    """Sends the requests of an asynchronous client."""

    def __init__(self, http: httpx.AsyncClient, wait_seconds: float) -> None:
        super().__init__(wait_seconds)
        self.http = http

    async def call(
        self,
        operation: Operation,
        path: Mapping[str, object],
        query: Mapping[str, object],
        body: Body | None = None,
    ) -> Any:
        """As `SyncTransport.call`."""
        arguments, end = self._request(operation, path, query, body), time.monotonic() + self._wait_seconds
        while True:
            try:
                answer = await self.http.request(**arguments)
            except httpx.TransportError as error:
                raise ConnectionFailed(f"{self.http.base_url}: {error or type(error).__name__}") from error
            if answer.is_success:
                return _content(operation, answer)
            pause = self._pause(answer, end)
            if pause is None:
                raise problem_of(answer)
            await asyncio.sleep(pause)

    async def follow(
        self, operation: Operation, path: Mapping[str, object], headers: Mapping[str, str]
    ) -> AsyncIterator[Event]:
        """As `SyncTransport.follow`."""
        arguments = self._request(operation, path, {}, None)
        try:
            async with httpx_sse.aconnect_sse(self.http, **arguments, headers=dict(headers), timeout=None) as source:
                if not source.response.is_success:
                    await source.response.aread()
                    raise problem_of(source.response)
                if source.response.status_code != 204:  # all was told before
                    async for event in source.aiter_sse():
                        if event.data:
                            yield _event(event)
        except httpx.TransportError as error:
            raise ConnectionFailed(f"{self.http.base_url}: {error or type(error).__name__}") from error
