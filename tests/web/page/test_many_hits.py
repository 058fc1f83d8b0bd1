"""Ten thousand hits are scrolled through while the page holds a screenful of them."""

import pytest

pytestmark = pytest.mark.browser
HITS = 10_000


def _hit(place: int) -> dict[str, object]:
    return {
        "moment": f"{place:024x}@0.000-4.000", "video": f"{place:024x}", "name": f"film {place}.mp4", "start": 0.0,
        "end": 4.0, "score": 0.5, "confidence": 0.9, "strength": "strong", "rank": place + 1,
        "thumbnail": "/icon.svg", "strip": None, "play": None,
        "why": [{"modality": "object", "gave": 0.5, "matched": "cat", "sentence": "looks like: cat"}],
    }  # fmt: skip


def _answer(route: object) -> None:
    body = route.request.post_data_json
    begin = int(body.get("page_token", "0"))
    end = min(HITS, begin + body["limit"])
    page = {"next_token": str(end) if end < HITS else None, "total_clips": 50_000, "generation": "x"}
    hits = [_hit(place) for place in range(begin, end)]
    route.fulfill(json={"data": hits, "page": page, "unread": "", "notes": []})


@pytest.mark.long
def test_ten_thousand_hits_scroll(films: str, visit) -> None:
    page = visit(f"{films}/#/search?q=cat", before=lambda page: page.route("**/v1/search", _answer))
    page.locator(".grid .card").first.wait_for()
    frames = page.evaluate(
        """async (hits) => {
          const frame = () => new Promise((done) => requestAnimationFrame(done));
          const times = [], cards = () => document.querySelectorAll(".grid .card");
          let most = 0, last = 0;
          while (last < hits) {
            const begin = performance.now();
            scrollTo(0, document.documentElement.scrollHeight);
            await frame(); await frame();
            times.push(performance.now() - begin);
            most = Math.max(most, cards().length);
            last = Math.max(...[...cards()].map((card) => Number(card.getAttribute("aria-posinset"))));
          }
          return { times, most, text: [...cards()].at(-1).innerText, size: cards()[0].getAttribute("aria-setsize") };
        }""",
        HITS,
    )
    assert frames["most"] < 80
    assert "film 9999.mp4" in frames["text"]
    half = len(frames["times"]) // 2
    early, late = sorted(frames["times"][:half]), sorted(frames["times"][half:])
    assert late[half // 2] < 10 * early[half // 2] + 200  # milliseconds: the last hits come as smoothly as the first
    page.evaluate("scrollTo(0, 0)")
    page.locator('.grid .card[aria-posinset="1"]').wait_for()
    page.locator('.grid .card[data-place="0"] .open').focus()
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.closest('[data-place]').dataset.place") == str(HITS - 1)
    page.keyboard.press("Home")
    assert page.evaluate("document.activeElement.closest('[data-place]').dataset.place") == "0"
