"""Pages in HTML: whatever a title, a caption or an address contains is shown, never run."""

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest

from reelseek.evaluation.report import Examples, Figure, Paragraphs, Picture, Prose, ReportTable, html_report
from reelseek.moments.timeline import Timeline

HOSTILE = "</style></script><b onload='x' class=\"y\">{{ 7 * 7 }}{% raw %}"


@pytest.fixture
def png(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(b"not looked at")
    return tmp_path / "a.png"


def test_a_report_shows_every_text_as_it_is(png: Path) -> None:
    picture = Picture(b"jpeg", HOSTILE, right=True)
    parts = [
        ReportTable(HOSTILE, [HOSTILE], [[HOSTILE], [(HOSTILE, HOSTILE)], [1.5]], HOSTILE),
        Examples(HOSTILE, [(HOSTILE, [picture])]),
        Paragraphs(HOSTILE, [picture], [(HOSTILE, HOSTILE)], HOSTILE),
        Figure(HOSTILE, png, HOSTILE),
        Prose(HOSTILE, [(HOSTILE, HOSTILE)]),
    ]
    page = html_report(HOSTILE, parts)
    assert "<b onload" not in page
    assert page.count("</style>") == 1
    assert "<script" not in page
    texts = html.unescape(re.sub(r"<[^>]*>", "", page))
    assert texts.count(HOSTILE) == 20  # everywhere but in alt and href
    assert html.unescape(re.search(r'href="([^"]*)"', page)[1]) == HOSTILE
    assert html.unescape(re.search(r'<div class=drawn><img alt="([^"]*)"', page)[1]) == HOSTILE


def test_words_of_the_ground_truth_are_marked() -> None:
    part = Paragraphs("p", [Picture(None, "c")], [("mine", "It's a dog, not  a cat!")], "it's the dog's cat")
    page = html_report("t", [part])
    assert re.findall("<mark>(.*?)</mark>", page) == ["It&#39;s", "cat!"]
    assert "</mark> a dog, not a <mark>" in page
    assert '<img alt="no picture">' in page


def test_a_timeline_keeps_its_data_and_their_order(tmp_path: Path) -> None:
    spans = {"prediction": [(0, 1.0, 2.5)], "ground truth": [(0, 1.0, 2.0)]}
    line = Timeline(HOSTILE, [HOSTILE], np.array([[0.0], [0.5], [1.0]]), spans)
    file = line.save(tmp_path / "page.html", media=tmp_path / "a 'film'.mp4")
    page = file.read_text("utf-8")
    assert "<b onload" not in page
    (data,) = re.findall('<script type="application/json" id=data>(.*?)</script>', page)
    values = json.loads(data)
    assert values["texts"] == [HOSTILE]
    assert values["shades"] == [[0.0, 0.5, 1.0]]
    assert list(values["spans"]) == ["prediction", "ground truth"]  # the order of the legend
    assert re.search('<video [^>]*src="a%20%27film%27.mp4"', page)
    assert "<video" not in line.save(tmp_path / "alone.html").read_text("utf-8").split("<script")[0]
