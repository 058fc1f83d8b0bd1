"""Searching on the page: by keyboard, by chips, by links; what happens when the server is away."""

import re
from pathlib import Path

import pytest
from PIL import Image

from reelseek.errors import QueryError
from reelseek.library.filters import parse_filter, split_filter

pytestmark = pytest.mark.browser


def _names(page: object) -> list[str]:
    return page.locator(".grid .name").all_inner_texts()


@pytest.mark.long
def test_a_moment_is_searched_played_and_left_by_keyboard_alone(films: str, visit) -> None:
    page = visit(films)
    page.locator(".tiles .card").first.wait_for()  # the library itself stands where nothing is asked
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("a cat")
    page.keyboard.press("Enter")
    page.locator(".grid .card").nth(3).wait_for()
    assert "q=a+cat" in page.url
    while page.evaluate("document.activeElement.className") != "open":
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.locator("#viewer video[src]").wait_for()
    second = page.locator(".card.current")
    assert second.get_attribute("data-place") == "1"
    assert page.locator("#viewer h2").inner_text() == second.locator(".name").get_attribute("title")
    assert page.locator("#viewer .reasons li").count() >= 1
    page.keyboard.press("n")
    page.locator('.card.current[data-place="2"]').wait_for()
    link = page.url
    assert "at=" in link
    page.locator("[role=slider]:not([aria-valuemax='0'])").focus()
    before = float(page.locator("[role=slider]").get_attribute("aria-valuenow"))
    page.keyboard.press("End")
    assert float(page.locator("[role=slider]").get_attribute("aria-valuenow")) > before
    page.keyboard.press("Escape")
    page.locator("#viewer").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.closest('[data-place]').dataset.place") == "2"
    again = visit(link)
    again.locator("#viewer video[src], #viewer .notice:not([hidden])").first.wait_for()
    again.locator('.card.current[data-place="2"]').wait_for()


def test_the_curve_of_the_film_that_plays_is_drawn(films: str, visit) -> None:
    page = visit(f"{films}/#/search?q=a+cat")
    page.locator(".grid .open").first.click()
    page.locator("#viewer .marks .peak").first.wait_for(state="attached")
    pixels = page.locator("#viewer canvas").evaluate(
        "(canvas) => { const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height); "
        "return new Set(Array.from({ length: data.length / 4 }, (_, i) => data.slice(4 * i, 4 * i + 4).join())).size }"
    )
    assert pixels > 2  # a line and an area, not a bar


def test_filters_typed_are_chips_and_stand_in_the_address(films: str, visit) -> None:
    page = visit(films)
    page.fill("#query", 'a cat longer:1s -name:"no such film"')
    page.keyboard.press("Enter")
    page.locator(".grid .card").first.wait_for()
    assert page.locator(".chips .chip span").all_inner_texts() == ["longer than 1s", "not named no such film"]
    assert page.input_value("#query") == "a cat"
    page.get_by_role("button", name="Remove: longer than 1s").click()
    page.locator(".chip").nth(1).wait_for(state="detached")
    assert "longer" not in page.url
    page.go_back()
    page.locator(".chip").nth(1).wait_for()
    page.get_by_role("button", name="Weights").click()
    page.get_by_role("checkbox", name="Things in view").uncheck()
    page.get_by_text("without things in view").wait_for()
    reloaded = visit(page.url)
    reloaded.locator(".grid .card").first.wait_for()
    assert reloaded.locator(".chip").count() == 3


@pytest.mark.parametrize(
    "text",
    [
        "a dog", 'folder:"my trips" before:2020-05 dog', "-has:speech  beach", "at 12:30 in C:\\films", "see https://a.b/c",
        "std::sort name:x", '"name:quoted phrase" cat', 'cat -"folder:x"', "FOLDER:Holiday", "a\u2212b \u2212name:a",
        "folder:“my trips” „open door“", "longer:1h30m shorter:2h x", "name:a name:b -split:test", "cat folder: x",
        "ｎａｍｅ：ｗｉｄｅ", 'name:"a"b', "name:naïve été", "x name:a:b", "cat\tname:tab\nname:line",
    ],
)  # fmt: skip
def test_the_box_reads_filters_as_the_server_does(reader: object, text: str) -> None:
    answer = reader.evaluate("async (text) => (await import('/app/filters.js')).readTerms(text)", text)
    try:
        words, filters = split_filter(text)
    except QueryError:  # what the server refuses stays in the words, where it refuses it
        assert "folder:" in answer["words"]
        return
    expected = [(condition.key, condition.value, condition.negated) for condition in filters.conditions]
    assert answer["words"] == words
    assert [(term["key"], term["negated"]) for term in answer["terms"]] == [(key, minus) for key, _, minus in expected]
    written = reader.evaluate("async (terms) => (await import('/app/filters.js')).writeTerms(terms)", answer["terms"])
    assert [(one.key, one.value, one.negated) for one in parse_filter(written).conditions] == expected


def test_a_term_and_its_opposite_both_stay(reader: object) -> None:
    script = (
        "async (text) => { const { readTerms, withTerm, writeTerms } = await import('/app/filters.js');"
        " return writeTerms(readTerms(text).terms.reduce(withTerm, [])); }"
    )
    assert reader.evaluate(script, "before:2021 -before:2019") == "before:2021 -before:2019"
    assert reader.evaluate(script, "before:2021 before:2019 has:text -has:text") == "before:2019 -has:text"


