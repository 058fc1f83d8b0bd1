"""The clients: how a server is reached, signed in to, and read page by page."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from reelseek.client.operations import AsyncOperations, SyncOperations
from reelseek.client.schema import HitJSON, VideoRow
from reelseek.client.transport import AsyncTransport, SyncTransport

__all__ = ["AsyncClient", "Client"]

_ADDRESS = "http://127.0.0.1:8000"
_SECONDS = 60.0


def _settings(address: str, token: str | None, timeout: float) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return {"base_url": f"{address.rstrip('/')}/", "headers": headers, "timeout": timeout}


def _next_token(answer: Mapping[str, Any]) -> str | None:
    page: Mapping[str, Any] = answer.get("page", answer)
    return page.get("next_token")


class Client(SyncOperations):
    """A client of a server that `reelseek serve` started.

    It has a method for each operation of the interface, which returns the answer's JSON; `schema` says what is in it.
    Errors are raised as `ServiceError`.

    Args:
        address: of the server, with the prefix under which it is reached if there is one.
        token: the server's secret, or a token of an account.
        timeout: seconds that a server may take for a part of an answer.
        wait_seconds: how long an answer of "not yet" (503 with Retry-After) is asked for again.
        transport: what sends requests instead of a connection, for tests.

    Example:
        with Client("http://127.0.0.1:8000") as client:
            for hit in client.iterate_hits("a dog on a beach"):
                print(hit["name"], hit["start"], hit["score"])
    """

    def __init__(
        self,
        address: str = _ADDRESS,
        *,
        token: str | None = None,
        timeout: float = _SECONDS,
        wait_seconds: float = 0.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        http = httpx.Client(**_settings(address, token, timeout), transport=transport)
        self._transport = SyncTransport(http, wait_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.http.close()

    def iterate(self, method: Callable[..., Any], /, **arguments: Any) -> Iterator[Any]:
        """The rows of all pages of a method that lists something.

        Example:
            jobs = list(client.iterate(client.list_jobs, state="failed"))
        """
        token: str | None = arguments.pop("page_token", None)
        while True:
            answer = method(**arguments, page_token=token)
            yield from answer["data"]
            token = _next_token(answer)
            if token is None:
                return

    def iterate_hits(self, query: str = "", **arguments: Any) -> Iterator[HitJSON]:
        """All hits of a search, the best first; arguments as `search` takes them."""
        return self.iterate(self.search, query=query, **arguments)

    def iterate_videos(self, **arguments: Any) -> Iterator[VideoRow]:
        """All videos of a library in order of their names; arguments as `list_videos` takes them."""
        return self.iterate(self.list_videos, **arguments)


class AsyncClient(AsyncOperations):
    """As `Client`, with methods that are awaited.

    Example:
        async with AsyncClient() as client:
            answer = await client.search(query="a dog on a beach")
    """

    def __init__(
        self,
        address: str = _ADDRESS,
        *,
        token: str | None = None,
        timeout: float = _SECONDS,
        wait_seconds: float = 0.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        http = httpx.AsyncClient(**_settings(address, token, timeout), transport=transport)
        self._transport = AsyncTransport(http, wait_seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.http.aclose()

    async def iterate(self, method: Callable[..., Awaitable[Any]], /, **arguments: Any) -> AsyncIterator[Any]:
        """As `Client.iterate`."""
        token: str | None = arguments.pop("page_token", None)
        while True:
            answer = await method(**arguments, page_token=token)
            for row in answer["data"]:
                yield row
            token = _next_token(answer)
            if token is None:
                return

    def iterate_hits(self, query: str = "", **arguments: Any) -> AsyncIterator[HitJSON]:
        """As `Client.iterate_hits`."""
        return self.iterate(self.search, query=query, **arguments)

    def iterate_videos(self, **arguments: Any) -> AsyncIterator[VideoRow]:
        """As `Client.iterate_videos`."""
        return self.iterate(self.list_videos, **arguments)
