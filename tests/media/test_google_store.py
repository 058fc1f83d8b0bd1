"""`gs://` by Arrow's driver, against a server that speaks as much of Google's JSON interface as reading takes."""

import io
import subprocess
import sys
from collections.abc import Iterator

import pytest
from fsspec.implementations.arrow import ArrowFSWrapper

from reelseek.media import store
from reelseek.media.address import Address

# In a process of its own, since Arrow holds the interpreter's lock while it reads.
_SERVER = """
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

OBJECTS = {"day/one.wav": b"first " * 1000, "day/two words.wav": b"second"}

def row(name):
    return {"kind": "storage#object", "bucket": "films", "name": name, "size": str(len(OBJECTS[name])),
            "generation": "7", "metageneration": "1", "etag": "x", "timeCreated": "2026-11-27T00:00:00Z",
            "updated": "2026-11-27T00:00:00Z"}

class Google(BaseHTTPRequestHandler):
    def do_GET(self):
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        name = unquote(parts.path.partition("/films/")[2].removeprefix("o/"))
        if name == "o":
            rows = [row(name) for name in sorted(OBJECTS) if name.startswith(query["prefix"])]
            self.answer(200, json.dumps({"kind": "storage#objects", "items": rows}).encode())
        elif name not in OBJECTS:
            self.answer(404, b'{"error": {"code": 404, "message": "Not Found"}}')
        elif parts.path.startswith("/storage/") and query.get("alt") != "media":
            self.answer(200, json.dumps(row(name)).encode())
        else:
            first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            self.answer(206 if "Range" in self.headers else 200, OBJECTS[name][int(first):][: int(last or 9999) + 1])

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-goog-generation", "7")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

server = HTTPServer(("127.0.0.1", 0), Google)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.stdout.readline().strip()}")
        monkeypatch.setattr(store, "_file_system", lambda scheme: ArrowFSWrapper(store._arrow_system(scheme)))
        yield
        server.kill()


def test_objects_of_google_are_listed_and_read(google: None) -> None:
    folder, target = Address("gs://films/day"), io.BytesIO()
    names = ["gs://films/day/one.wav", "gs://films/day/two words.wav"]
    assert [address.text for address in store.list_objects(folder)] == names
    assert [address.text for address in store.match_objects(Address("gs://films/day/*o*s.wav"))] == names[1:]
    assert store.is_folder(folder)
    state = store.fetch(Address(names[0]), target)
    assert (state.size, target.getvalue()) == (6000, b"first " * 1000)
    with pytest.raises(FileNotFoundError, match="no such file or folder in the store"):
        store.object_state(Address("gs://films/day/three.wav"))
