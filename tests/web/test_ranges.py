"""Byte ranges as RFC 9110 has them, against a plain reading of the bytes asked for."""

import itertools
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from reelseek.web.ranges import RangedFile, satisfiable_ranges

CONTENT = bytes(range(100))


def _get(path: Path, *, method: str = "GET", **headers: str) -> httpx.Response:
    return TestClient(RangedFile(path, "video/mp4")).request(method, "/", headers={"Range": "", **headers})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize(
    ("header", "status", "body"),
    [
        ("bytes=0-0", 206, CONTENT[:1]),
        ("bytes=99-", 206, CONTENT[99:]),
        ("bytes=-5", 206, CONTENT[-5:]),
        ("bytes=-500", 206, CONTENT),
        ("bytes=10-99999999999999999999999999999", 206, CONTENT[10:]),
        ("BYTES = 5-6", 206, CONTENT[5:7]),
        ("bytes=0-4,3-9,10-19", 206, CONTENT[:20]),
        ("bytes=0-4,500-", 206, CONTENT[:5]),
        ("bytes=100-", 416, None),
        ("bytes=99999999999999999999999999999-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=200-300, 400-", 416, None),
        ("bytes=5-1", 200, CONTENT),
        ("bytes=-", 200, CONTENT),
        ("bytes=--5", 200, CONTENT),
        ("bytes=-5-6", 200, CONTENT),
        ("bytes=1_0-2_0", 200, CONTENT),
        ("bytes=٣-", 200, CONTENT),
        ("bytes=a-b", 200, CONTENT),
        ("bytes=", 200, CONTENT),
        ("bytes", 200, CONTENT),
        ("items=0-5", 200, CONTENT),
        ("bytes=" + ",".join(f"{i}-{i}" for i in range(0, 100, 2)), 200, CONTENT),
    ],
)
def test_one_header(file: Path, header: str, status: int, body: bytes | None) -> None:
    answer = _get(file, Range=header.encode())  # type: ignore[arg-type]
    assert (answer.status_code, answer.headers["accept-ranges"]) == (status, "bytes")
    if body is None:
        assert answer.headers["content-range"] == "bytes */100"
        assert answer.json()["status"] == 416
    else:
        assert answer.content == body
        assert int(answer.headers["content-length"]) == len(body)
        head = _get(file, method="HEAD", Range=header.encode())  # type: ignore[arg-type]
        assert (head.status_code, head.content) == (status, b"")
        assert head.headers["content-length"] == answer.headers["content-length"]


def test_a_file_that_the_client_has_is_not_sent_again(file: Path) -> None:
    whole = _get(file)
    etag = whole.headers["etag"]
    for header in (etag, f'"other", W/{etag}', "*"):
        for method in ("GET", "HEAD"):
            again = _get(file, method=method, **{"If-None-Match": header})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert _get(file, **{"If-None-Match": '"other"'}).content == CONTENT


def test_several_ranges_come_as_parts(file: Path) -> None:
    answer = _get(file, Range="bytes=0-1, 50-51,-1")
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges; boundary=")
    for start, end in ((0, 1), (50, 51), (99, 99)):
        part = f"Content-Range: bytes {start}-{end}/100\r\n\r\n".encode() + CONTENT[start : end + 1] + b"\r\n"
        assert part in answer.content


def test_a_range_of_another_version_is_the_whole_file(file: Path) -> None:
    etag = _get(file, Range="bytes=0-0").headers["etag"]
    assert _get(file, Range="bytes=0-0", **{"If-Range": etag}).status_code == 206
    assert _get(file, Range="bytes=0-0", **{"If-Range": '"other"'}).content == CONTENT
    assert _get(file, Range="bytes=500-", **{"If-Range": '"other"'}).status_code == 200


def test_an_empty_file_has_no_range(tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    path.touch()
    assert _get(path).status_code == 200
    for header in ("bytes=0-0", "bytes=-1", "bytes=0-"):
        assert _get(path, Range=header).headers["content-range"] == "bytes */0"


bound = st.one_of(st.just(""), st.integers(0, 130).map(str))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(bound, bound), min_size=1, max_size=5), st.integers(0, 110))
def test_the_bytes_are_those_asked_for(pairs: list[tuple[str, str]], size: int) -> None:
    ranges = satisfiable_ranges("bytes=" + ",".join(f"{first}-{last}" for first, last in pairs), size)
    wrong = any(not (first or last) or (first and last and int(last) < int(first)) for first, last in pairs)
    assert (ranges is None) == wrong
    if ranges is None:
        return
    expected: set[int] = set()
    for first, last in pairs:
        if first:
            expected |= set(range(int(first), min(size, int(last) + 1 if last else size)))
        else:
            expected |= set(range(max(0, size - int(last)), size))
    assert sorted(expected) == [place for start, end in ranges for place in range(start, end + 1)]
    assert all(end + 1 < start for (_, end), (start, _) in itertools.pairwise(ranges))
