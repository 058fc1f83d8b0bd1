"""Opening a port when everything behind it is ready, and connections that no slow client can use up."""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import resource
import socket
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from reelseek.errors import UsageError
from reelseek.web.problems import problem

__all__ = ["TLSFiles", "bind", "serve_app"]

_MOST_CONNECTIONS = 256
_MOST_HEAD_BYTES = 32 * 1024
_REQUEST_SECONDS = 20.0  # from a connection, or the first byte of a further request, to its last byte
_REQUEST_BYTES = 2**20  # of a longer body, for each further `_REQUEST_SECONDS`
_STALL_SECONDS = 300.0  # a browser whose player is paused reads nothing for a while
_SHUTDOWN_SECONDS = 3


class TLSFiles(NamedTuple):
    """A certificate with what vouches for it, and its key, as PEM files."""

    certificate: Path
    key: Path

    def check(self) -> None:
        """Refuse files that no TLS connection can be made with.

        Raises:
            UsageError: says which, and why.
        """
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, password="")
        except (OSError, ValueError) as error:
            raise UsageError(
                f"--tls-cert {self.certificate} and --tls-key {self.key} are no certificate and its key: {error}"
            ) from error


def serve_app(
    make: Callable[[], Starlette],
    *,
    host: str,
    port: int,
    token: str | None,
    accounts: bool = False,
    tls: TLSFiles | None = None,
    path: str = "/",
) -> None:
    """Serve the application that `make` returns until interrupted; print its address on standard error once it answers.

    Raises:
        UsageError: other machines could reach it and there is no secret, or a short one; `make` was not called then.
        OSError: the address or port is not available; `make` was not called then.
    """
    _check_reach(host, token, accounts)
    if tls is not None:
        tls.check()
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(listener) for listener in bind(host, port)]
        app = make()
        for resource in app.state.resources:
            resource.start()
        for listener in sockets:
            _listen(listener, host)
        port = sockets[0].getsockname()[1]
        name = f"[{host}]" if ":" in host else host
        _configure_log()
        server = uvicorn.Server(uvicorn_config(app, tls))
        query = f"?token={token}" if token else ""
        scheme = "http" if tls is None else "https"
        print(f"{scheme}://{name}:{port}{path}{query}  (Ctrl-C ends it)", file=sys.stderr, flush=True)
        with contextlib.suppress(KeyboardInterrupt):  # it was asked to end, and did
            server.run(sockets)


def uvicorn_config(app: Starlette, tls: TLSFiles | None = None) -> uvicorn.Config:
    """The settings under which an application is served."""
    return uvicorn.Config(
        app, http=_Connection, loop="asyncio", ws="none", log_config=None, log_level="warning", access_log=False,
        server_header=False, ssl_certfile=tls.certificate if tls else None, ssl_keyfile=tls.key if tls else None,
        proxy_headers=False,  # whoever can connect could name any address as theirs, and guess tokens from each
        h11_max_incomplete_event_size=_MOST_HEAD_BYTES, timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )  # fmt: skip


