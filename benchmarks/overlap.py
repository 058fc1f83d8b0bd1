"""Scores of 300 x 3,000 videos of 15 frames of 512 features: against a loop over pairs and diagonals, against matrix
products alone, how memory goes with a gallery ten times as large, and what neighbours of window means miss.

Run: python benchmarks/overlap.py [PAIRS]   (the loop is timed on so many pairs, default 3,000, and scaled up)
"""

import resource
import sys
import time

import numpy as np
import torch

from reelseek.overlap.blocks import group_by_length, score_blocks
from reelseek.overlap.match import best_matches
from reelseek.overlap.nearest import near_matches

QUERIES, GALLERY, FRAMES, DIM, K = 300, 3000, 15, 512, 4


def unit(rng: np.random.Generator, videos: int) -> np.ndarray:
    rows = rng.normal(size=(videos, FRAMES, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=2, keepdims=True)


def loop(one: np.ndarray, two: np.ndarray) -> float:
    cosines = one @ two.T
    best = -np.inf
    for offset in range(-(FRAMES - K), FRAMES - K + 1):
        diagonal = np.diagonal(cosines, offset)
        best = max(best, max(diagonal[a : a + K].mean() for a in range(len(diagonal) - K + 1)))
    return float(best)


def stream(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    scores = np.empty((len(queries), len(gallery)), np.float32)
    for rows, columns, block in score_blocks(group_by_length(list(queries), K), group_by_length(list(gallery), K), K):
        scores[rows.numpy()[0] : rows.numpy()[-1] + 1, columns.numpy()[0] : columns.numpy()[-1] + 1] = block.numpy()
    return scores


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    torch.set_num_threads(2)
    rng = np.random.default_rng(0)
    queries, gallery = unit(rng, QUERIES), unit(rng, GALLERY)
    flat = torch.from_numpy(queries.reshape(-1, DIM)), torch.from_numpy(gallery.reshape(-1, DIM))
    ours, products = [], []
    for _ in range(5):
        began = time.perf_counter()
        similarities = stream(queries, gallery)
        ours.append(time.perf_counter() - began)
        began = time.perf_counter()
        for begin in range(0, len(flat[1]), 4096):
            flat[0] @ flat[1][begin : begin + 4096].T
        products.append(time.perf_counter() - began)
    began = time.perf_counter()
    for number in range(pairs):
        one, two = number % QUERIES, number % GALLERY
        assert abs(loop(queries[one], gallery[two]) - similarities[one, two]) < 1e-5
    naive = (time.perf_counter() - began) * QUERIES * GALLERY / pairs
    middle, product = float(np.median(ours)), float(np.median(products))
    print(f"streamed {middle:.2f} s; products alone {product:.2f} s: {product / middle:.2f} of their rate")
    print(f"loop over pairs and diagonals {naive:.0f} s (from {pairs} pairs): {naive / middle:.0f} x")
    for times in (1, 10):
        large = group_by_length(list(unit(rng, GALLERY * times // 10)), K)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in score_blocks(group_by_length(list(queries), K), large, K):
            pass
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"gallery of {GALLERY * times // 10}: peak memory grew by {grown:.0f} MB while scoring")
    neighbours(rng)


def neighbours(rng: np.random.Generator, times: int = 10) -> None:
    """A gallery in which 200 videos hold six seconds of a query, with noise as large as the signal at most."""
    queries, gallery = unit(rng, QUERIES), unit(rng, times * GALLERY)
    for place in range(200):
        noise = rng.uniform(0.2, 1.4) * unit(rng, 1)[0, :6]
        shared = queries[place, 4:10] + noise
        gallery[place * 7, 2:8] = shared / np.linalg.norm(shared, axis=1, keepdims=True)
    names = [f"q{i}" for i in range(QUERIES)], [f"g{i}" for i in range(len(gallery))]
    began = time.perf_counter()
    exact = best_matches(list(queries), list(gallery), window=K, most=200, names=names)
    between = time.perf_counter()
    near, missed = near_matches(list(queries), list(gallery), window=K, most=200, names=names)
    after = time.perf_counter()
    exact_pairs = {(match.query, match.gallery) for match in exact}
    near_pairs = {(match.query, match.gallery) for match in near}
    print(
        f"{QUERIES} x {len(gallery)}: exact {between - began:.1f} s, neighbours {after - between:.1f} s; of the best "
        f"200 pairs they miss {len(exact_pairs - near_pairs)}, and say {100 * missed:.1f} % from a sample"
    )


if __name__ == "__main__":
    main()
