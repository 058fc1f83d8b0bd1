"""Every page at three widths, light and dark, without a violation that axe finds, and without anything sticking out."""

from pathlib import Path

import axe_playwright_python
import pytest

pytestmark = pytest.mark.browser
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
WIDTHS = (360, 820, 1440)


def check(page: object) -> None:
    """Fail where axe finds something, or the page is wider than its window."""
    page.evaluate(AXE)
    violations = page.evaluate(
        "axe.run({ resultTypes: ['violations'] }).then(({ violations }) => violations.map((one) => "
        "`${one.id}: ${one.nodes.map((node) => `${node.html.slice(0, 120)} ${node.failureSummary}`).join(' | ')}`))"
    )
    assert violations == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(
    ("width", "scheme"), [(360, "dark"), pytest.param(820, "light", marks=pytest.mark.long), (1440, "dark")]
)
def test_start_hits_and_a_moment(films: str, visit, width: int, scheme: str) -> None:
    page = visit(films, width=width, scheme=scheme)
    page.locator(".tiles .card").first.wait_for()
    page.locator(".example").first.wait_for()
    check(page)
    page.fill("#query", "a cat longer:1s")
    page.keyboard.press("Enter")
    page.locator(".grid .card").first.wait_for()
    for name in ("Filters", "Weights", "Then"):
        page.get_by_role("button", name=name).click()
        if width == 360 or name == "Weights":
            check(page)
    page.get_by_role("button", name="Then").click()
    page.locator(".grid .open").first.click()
    page.locator("#viewer .marks .peak").first.wait_for(state="attached")
    check(page)


@pytest.mark.parametrize(
    ("width", "scheme"), [(360, "light"), pytest.param(820, "dark", marks=pytest.mark.long), (1440, "light")]
)
def test_a_video_and_the_help(films: str, visit, width: int, scheme: str) -> None:
    page = visit(f"{films}/#/search?q=a+cat", width=width, scheme=scheme)
    page.locator(".grid .open").first.click()
    page.get_by_role("button", name="Open the video").click()
    page.get_by_role("tab").first.wait_for()
    for place in range(page.get_by_role("tab").count() if width == 360 else 1):
        page.get_by_role("tab").nth(place).click()
        check(page)
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    check(page)
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
