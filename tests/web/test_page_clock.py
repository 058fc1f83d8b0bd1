"""In a real browser: the second that a hit names shows the picture that the experts saw there."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from tests.media.colours import COLOURS, nearest, write_colours

from reelseek.library import Library, add
from reelseek.media.decode import read_frames
from reelseek.media.streams import FrameStream
from reelseek.web.media import library_media, opaque_id
from reelseek.web.shell import add_videos, new_app

PLACES = [0.5, 1.5, 2.5, 3.5]
SHOW = """async (address) => {
  const { start_offset: offset } = await (await fetch(address.replace(/media$/, "clock"))).json();
  const video = document.createElement("video"), canvas = document.createElement("canvas");
  video.muted = true; video.src = address;
  await new Promise((done, failed) => {
    video.onloadeddata = done;
    video.onerror = () => failed(new Error(video.error.message));
  });
  const colours = [];
  for (const place of PLACES) {
    await new Promise((done) => { video.onseeked = done; video.currentTime = offset + place; });
    await new Promise((done) => setTimeout(done, 80));
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.drawImage(video, 0, 0, 8, 8);
    colours.push([...pen.getImageData(4, 4, 1, 1).data.slice(0, 3)]);
  }
  return [offset, colours];
}""".replace("PLACES", str(PLACES))

FILES: dict[str, Callable[[Path], object]] = {
    "plain.mp4": lambda p: write_colours(p),
    "late.mp4": lambda p: write_colours(p, start=10),
    "fragments.mp4": lambda p: write_colours(p, start=10, options={"movflags": "frag_keyframe+delay_moov"}),
    "sound_first.mp4": lambda p: write_colours(p, start=1, sound_start=0),
    "late.webm": lambda p: write_colours(p, codec="libvpx", sound="libopus", start=10),
    "plain.webm": lambda p: write_colours(p, codec="libvpx", sound="libopus"),
    "hour.ts": lambda p: write_colours(p, start=3600),
    "late.mkv": lambda p: write_colours(p, start=10, sound_start=10.4),
    "late_pictures.mkv": lambda p: write_colours(p, start=11, sound_start=10),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("clocks")
    for name, write in FILES.items():
        write(folder / name)
    library = Library.open(folder / "library", create=True)
    report = add(library, [folder], experts=["plain"], workers=1)
    assert not report.failed
    media = library_media(library)
    app = new_app([media], token=None, host="127.0.0.1")
    add_videos(app, media)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", folder
    server.should_exit = True
    thread.join(10)


@pytest.mark.long
@pytest.mark.browser
def test_the_colour_at_a_second_is_the_one_that_the_experts_saw(served: tuple[str, Path]) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    address, folder = served
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(bypass_csp=True)
        page.goto(f"{address}/healthz")
        for name in FILES:
            offset, colours = page.evaluate(SHOW, f"/api/videos/{opaque_id(name)}/media")
            assert (offset > 9) == (name == "late.webm"), name
            assert [nearest(colour) for colour in colours] == _seen(folder / name), name
        browser.close()


def _seen(path: Path) -> list[int]:
    """The colour that experts have at each place: of the last frame that starts before it, or of the first one."""
    batches = list(read_frames(path, FrameStream(fps=1000, short_side=48)))
    pixels, seconds = (np.concatenate([getattr(b, name) for b in batches]) for name in ("pixels", "seconds"))
    frames = [max(0, int(np.searchsorted(seconds, place, "right")) - 1) for place in PLACES]
    colours = [nearest(pixels[frame].mean(axis=(0, 1))) for frame in frames]
    assert len(set(colours)) >= 3
    assert set(colours) <= set(range(len(COLOURS)))
    return colours
