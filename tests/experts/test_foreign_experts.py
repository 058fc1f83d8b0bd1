"""Experts of other packages: a faulty one is one line, and its failure alone."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.errors import ExpertUnavailable
from reelseek.experts import available, expert_faults, known_experts, load_expert
from reelseek.experts.extract import extract
from reelseek.library import Library, add
from reelseek.media.container import Limits
from reelseek.testing import ExpertContract
from tests.foreign import install

_MODULE = """
import numpy as np
from reelseek.experts.expert import Text, Track
from reelseek.media.streams import FrameStream

class Odd:
    name, modality, dim = "NAME", "motion", 4
    fingerprint = "NAME:1"
    streams = (FrameStream(fps=1.0, short_side=32),)
    def __init__(self, **changes):
        self.changes = changes
        for key, value in changes.items():
            setattr(self, key, value)
    def open(self):
        return self
    def feed(self, batch):
        pass
    def close(self, end_seconds):
        return Track(np.ones((2, 4), np.float32), np.array([[0.0, 1.0], [1.0, 2.0]]))

def make(name, **changes):
    return lambda model: Odd(**{"name": name, "fingerprint": name + ":1", **changes})

def closing(name, track):
    expert = Odd(name=name, fingerprint=name + ":1")
    expert.close = lambda end_seconds: track()
    return lambda model: expert

def infinite():
    track = Track(np.ones((2, 4), np.float32), np.array([[0.0, 1.0], [1.0, 2.0]]))
    track.values[0, 0] = np.inf
    return track

def failing(*_):
    raise RuntimeError("no such session")

good = make("good")
named = make("other")
modal = make("modal", modality="smell")
wide = make("wide", dim=0)
marked = make("marked", fingerprint="x y")
streamless = make("streamless", streams=())
thrown = lambda model: 1 / 0
nothing = lambda model: None
wrong_width = closing("wrong_width", lambda: Track(np.ones((2, 3), np.float32), np.array([[0.0, 1.0], [1.0, 2.0]])))
falling = closing("falling", lambda: Track(np.ones((2, 4), np.float32), np.array([[1.0, 2.0], [0.0, 1.0]])))
shapeless = closing("shapeless", lambda: Track(np.ones((2, 4), np.float32), np.zeros((1, 2))))
infinity = closing("infinity", infinite)
tuple_ = closing("tuple_", lambda: (1, 2))
timeless = closing("timeless", lambda: Track(np.ones((1, 4), np.float32), np.array([[0.0, 1.0]]),
                                             (Text("a", float("nan"), 1.0, "label"),)))
unopened = make("unopened", open=failing)
"""
_FAULTY = {
    "named": "its name is 'other'",
    "modal": "its modality is 'smell'",
    "wide": "its dim is 0",
    "marked": "its fingerprint is 'x y'",
    "streamless": "its streams is ()",
    "thrown": "ZeroDivisionError",
    "nothing": "NoneType",
    "absent": "absent",
}
_FAILING = {
    "wrong_width": "3 wide of an expert that says it is 4 wide",
    "falling": "spans must be float64 seconds that rise",
    "shapeless": "2 steps need spans",
    "infinity": "NaN or infinity",
    "tuple_": "gave a tuple",
    "timeless": "no finite times",
    "unopened": "no such session",
}


@pytest.fixture(autouse=True)
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that is installed beside this one and registers experts of every kind."""
    entries = [f"{name} = odd_experts:{name}" for name in ("good", *_FAULTY, *_FAILING)]
    entries += ["typo = odd_syntax:make", "motion = odd_experts:good"]
    modules = {"odd_experts.py": _MODULE, "odd_syntax.py": "def make(:\n"}
    install(tmp_path / "site", monkeypatch, "odd-experts-1.0", modules, {"reelseek.experts": entries})
    known_experts.cache_clear()
    load_expert.cache_clear()
    yield
    known_experts.cache_clear()
    load_expert.cache_clear()
    sys.modules.pop("odd_experts", None)


def test_a_faulty_expert_is_refused_in_words_and_the_others_run() -> None:
    experts, missing = available(["good", *_FAULTY, "typo"])
    assert [expert.name for expert in experts] == ["good"]
    for name, words in _FAULTY.items():
        assert words in missing[name]
    assert "SyntaxError" in missing["typo"]
    with pytest.raises(ExpertUnavailable, match=r"smell.*wanted one of appearance"):
        load_expert("modal")


def test_doctor_says_a_line_for_each() -> None:
    result = CliRunner().invoke(app, ["doctor"], catch_exceptions=False)
    for name, words in {**_FAULTY, "typo": "SyntaxError"}.items():
        (line,) = [line for line in result.stdout.splitlines() if line.split()[:1] == [name]]
        assert "does not run" in line
        assert words in line
    (line,) = [line for line in result.stdout.splitlines() if "registers 'motion'" in line]
    assert "odd-experts==1.0" in line
    assert result.exit_code == 0


def test_a_damaged_list_of_entry_points_harms_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "broken", monkeypatch, "broken-1.0", {}, {"reelseek.experts": ["no equals sign"]})
    known_experts.cache_clear()
    assert load_expert("good").dim == 4
    assert "cannot be read" in expert_faults()["broken==1.0"]


def test_a_track_that_is_not_as_its_expert_said_is_that_experts_failure(make_video) -> None:
    result = extract(make_video("film.mp4"), ["good", *_FAILING], Limits())
    assert set(result.tracks) == {"good"}
    for name, words in _FAILING.items():
        assert words in result.errors[name], name


def test_the_contract_passes_a_good_expert_and_refuses_a_faulty_one(make_video) -> None:
    contract, films = ExpertContract(), [make_video("film.mp4")]
    contract.test_its_description_is_whole_and_stays("good")
    contract.test_its_tracks_are_what_it_says_and_the_same_each_time("good", films)
    with pytest.raises(AssertionError, match="3 wide"):
        contract.test_its_tracks_are_what_it_says_and_the_same_each_time("wrong_width", films)
    with pytest.raises(ExpertUnavailable, match="smell"):
        contract.test_its_description_is_whole_and_stays("modal")


def test_add_keeps_what_the_other_experts_made(make_video, tmp_path: Path) -> None:
    film = make_video("film.mp4")
    with Library.open(tmp_path / "lib", create=True) as library:
        report = add(library, [film], experts=["good", "modal", "wrong_width"], workers=1)
        assert set(library.experts()) == {"good"}
        assert set(report.skipped_experts) == {"modal"}
        assert [(video, expert) for video, expert, _ in report.failed] == [("film.mp4", "wrong_width")]
