"""A real browser on a real server: no page may throw an error or break the server's content security policy."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.web.page.serving import served

from reelseek.library import Library
from reelseek.search import Searcher
from reelseek.web.app import create_app
from reelseek.web.service import Service, serve_library

Visit = Callable[..., object]
BROKEN = ("Refused to", "Content Security Policy", "SyntaxError", "TypeError", "ReferenceError")


@pytest.fixture(autouse=True)
def connections_are_closed() -> None:
    """Servers here outlive a single test, and so do the connections that their threads open while one runs."""


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def films(library_path: Path) -> Iterator[str]:
    """The address of a server of eight films."""
    with (
        Library.open(library_path) as library,
        served(create_app(Service([serve_library(Searcher(library))]))) as address,
    ):
        yield address


@pytest.fixture
def visit(browser: object) -> Iterator[Visit]:
    """Opens pages, and fails a test one of whose pages broke."""
    contexts, broken = [], []

    def open_page(
        address: str, *, width: int = 1440, scheme: str = "light", before: Callable[[object], None] | None = None
    ) -> object:
        phone = width < 500
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, is_mobile=phone, has_touch=phone,
            ignore_https_errors=True,
        )  # fmt: skip
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)  # for hangs
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.on("console", lambda line: broken.append(line.text) if any(w in line.text for w in BROKEN) else None)
        if before is not None:
            before(page)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not broken
