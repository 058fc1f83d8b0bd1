"""A worker may die, hang or swallow memory: the run goes on, and nothing hangs past its limit."""

import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reelseek.errors import LimitError, MediaError
from reelseek.media.container import Limits
from reelseek.media.decode import decode
from reelseek.media.guard import Workers, guarded, stream
from reelseek.media.streams import FrameStream, SoundStream


def _behave(item: str) -> str:
    if item == "die":
        os.abort()
    if item == "hang":
        time.sleep(6000)
    if item == "eat":
        return str(len(bytearray(2**34)))
    if item == "raise":
        raise MediaError("of its own")
    return item.upper()


@pytest.mark.long
def test_one_bad_item_ends_at_most_its_own_worker() -> None:
    items = ["a", "die", "b", "hang", "c", "eat", "d", "raise", "e"]
    started = time.monotonic()
    with Workers(_behave, workers=2, memory_bytes=2**30) as pool:
        outcomes = dict(pool.map(items, lambda _: 6.0))
    assert {outcomes[i] for i in "abcde"} == set("ABCDE")
    assert isinstance(outcomes["die"], MediaError)
    assert isinstance(outcomes["hang"], LimitError)
    assert isinstance(outcomes["eat"], LimitError)
    assert str(outcomes["raise"]) == "of its own"
    assert time.monotonic() - started < 550


def _decode(path: Path) -> int:
    return decode(path, {FrameStream(5, 64): [lambda _: None], SoundStream(): [lambda _: None]}).frames


@pytest.mark.long
def test_mutated_files_crash_nothing(archive: Path, tmp_path: Path) -> None:
    rng = random.Random(5)
    sources = [path for path in sorted(archive.iterdir()) if path.suffix in (".mp4", ".webm", ".mkv", ".mov", ".avi")]
    files = []
    for number in range(120):
        data = bytearray(rng.choice(sources).read_bytes())
        for _ in range(rng.choice([1, 4, 40, 400])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.2:
            data = data[: rng.randrange(1, len(data))]
        if rng.random() < 0.3:  # the head of a file says most of what can go wrong
            for _ in range(30):
                data[rng.randrange(min(2000, len(data)))] = rng.randrange(256)
        path = tmp_path / f"{number}.{rng.choice(['mp4', 'webm', 'mkv', 'avi'])}"
        path.write_bytes(data)
        files.append(path)
    limit = Limits(base_seconds=20, seconds_per_second=0)
    with Workers(_decode, workers=2, memory_bytes=limit.memory_bytes) as pool:
        outcomes = dict(pool.map(files, lambda _: 25.0))
    assert set(outcomes) == set(files)
    for path, outcome in outcomes.items():
        assert isinstance(outcome, int | MediaError), (path.name, outcome)
    assert any(isinstance(outcome, int) for outcome in outcomes.values())


def test_an_interrupted_pool_does_not_wait() -> None:
    def use() -> None:
        with Workers(_behave, workers=1, memory_bytes=2**30) as pool:
            for item, _ in pool.map(["a", "hang"], lambda _: 500.0):
                if item == "a":
                    raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        use()
    assert time.monotonic() - started < 550


def test_processes_that_were_started_outlive_a_thread_that_maps() -> None:
    with Workers(_process_number, workers=1, memory_bytes=2**30) as pool:
        pool.start()
        numbers: list[int] = []

        def work() -> None:
            numbers.extend(number for _, number in pool.map(["a"], lambda _: 60.0) if isinstance(number, int))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        work()
    assert len(numbers) == 2
    assert numbers[0] == numbers[1]


def _process_number(_: str) -> int:
    return os.getpid()


def _yield(item: str) -> Iterator[tuple[str, bytes]]:
    yield item, b"first"
    if item in ("die", "hang", "eat", "raise"):
        yield item, b"x" * 2**19
        _behave(item)
    yield item, b"last"


@pytest.mark.long
def test_a_stream_goes_on_after_what_ends_its_process() -> None:
    items = ["a", "die", "b", "hang", "c", "eat", "raise", "d"]
    outcomes: dict[str, list[object]] = {item: [] for item in items}
    for item, result in stream(_yield, items, seconds=lambda item: 3.0 if item == "hang" else 60.0, memory_bytes=2**30):
        outcomes[item].append(result)
    for item in "abcd":
        assert outcomes[item] == [(item, b"first"), (item, b"last")]
    assert isinstance(outcomes["die"][-1], MediaError)
    assert "worker process died" in str(outcomes["die"][-1])
    assert isinstance(outcomes["hang"][-1], LimitError)
    assert isinstance(outcomes["eat"][-1], LimitError)
    assert str(outcomes["raise"][-1]) == "of its own"


def test_one_guarded_call_returns_or_raises() -> None:
    assert guarded(_behave, "a", seconds=60) == "A"
    with pytest.raises(MediaError, match="died"):
        guarded(_behave, "die", seconds=60)
