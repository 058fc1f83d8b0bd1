"""Where there are accounts the page asks who one is, and offers what one may do."""

from collections.abc import Callable

import pytest
from tests.web.page.serving import served
from tests.web.page.test_accessible import check

pytestmark = pytest.mark.browser


@pytest.mark.long
def test_a_reader_signs_in_and_is_not_offered_to_write(start_team: Callable[..., object], visit) -> None:
    team = start_team(names=("library",))
    team.services.identities.accounts.add("Ann", password="correct horse", scopes=["read"])
    with served(team.client.app, lifespan="off") as address:
        page = visit(f"{address}/#/search?q=a+cat", width=360)
        page.get_by_role("heading", name="Sign in").wait_for()
        check(page)
        page.get_by_label("Name").fill("Ann")
        page.get_by_label("Password").fill("wrong horse")
        page.keyboard.press("Enter")
        page.get_by_role("alert").filter(has_text="password").wait_for()
        page.get_by_label("Password").fill("correct horse")
        page.keyboard.press("Enter")
        page.locator(".grid .card").first.wait_for()  # where one wanted to go
        page.locator(".grid .open").first.click()
        page.get_by_role("button", name="Open the video").wait_for()
        assert page.get_by_role("button", name="Keep").count() == 0
        page.get_by_role("button", name="Close").click()
        page.get_by_role("link", name="Library").click()
        page.get_by_role("heading", name="Videos", exact=True).wait_for()
        assert page.get_by_role("heading", name="Add videos").count() == 0
        page.get_by_role("button", name="Signed in as Ann").click()
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("heading", name="Sign in").wait_for()
