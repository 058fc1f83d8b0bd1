"""What a notebook shows while something long is done; the notebook is an IPython that remembers what it is shown."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from reelseek.library import Library, add
from reelseek.library.notebook import NotebookProgress, in_notebook
from tests.library.test_long_files import _Pool


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Each place below the cell, with all that was shown there."""
    places: list[list[str]] = []

    def display(content: str, *, display_id: bool) -> object:
        assert display_id
        places.append([content])
        return SimpleNamespace(update=places[-1].append)

    python, screen = ModuleType("IPython"), ModuleType("IPython.display")
    python.__dict__["get_ipython"] = lambda: SimpleNamespace(config={"IPKernelApp": {}})
    screen.__dict__.update(display=display, HTML=str)
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", screen)
    return places


def test_a_stage_has_one_place_that_is_written_anew(shown: list[list[str]]) -> None:
    assert in_notebook()
    progress = NotebookProgress()
    for done in (0, 1, 100, 400):
        progress("extracting", done, 400, "<film>.mp4")
    progress("indexing", 2, 8)
    assert len(shown) == 2
    assert 'value="400" max="400"' in shown[0][-1]
    assert "6:40 of 6:40 of video" in shown[0][-1]
    assert "&lt;film&gt;.mp4" in shown[0][-1]
    assert len(shown[0]) < 4, "no faster than eyes follow"
    assert "indexing, 2 of 8" in shown[1][0]


def test_adding_in_a_notebook_is_shown(
    make_video, tmp_path: Path, shown: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reelseek.library.ingest.Workers", _Pool)
    with Library.open(tmp_path / "library", create=True) as library:
        add(library, [make_video("film.mp4")], experts=["plain"])
    assert [place[-1].partition("</progress> ")[2].partition(",")[0] for place in shown] == ["examining", "extracting"]
    assert "1 of 1 files, film.mp4" in shown[1][-1]


@pytest.mark.parametrize("shell", [None, SimpleNamespace(config={"TerminalIPythonApp": {}})])
def test_a_terminal_is_no_notebook(monkeypatch: pytest.MonkeyPatch, shell: object) -> None:
    python = ModuleType("IPython")
    python.__dict__["get_ipython"] = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", python)
    assert not in_notebook()
    monkeypatch.delitem(sys.modules, "IPython")
    assert not in_notebook()
