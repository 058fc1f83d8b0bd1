"""Files in byte ranges, as RFC 9110 has them."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from reelseek.web.head import HEAD_ONLY
from reelseek.web.problems import problem

__all__ = ["RangedFile", "satisfiable_ranges"]

_MOST_RANGES = 20
_RANGE = re.compile(r"(?:(\d+)-(\d*)|-(\d+))\Z", re.ASCII)


def satisfiable_ranges(header: str, size: int) -> Sequence[tuple[int, int]] | None:
    """Byte ranges `[first, last]` of a Range header that a file of `size` bytes can answer, joined where they touch.

    None where the header is to be ignored: another unit, no ranges in the form of RFC 9110, or more than twenty of
    them. An empty list where it is well-formed and nothing of it lies in the file.

    Example:
        >>> satisfiable_ranges("bytes=0-9, -5, 500-", 100)
        [(0, 9), (95, 99)]
    """
    unit, equals, text = header.partition("=")
    parts = [part.strip(" \t") for part in text.split(",") if part.strip(" \t")]
    matches = [_RANGE.match(part) for part in parts]
    if unit.strip().lower() != "bytes" or not equals or not parts or len(parts) > _MOST_RANGES:
        return None
    ranges = []
    for match in matches:
        if match is None:
            return None
        first, last, suffix = (None if not digits else int(digits[:30]) for digits in match.groups())
        if first is not None and last is not None and last < first:
            return None
        if first is None:
            first = max(0, size - (suffix or 0))
        if first < size:
            ranges.append((first, size - 1 if last is None else min(last, size - 1)))
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


class RangedFile(FileResponse):
    """A file of which parts may be asked for.

    Starlette sends the bytes; which ones is decided here, since it takes a range beyond the end, a malformed one or
    another unit for an error of the whole request, where RFC 9110 has the satisfiable ranges or the whole file sent.
    """

    def __init__(self, path: Path, media_type: str) -> None:
        super().__init__(path, media_type=media_type, stat_result=os.stat(path))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        cached = [tag.strip().removeprefix("W/") for tag in headers.get("if-none-match", "").split(",")]
        if self.headers["etag"] in cached or "*" in cached:
            validators = {name: self.headers[name] for name in ("etag", "last-modified")}
            await Response(status_code=304, headers=validators)(scope, receive, send)
            return
        text, condition = headers.get("range"), headers.get("if-range")
        if condition is not None and condition not in (self.headers["etag"], self.headers["last-modified"]):
            text = None
        size = int(self.headers["content-length"])
        ranges = satisfiable_ranges(text, size) if text is not None else None
        if ranges is not None and not ranges:
            answer = problem(416, "no such range", f"the file has {size} bytes",
                             headers={"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"})  # fmt: skip
            await answer(scope, receive, send)
            return
        scope = {**scope, "headers": list(scope["headers"])}
        if scope.get(HEAD_ONLY):
            scope["method"] = "HEAD"  # so that nothing of the file is read
        canonical = MutableHeaders(scope=scope)
        del canonical["range"], canonical["if-range"]
        if ranges is not None:
            canonical["range"] = "bytes=" + ",".join(f"{first}-{last}" for first, last in ranges)
        await super().__call__(scope, receive, send)
