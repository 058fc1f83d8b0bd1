"""A device says where the best pairs may be: what comes of it is the host's, bit for bit."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from reelseek.overlap import blocks, match, screen
from reelseek.overlap.curve import search_curve
from reelseek.overlap.match import Match, best_matches, unit_rows
from reelseek.overlap.weights import as_gallery_rows, background_rows
from tests.models.pretended_device import DEVICE, pretended_device

Videos = list[np.ndarray]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few videos and tiles of a few blocks, so that a small set has many of both."""
    for module in (blocks, screen):
        monkeypatch.setattr(module, "ROWS", 16)
        monkeypatch.setattr(module, "COLUMNS", 24)
    monkeypatch.setattr(screen, "_MOST_FRAMES", 60)


def _random(rng: np.random.Generator, count: int, dim: int = 16) -> Videos:
    return [unit_rows(rng.normal(size=(int(rng.integers(1, 12)), dim))) for _ in range(count)]


def _alike(rng: np.random.Generator, count: int) -> Videos:
    """Frames that are one of three, or nothing at all: hundreds of pairs have the same score."""
    frames = np.concatenate([np.eye(3, 8), np.zeros((1, 8))]).astype(np.float32)
    return [frames[rng.integers(0, 4, size=int(rng.integers(2, 9)))] for _ in range(count)]


def _near(rng: np.random.Generator, count: int) -> Videos:
    """Frames that differ by less than half precision can tell."""
    first = rng.normal(size=16)
    return [unit_rows(first + 1e-3 * rng.normal(size=(5, 16))) for _ in range(count)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("videos", [_random, pytest.param(_alike, marks=pytest.mark.long), _near])
@pytest.mark.parametrize("most", [1, 40])
def test_the_matches_are_the_hosts(
    videos: Callable[..., Videos], most: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen, "_screen_dtype", lambda _: dtype)
    rng = np.random.default_rng(3)
    queries, gallery = videos(rng, 15), videos(rng, 21)
    names = [f"q{i}" for i in range(15)], [f"q{i}" if i % 3 == 0 else f"g{i}" for i in range(21)]
    for some_names in (None, names):
        expected = best_matches(queries, gallery, window=3, most=most, names=some_names)
        with pretended_device():
            assert best_matches(queries, gallery, window=3, most=most, names=some_names, device=DEVICE) == expected


def test_a_set_with_itself_and_scores_relative_to_a_background() -> None:
    rng = np.random.default_rng(4)
    videos = [3 * rows for rows in _random(rng, 20)]  # rows longer than one, as weights may make them
    rows = background_rows(videos, np.concatenate(_random(rng, 3)))
    gallery, names = [as_gallery_rows(each) for each in rows], [str(i) for i in range(20)]
    expected = best_matches(rows, gallery, window=2, most=15, names=(names, names))
    with pretended_device():
        assert best_matches(rows, gallery, window=2, most=15, names=(names, names), device=DEVICE) == expected


def test_the_host_compares_only_what_may_be_among_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    queries, gallery = _random(rng, 60, 32), _random(rng, 60, 32)
    queries, gallery = [q[:4] for q in queries], [g[:4] for g in gallery]
    gallery[17] = queries[42].copy()
    compared, devices = [], []
    original = screen.best_scores

    def watched(one: blocks.PaddedVideos, two: blocks.PaddedVideos, k: int) -> torch.Tensor:
        scores = original(one, two, k)
        (compared if one.values.device.type == "cpu" else devices).append(scores.numel())
        return scores

    monkeypatch.setattr(screen, "best_scores", watched)
    steps: list[tuple[int, int]] = []
    with pretended_device():
        found = best_matches(queries, gallery, window=1, most=1, device=DEVICE, progress=lambda *at: steps.append(at))
    assert (found[0].query, found[0].gallery) == (42, 17)
    assert sum(devices) == 3600
    assert 0 < sum(compared) < 200
    assert steps[-1] == (3600, 3600)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)


@pytest.mark.long
def test_a_tile_holds_no_more_than_the_memory_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    queries = _random(np.random.default_rng(6), 50)
    sizes: list[int] = []
    original = screen.best_scores

    def watched(one: blocks.PaddedVideos, two: blocks.PaddedVideos, k: int) -> torch.Tensor:
        if one.values.device.type != "cpu":
            sizes.append(one.values[..., 0].numel() * two.values[..., 0].numel())
        return original(one, two, k)

    monkeypatch.setattr(screen, "best_scores", watched)
    for free in (2 * 20 * 30**2, 2 * 20 * 60**2):
        monkeypatch.setattr(screen, "free_memory", lambda _, free=free: free)
        sizes.clear()
        with pretended_device():
            best_matches(queries, queries, most=3, device=DEVICE)
        assert 0 < max(sizes) * 20 <= free / 2
    assert max(sizes) > 30**2


def test_a_search_curve_is_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    queries, gallery = _random(rng, 12), _random(rng, 15)
    copies = {i: unit_rows(query + 0.6 * rng.normal(size=query.shape)) for i, query in enumerate(queries)}
    expected = search_curve(queries, gallery, copies, window=3)
    precisions: list[str] = []
    original = screen.best_scores

    def watched(one: blocks.PaddedVideos, two: blocks.PaddedVideos, k: int) -> torch.Tensor:
        precisions.append(torch.get_float32_matmul_precision())
        return original(one, two, k)

    monkeypatch.setattr(screen, "best_scores", watched)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")  # as training leaves it
    try:
        with pretended_device():
            curve = search_curve(queries, gallery, copies, window=3, device=DEVICE)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert set(precisions) == {"highest"}
    assert curve.negatives.tolist() == expected.negatives.tolist()
    assert (curve.pairs, curve.recall.tolist()) == (expected.pairs, expected.recall.tolist())
    assert curve.negatives[-1] > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
@pytest.mark.parametrize("videos", [_random, _alike, _near])
def test_a_gpu_gives_the_hosts_matches(videos: Callable[..., Videos]) -> None:
    rng = np.random.default_rng(8)
    queries, gallery = videos(rng, 200), videos(rng, 300)
    expected: list[Match] = best_matches(queries, gallery, window=3, most=100)
    assert match.best_matches(queries, gallery, window=3, most=100, device=torch.device("cuda")) == expected
