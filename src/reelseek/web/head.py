"""HEAD wherever GET is answered: the same status and headers, without the body."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HEAD_ONLY", "HeadAsGet"]

HEAD_ONLY = "reelseek.head"  # in the scope of a GET whose body nobody reads, so that files are not read for it


class HeadAsGet:
    """Middleware that answers HEAD as GET, so that routes name GET alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {"type": "http.response.body", "body": b"", "more_body": message.get("more_body", False)}
            await send(message)

        inner = {**scope, "method": "GET", HEAD_ONLY: True}
        try:
            await self._app(inner, receive, send_head)
        finally:
            if "route" in inner:
                scope["route"] = inner["route"]  # for who counts requests by their route
