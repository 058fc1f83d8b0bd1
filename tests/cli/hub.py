"""A hub of models on this machine, over HTTP: as much of it as fetching them takes."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_REVISION = re.compile(r"/api/models/([^/]+/[^/]+)/revision/(.+)")
_TREE = re.compile(r"/api/models/([^/]+/[^/]+)/tree/(.+)")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Hub:
    """Folders of models by name.

    Attributes:
        broken: names of files that are not given out.
        fetched: (model, revision, file) of those that were.
    """

    models: dict[str, Path]
    address: str = ""
    broken: set[str] = field(default_factory=set)
    fetched: list[tuple[str, str, str]] = field(default_factory=list)

    def files(self, model: str) -> list[Path]:
        """List a model's files."""
        return sorted(path for path in self.models[model].rglob("*") if path.is_file())

    def answer(self, path: str, *, body: bool) -> tuple[int, bytes, dict[str, str]]:
        """Status, content and headers for one request."""
        if (match := _REVISION.fullmatch(path)) and match[1] in self.models:
            names = [file.relative_to(self.models[match[1]]).as_posix() for file in self.files(match[1])]
            siblings = [{"rfilename": name} for name in names]
            return 200, json.dumps({"id": match[1], "sha": COMMIT, "siblings": siblings}).encode(), {}
        if (match := _TREE.fullmatch(path)) and match[1] in self.models:
            root = self.models[match[1]]
            rows = [
                {
                    "type": "file",
                    "path": file.relative_to(root).as_posix(),
                    "size": file.stat().st_size,
                    "oid": "0" * 40,
                }
                for file in self.files(match[1])
            ]
            return 200, json.dumps(rows).encode(), {"Content-Type": "application/json"}
        if (match := _FILE.fullmatch(path)) and match[1] in self.models:
            if match[3] in self.broken:
                return 404, b"", {"X-Error-Code": "EntryNotFound"}
            content = (self.models[match[1]] / match[3]).read_bytes()
            if body:
                self.fetched.append((match[1], match[2], match[3]))
            etag = hashlib.sha256(content).hexdigest()
            return 200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
        return 404, b"{}", {"X-Error-Code": "RepoNotFound"}


@contextmanager
def serve_hub(models: Mapping[str, Path]) -> Iterator[Hub]:
    """Serve models until the block ends; HF_ENDPOINT takes the hub's address."""
    hub = Hub(dict(models))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._respond(body=False)

        def do_GET(self) -> None:
            self._respond(body=True)

        def _respond(self, *, body: bool) -> None:
            status, content, headers = hub.answer(self.path.partition("?")[0], body=body)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
