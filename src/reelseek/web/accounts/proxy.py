"""Behind a reverse proxy: a prefix of all addresses, and forwarded headers that are believed of named proxies only."""

import ipaddress
from collections.abc import Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from reelseek.errors import UsageError

__all__ = ["BehindProxy", "check_prefix", "check_proxies"]

_FORWARDED = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-prefix", b"forwarded")


def check_prefix(prefix: str) -> str:
    """The prefix of all addresses, with a slash in front and none behind.

    Raises:
        UsageError: it holds signs that do not go into addresses.

    >>> check_prefix("media/"), check_prefix("/")
    ('/media', '')
    """
    plain = prefix.strip("/")
    parts = plain.split("/") if plain else []
    if any(
        part in ("", ".", "..") or not part.replace("-", "").replace("_", "").replace(".", "").isalnum()
        for part in parts
    ):
        raise UsageError(f"--prefix {prefix!r}: it takes letters, digits, - and _ between slashes, such as /media")
    return f"/{plain}" if plain else ""


def check_proxies(addresses: Sequence[str]) -> list[str]:
    """Addresses or networks of proxies.

    Raises:
        UsageError: one is neither, or trusts everybody.
    """
    for address in addresses:
        try:
            network = ipaddress.ip_network(address, strict=False)
        except ValueError as error:
            raise UsageError(
                f"--trust-proxy {address!r}: it takes an address or a network, such as 10.0.0.5"
            ) from error
        if network.prefixlen == 0:
            raise UsageError(f"--trust-proxy {address} trusts whoever connects; name the address of the proxy")
    return list(addresses)


class BehindProxy:
    """Middleware before all others.

    It sets `reelseek.trusted_peer` in the scope where the peer is one of the proxies, whose word for the client's
    address, the scheme and the host is then taken. Of anybody else these headers are removed.

    Args:
        prefix: see `check_prefix`; requests may come with or without it.
        proxies: addresses and networks.
        user_header: the header in which proxies name the user.
    """

    def __init__(self, app: ASGIApp, *, prefix: str, proxies: Sequence[str], user_header: str = "") -> None:
        self._app, self._prefix = app, prefix
        self._networks = [ipaddress.ip_network(address, strict=False) for address in proxies]
        self._untrusted = {*_FORWARDED, *([user_header.lower().encode()] if user_header else [])}
        # uvicorn and Starlette write down the same interface in types of their own
        inner: Any = self._with_host
        self._forwarded: Any = ProxyHeadersMiddleware(inner, trusted_hosts=list(proxies))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["reelseek.trusted_peer"] = self._trusts(scope)  # in place: who counts requests reads their route from it
        if self._prefix:
            path = scope["path"]
            if path != self._prefix and not path.startswith(f"{self._prefix}/"):
                scope["path"] = self._prefix + path
            scope["root_path"] = self._prefix
        if scope["reelseek.trusted_peer"]:
            await self._forwarded(scope, receive, send)
            return
        scope["headers"] = [pair for pair in scope["headers"] if pair[0].lower() not in self._untrusted]
        await self._app(scope, receive, send)

    def _trusts(self, scope: Scope) -> bool:
        try:
            address = ipaddress.ip_address((scope.get("client") or ("", 0))[0].partition("%")[0])
        except ValueError:
            return False
        return any(address in network for network in self._networks if network.version == address.version)

    async def _with_host(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = Headers(scope=scope).get("x-forwarded-host", "").rpartition(",")[2].strip()
        if host:
            headers = [pair for pair in scope["headers"] if pair[0].lower() != b"host"]
            scope["headers"] = [*headers, (b"host", host.encode("latin-1"))]
        await self._app(scope, receive, send)
