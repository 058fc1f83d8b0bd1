"""Work ahead of the one who needs it, in the same order whoever does it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["in_order"]

Given = TypeVar("Given")
Made = TypeVar("Made")


def in_order(given: Iterable[Given], make: Callable[[Given], Made], workers: int) -> Iterator[Made]:
    """`make` of each item, in order, up to two items a worker ahead; by nobody else where there are no workers.

    Items are taken from `given` by the caller's thread alone, one after the other, so that what is drawn by chance
    does not depend on the number of workers. Threads do: reading from memory maps and padding leave Python's lock free.

    >>> list(in_order([1, 2, 3], lambda number: number * 10, 2))
    [10, 20, 30]
    """
    if not workers:
        yield from map(make, given)
        return
    ahead: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(workers, "reelseek-read") as pool:
        try:
            for item in given:
                ahead.append(pool.submit(make, item))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
