"""Kills workers, nodes and drivers at random moments of an ingest and a scan on a cluster of nodes on this machine.

A killed driver is started again with the same command; lost nodes are replaced. After each trial the library's digest,
or the file of pairs, has to be that of an undisturbed run on this machine alone. Run with the number of trials:

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

import av
import numpy as np
from ray.cluster_utils import Cluster

from reelseek.errors import ReelseekError
from reelseek.library import Library

NODE = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
NODES = 2
FILMS = 16


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


def start(command: list[str], address: str | None) -> subprocess.Popen[str]:
    """Start a command of Reelseek, on a cluster if it has an address."""
    options = ["--ray", address] if address else []
    program = [sys.executable, "-m", "reelseek.cli.main", *command, *options]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def actors(cluster: Any) -> list[int]:
    """Processes of actors on the nodes of this cluster, and of no other one."""
    raylets = {str(node.all_processes["raylet"][0].process.pid) for node in cluster.worker_nodes}
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()]
    return [int(pid) for pid, parent, name in rows if parent in raylets and name.startswith("ray::TaskActor")]


def disturb(what: str, cluster: Any, process: subprocess.Popen[str]) -> bool:
    """Kill one thing; False where there was none."""
    if what == "driver":
        process.send_signal(signal.SIGKILL)
        return True
    if what == "worker":
        running = actors(cluster)
        if running:
            os.kill(random.choice(running), signal.SIGKILL)
        return bool(running)
    cluster.remove_node(random.choice(sorted(cluster.worker_nodes, key=id)), allow_graceful=False)
    cluster.add_node(num_cpus=1, **NODE)
    return True


def trial(kind: str, what: str, cluster: Any, root: Path, seconds: float, expected: str) -> dict[str, Any]:
    """Run a command, kill something once or twice while it runs, and run it again until it ends by itself."""
    out = root / f"out-{kind}"
    command = {"add": ingest, "scan": scan}[kind](root, out)
    began, kills, starts = time.monotonic(), Counter[str](), 0
    moments = sorted(random.uniform(0.0, seconds) for _ in range(2))
    process = start(command, cluster.address)
    starts += 1
    while True:
        if moments and time.monotonic() - began > moments[0]:
            moments.pop(0)
            kills[what] += disturb(what, cluster, process)
        try:
            text, _ = process.communicate(timeout=0.1)
        except subprocess.TimeoutExpired:
            continue
        if process.returncode >= 0:
            break
        process = start(command, cluster.address)
        starts += 1
    try:
        same = process.returncode in (0, 1) and outcome(kind, out) == expected
    except (ReelseekError, OSError) as error:
        same, text = False, f"{text}\n{error}"
    row = {"kind": kind, "killed": what, "kills": kills[what], "starts": starts, "same": same,
           "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
    if not same:
        row["output"] = text[-2000:]
    for path in root.glob(f"out-{kind}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return row


def main() -> None:
    """Run trials and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trials", type=int, nargs="?", default=3)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    rows = []
    with tempfile.TemporaryDirectory(prefix="reelseek-faults-") as name:
        root = Path(name)
        write_films(root / "films")
        write_frames(root / "frames")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **NODE})
        for _ in range(NODES):
            cluster.add_node(num_cpus=1, **NODE)
        expected, seconds = {}, {}
        for kind, command in (("add", ingest), ("scan", scan)):
            start(command(root, root / "here"), None).communicate()
            expected[kind] = outcome(kind, root / "here")
            shutil.rmtree(root / "here") if (root / "here").is_dir() else (root / "here").unlink()
            began = time.monotonic()
            start(command(root, root / "there"), cluster.address).communicate()
            seconds[kind] = time.monotonic() - began
            assert outcome(kind, root / "there") == expected[kind], "an undisturbed run on the cluster differs"
            shutil.rmtree(root / "there") if (root / "there").is_dir() else (root / "there").unlink()
        print(f"undisturbed on the cluster: {json.dumps(seconds)}", flush=True)
        for number in range(options.trials):
            kind, what = ("add", "scan")[number % 2], ("worker", "node", "driver")[number // 2 % 3]
            rows.append(trial(kind, what, cluster, root, seconds[kind], expected[kind]))
            print(json.dumps(rows[-1]), flush=True)
        cluster.shutdown()
    same = sum(row["same"] for row in rows)
    print(f"{same} of {len(rows)} trials ended with the outcome of an undisturbed run")
    if options.out is not None:
        options.out.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    sys.exit(same < len(rows))


if __name__ == "__main__":
    main()
