"""Commands on a cluster give what they give on one machine: tables, digests, pairs, trials and verdicts."""

import csv
import json
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from reelseek.cli.cluster import with_address
from reelseek.cli.main import app
from reelseek.cluster import Cluster, connect
from reelseek.errors import ClusterError, UsageError
from reelseek.experiments.run import home_of, run_experiment, source_of
from reelseek.library import Library, add
from reelseek.models import load_model
from reelseek.search import Index, update_index
from reelseek.search import build as build_module
from reelseek.search import embedding as embedding_module
from reelseek.search import merge as merge_module
from reelseek.search import scoring as scoring_module
from reelseek.training import evaluate
from reelseek.training.tune import Range, tune
from tests.experiments.test_experiments import TINY, _tiny
from tests.models.worlds import small
from tests.search.talks import add_talk, make_talks
from tests.training.test_training import world  # noqa: F401 - the fixture

RECIPE = {
    "model": {"system": "mmt", "width": 16, "depth": 1, "heads": 2, "inner": 16},
    "train": {"epochs": 1, "batch": 32, "rate": 1e-3, "device": "cpu"},
}


def _run(*arguments: object) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_add_gives_the_tables_of_one_machine(cluster: Cluster, make_video, tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    for number in range(3):
        film = make_video(f"{number}.mp4", sound_seconds=0.5, tone=300.0 * (number + 1))
        film.rename(films / film.name)
    (films / "broken.mp4").write_bytes(b"no film")
    (films / "0.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nzebra\n")
    digests, failures = [], []
    for name, place in (("here", None), ("there", cluster)):
        with Library.open(tmp_path / name, create=True) as library:
            report = add(library, [films], experts=["audio", "plain", "speech"], cluster=place)
            assert report.extracted == 3
            digests.append(library.digest(verify=True))
            failures.append([(failure["video"], failure["reason"]) for failure in library.failures()])
            assert library.add([films], cluster=place).nothing_new
    assert digests[0] == digests[1]
    assert failures[0] == failures[1]
    assert [video for video, _ in failures[0]] == ["broken.mp4"]


def test_a_scan_lists_the_pairs_of_one_machine(
    machines: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reelseek.overlap.spread._FRAMES", 40)  # many cells
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(12, 8)).astype(np.float32)
    for part in ("test", "train"):
        (tmp_path / "frames" / part).mkdir(parents=True)
        for number in range(14):
            frames = rng.normal(size=(int(rng.integers(3, 20)), 8)).astype(np.float32)
            if number % 4 == 0:
                frames = shared  # more equal pairs than are listed
            np.save(tmp_path / "frames" / part / f"v{number}.npy", frames)
    outputs = []
    for name, options in (("here", []), ("there", ["--ray"])):
        out = tmp_path / name
        sets = ["--test", "test", "--train", "train", "--top", 10, "--out", out]
        outputs.append(_run("overlap", "scan", *options, tmp_path / "frames", *sets).replace(name, ""))
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()
    assert outputs[0] == outputs[1]
    assert len((tmp_path / "here").read_text().splitlines()) == 10


@pytest.mark.long
def test_a_search_over_ranges_and_combinations_are_those_of_one_machine(
    cluster: Cluster,
    world: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    ranges = {"train.rate": Range(1e-6, 1e-2, log=True), "model.depth": [1, 2]}
    with Library.open(world) as library:
        here = tune(RECIPE, ranges, library, tmp_path / "here", trials=3)
        there = tune(RECIPE, ranges, library, tmp_path / "there", trials=3, cluster=cluster)
        assert here == there
        assert (tmp_path / "here" / "trials.csv").read_text() == (tmp_path / "there" / "trials.csv").read_text()
        with (tmp_path / "there" / "trials.csv").open() as file:
            assert len({row["train.rate"] for row in csv.DictReader(file)}) == 3
        model = load_model(tmp_path / "there" / f"trial-{there.number:03}")
        other = load_model(tmp_path / "here" / f"trial-{there.number:03}")
        for name, values in model.state_dict().items():
            assert torch.equal(values, other.state_dict()[name]), name
        alone = evaluate(model, library, combinations="all").as_json()
        assert len(alone["combinations"]) == 3
        assert evaluate(model, library, combinations="all", cluster=cluster).as_json() == alone


@pytest.mark.long
def test_an_index_is_that_of_one_machine(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embedded in many parts, among copies of what it has; one video is damaged."""
    for module in (build_module, scoring_module):
        monkeypatch.setattr(module, "background_queries", lambda: ["a man walks", "music plays", "a car drives by"])
    monkeypatch.setattr(merge_module, "_CLIPS_A_BLOCK", 4)
    monkeypatch.setattr(embedding_module, "_BLOCKS_A_SLOT", 2)
    model, rng = small("late_fusion"), np.random.default_rng(1)
    with make_talks(tmp_path / "library", 10) as library:
        update_index(library, model)
        with library.saving():
            for number in range(20):
                add_talk(library, f"v{number:03d}-and-a-half", rng)
        shard = next((tmp_path / "library" / "tracks").rglob("*.values"))
        content = bytearray(shard.read_bytes())
        content[-1] ^= 1
        shard.write_bytes(content)
        shutil.copytree(library.path, tmp_path / "copy")
        there = update_index(library, model, cluster=cluster)
        assert (there.live, len(there.left_out)) == (29, 1)
    with Library.open(tmp_path / "copy") as library:
        here = update_index(library, model)
        for one, other in zip(_contents_of(here), _contents_of(there), strict=True):
            assert str(one).replace(str(tmp_path / "copy"), str(tmp_path / "library")) == str(other)


def _contents_of(index: Index) -> list[object]:
    """All that an index is but for the names that its files draw."""
    records = [replace(segment.record, name="", deletions="") for segment in index.segments]
    files = [
        (name, segment.file(name).array().tobytes())
        for segment in index.segments
        for name in sorted(segment.sums)
        if name.endswith(".npy") and name != segment.record.deletions
    ]
    return [records, files, index.left_out, index.experts, index.candidates]


@pytest.mark.long
def test_an_experiment_has_the_values_of_one_machine(cluster: Cluster, tmp_path: Path) -> None:
    """Also where an arm starts from another one's model, and a later run asks for more of what nodes trained."""
    experiment = _tiny(epochs=1, world=replace(TINY, train=24, validation=6, test=6))
    here = run_experiment(experiment, tmp_path / "here", [1], workers=1)
    there = run_experiment(experiment, tmp_path / "there", [1], cluster=cluster)
    for key, results in here.items():
        for one, two in zip(results, there[key], strict=True):
            plain = [json.dumps({**result, "seconds": 0}) for result in (one, two)]
            assert plain[0].replace(str(tmp_path / "here"), "") == plain[1].replace(str(tmp_path / "there"), "")
    late, tuned = experiment.tables[0].arms
    record = json.loads((home_of(tmp_path / "there", source_of(None), tuned) / "seed-1/model/config.json").read_text())
    start = home_of(tmp_path / "there", source_of(None), late) / "seed-1" / "model"
    assert record["recipe"]["train"]["start"] == str(start)
    assert run_experiment(experiment, tmp_path / "there", [1]) == there
    more = replace(late, views=(*late.views, replace(late.views[0], name="again")))
    larger = replace(experiment, tables=(replace(experiment.tables[0], arms=(more, tuned)),))
    added = run_experiment(larger, tmp_path / "there", [1], workers=1)[late.key][0]["views"]
    assert added["again"] == added[late.views[0].name]


@pytest.mark.long
def test_a_library_that_a_node_does_not_have_is_named(cluster: Cluster, tmp_path: Path) -> None:
    from reelseek.library import cluster_work

    with Library.open(tmp_path / "lib", create=True) as library:
        library.put_split("test", [])
    cluster_work.require_library(cluster, tmp_path / "lib")
    with pytest.raises(ClusterError, match=r"node \S+ \(\w{8}\) has the library .* unreadable"):
        cluster.require(_Moved(tmp_path / "lib"))


class _Moved:
    """What the driver reads at a path, and nodes at another one."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, f"the library {path}"

    def __call__(self) -> dict[str, str]:
        from reelseek.library.cluster_work import _content

        facts = _content(self.path)
        self.path = self.path / "elsewhere"
        return {self.name: next(iter(facts.values()))}


def test_an_address_may_be_left_out() -> None:
    assert with_address(["lib", "--ray"]) == ["lib", "--ray=auto"]
    assert with_address(["lib", "--ray", "films"]) == ["lib", "--ray=auto", "films"]
    assert with_address(["lib", "--ray", "s3://b/films"]) == ["lib", "--ray=auto", "s3://b/films"]
    assert with_address(["--ray", "--device", "cpu"]) == ["--ray=auto", "--device", "cpu"]
    for address in ("local", "auto", "10.0.0.1:6379", "[::1]:6379", "head.example:6379", "ray://x:10001"):
        assert with_address(["--ray", address, "films"]) == ["--ray", address, "films"]
    assert with_address(["--", "--ray"]) == ["--", "--ray"]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:9", "cannot be reached: no connection within 5 s"),
        ("127.0.0.1:99999", "wanted HOST:PORT"),
        ("ray://127.0.0.1:10001", "not through ray://"),
        ("films", "wanted HOST:PORT"),
    ],
)
def test_a_cluster_that_cannot_be_reached_is_an_error_within_seconds(address: str, reason: str) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from reelseek.cluster.connection import _resolve

    with pytest.raises((ClusterError, UsageError), match=reason):
        _resolve(address)


def test_what_listens_and_is_no_cluster_is_an_error_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from reelseek.cluster import connection

    monkeypatch.setattr(connection, "_ANSWER_SECONDS", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(ClusterError, match=r"127.0.0.1:\d+ cannot be reached: what listens there is no cluster"):
            connection._resolve("auto")


def test_without_the_extra_one_line_says_how_to_install_it(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['ray'] = None; sys.argv = ['reelseek', 'add', sys.argv[1], sys.argv[2], '--ray'];"
        "from reelseek.cli.main import main; main()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "lib"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --ray needs Ray; install it with: pip install 'reelseek[ray]'\n"
    assert not (tmp_path / "lib").exists()


def test_a_second_driver_is_told_who_writes(cluster: Cluster, tmp_path: Path) -> None:
    from reelseek.errors import LibraryError

    with (
        Library.open(tmp_path / "lib", create=True) as one,
        Library.open(tmp_path / "lib") as two,
        one.writing(),
        pytest.raises(LibraryError, match="writ"),
    ):
        add(two, [tmp_path], cluster=cluster)


def test_the_running_cluster_of_a_process_is_used(machines: object) -> None:
    with connect("127.0.0.1:9") as cluster:  # its address is of no account then
        assert [node.cpus for node in cluster.nodes()] == [1, 1]
