"""Prefetching by worker threads, in order: for features in memory, which processes would have to copy."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["in_order"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(items: Iterable[Item], make: Callable[[Item], Result], workers: int) -> Iterator[Result]:
    """Yield `make` of each item in order, computed by worker threads up to two items per worker ahead.

    Items are taken by the caller's thread alone, one after the other, so that random numbers drawn while making them do
    not depend on the number of workers.

    Args:
        workers: 0 computes each item when it is asked for.

    >>> list(in_order([1, 2, 3], lambda number: number * 10, 2))
    [10, 20, 30]
    """
    if not workers:
        yield from map(make, items)
        return
    ahead: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, "reelseek-read") as pool:
        try:
            for item in items:
                ahead.append(pool.submit(make, item))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