def _check_reach(host: str, token: str | None, accounts: bool = False) -> None:
    if accounts and token is not None:
        raise UsageError("--token lets everybody in who has it, --accounts those who have an account; leave one out")
    if not _loopback(host) and not token and not accounts:
        raise UsageError(
            f"{host} can be reached from other machines; choose a secret with --token, take --accounts, or leave "
            "--host out"
        )
    if token is not None and len(token) < 8:
        raise UsageError("--token needs at least 8 characters")
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise UsageError(
            "--token takes letters, digits and signs of plain ASCII, without blanks: it goes into addresses"
        )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> list[socket.socket]:
    """Bind a port on every address of a name; nobody can connect yet.

    Raises:
        OSError: the name is unknown, or the port is in use or not for this user.
    """
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise OSError(f"--host {host!r} is no address of this machine: {error}") from error
    sockets: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(places):
        listener = socket.socket(family, kind, protocol)
        sockets.append(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            listener.bind((address[0], sockets[0].getsockname()[1] if len(sockets) > 1 else port, *address[2:]))
        except OSError as error:
            for opened in sockets:
                opened.close()
            raise _refused(error, host, port) from error
    return sockets


def _listen(listener: socket.socket, host: str) -> None:
    try:
        listener.listen(128)
    except OSError as error:
        raise _refused(error, host, listener.getsockname()[1]) from error
    listener.setblocking(False)


def _refused(error: OSError, host: str, port: int) -> OSError:
    if error.errno == errno.EADDRINUSE:
        return OSError(f"port {port} of {host} is in use; choose another one with --port, or end what uses it")
    if error.errno == errno.EACCES:
        return OSError(f"port {port} of {host} is not for this user; choose one from 1024 on with --port")
    return OSError(f"port {port} of {host} cannot be opened: {error.strerror}; choose others with --host and --port")


class _Connection(H11Protocol):
    """One connection, closed when its client is slow to send a request or to read the answer.

    Beyond the limit, a new connection replaces the one whose client has let the server wait longest.
    """

    _timer: asyncio.TimerHandle | None = None
    waits_since: float | None = None  # when the server began to wait for the client
    _received = 0  # bytes since then

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > most_connections():
            self._make_room()
        self._wait(_REQUEST_SECONDS)

    def _make_room(self) -> None:
        others = [other for other in self.connections if isinstance(other, _Connection) and other is not self]
        waiting = [other for other in others if other.waits_since is not None and not other.transport.is_closing()]
        (min(waiting, key=lambda other: other.waits_since or 0.0) if waiting else self).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._go_on()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._received += len(data)
        if self.cycle is not None and not (self.cycle.response_complete or self.cycle.more_body):
            self._go_on()
        elif self.waits_since is None or self._received >= _REQUEST_BYTES:
            self._wait(_REQUEST_SECONDS)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._go_on()
            self._wait(_REQUEST_SECONDS)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait(_STALL_SECONDS)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._go_on()

    def _wait(self, seconds: float) -> None:
        self._go_on()
        self.waits_since = time.monotonic()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _go_on(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.waits_since = None
        self._received = 0

    def send_400_response(self, msg: str) -> None:
        """As a problem; uvicorn calls this where h11 refuses what arrived, and knows why."""
        status = getattr(sys.exception(), "error_status_hint", 400)
        title = "the headers are too long" if status == 431 else "this is no request in HTTP"
        answer = problem(status, title, f"headers have at most {_MOST_HEAD_BYTES} bytes" if status == 431 else "")
        lines = [f"HTTP/1.1 {status} {'Request Header Fields Too Large' if status == 431 else 'Bad Request'}".encode()]
        lines += [name + b": " + value for name, value in (*answer.raw_headers, (b"connection", b"close"))]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + bytes(answer.body))
        self.transport.close()


def most_connections() -> int:
    """How many connections are open at a time, so that files can still be opened."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_CONNECTIONS if soft < 0 else max(16, min(_MOST_CONNECTIONS, soft // 4))


class _OneLine(logging.Formatter):
    """What happened, in one line: an error's name instead of its traceback, and no sign that ends a line."""

    def format(self, record: logging.LogRecord) -> str:
        text = " ".join(record.getMessage().split())
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            text += f": {type(error).__name__}: {error}"
        return f"{time.strftime('%H:%M:%S')} {ascii(text)[1:-1][:600]}"


class FloodLimit(logging.Filter):
    """Lets through twenty lines at once and one a second after them; the next one says how many were left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock, self._lines, self._time, self._left_out = clock, 20.0, clock(), 0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError):
            return False  # a request that the end of the server cut short
        now = self._clock()
        self._lines, self._time = min(20.0, self._lines + now - self._time), now
        if self._lines < 1:
            self._left_out += 1
            return False
        self._lines -= 1
        if self._left_out:
            record.msg, record.args = f"{record.getMessage()}  ({self._left_out} lines before were left out)", None
            self._left_out = 0
        return True


def _configure_log() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine())
    handler.addFilter(FloodLimit())
    for name in ("reelseek.web", "uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.WARNING)
