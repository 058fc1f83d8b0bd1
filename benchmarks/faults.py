"""Kills workers, nodes and drivers at random moments of an ingest and a scan on a cluster of nodes on this machine.

A killed driver is started again with the same command; lost nodes are replaced. After each trial the library's digest,
or the file of pairs, has to be that of an undisturbed run on this machine alone. Nodes may take ten times as long to
start as Ray allows, and are tried again, which is said. Run with the number of trials; a run that was stopped goes on
with --first and the number of trials that it did:

    python benchmarks/faults.py 20 faults.json
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's own spelling; else all other work comes first
os.environ["RAY_gcs_server_port_wait_time_s"] = "300"  # noqa: SIM112

import av
import numpy as np
from ray._private import services
from ray.cluster_utils import Cluster

from reelseek.errors import ReelseekError
from reelseek.library import Library

NODE = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
NODES = 2
FILMS = 16
_MOST_VAIN = 5  # runs of a trial that end before anything is killed
_START_SECONDS = 300  # of a node; Ray's own 30 are too few for a busy machine
_START_TRIES = 4
_MOST_STARTS = 10  # of a command whose cluster was too busy to answer it


def write_films(folder: Path) -> None:
    """Films of sound alone, each another tone, and a file that is none."""
    folder.mkdir()
    for number in range(FILMS):
        with av.open(str(folder / f"{number:02}.wav"), "w") as out:
            track = out.add_stream("pcm_s16le", rate=16_000, layout="mono")
            times = np.arange(16_000 * 20) / 16_000
            samples = (8000 * np.sin(times * 2 * np.pi * (200 + 10 * number))).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.rate = 16_000
            out.mux(track.encode(frame))
            out.mux(track.encode(None))
    (folder / "none.mp4").write_bytes(b"no film")


def write_frames(folder: Path) -> None:
    """Features of two sets that share some seconds."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(60, 64)).astype(np.float32)
    for part in ("test", "train"):
        (folder / part).mkdir(parents=True)
        for number in range(150):
            frames = rng.normal(size=(int(rng.integers(30, 120)), 64)).astype(np.float32)
            if number % 5 == 0:
                frames[5:25] = shared[number // 5 : number // 5 + 20]
            np.save(folder / part / f"v{number:03}.npy", frames)


def ingest(root: Path, out: Path) -> list[str]:
    """The command of an ingest."""
    return ["add", str(out), str(root / "films"), "--experts", "audio"]


def scan(root: Path, out: Path) -> list[str]:
    """The command of a scan."""
    return ["overlap", "scan", str(root / "frames"), "--test", "test", "--train", "train", "--out", str(out)]


def outcome(kind: str, out: Path) -> str:
    """What has to be the same."""
    if kind == "scan":
        return out.read_text("utf-8")
    with Library.open(out) as library:
        failures = sorted(failure["video"] for failure in library.failures())
        return f"{library.digest(verify=True)} {failures}"


def start(command: list[str], address: str | None, output: Any = subprocess.PIPE) -> subprocess.Popen[str]:
    """Start a command of Reelseek, on a cluster if it has an address."""
    options = ["--ray", address] if address else []
    program = [sys.executable, "-m", "reelseek.cli.main", *command, *options]
    return subprocess.Popen(program, stdout=output, stderr=subprocess.STDOUT, text=True)


def actors(cluster: Any) -> list[int]:
    """Processes of actors on the nodes of this cluster, and of no other one."""
    raylets = {str(node.all_processes["raylet"][0].process.pid) for node in cluster.worker_nodes}
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()]
    return [int(pid) for pid, parent, name in rows if parent in raylets and name.startswith("ray::TaskActor")]


def disturb(what: str, cluster: Any, process: subprocess.Popen[str]) -> bool:
    """Kill one thing that is at work; False where nothing is yet, or any more."""
    running = actors(cluster)
    if not running or process.poll() is not None:
        return False
    if what == "driver":
        process.send_signal(signal.SIGKILL)
    elif what == "worker":
        os.kill(random.choice(running), signal.SIGKILL)
    else:
        cluster.remove_node(random.choice(sorted(cluster.worker_nodes, key=id)), allow_graceful=False)
        add_node(cluster)
    return True


def wait_patiently() -> None:
    """Let Ray wait for a node that starts; how long it does is no setting of it."""
    get_node = services.get_node

    def get_started_node(*arguments: Any) -> Any:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                return get_node(*arguments)
            except RuntimeError:  # it is not up yet
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.5)

    services.get_node = get_started_node


