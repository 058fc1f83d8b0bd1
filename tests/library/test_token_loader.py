"""Batches that worker processes read ahead are those that one process reads, and a worker's end is said."""

import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from reelseek.errors import FeatureError, LibraryError
from reelseek.experts.expert import Track
from reelseek.library import Library
from reelseek.library.token_loader import TokenLoader, TokenRequest, read_tokens
from reelseek.library.tokens import Clip, Steps, TokenReader

DIMS = {"see": 6, "hear": 3}


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[TokenReader]:
    """Twenty videos of up to 40 steps, the last of which holds NaN; the sixteenth has no sound."""
    rng = np.random.default_rng(0)
    with Library.open(tmp_path / "lib", create=True) as library:
        with library.writing(), library.saving():
            for video in range(20):
                library.db.execute("INSERT INTO videos(id) VALUES (?)", (f"v{video}",))
                for name, dim in DIMS.items():
                    steps = 0 if video == 15 and name == "hear" else int(rng.integers(1, 41))
                    values = rng.normal(size=(steps, dim)).astype(np.float32)
                    track = Track(values, np.stack([np.arange(steps), np.arange(steps) + 1.0], 1))
                    values[0 if video == 19 else steps :] = np.nan  # behind the back of the track's own check
                    library.put_track(f"id:v{video}", name, f"{name}:test", "appearance", track)
        yield TokenReader(library, step_by_step={"hear": 25})


def _requests(count: int, seed: int = 1) -> list[TokenRequest]:
    """Batches of different sizes, of whole videos and of spans, some read earlier or later."""
    rng = np.random.default_rng(seed)
    requests = []
    for number in range(count):
        clips = [Clip(f"v{video}") for video in rng.choice(19, 1 + number % 7, replace=False)]
        clips += [Clip(f"v{rng.integers(19)}", float(start), start + 4.5) for start in rng.integers(0, 9, 3)]
        requests.append(TokenRequest(clips, {"hear": rng.choice([-2.0, 0.25], len(clips)).tolist()}))
    return requests


def _same(one: dict[str, Steps], two: dict[str, Steps]) -> bool:
    return list(one) == list(two) and all(
        torch.equal(getattr(one[name], part), getattr(two[name], part))
        for name in one
        for part in ("values", "present", "spans", "mask")
    )


@pytest.mark.parametrize("workers", [1, 3])
def test_the_same_batches_in_the_same_order_and_nothing_is_overwritten_that_somebody_holds(
    reader: TokenReader, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    requests = _requests(23)
    expected = [read_tokens(reader, request) for request in requests]
    left_out = dict(reader.left_out)
    assert left_out["hear"] > 0
    reader.left_out.clear()
    caplog.clear()
    torch.manual_seed(5)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    with closing(TokenLoader(reader, workers)) as loader:
        passes = [list(loader.load(requests))]
        assert reader.left_out == left_out
        passes.append(list(loader.load(requests)))
        assert all(_same(*pair) for batches in passes for pair in zip(batches, expected, strict=True))
        del passes
        first = next(loader.load(requests))  # a pass that is left in its middle
        for number, tokens in enumerate(loader.load(requests)):
            assert _same(tokens, expected[number])
    assert _same(first, expected[0])
    assert torch.equal(torch.rand(1), drawn)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert not multiprocessing.active_children()


def test_what_the_pinning_thread_copies_is_the_batch(reader: TokenReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU no memory can be pinned; all else that its thread does is done here."""
    empty, tokens_of = torch.empty, TokenLoader._tokens
    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory=False, **options: empty(*size, **options))
    monkeypatch.setattr(TokenLoader, "_tokens", lambda loader, answer: tokens_of(loader, answer.pin_memory()))
    requests = _requests(12)
    with closing(TokenLoader(reader, 1)) as loader:
        batches = list(loader.load(requests))
        assert len(loader._feed.blocks._blocks) <= 4  # which were free again at once
    assert all(_same(tokens, read_tokens(reader, request)) for tokens, request in zip(batches, requests, strict=True))


def test_an_error_comes_where_its_batch_would_and_the_next_pass_is_whole(reader: TokenReader) -> None:
    requests = _requests(9)
    requests[5] = TokenRequest([Clip("v3"), Clip("v19")], {})
    with closing(TokenLoader(reader, 2)) as loader:
        batches = loader.load(requests)
        assert all(_same(next(batches), read_tokens(reader, request)) for request in requests[:5])
        with pytest.raises(FeatureError, match="NaN"):
            next(batches)
        assert len(list(loader.load(requests[:5]))) == 5


@pytest.mark.long
def test_a_worker_that_dies_is_an_error_that_names_batch_and_reason(reader: TokenReader) -> None:
    with closing(TokenLoader(reader, 2)) as loader:
        batches = loader.load(_requests(40))
        next(batches)
        for worker in multiprocessing.active_children():
            os.kill(worker.pid or 0, signal.SIGKILL)
        with pytest.raises(LibraryError, match=r"while batch \d+ was due .*SIGKILL"):
            list(batches)
        assert not multiprocessing.active_children()
        assert len(list(loader.load(_requests(3)))) == 3


def test_a_library_is_opened_again_in_another_process(reader: TokenReader) -> None:
    copy: TokenReader = pickle.loads(pickle.dumps(reader))  # noqa: S301 - what was dumped on the same line
    library, opened = reader._library, copy._library
    assert isinstance(library, Library)
    assert isinstance(opened, Library)
    with opened:
        assert opened.path == library.path
        assert opened.db is not library.db
        assert _same(copy.batch([Clip("v1")]), reader.batch([Clip("v1")]))


_SCRIPT = """
import sys, time
from reelseek.library import Library
from reelseek.library.tokens import Clip, TokenReader
from reelseek.library.token_loader import TokenLoader, TokenRequest, read_tokens
library = Library.open(sys.argv[1])
loader = TokenLoader(TokenReader(library), 2)
for _ in loader.load([TokenRequest([Clip("v1")], {})] * 100_000):
    print("read", flush=True)
    time.sleep(0.05)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.long)])
def test_a_script_that_is_ended_leaves_no_process_behind(
    reader: TokenReader, tmp_path: Path, number: signal.Signals
) -> None:
    """A script without `if __name__ == "__main__"`, and whose workers a terminal's Ctrl-C reaches too."""
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT, "utf-8")
    command = [sys.executable, str(script), str(tmp_path / "lib")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "read\n"
        assert len(_session(process.pid)) >= 4  # it, the server that workers come from, and these
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.kill()
        errors = process.stderr.read() if number == signal.SIGINT else ""
        process.wait(60)
    assert errors.count("Traceback") <= 1  # the script's, and none of a worker
    end = time.monotonic() + 60
    while (remaining := _session(process.pid)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not remaining


def _session(leader: int) -> list[int]:
    """The processes of a session."""
    members = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            if int(fields[3]) == leader and fields[0] != "Z":
                members.append(int(folder.name))
    return members
