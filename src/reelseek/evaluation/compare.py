"""Significance of the difference between two runs over the same queries, and their files in TREC format."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from reelseek.errors import CollectionError, UsageError
from reelseek.library.texts import read_lines

__all__ = [
    "Comparison",
    "compare",
    "qrels_path",
    "read_query_texts",
    "read_run_ranks",
    "write_query_texts",
    "write_run",
]

Array = npt.NDArray[np.float64]
METRICS: dict[str, Callable[[Array], Array]] = {
    "recall_at_1": lambda ranks: (ranks <= 1).astype(float),
    "recall_at_5": lambda ranks: (ranks <= 5).astype(float),
    "recall_at_10": lambda ranks: (ranks <= 10).astype(float),
    "reciprocal_rank": lambda ranks: 1 / ranks,
}


@dataclass(frozen=True)
class Comparison:
    """One metric of two runs over the same queries.

    Attributes:
        low, high: 95 % interval of the difference (second minus first) over paired bootstrap samples.
        p: two-sided; twice the share of samples in which the difference has the other sign or is zero.
        better, worse: numbers of queries.
    """

    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    queries: int
    better: int
    worse: int


def compare(first: Array, second: Array, *, samples: int = 10_000, seed: int = 0) -> list[Comparison]:
    """Compare two runs by the paired bootstrap over queries (Efron 1979, Koehn 2004).

    Args:
        first, second: the rank of the right answer of each query in either run, in the same order.
        samples: number of bootstrap samples.

    Raises:
        ValueError: the runs are of different lengths, or there is no query.
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f"runs of {len(first)} and {len(second)} queries cannot be paired")
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(first), np.full(len(first), 1 / len(first)), size=samples) / len(first)
    comparisons = []
    for name, score in METRICS.items():
        one, two = score(first), score(second)
        gains = two - one
        means = counts @ gains
        difference = float(gains.mean())
        other = float((means <= 0).mean() if difference > 0 else (means >= 0).mean())
        low, high = (float(q) for q in np.quantile(means, [0.025, 0.975]))
        comparisons.append(
            Comparison(
                name, float(one.mean()), float(two.mean()), difference, low, high, min(1.0, 2 * other), len(first),
                int((gains > 0).sum()), int((gains < 0).sum()),
            )
        )  # fmt: skip
    return comparisons


def qrels_path(run: Path) -> Path:
    """Return the path of the file with the right answers of a run's queries."""
    return run.with_name(run.name + ".qrels")


def write_run(
    path: Path,
    scores: npt.NDArray[np.float32],
    right: Mapping[int, Collection[int]],
    documents: Sequence[str],
    tag: str,
    *,
    query: str = "q",
    depth: int = 1000,
) -> None:
    """Write a TREC run, and its qrels next to it; blanks in names of documents are percent-encoded.

    Args:
        scores: [query, document].
        right: the right documents of each row that is a query.
        tag: name of the run.
        query: prefix of a query's name, before its row.
        depth: documents per query.
    """
    names = [quote(name, safe="/@-._~:") for name in documents]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as run, qrels_path(path).open("w", encoding="utf-8") as qrels:
        for row, answers in right.items():
            order = np.argsort(-scores[row], kind="stable")[:depth]
            for rank, document in enumerate(order, 1):  # nine digits tell all scores of float32 apart
                run.write(f"{query}{row} Q0 {names[document]} {rank} {scores[row, document]:.9g} {tag}\n")
            qrels.writelines(f"{query}{row} 0 {names[answer]} 1\n" for answer in answers)


def write_query_texts(path: Path, texts: Mapping[int, str], *, query: str = "q") -> None:
    """Write the words of a run's queries next to it, a line each: the query's name, a tab, and its words."""
    lines = [f"{query}{row}\t{' '.join(text.split())}\n" for row, text in texts.items()]
    texts_path(path).write_text("".join(lines), "utf-8", errors="surrogateescape")


def texts_path(run: Path) -> Path:
    """Where the words of a run's queries are."""
    return run.with_name(f"{run.name}.queries")


def read_query_texts(path: Path) -> dict[str, str]:
    """Read the words of a run's queries by their names; none where they were not written."""
    try:
        lines = texts_path(path).read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    return dict(line.split("\t", 1) for line in lines if "\t" in line)


def read_run_ranks(path: Path) -> dict[str, float]:
    """Read the rank of each query's best right answer among the wrong ones; ties take the mean rank.

    If the run has no right answer of a query, its rank is one past the last document.

    Raises:
        UsageError: the run or its qrels are missing or malformed.
    """
    right: dict[str, set[str]] = {}
    for line in _lines(qrels_path(path)):
        if len(line) != 4:
            raise UsageError(f"{qrels_path(path)}: {' '.join(line)!r} is not `query 0 document relevance`")
        if _number(qrels_path(path), line[3]) > 0:
            right.setdefault(line[0], set()).add(line[2])
    scores: dict[str, dict[str, float]] = {query: {} for query in right}
    for line in _lines(path):
        if len(line) != 6:
            raise UsageError(f"{path}: {' '.join(line)!r} is not `query Q0 document rank score tag`")
        if line[0] in scores:
            scores[line[0]][line[2]] = _number(path, line[4])
    ranks = {}
    for query, answers in right.items():
        best = max((scores[query][name] for name in answers if name in scores[query]), default=None)
        others = np.array([score for name, score in scores[query].items() if name not in answers])
        if best is None:
            ranks[query] = float(len(others) + 1)
        else:
            ranks[query] = float(1 + (others > best).sum() + (others == best).sum() / 2)
    return ranks


def _number(path: Path, text: str) -> float:
    """Parse a score or a relevance; NaN is refused, since it would silently drop out of every comparison."""
    try:
        number = float(text)
    except ValueError as error:
        raise UsageError(f"{path}: {text!r} is not a number") from error
    if not math.isfinite(number):
        raise UsageError(f"{path}: {text!r} is not finite, and ranks nothing")
    return number


def _lines(path: Path) -> list[list[str]]:
    """The fields of every line."""
    try:
        return [line.split() for _, line in read_lines(path)]
    except CollectionError as error:
        raise UsageError(f"{error}; `reelseek evaluate ... --run FILE` writes a run and FILE.qrels") from error
