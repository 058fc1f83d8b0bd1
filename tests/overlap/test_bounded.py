"""Weights of common frames and near pairs, from frames in a file: the same in any blocks, in memory that stays."""

import ctypes
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from reelseek.overlap import nearest, weights
from reelseek.overlap.match import Match, unit_rows
from reelseek.overlap.nearest import near_matches
from reelseek.overlap.spool import Spool
from reelseek.overlap.weights import common_weights


def _videos(count: int, seed: int = 0, width: int = 16) -> list[np.ndarray]:
    """Every third video begins with the same frame; some share a scene with the one before."""
    rng = np.random.default_rng(seed)
    logo = rng.normal(size=width)
    videos: list[np.ndarray] = []
    for place in range(count):
        rows = rng.normal(size=(int(rng.integers(1, 10)), width))
        if place % 3 == 0:
            rows[0] = logo
        if place % 5 == 4 and len(videos[-1]) > 2:
            rows = np.concatenate([rows, videos[-1][1:] + 0.1 * rng.normal(size=videos[-1][1:].shape)])
        videos.append(rows)
    return [unit_rows(rows).astype(np.float32) for rows in videos]


def _naive_weights(videos: Sequence[np.ndarray], above: int) -> list[np.ndarray]:
    weighed = []
    for video in videos:
        containing = sum(((video @ other.T) >= 0.9).any(1).astype(int) for other in videos)
        weighed.append(np.minimum(1, above / np.maximum(containing - 1, 1)).astype(np.float32))
    return weighed


@pytest.mark.parametrize("frames", [1, 7, 40, 2**16])
def test_common_frames_are_the_same_in_any_blocks(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = _videos(30)
    expected = _naive_weights(videos, 2)
    assert min(row.min() for row in expected) < 0.5
    monkeypatch.setattr(weights, "_FRAMES_A_BLOCK", frames)
    monkeypatch.setattr(weights, "_BLOCK", 5)
    with Spool(videos) as spool:
        for rows in (videos, spool):
            for one, other in zip(common_weights(rows, 2), expected, strict=True):
                np.testing.assert_array_equal(one, other)


def _near(videos: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> tuple[list[Match], float]:
    names = [f"a{n}" for n in range(len(videos))], [f"b{n}" for n in range(len(others))]
    with Spool(videos) as one, Spool(others) as two:
        return near_matches(one, two, window=3, most=15, names=names)


@pytest.mark.long
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("windows", [1, 10, 60])
def test_near_pairs_are_the_same_in_any_blocks(windows: int, exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    videos, others = _videos(40, 1), _videos(60, 2)
    others[::4] = videos[:15]
    if not exact:
        monkeypatch.setattr(nearest, "_EXACT_BELOW", 10)
        monkeypatch.setattr(nearest, "_NEIGHBOURS", 8)
    whole = _near(videos, others)
    assert whole[0][0].score > 0.9
    monkeypatch.setattr(nearest, "_WINDOWS_A_BLOCK", windows)
    assert _near(videos, others) == whole
    monkeypatch.setattr(nearest, "_WINDOWS_AN_INDEX", 3 * windows)  # several files
    assert len(list(nearest._blocks(others, 3, 3 * windows))) > 1
    assert _near(videos, others) == whole


def _peak(work) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.long
def test_memory_does_not_grow_with_the_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_FRAMES_A_BLOCK", 100)
    monkeypatch.setattr(nearest, "_WINDOWS_A_BLOCK", 100)
    monkeypatch.setattr(nearest, "_WINDOWS_AN_INDEX", 500)
    few, many = _videos(60, width=512), _videos(600, width=512)
    frames = sum(rows.nbytes for rows in many)
    with Spool(few) as small, Spool(many) as large:
        for work in (
            lambda spool: common_weights(spool, 2),
            lambda spool: nearest._near_pairs(spool, spool, 3, 100, 0),  # what Python has of it
        ):
            work(small)  # imports
            grown = _peak(lambda work=work: work(large)) - _peak(lambda work=work: work(small))
            assert grown < frames / 2


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory without that of files is read from /proc")
def test_memory_of_the_index_does_not_grow_with_the_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of FAISS, which Python does not see: parts of a large index are read from their files."""
    monkeypatch.setattr(nearest, "_EXACT_BELOW", 10)
    monkeypatch.setattr(nearest, "_WINDOWS_A_BLOCK", 500)
    monkeypatch.setattr(nearest, "_WINDOWS_AN_INDEX", 1000)
    measured = []
    search = nearest._search

    def measured_search(*arguments: object) -> object:
        outcome = search(*arguments)
        measured.append(_anonymous_bytes())
        return outcome

    monkeypatch.setattr(nearest, "_search", measured_search)
    rng = np.random.default_rng(0)
    width, frames = 2048, 8000
    videos = (unit_rows(rng.normal(size=(100, width))).astype(np.float32) for _ in range(frames // 100))
    with Spool(_videos(5, width=width)) as few, Spool(videos) as many:
        nearest._near_pairs(few, few, 1, 100, 0)  # imports
        measured.clear()
        before = _anonymous_bytes()
        nearest._near_pairs(few, many, 1, 100, 0)
    assert measured
    assert max(measured) - before < frames * width * 2 / 2  # half of what the whole index holds in half precision


def _anonymous_bytes() -> int:
    """Memory of this process that is no file's, once what is free has been given back."""
    if hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("RssAnon"))
    return int(line.split()[1]) * 1024
