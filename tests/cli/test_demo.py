"""How much the demonstration does; that it does it is what the wheel's own check runs."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from reelseek.cli.main import app


@pytest.mark.parametrize(
    ("options", "films"), [([], 160), (["--small"], 24), (["--small", "--films", "30"], 30), (["--films", "50"], 50)]
)
def test_the_small_one_shoots_the_fewest_films(
    options: list[str], films: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shot: list[int] = []

    def write_archive(folder: Path, count: int, **_: object) -> None:
        shot.append(count)
        raise KeyboardInterrupt

    monkeypatch.setattr("reelseek.studio.write_archive", write_archive)
    CliRunner().invoke(app, ["demo", str(tmp_path / "demo"), *options])
    assert shot == [films]
