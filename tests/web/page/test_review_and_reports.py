"""Shared footage is judged, and reports are read, inside the application."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.search.talks import make_talks
from tests.web.page.serving import served
from tests.web.page.test_accessible import check
from tests.web.test_reports import SCRIPT, add_evaluation
from tests.web.test_reviews import write_scan

from reelseek.search import Searcher
from reelseek.web.app import create_app
from reelseek.web.service import Service, serve_library
from reelseek.web.state import StateFolder
from reelseek.web.state_services import StateServices

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a server with a scan, an evaluation and a page of a report; and the folder of its library."""
    folder = tmp_path_factory.mktemp("office")
    library = make_talks(folder / "talks", 4)
    state = StateFolder(folder / "state")
    assert state.claim()
    services = StateServices.open(state)
    write_scan(state.path / "scans", library.path, [video.id for video in library.videos()])
    add_evaluation(services.jobs.queue, "concepts", 0.5, library="talks")
    (state.path / "reports").mkdir()
    page = f"<title>Systems</title><style>h1{{color:rgb(1, 2, 3)}}</style><h1>Systems</h1>{SCRIPT}"
    (state.path / "reports" / "systems.html").write_text(page)
    app = create_app(Service([serve_library(Searcher(library), "talks")]), services=services)
    with served(app) as address:
        yield address, library.path
    library.close()


@pytest.mark.long
def test_pairs_are_judged_by_keys_and_many_at_once(office, visit) -> None:
    address, library = office
    page = visit(f"{address}/#/review")
    scan = page.get_by_role("link", name="test and train")
    scan.wait_for()
    check(page)
    scan.click()
    page.locator(".pair.current").wait_for()
    check(page)
    page.keyboard.press("d")
    page.locator(".pair.current .head b", has_text="#2").wait_for()
    page.keyboard.press("?")  # a verdict here, not the help
    page.locator(".pair.current .head b", has_text="#3").wait_for()
    assert page.locator("#dialog[open]").count() == 0
    page.keyboard.press("u")
    page.get_by_text("Taken back: unsure on #2.").wait_for()
    page.get_by_text("Judge many at once").click()
    page.get_by_label("Score").fill("0.65")
    page.get_by_role("button", name="Judge them").click()
    page.get_by_text("3 pairs below 0.65 are now not; 0 below it had been judged before.").wait_for()
    page.get_by_role("button", name="Mine").click()
    page.locator(".pair", has_text="you: duplicate").wait_for()
    rows = [json.loads(line) for line in (library / "decisions.jsonl").read_text().splitlines()]
    assert [(row["who"], row.get("verdict")) for row in rows] == [
        ("local", "duplicate"), ("local", "unsure"), ("local", None), *[("local", "not")] * 3,
    ]  # fmt: skip


def test_reports_are_read_in_the_application_and_run_nothing(office, visit) -> None:
    page = visit(f"{office[0]}/#/reports", width=390)
    page.get_by_role("link", name="concepts on test").click()
    page.get_by_text("50.0 [35.2, 64.8]").first.wait_for()
    page.get_by_text("object<b>").wait_for()
    check(page)
    page.get_by_role("link", name="All reports").click()
    page.get_by_role("link", name="Systems").click()
    heading = page.frame_locator("iframe").locator("h1")
    heading.wait_for()
    assert heading.evaluate("node => getComputedStyle(node).color") == "rgb(1, 2, 3)"
    assert page.frames[1].evaluate("document.title") == "Systems"  # the script in it did not run
    assert page.frames[1].evaluate("origin") == "null"
