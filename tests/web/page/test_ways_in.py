"""Pictures that are dropped and pasted, clips, other models, an index that is renewed, TLS, and a proxy's prefix."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.web.page.serving import served
from tests.web.page.test_many_hits import _answer, _hit

from reelseek.web.server import TLSFiles

pytestmark = pytest.mark.browser
TLS = TLSFiles(*(Path("tests/data/tls") / name for name in ("localhost.pem", "localhost.key")))

_GIVE = """async ([event, name]) => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 48 });
  canvas.getContext("2d").fillRect(8, 8, 20, 20);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  const data = new DataTransfer();
  data.items.add(new File([blob], name, { type: "image/png" }));
  const options = { bubbles: true, cancelable: true };
  const made = event === "paste" ? new ClipboardEvent(event, { ...options, clipboardData: data }) : new DragEvent(event, { ...options, dataTransfer: data });
  document.body.dispatchEvent(made);
  return [made.defaultPrevented, document.body.classList.contains("dropping")];
}"""  # noqa: E501


@pytest.mark.long
def test_pictures_are_dropped_and_pasted_and_clips_are_sent(
    films: str, visit, make_video, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reelseek.web.v1.uploads._CHECK_SECONDS", 300)
    page = visit(films)
    page.set_default_timeout(300_000)  # for hangs: the first upload waits for the process that checks it
    page.locator(".tiles .card").first.wait_for()
    assert page.evaluate(_GIVE, ["dragover", "x.png"]) == [True, True]
    assert page.evaluate(_GIVE, ["drop", "dropped.png"]) == [True, False]
    page.locator(".chip.example", has_text="like the picture dropped.png").wait_for()
    page.locator(".grid:not(.waiting) .card").first.wait_for()
    assert page.evaluate(_GIVE, ["paste", "pasted.png"])[0]
    page.locator(".chip.example", has_text="like the picture pasted.png").wait_for()
    page.locator(".grid:not(.waiting) .card").first.wait_for()
    page.set_input_files("#file", make_video("short.mp4", times=[0.0, 0.25, 0.5, 0.75]))
    page.locator(".chip.example", has_text="like the clip short.mp4").wait_for()
    page.locator(".grid:not(.waiting) .card").first.wait_for()
    assert page.locator(".chip.example").count() == 1  # the clip in place of the picture


def test_hits_of_an_older_index_stay_and_a_new_search_is_offered(films: str, visit) -> None:
    requests: list[dict[str, object]] = []

    def answer(route: object) -> None:
        requests.append(route.request.post_data_json)
        if "page_token" in requests[-1]:
            problem = {"title": "the library has changed", "status": 409, "detail": "ask again"}
            route.fulfill(status=409, content_type="application/problem+json", body=json.dumps(problem))
        else:
            _answer(route)

    page = visit(f"{films}/#/search?q=cat", before=lambda page: page.route("**/v1/search", answer))
    page.locator(".grid .card").first.wait_for()
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    page.get_by_text("The library changed while you were looking").last.wait_for()
    assert len(requests) == 2
    page.locator(".grid .card", has_text="film 59.mp4").wait_for()  # what is shown stays
    page.get_by_role("button", name="Search again").click()
    page.get_by_role("button", name="Search again").wait_for(state="hidden")
    page.locator(".grid .card").first.wait_for()
    assert [("page_token" in request) for request in requests[:3]] == [False, True, False]


def test_a_trained_model_is_chosen_and_named(films: str, visit) -> None:
    rows = [
        {
            "library": "library", "name": name, "default": name == "concepts", "searchable": name != "raw",
            "modalities": {"object": "object"},
        }
        for name in ("concepts", "mine", "raw")
    ]  # fmt: skip
    requests: list[dict[str, object]] = []

    def answer(route: object) -> None:
        requests.append(route.request.post_data_json)
        page = {"next_token": None, "total_clips": 1, "generation": "x"}
        route.fulfill(json={"data": [_hit(0)], "page": page, "unread": "", "notes": []})

    def before(page: object) -> None:
        page.route("**/v1/models", lambda route: route.fulfill(json={"data": rows}))
        page.route("**/v1/search", answer)

    page = visit(f"{films}/#/search?q=cat", before=before)
    page.locator(".grid .card").first.wait_for()
    page.get_by_role("button", name="Weights").click()
    select = page.get_by_label("Model")
    assert select.locator("option").all_inner_texts() == ["concepts", "mine"]  # what is not indexed is not offered
    select.select_option("mine")
    page.locator(".chip", has_text="by the model mine").wait_for()
    page.locator(".grid:not(.waiting) .card").first.wait_for()
    assert [request.get("model") for request in requests] == [None, "mine"]
    assert "model=mine" in page.url


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ({"kind": "train", "result": {"model": "<b>m", "validation": {"split": "val", "epoch": 3, "recall_at_1": 0.5,
          "recall_at_10": 1.0}, "warnings": ["few clips"]}}, ["The model “<b>m” is trained", "50.0 %", "few clips"]),
        ({"kind": "scan", "result": {"pairs": 7, "best": [{"test": "<i>a", "test_id": "1", "test_start": 61,
          "train": "b", "train_id": "2", "train_start": 0, "score": 0.5}]}}, ["7 pairs", "<i>a at 1:01 and b at 0:00"]),
        ({"kind": "caption", "result": {"documents": [{"video": "<u>v", "id": "1", "lines": [{"text": "a dog"}]}]}},
         ["1 line for 1 video", "<u>v: a dog"]),
        ({"kind": "evaluate", "result": {"documents": [{"text_to_video": {"recall_at_1": 0.25, "recall_at_5": 0.5,
          "recall_at_10": 1, "median_rank": 2}, "queries": 4, "gallery": 1, "protocol": "strict"}]}},
         ["25.0 %", "4 captions, 1 video, protocol strict"]),
        ({"kind": "index", "arguments": {"model": "mine", "action": "build"}, "result": {"output": "54 clips"}},
         ["54 clips", "Search with mine"]),
        ({"kind": "add", "result": {"output": "one\n<b>two"}}, ["one <b>two", "See the library"]),
    ],
)  # fmt: skip
def test_a_job_says_what_it_made(reader: object, job: dict[str, object], words: list[str]) -> None:
    job = {"library": "films", "state": "succeeded", "arguments": {}, **job}
    text, links = reader.evaluate(
        "async (job) => { const { jobResult } = await import('/app/job_result.js'); const node = jobResult(job, null); "
        "document.body.append(node); return [node.innerText, [...node.querySelectorAll('a')].map((a) => a.hash)] }",
        job,
    )
    assert all(word in text for word in words), text
    assert all(link.startswith("#/") for link in links)


@pytest.fixture(scope="module")
def reader(films: str, browser: object) -> object:
    """A page that stays, for calling functions of the application."""
    page = browser.new_page()
    page.goto(f"{films}/healthz")
    return page


class _StrippingProxy:
    """Hands on what lies below `/films`, without that, as a reverse proxy does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            below = scope["path"].startswith("/films/")
            path = scope["path"].removeprefix("/films") if below else "/no/such/page"
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await self._app(scope, receive, send)


@pytest.mark.parametrize("strips", [True, pytest.param(False, marks=pytest.mark.long)])
def test_tls_and_a_prefix_behind_a_proxy(start_team: Callable[..., object], visit, *, strips: bool) -> None:
    team = start_team(accounts=False, names=("library",), prefix="/films")
    app = _StrippingProxy(team.client.app) if strips else team.client.app
    with served(app, lifespan="off", tls=TLS) as address:
        page = visit(f"{address}/films/#/search?q=a+cat")
        page.locator(".grid .card").first.wait_for()
        page.locator(".grid .card img").first.evaluate("(image) => image.decode()")
        page.locator(".grid .open").first.click()
        page.locator("#viewer video[src]").evaluate(
            "(video) => video.readyState || new Promise((done) => video.addEventListener('loadedmetadata', done))"
        )
        page.get_by_role("link", name="Library").click()
        page.get_by_role("heading", name="Videos", exact=True).wait_for()
        assert page.url.startswith(f"{address}/films/#/library")
