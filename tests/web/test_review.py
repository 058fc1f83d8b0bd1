"""The review page: what it answers, and people using it in a real browser."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from reelseek.library import Library
from reelseek.overlap.pairs import Pair, write_pairs
from reelseek.overlap.verdicts import Review, Verdicts, pair_key
from reelseek.web.review import create_review

ANN, BO = {"who": "Ann", "token": "ann-ann-ann"}, {"who": "Bo", "token": "bo-bo-bo-bo"}


@pytest.fixture
def pairs(library: Library) -> list[Pair]:
    names = [video.id for video in library.videos() if video.duration and video.duration > 4]
    every = [(one, two) for place, one in enumerate(names) for two in names[place + 1 :]]
    return [Pair(one, two, 1 - place / 50, 0.5, 1.0, 3.0) for place, (one, two) in enumerate(every)]


def _review(pairs: list[Pair], folder: Path, opinions: int = 1) -> Review:
    keys = [pair_key(pair.test, pair.train) for pair in pairs]
    return Review(pairs, keys, Verdicts(folder / "said.jsonl"), opinions)


def test_two_reviewers_through_the_interface(library: Library, pairs: list[Pair], tmp_path: Path) -> None:
    bank: list[str] = []
    review = _review(pairs, tmp_path)
    page = create_review(
        review, library, title="x", keep=lambda place, who: [bank.append(who) or 7], drop=lambda n, who: bank.clear()
    )
    client = TestClient(page, base_url="http://127.0.0.1")
    assert client.post("/api/enter", json=ANN).json()["counts"]["pairs"] == len(pairs)
    assert "another window" in client.post("/api/enter", json={**ANN, "token": "other-other"}).json()["detail"]
    first = client.post("/api/queue", json={**ANN, "count": 2}).json()["data"]
    second = client.post("/api/queue", json={**BO, "count": 2}).json()["data"]
    assert [card["place"] for card in (*first, *second)] == [0, 1, 2, 3]
    card = first[0]
    assert card["test"]["width"] > 0
    assert card["test"]["bytes"] > 0
    assert card["test"]["start"] == 0.5
    strip = client.get(card["test"]["strip"], params={"start": 0.5, "seconds": 3})
    assert (strip.headers["content-type"], strip.content[:2]) == ("image/jpeg", b"\xff\xd8")
    assert client.get(card["test"]["play"], headers={"Range": "bytes=0-9"}).status_code == 206
    told = client.post("/api/verdicts", json={**ANN, "places": [0], "verdict": "duplicate"}).json()
    assert told["data"][0]["mine"] == "duplicate"
    assert told["counts"]["duplicate"] == 1
    refused = client.post("/api/verdicts", json={**ANN, "places": [2], "verdict": "duplicate"})
    assert (refused.status_code, "Bo judged" in refused.json()["detail"]) == (400, True)
    client.post("/api/verdicts", json={**ANN, "places": [1], "verdict": "screensaver"})
    assert bank == ["Ann"]
    undone = client.post("/api/undo", json=ANN).json()
    assert (undone["place"], undone["verdict"], bank) == (1, "screensaver", [])
    client.post("/api/verdicts", json={**BO, "places": [2, 3], "verdict": "looked-at"})
    view = client.post("/api/pairs", json={**ANN, "view": "looked-at"}).json()
    assert [card["place"] for card in view["data"]] == [2, 3]
    assert client.post("/api/verdicts", json={**ANN, "places": [999], "verdict": "not"}).status_code == 400
    assert client.post("/api/verdicts", json={**ANN, "places": [1], "verdict": "perhaps"}).status_code == 400
    assert client.get("/api/agreement").json() == {"data": [], "more": 0}
    assert "review.js" in client.get("/").text


def test_no_other_site_can_judge_in_a_visitors_name(library: Library, pairs: list[Pair], tmp_path: Path) -> None:
    client = TestClient(create_review(_review(pairs, tmp_path), library, title="x"), base_url="http://127.0.0.1")
    verdict = {**ANN, "places": [0], "verdict": "not"}
    assert client.post("/api/verdicts", json=verdict, headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.post("/api/verdicts", json=verdict, headers={"Host": "evil.example"}).status_code == 421
    assert client.post("/api/queue", json=ANN, headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.get("/api/queue", params=ANN).status_code in (404, 405)  # a picture's address leases nothing
    assert client.post("/api/verdicts", json=verdict, headers={"Origin": "http://127.0.0.1"}).status_code == 200
    stranger = {**ANN, "token": "another-window", "view": "mine"}
    assert client.post("/api/pairs", json=stranger).status_code == 400  # what Ann said is for Ann to see


def test_several_pairs_are_kept_together_or_not_at_all(library: Library, pairs: list[Pair], tmp_path: Path) -> None:
    client = TestClient(create_review(_review(pairs, tmp_path), library, title="x"), base_url="http://127.0.0.1")
    client.post("/api/verdicts", json={**BO, "places": [1], "verdict": "not"})
    asked = client.post("/api/verdicts", json={**ANN, "places": [0, 1], "verdict": "looked-at"})
    assert asked.status_code == 400
    assert client.post("/api/enter", json=ANN).json()["counts"]["seen"] == 1


def test_undo_shows_what_stood_before(library: Library, pairs: list[Pair], tmp_path: Path) -> None:
    client = TestClient(create_review(_review(pairs, tmp_path), library, title="x"), base_url="http://127.0.0.1")
    for verdict in ("duplicate", "not"):
        client.post("/api/verdicts", json={**ANN, "places": [0], "verdict": verdict})
    assert client.post("/api/undo", json=ANN).json()["card"]["mine"] == "duplicate"


def test_a_video_deleted_since_the_scan_can_still_be_judged(
    library: Library, pairs: list[Pair], tmp_path: Path
) -> None:
    gone = [Pair("gone.mp4", pairs[0].train, 0.9, 0, 0, 4)]
    client = TestClient(create_review(_review(gone, tmp_path), library, title="x"), base_url="http://127.0.0.1")
    (card,) = client.post("/api/queue", json=ANN).json()["data"]
    assert (card["test"]["play"], card["test"]["strip"]) == (None, None)
    assert card["train"]["play"]
    assert client.post("/api/verdicts", json={**ANN, "places": [0], "verdict": "unsure"}).status_code == 200
    nothing = TestClient(create_review(_review(gone, tmp_path), None, title="x"), base_url="http://127.0.0.1")
    assert nothing.get("/api/videos/0/strip").status_code == 404


# A real browser


def _chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("Chromium is not installed")
    return found


class _Server:
    """`reelseek overlap review` as a process of its own."""

    def __init__(self, pairs: Path, *more: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "reelseek.cli.main", "overlap", "review", str(pairs), "--port", str(self.port)]
        self.process = subprocess.Popen([*command, *more], stderr=subprocess.PIPE, text=True)
        self.address = f"http://127.0.0.1:{self.port}"
        for _ in range(300):
            try:
                httpx.get(f"{self.address}/healthz")
                return
            except httpx.TransportError:
                assert self.process.poll() is None, self.process.stderr.read()
                time.sleep(0.1)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stderr.close()


@pytest.fixture
def browser() -> Iterator[object]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=_chromium(), args=["--no-sandbox"])
        yield opened
        opened.close()


def _enter(browser: object, address: str, name: str, **how: object) -> object:
    page = browser.new_context(bypass_csp=True, **how).new_page()  # waiting for a condition evaluates it
    page.goto(address)
    page.fill("#name", name)
    page.keyboard.press("Enter")
    page.wait_for_selector(".pair.current")
    return page


@pytest.mark.long
@pytest.mark.browser
def test_keys_two_reviewers_undo_and_a_killed_server(
    browser, library_path: Path, pairs: list[Pair], tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    kept = tmp_path / "said.jsonl"
    how = ("--source", str(library_path), "--verdicts", str(kept))
    server = _Server(tmp_path / "pairs.jsonl", *how)
    ann, bo = _enter(browser, server.address, "Ann"), _enter(browser, server.address, "<b>Bo")
    assert bo.inner_text("#who") == "<b>Bo"  # a name is no part of the page
    ann.wait_for_function("document.querySelectorAll('.pair.current video').length == 2")
    head = "document.querySelector('.pair.current .head b')?.textContent"
    assert (ann.evaluate(head), bo.evaluate(head)) == ("#1", "#11")  # ten are Ann's
    ann.keyboard.press("d")
    ann.wait_for_function(f"{head} == '#2'")
    ann.keyboard.press("p")
    ann.wait_for_selector("#preview[open]")
    for key in ("ArrowDown", "j", "ArrowUp", "u"):
        ann.keyboard.press(key)
    assert ann.evaluate(head) == "#2"  # no key leaves a pair that is looked at closely
    ann.keyboard.press("Escape")
    ann.keyboard.press("n")
    ann.wait_for_function(f"{head} == '#3'")
    bo.keyboard.press("x")
    bo.wait_for_function(f"{head} == '#12'")
    server.kill()
    ann.keyboard.press("d")
    ann.wait_for_function("document.getElementById('message').textContent.includes('does not answer')")
    said = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [(row["who"], row["verdict"]) for row in said] == [
        ("Ann", "duplicate"), ("Ann", "near-duplicate"), ("<b>Bo", "not"),
    ]  # fmt: skip
    server = _Server(tmp_path / "pairs.jsonl", *how)
    again = _enter(browser, server.address, "Ann")
    assert again.evaluate(head) == "#3"
    again.keyboard.press("u")  # what was said before the reload
    again.wait_for_function(f"{head} == '#2'")
    assert "1 duplicate · 1 not" in again.inner_text("#counts")
    server.kill()


@pytest.mark.long
@pytest.mark.browser
def test_fifty_thousand_pairs_scroll_on_a_phone(browser, tmp_path: Path) -> None:
    rows = (Pair(f"test{i:05}", f"train{i:05}", 1 - i / 1e5, 0, 0, 4) for i in range(50_000))
    write_pairs(tmp_path / "pairs.jsonl", rows)
    server = _Server(tmp_path / "pairs.jsonl")
    phone = _enter(
        browser, server.address, "Ann", viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True
    )
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")  # nothing sticks out
    assert phone.is_visible(".pair.current .verdicts button >> nth=0")
    begin = time.monotonic()
    times = []
    for _ in range(12):
        before = time.monotonic()
        phone.evaluate("window.dispatchEvent(new Event('touchmove')); window.scrollBy(0, 1400)")
        phone.wait_for_timeout(150)
        times.append(time.monotonic() - before)
        assert phone.evaluate("document.querySelectorAll('.pair').length") <= 12
    phone.wait_for_function("document.getElementById('counts').textContent.includes('looked-at')")
    seen = int(phone.inner_text("#counts").split()[0])
    assert seen >= 20
    assert sum(times[6:]) < 3 * sum(times[:6]) + 1  # it does not slow down
    phone.tap(".pair.current .verdicts button >> nth=0")
    phone.wait_for_function("document.getElementById('counts').textContent.includes('1 duplicate')")
    assert time.monotonic() - begin < 60
    kept = tmp_path / "pairs.jsonl.decisions.jsonl"
    assert len(kept.read_text().splitlines()) >= seen
    server.kill()