@pytest.fixture(scope="module")
def reader(films: str, browser: object) -> object:
    """A page that stays, for calling functions of the application."""
    page = browser.new_page()
    page.goto(f"{films}/healthz")
    return page


def test_a_filter_completes_itself(films: str, visit) -> None:
    page = visit(films)
    page.click("#query")
    page.keyboard.type("cat has:sp")
    page.locator("#completions [role=option]").wait_for()
    page.keyboard.press("ArrowDown")
    assert page.get_attribute("#query", "aria-activedescendant") == "completion-0"
    page.keyboard.press("Enter")
    assert page.input_value("#query") == "cat has:speech "


def test_back_brings_the_hits_and_the_place_in_them(films: str, visit) -> None:
    page = visit(f"{films}/#/search?q=video", width=360)
    page.locator(".grid .card").nth(4).wait_for()
    first = _names(page)
    page.evaluate("scrollTo(0, 500)")
    page.wait_for_timeout(100)
    place = page.evaluate("scrollY")
    assert place > 100
    page.fill("#query", "a dog")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("q=a\\+dog"))
    page.locator(".grid .card").first.wait_for()
    page.go_back()
    page.locator(".status", has_text="The best of").or_(page.locator(".status", has_text="hits of")).wait_for()
    assert page.evaluate("scrollY") == place
    assert set(_names(page)) & set(first)
    assert page.input_value("#query") == "video"


def test_a_server_that_is_away_is_said_and_asked_again(films: str, visit) -> None:
    page = visit(films)
    page.locator(".tiles .card").first.wait_for()
    page.route("**/v1/search", lambda route: route.abort())
    page.fill("#query", "a cat")
    page.keyboard.press("Enter")
    page.get_by_role("alert").filter(has_text="The server does not answer").wait_for()
    assert page.locator(".grid .card").count() == 0
    page.unroute("**/v1/search")
    page.get_by_role("button", name="Try again").click()
    page.locator(".grid .card").first.wait_for()
    page.get_by_role("alert").wait_for(state="hidden")


def test_what_the_server_refuses_is_said_in_its_words(films: str, visit) -> None:
    page = visit(f"{films}/#/search?q=cat&without=smell")
    assert "smell" in page.locator(".trouble:visible").inner_text()


def test_frames_run_under_the_pointer(films: str, visit) -> None:
    page = visit(f"{films}/#/search?q=a+cat")
    picture = page.locator(".grid .picture").first
    picture.hover()
    film = picture.locator(".film")
    film.wait_for(state="visible")
    box = picture.bounding_box()
    page.mouse.move(box["x"] + 3, box["y"] + 40)
    left = film.evaluate("(film) => film.style.backgroundPosition")
    page.mouse.move(box["x"] + box["width"] - 3, box["y"] + 40)
    assert film.evaluate("(film) => film.style.backgroundPosition") != left


def test_dark_and_light_can_be_switched_and_stay(films: str, visit) -> None:
    page = visit(films, scheme="light")
    page.locator("#corner button").first.wait_for()
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Dark or light (t)").click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != light
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


@pytest.mark.parametrize(
    ("modalities", "promise"),
    [
        (["object"], "What do you want to see?"),
        (["object", "ocr"], "What do you want to see or read?"),
        (["object", "speech", "ocr"], "What do you want to see, hear or read?"),
    ],
)
def test_the_box_promises_what_the_experts_perceive(films: str, visit, modalities: list[str], promise: str) -> None:
    models = {"data": [{"library": "x", "default": True, "modalities": {name: name for name in modalities}}]}
    page = visit(films, before=lambda page: page.route("**/v1/models", lambda route: route.fulfill(json=models)))
    page.locator(f'#query[placeholder="{promise}"]').wait_for()
    page.unroute_all(behavior="wait")


@pytest.mark.long
def test_a_picture_is_searched_by_and_its_search_narrowed(films: str, visit, tmp_path: Path) -> None:
    Image.new("RGB", (320, 180), (200, 120, 40)).save(tmp_path / "<b>orange.png")
    page = visit(f"{films}/#/search?q=a+cat")
    page.locator(".grid .card").first.wait_for()
    page.set_input_files("#file", tmp_path / "<b>orange.png")
    page.locator(".chip.example", has_text="like the picture <b>orange.png").wait_for()
    page.locator(".grid:not(.waiting) .card").first.wait_for()
    page.locator(".grid .open").first.focus()
    page.keyboard.press("m")
    page.locator(".chip.example", has_text="more like").wait_for()
    page.locator(".grid:not(.waiting) .open").nth(1).focus()
    page.keyboard.press("x")
    page.locator(".chip.against", has_text="less like").wait_for()
    assert page.locator(".chip").count() == 3
    page.locator(".grid:not(.waiting) .card").first.wait_for()


def test_one_moment_and_then_another(films: str, visit) -> None:
    page = visit(f"{films}/#/search?q=a+cat")
    page.locator(".grid .card").first.wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("e")
    page.keyboard.type("a dog")
    page.keyboard.press("Enter")
    page.locator(".chip", has_text="then a dog within 30 s").wait_for()
    page.locator(".status", has_text=re.compile("of .* clips|Nothing fits")).wait_for()
