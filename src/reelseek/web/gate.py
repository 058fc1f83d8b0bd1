"""What every request passes first: refusals before anything costly, bodies of a bounded size, headers, and the log."""

import asyncio
import logging
import traceback
from urllib.parse import urlsplit

from fastapi import Request, Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reelseek.web.accounts.guard import Guard, is_shared, without_secret
from reelseek.web.guesses import Secret
from reelseek.web.problems import Problem, answer, problem

__all__ = ["MOST_BODY_BYTES", "Gate"]

MOST_BODY_BYTES = 64 * 1024
_BODY_SECONDS = 15.0
_MOST_URL_BYTES = 8 * 1024
_STREAMED = "/v1/uploads"  # whose route reads a long body, and bounds it
_COOKIE = "reelseek_token"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; media-src 'self'; style-src 'self'; "
    "script-src 'self'; connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_log = logging.getLogger("reelseek.web")


class Gate:
    """Middleware around a whole application.

    Args:
        token: what a request must carry; None where only this machine's own name is asked for.
        host: the name that the server was started with.
        guard: lets in who has an account, where there are accounts, and notes what is changed.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, host: str, guard: Guard | None = None) -> None:
        self._app = app
        self._guard = guard
        self._secret = Secret(token) if token else None
        self._names = {"127.0.0.1", "localhost", "[::1]", host.lower(), f"[{host.lower()}]"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)  # a page of a report has a stricter policy of its own
                if _has_body(request) and status >= 400:  # what it still sends is not waited for
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        row = None
        try:
            cookie = self._admit(request)
            if self._guard is not None:
                await self._guard.admit(request)
                row = await self._guard.begin(request)
            whole = not (request.method == "POST" and scope["path"].endswith(_STREAMED))
            receive = await _whole_body(request, receive) if whole else _in_time(receive)
            await self._app(scope, receive, _with_cookie(send_with_headers, cookie) if cookie else send_with_headers)
        except Problem as refused:
            await answer(refused)(scope, receive, send_with_headers)
        except Exception as error:  # one line instead of a traceback a request, and the connection is not left hanging
            _log.error("%s: %s", _line(request), _origin(error))
            if status:
                raise
            await problem(500, "failed", "an error of the server; its log says more")(scope, receive, send_with_headers)
        finally:
            if self._guard is not None:
                await self._guard.complete(row, request, status)
        if status in (401, 403, 413, 414, 421, 429):
            _log.warning("%s: %d", _line(request), status)

    def _admit(self, request: Request) -> str | None:
        """Let a request in, with the cookie that it is to be given if any.

        Raises:
            Problem: it may not come in.
        """
        scope = request.scope
        if len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"]) > _MOST_URL_BYTES:
            raise Problem(414, "the address is too long", f"an address has at most {_MOST_URL_BYTES} bytes")
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if request.method not in ("GET", "HEAD") and origin and origin.partition("//")[2] != host:
            raise Problem(403, "wrong origin", "only a page of this server may change something")
        if self._guard is not None and self._guard.identities is not None:
            return None  # cookies of an account belong to one host, and nothing else comes with a request unasked
        if self._secret is not None:
            return None if is_shared(request) else self._check_secret(request, self._secret)
        if _host_name(host) not in self._names:
            raise Problem(421, "wrong host", "this server answers to its own address only")
        return None

    def _check_secret(self, request: Request, secret: Secret) -> str | None:
        if secret.is_cookie(request.cookies.get(_COOKIE, "")):
            return None
        header = request.headers.get("authorization", "")
        bearer = header[7:].strip() if header[:7].lower() == "bearer " else ""
        query = request.query_params.get("token", "")
        address = request.client.host if request.client else ""
        if bearer or query:
            seconds = secret.guesses.seconds_to_wait(address)
            if seconds > 0:
                raise Problem(
                    429, "too many wrong tokens", "wait before you try another one", retry_seconds=max(1.0, seconds)
                )
            if secret.is_token(bearer or query):
                return secret.cookie if query else None
            secret.guesses.add_wrong(address)
        raise Problem(401, "a token is needed", "open the address that the server printed when it started")


def _with_cookie(send: Send, cookie: str) -> Send:
    async def send_cookie(message: Message) -> None:
        if message["type"] == "http.response.start":
            baked = Response()
            baked.set_cookie(_COOKIE, cookie, httponly=True, samesite="strict")
            MutableHeaders(scope=message).append("Set-Cookie", baked.headers["set-cookie"])
        await send(message)

    return send_cookie


def _host_name(host: str) -> str:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
    return f"[{name}]" if ":" in name else name


def _has_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def _in_time(receive: Receive) -> Receive:
    """Each part of a body in time; a Problem of status 408 is raised where one does not arrive."""

    async def receive_part() -> Message:
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                return await receive()
        except TimeoutError as error:
            raise Problem(408, "the body did not arrive", f"nothing came for {_BODY_SECONDS:.0f} s") from error

    return receive_part


async def _whole_body(request: Request, receive: Receive) -> Receive:
    """Read the body before anything is done for it, and return what hands it on.

    Raises:
        Problem: it is too large, or does not arrive.
    """
    if not _has_body(request):
        return receive
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise Problem(400, "wrong Content-Length", "it is no number")
    too_large = Problem(413, "the body is too large", f"a request has at most {MOST_BODY_BYTES} bytes")
    if len(length) > 12 or int(length) > MOST_BODY_BYTES:
        raise too_large
    body = b""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while (message := await receive())["type"] == "http.request":
                body += message.get("body", b"")
                if len(body) > MOST_BODY_BYTES:
                    raise too_large
                if not message.get("more_body", False):
                    break
    except TimeoutError as error:
        raise Problem(408, "the body did not arrive", f"it took more than {_BODY_SECONDS:.0f} s") from error
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def hand_on() -> Message:
        return first.pop() if first else await receive()

    return hand_on


def _line(request: Request) -> str:
    """A request in the log: whence, what and where, without what may hold a token or break the line."""
    client = request.client.host if request.client else "?"
    return f"{client} {ascii(request.method)[1:-1][:20]} {ascii(without_secret(request.url.path))[1:-1][:200]}"


def _origin(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {ascii(str(error))[1:-1][:300]}{where}"
