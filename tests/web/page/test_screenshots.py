"""Pictures of the page for the documentation's site, which shows those that lie in `build/screenshots`."""

import io
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.browser
FOLDER = Path(__file__).parents[3] / "build" / "screenshots"
SIZE = (1200, 760)
_MOST_BYTES = 150_000


def _take(page: object, name: str) -> None:
    """Keep what the window shows as a small WebP; it has to show something."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with Image.open(io.BytesIO(page.screenshot(animations="disabled"))) as picture:
        assert len(picture.convert("RGB").resize((120, 76)).getcolors(10_000)) > 50, name
        file = FOLDER / f"{name}.webp"
        picture.convert("RGB").save(file, quality=82, method=6)
    assert 5_000 < file.stat().st_size < _MOST_BYTES


def test_the_documentation_has_its_pictures(films: str, visit) -> None:
    page = visit(f"{films}/#/search?q=a+cat")
    page.set_viewport_size({"width": SIZE[0], "height": SIZE[1]})
    page.locator(".grid .card img").first.evaluate("(image) => image.decode()")
    page.get_by_role("button", name="Weights").click()
    _take(page, "search")
    page.get_by_role("button", name="Weights").click()
    page.locator(".grid .open").first.click()
    page.locator("#viewer .marks .peak").first.wait_for(state="attached")
    page.locator("#viewer video[src]").evaluate(
        "(video) => video.readyState > 1 || new Promise((done) => video.addEventListener('loadeddata', done))"
    )
    _take(page, "moment")
    page.get_by_role("button", name="Open the video").click()
    page.get_by_role("tab").first.wait_for()
    _take(page, "video")
