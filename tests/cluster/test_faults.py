"""Small forms of `benchmarks/faults.py`: a node or the driver goes, and the outcome is that of an undisturbed run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from reelseek.cluster import Cluster, connect
from reelseek.library import Library, add
from tests.cluster.conftest import NODE


def _slow(item: int) -> tuple[int, str]:
    time.sleep(0.2)
    return item, os.environ.get("EXTRA", "no")


@pytest.mark.long
def test_a_node_that_goes_loses_nothing(machines: Any) -> None:
    extra = machines.add_node(num_cpus=1, env_vars={"EXTRA": "yes"}, **NODE)
    places = []
    with connect() as cluster, cluster.workers(_slow, memory_bytes=2**30) as pool:
        assert len(cluster.nodes()) == 3
        numbers = []
        for _, outcome in pool.map(range(30)):
            assert isinstance(outcome, tuple), outcome
            numbers.append(outcome[0])
            places.append(outcome[1])
            if outcome[1] == "yes" and extra is not None:
                machines.remove_node(extra, allow_graceful=False)
                extra = None
    assert extra is None
    assert sorted(numbers) == list(range(30))


@pytest.mark.long
def test_a_killed_driver_is_followed_by_the_same_command(
    machines: Any, cluster: Cluster, make_video, tmp_path: Path
) -> None:
    films = tmp_path / "films"
    films.mkdir()
    for number in range(6):
        film = make_video(f"{number}.mp4", sound_seconds=0.5, tone=300.0 * (number + 1))
        film.rename(films / film.name)
    command = [sys.executable, "-m", "reelseek.cli.main", "add", str(tmp_path / "lib"), str(films)]
    command += ["--experts", "audio", "--ray", machines.address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        end = time.monotonic() + 600
        while process.poll() is None and time.monotonic() < end and _tracks(tmp_path / "lib") < 1:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode in (-signal.SIGKILL, 0)
    with Library.open(tmp_path / "lib") as library, Library.open(tmp_path / "here", create=True) as here:
        assert len(library.track_rows()) >= 1
        add(library, [films], experts=["audio"], cluster=cluster)
        add(here, [films], experts=["audio"], workers=1)
        assert library.failures() == here.failures() == []
        assert library.digest(verify=True) == here.digest(verify=True)


def _tracks(path: Path) -> int:
    if not (path / "library.db").is_file():
        return 0
    try:
        with Library.open(path) as library:
            return len(library.track_rows())
    except Exception:  # it is being begun
        return 0