def add_node(cluster: Any, cpus: int = 1) -> None:
    """Add a node, the first of which is the head, trying again where it does not start in time."""
    for attempt in range(1, _START_TRIES + 1):
        try:
            node = cluster.add_node(wait=False, num_cpus=cpus, **NODE)
            services.wait_for_node(node.gcs_address, node.plasma_store_socket_name, _START_SECONDS)
            return
        except Exception as error:  # Ray raises nearly everything here
            if attempt == _START_TRIES:
                raise
            print(f"a node did not start, try {attempt}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)


def working_seconds(process: subprocess.Popen[str], cluster: Any) -> float:
    """Wait for the end of an undisturbed run; returns how long there were actors."""
    began = None
    while process.poll() is None:
        if began is None and actors(cluster):
            began = time.monotonic()
        time.sleep(0.1)
    assert began is not None, "an undisturbed run had no actor"
    return time.monotonic() - began


def run_disturbed(command: list[str], what: str, cluster: Any, working: float) -> tuple[Counter[str], int, int, str]:
    """Run a command, kill something twice while it works, and run it again until it ends by itself.

    The first kill comes at a random moment of the first third of the work, so that something is under way; the second
    one, which may come too late, at a random moment of the whole.

    Args:
        working: seconds of an undisturbed run's work, from its first actor on.

    Returns:
        what was killed, how often the command was started, its exit code and its output.
    """
    kills, starts, outputs = Counter[str](), 1, []
    pauses = [random.uniform(0.0, working / 3), random.uniform(0.0, working)]
    process = start(command, cluster.address)
    began: float | None = None  # when this process, or this part of it, was first seen to work
    while True:
        if began is None and actors(cluster):
            began = time.monotonic()
        if pauses and began is not None and time.monotonic() - began > pauses[0] and disturb(what, cluster, process):
            kills[what] += 1
            pauses.pop(0)
            began = None
        try:
            outputs.append(process.communicate(timeout=0.1)[0])
        except subprocess.TimeoutExpired:
            continue
        if process.returncode > 0 and "cannot be reached" in outputs[-1] and starts < _MOST_STARTS:
            print(f"started again: {outputs[-1].strip()}", file=sys.stderr, flush=True)
        elif process.returncode >= 0:
            return kills, starts, process.returncode, "".join(outputs)
        process = start(command, cluster.address)
        starts += 1


def trial(kind: str, what: str, cluster: Any, root: Path, working: float, expected: str) -> dict[str, Any]:
    """Disturb a run and compare what it leaves; a run in which nothing was killed is none, and is taken again."""
    out = root / f"out-{kind}"
    began, vain = time.monotonic(), 0
    while True:
        command = {"add": ingest, "scan": scan}[kind](root, out)
        kills, starts, code, text = run_disturbed(command, what, cluster, working)
        if kills[what] or vain == _MOST_VAIN:
            break
        vain += 1
        working /= 2
        remove_outputs(root, kind)
    try:
        same = code in (0, 1) and outcome(kind, out) == expected
    except (ReelseekError, OSError) as error:
        same, text = False, f"{text}\n{error}"
    row = {"kind": kind, "killed": what, "kills": kills[what], "starts": starts, "same": same, "without_a_kill": vain,
           "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
    if not same:
        row["output"] = text[-2000:]
    remove_outputs(root, kind)
    return row


def remove_outputs(root: Path, kind: str) -> None:
    """Delete what a run wrote."""
    for path in root.glob(f"out-{kind}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def main() -> None:
    """Run trials and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trials", type=int, nargs="?", default=3)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first trial, where a run goes on")
    options = parser.parse_args()
    random.seed(options.seed)
    rows = []
    with tempfile.TemporaryDirectory(prefix="reelseek-faults-") as name:
        root = Path(name)
        write_films(root / "films")
        write_frames(root / "frames")
        wait_patiently()
        cluster = Cluster()
        for cpus in (0, *[1] * NODES):
            add_node(cluster, cpus)
        expected, seconds = {}, {}
        for kind, command in (("add", ingest), ("scan", scan)):
            start(command(root, root / "here"), None).communicate()
            expected[kind] = outcome(kind, root / "here")
            shutil.rmtree(root / "here") if (root / "here").is_dir() else (root / "here").unlink()
            with (root / "output").open("w") as output:
                seconds[kind] = working_seconds(start(command(root, root / "there"), cluster.address, output), cluster)
            assert outcome(kind, root / "there") == expected[kind], "an undisturbed run on the cluster differs"
            shutil.rmtree(root / "there") if (root / "there").is_dir() else (root / "there").unlink()
        print(f"seconds of work of an undisturbed run: {json.dumps(seconds)}", flush=True)
        for number in range(options.first, options.trials):
            kind, what = ("add", "scan")[number % 2], ("worker", "node", "driver")[number // 2 % 3]
            rows.append(trial(kind, what, cluster, root, seconds[kind], expected[kind]))
            print(json.dumps(rows[-1]), flush=True)
            if options.out is not None:  # after each, as a run takes an hour
                options.out.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
        cluster.shutdown()
    good = sum(row["same"] and row["kills"] > 0 for row in rows)
    print(f"{good} of {len(rows)} trials killed something and ended with the outcome of an undisturbed run")
    sys.exit(good < len(rows))


if __name__ == "__main__":
    main()
