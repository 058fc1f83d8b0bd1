"""Names of files, subtitles and messages are shown as they are written, and never become part of the page."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.web.page.serving import served

from reelseek.experts.expert import Text
from reelseek.library import Caption, Library, add
from reelseek.search import Searcher
from reelseek.web.app import create_app
from reelseek.web.service import Service, serve_library
from reelseek.web.shell import STATIC

pytestmark = pytest.mark.browser
SCRIPT = "<img src=x onerror=hacked()>"
NAME = f"{SCRIPT}&amp;\u202e<b>cat.mp4"
SAID = f'"><svg onload=hacked()> a cat {SCRIPT}'


@pytest.fixture(scope="module")
def hostile(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("hostile")
    film = next(path for path in sorted(archive.iterdir()) if path.suffix == ".mp4")
    shutil.copy(film, folder / NAME)
    (folder / NAME).with_suffix(".srt").write_text(f"1\n00:00:00,000 --> 00:00:02,000\n{SAID}\n", "utf-8")
    with Library.open(folder / "library", create=True) as library:
        report = add(library, [folder], experts=["speech"], workers=1)
        assert not report.failed
        (video,) = library.videos()
        with library.saving():
            library.put_texts(video.owners[-1], "ocr", [Text(f"{SCRIPT} on screen", 0.0, 1.0, "written")])
            library.catalog.captions.add([Caption(video.id, f"{SCRIPT} described")])
    with (
        Library.open(folder / "library") as library,
        served(create_app(Service([serve_library(Searcher(library))]))) as address,
    ):
        yield address


def _watch(page: object) -> None:
    page.add_init_script("window.hacked = () => { document.title = 'hacked'; window.wasHacked = true; };")


def _unharmed(page: object) -> None:
    page.wait_for_timeout(150)
    assert not page.evaluate("Boolean(window.wasHacked)")
    assert page.locator("main b b, main img[src=x], main svg[onload]").count() == 0


@pytest.mark.long
def test_names_and_subtitles_of_a_library(hostile: str, visit) -> None:
    page = visit(f"{hostile}/#/search?q=cat", before=_watch)
    page.locator(".grid .card").first.wait_for()
    assert page.locator(".grid .name").first.inner_text() == NAME
    _unharmed(page)
    page.locator(".grid .open").first.click()
    page.locator("#viewer:visible h2").wait_for()
    assert page.locator("#viewer h2").inner_text() == NAME
    _unharmed(page)
    page.get_by_role("button", name="Open the video").click()
    page.get_by_role("tab", name="Transcript").click()
    assert SAID in page.locator(".lines").inner_text()
    page.locator("h1", has_text=SCRIPT).wait_for()
    _unharmed(page)
    for tab, text in (("On screen", f"{SCRIPT} on screen"), ("Captions", f"{SCRIPT} described")):
        page.get_by_role("tab", name=tab).click()
        page.get_by_role("tabpanel").get_by_text(text).first.wait_for()
        _unharmed(page)


def test_no_script_of_the_page_makes_html_of_text() -> None:
    scripts = sorted(STATIC.rglob("*.js"))
    assert len(scripts) > 30
    makes_html = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|\beval\(")
    assert [path.name for path in scripts if makes_html.search(path.read_text("utf-8"))] == []


def test_what_is_typed_and_what_the_server_says(hostile: str, visit) -> None:
    page = visit(hostile, before=_watch)
    page.fill("#query", f'cat name:"{SCRIPT}" then')
    page.keyboard.press("Enter")
    page.locator(".chip", has_text=SCRIPT).wait_for()
    _unharmed(page)
    answer = {
        "data": [{
            "moment": "0" * 24 + "@0.000-1.000", "video": "0" * 24, "name": SCRIPT, "start": 0, "end": 1, "score": 1,
            "confidence": 1, "strength": f"strong {SCRIPT}", "rank": 1, "thumbnail": "javascript:hacked()",
            "strip": 'x") url("javascript:hacked()', "play": "//evil.example/film.mp4",
            "why": [{"modality": SCRIPT, "gave": 1, "matched": SCRIPT, "sentence": f"on screen: {SCRIPT}"}],
        }],
        "page": {"next_token": None, "total_clips": 1, "generation": "x"}, "unread": SCRIPT, "notes": [SCRIPT],
    }  # fmt: skip
    page.route("**/v1/search", lambda route: route.fulfill(json=answer))
    page.fill("#query", "another cat")
    page.keyboard.press("Enter")
    page.locator(".grid .reason", has_text=SCRIPT).wait_for()
    page.locator(".grid .picture").hover()
    page.locator(".grid .open").click()
    page.locator("#viewer .reasons", has_text=SCRIPT).wait_for()
    _unharmed(page)
    page.route("**/v1/search", lambda route: route.fulfill(status=422, json={"title": "x", "detail": SCRIPT}))
    page.fill("#query", "one more cat")
    page.keyboard.press("Enter")
    page.get_by_role("alert").filter(has_text=SCRIPT).wait_for()
    _unharmed(page)


@pytest.mark.long
def test_an_address_of_the_page_is_no_way_in(hostile: str, visit) -> None:
    page = visit(f"{hostile}/#{SCRIPT}", before=_watch)
    for hash_ in (f"#/search?q=cat&like={SCRIPT}&by={SCRIPT}&file={SCRIPT}&image=x", f"#/video/{SCRIPT}", f"#/{SCRIPT}",
                  "#/__proto__", "#/constructor", "#/search?q=%E0%A4%A&weight=__proto__:1"):  # fmt: skip
        page.locator("main section").first.wait_for()
        _unharmed(page)
        page.goto("about:blank")  # so that the next is opened, and not only gone to
        page.goto(f"{hostile}/{hash_}")
        page.wait_for_load_state("networkidle")
    page.locator("main section").first.wait_for()
    _unharmed(page)
