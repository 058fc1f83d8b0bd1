"""Collections, jobs and the library on the page: kept, shared, exported, added, cancelled and run again."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.web.page.serving import served
from tests.web.page.test_accessible import check

from reelseek.library import Library, add
from reelseek.search import Searcher
from reelseek.studio import write_archive
from reelseek.web.app import create_app
from reelseek.web.jobs.roots import Roots
from reelseek.web.service import Service, serve_library
from reelseek.web.state import StateFolder
from reelseek.web.state_services import StateServices

pytestmark = pytest.mark.browser
SCRIPT = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def workshop(library_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a server that keeps jobs and collections, and a folder with a film that it does not have yet."""
    folder = tmp_path_factory.mktemp("workshop")
    shutil.copytree(library_path, folder / "films")
    write_archive(folder / "old", 1, seed=11, clips=False)
    write_archive(folder / "new", 1, seed=12, clips=False)
    with Library.open(folder / "small", create=True) as library:
        assert not add(library, [folder / "old"], experts=["object"], workers=1).failed
    state = StateFolder(folder / "state")
    assert state.claim()
    services = StateServices.open(state, roots=Roots([folder / "new"]), settle_seconds=0.5)
    service = Service([serve_library(Searcher(Library.open(folder / name)), name) for name in ("films", "small")])
    app = create_app(service, services=services)
    services.start()
    with served(app) as address:
        yield address, folder / "new"


@pytest.mark.long
def test_a_moment_is_kept_annotated_exported_and_shared(workshop, visit, tmp_path: Path) -> None:
    address, _ = workshop
    page = visit(f"{address}/#/search?library=films&q=a+cat")
    page.locator(".grid .open").first.focus()
    page.keyboard.press("s")
    page.get_by_text("Kept in “Kept”.").wait_for()
    page.get_by_role("link", name="Collections").click()
    page.get_by_role("link", name="Kept").click()
    note = page.get_by_placeholder("Note", exact=True)
    note.fill(SCRIPT)
    note.press("Tab")
    page.get_by_text("Noted.").wait_for()
    page.get_by_placeholder("Tags").fill("cat, to cut")
    page.get_by_placeholder("Tags").press("Tab")
    page.get_by_text("Noted.").nth(1).wait_for()
    page.get_by_role("button", name="Export").click()
    check(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="JSON lines").click()
    download.value.save_as(tmp_path / "kept.jsonl")
    row = json.loads((tmp_path / "kept.jsonl").read_text().splitlines()[0])
    assert (row["note"], row["tags"]) == (SCRIPT, ["cat", "to cut"])
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Share").click()
    link = page.get_by_label("Link").input_value()
    stranger = visit(link, width=360)
    stranger.get_by_text(SCRIPT).wait_for()
    assert stranger.locator("#places a").count() == 0
    check(stranger)
    page.get_by_role("button", name="End the link").click()
    page.get_by_text("The link is ended.").wait_for()
    gone = visit(link)
    gone.get_by_text("This link opens nothing").wait_for()


def test_a_kept_moment_is_let_go_with_the_same_key(workshop, visit) -> None:
    page = visit(f"{workshop[0]}/#/search?library=films&q=a+dog")
    page.locator(".grid .open").first.focus()
    kept = page.locator('.card[data-place="0"] [aria-pressed=true][aria-label=Kept]')
    states = ("detached", "attached") if kept.count() else ("attached", "detached")
    for state in states:
        page.keyboard.press("s")
        kept.wait_for(state=state)


@pytest.mark.long
def test_a_folder_is_added_cancelled_and_added_again(workshop, visit) -> None:
    address, new = workshop
    page = visit(f"{address}/#/library?library=small")
    path = page.get_by_label("Folder or file on the server")
    path.fill("/etc")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("alert").filter(has_text="outside").wait_for()
    page.get_by_role("combobox", name="Experts").select_option("those of this library")
    path.fill(str(new))
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("heading", name="In progress").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("heading", name="In progress").wait_for(state="detached")
    page.get_by_role("link", name="Jobs", exact=True).click()
    page.get_by_text("cancelled", exact=True).wait_for()
    check(page)
    page.get_by_role("button", name="Run again").click()
    page.get_by_text("done", exact=True).wait_for(timeout=300_000)
    page.get_by_text("Log", exact=True).click()
    page.locator("pre", has_text="new").first.wait_for()
    page.go_back()
    page.locator(".numbers dd").first.filter(has_text="2").wait_for()


@pytest.mark.parametrize(
    ("width", "scheme"), [(360, "dark"), pytest.param(820, "light", marks=pytest.mark.long), (1440, "dark")]
)
def test_the_pages_are_accessible(workshop, visit, width: int, scheme: str) -> None:
    page = visit(f"{workshop[0]}/#/library?library=films", width=width, scheme=scheme)
    page.locator(".videos li").nth(3).wait_for()
    check(page)
    for name in ("Collections", "Jobs"):
        page.get_by_role("link", name=name, exact=True).click()
        page.get_by_role("heading", name=name).wait_for()
        check(page)
