"""What parts share, as tables in the shape of Dzabraev et al. 2021, tables 9, 11 and 12."""

from collections.abc import Callable, Sequence

from reelseek.overlap.clean import Leak, Overlap

__all__ = ["Table", "overlap_tables"]

Table = tuple[str, Sequence[str], Sequence[Sequence[object]], str]  # title, columns, rows, note


def overlap_tables(found: Sequence[Overlap], totals: Sequence[float | None]) -> list[Table]:
    """Rows are training parts; each test part has its columns.

    Args:
        totals: for each the estimated number of duplicates that there are, where it is known.
    """
    counts = (
        "`test`: videos of the test part that share footage with the training part; `train`: videos of the training "
        "part that leave for it."
    )
    return [
        _counted("Both stages", found, lambda each: each.leaks, counts),
        _counted("First stage: ids, sources and bytes", found, lambda each: each.by_name, counts),
        _second(found, totals),
    ]


def _counted(title: str, found: Sequence[Overlap], leaks: Callable[[Overlap], Sequence[Leak]], note: str) -> Table:
    def cells(each: Overlap | None, _: int) -> list[object]:
        if each is None:
            return ["—", "—"]
        return [len({leak.test for leak in leaks(each)}), len({leak.train for leak in leaks(each)})]

    return _table(title, found, ("test", "train"), cells, note)


def _second(found: Sequence[Overlap], totals: Sequence[float | None]) -> Table:
    def cells(each: Overlap | None, place: int) -> list[object]:
        if each is None:
            return ["—", "—", "—"]
        total = totals[place]
        return [each.seen, len({leak.test for leak in each.by_verdict}), "—" if total is None else f"{total:.0f}"]

    note = (
        "`seen`: pairs that somebody judged or scrolled past; `found`: test videos with a duplicate; `total`: how many "
        "there may be by the search curve."
    )
    return _table("Second stage: pictures, judged by people", found, ("seen", "found", "total"), cells, note)


def _table(
    title: str,
    found: Sequence[Overlap],
    parts: Sequence[str],
    cells: Callable[[Overlap | None, int], list[object]],
    note: str,
) -> Table:
    tests = list(dict.fromkeys(each.test_name for each in found))
    trains = list(dict.fromkeys(each.train_name for each in found))
    at = {(each.train_name, each.test_name): place for place, each in enumerate(found)}
    rows = []
    for train in trains:
        row: list[object] = [train]
        for test in tests:
            place = at.get((train, test))
            row += cells(None if place is None else found[place], place or 0)
        rows.append(row)
    return title, ["", *(f"{test} {part}" for test in tests for part in parts)], rows, note
