"""Work done ahead: the same in the same order, however many do it."""

import threading
import time

import pytest

from reelseek.training.ahead import in_order


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_order_and_numbers_do_not_depend_on_workers(workers: int) -> None:
    drawn: list[int] = []

    def draw() -> object:
        for number in range(20):
            drawn.append(number)
            yield number

    def make(number: int) -> int:
        time.sleep(0.004 if number % 3 == 0 else 0)  # the first of three is the last to be ready
        return number * number

    assert list(in_order(draw(), make, workers)) == [number * number for number in range(20)]
    assert drawn == list(range(20))


def test_they_work_ahead_but_not_without_end() -> None:
    begun: list[int] = []
    ready = threading.Event()

    def make(number: int) -> int:
        begun.append(number)
        if number == 3:
            ready.set()
        return number

    made = in_order(range(1000), make, 2)
    assert next(made) == 0
    assert ready.wait(10), "nobody works ahead"
    assert len(begun) < 10
    made.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_comes_where_its_item_would(workers: int) -> None:
    def make(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return number

    made = in_order(range(9), make, workers)
    assert [next(made) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="five"):
        next(made)
