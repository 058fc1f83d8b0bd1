"""Footage that parts share, as tables in the form of Dzabraev et al. 2021, tables 9, 11 and 12."""

from collections.abc import Callable, Sequence

from reelseek.overlap.clean import Leak, Overlap

__all__ = ["Table", "overlap_tables"]

Table = tuple[str, Sequence[str], Sequence[Sequence[object]], str]  # title, columns, rows, note


def overlap_tables(overlaps: Sequence[Overlap], totals: Sequence[float | None]) -> list[Table]:
    """Tabulate overlaps: rows are training parts, and each test part has its columns.

    Args:
        totals: for each overlap the estimated number of duplicates, where there is an estimate.
    """
    counts = (
        "`test`: videos of the test part that share footage with the training part; `train`: videos of the training "
        "part that leave for it."
    )
    return [
        _leak_table("Both stages", overlaps, lambda overlap: overlap.leaks, counts),
        _leak_table("First stage: ids, sources and bytes", overlaps, lambda overlap: overlap.by_name, counts),
        _review_table(overlaps, totals),
    ]


def _leak_table(
    title: str, overlaps: Sequence[Overlap], leaks: Callable[[Overlap], Sequence[Leak]], note: str
) -> Table:
    def cells(overlap: Overlap | None, _: int) -> list[object]:
        if overlap is None:
            return ["—", "—"]
        return [len({leak.test for leak in leaks(overlap)}), len({leak.train for leak in leaks(overlap)})]

    return _table(title, overlaps, ("test", "train"), cells, note)


def _review_table(overlaps: Sequence[Overlap], totals: Sequence[float | None]) -> Table:
    def cells(overlap: Overlap | None, place: int) -> list[object]:
        if overlap is None:
            return ["—", "—", "—"]
        total, duplicates = totals[place], {leak.test for leak in overlap.by_verdict}
        return [overlap.reviewed, len(duplicates), "—" if total is None else f"{total:.0f}"]

    note = (
        "`seen`: pairs that somebody judged or scrolled past; `found`: test videos with a duplicate; `total`: how many "
        "there may be by the search curve."
    )
    return _table("Second stage: pictures, judged by people", overlaps, ("seen", "found", "total"), cells, note)


def _table(
    title: str,
    overlaps: Sequence[Overlap],
    parts: Sequence[str],
    cells: Callable[[Overlap | None, int], list[object]],
    note: str,
) -> Table:
    tests = list(dict.fromkeys(overlap.test_name for overlap in overlaps))
    trains = list(dict.fromkeys(overlap.train_name for overlap in overlaps))
    places = {(overlap.train_name, overlap.test_name): place for place, overlap in enumerate(overlaps)}
    rows = []
    for train in trains:
        row: list[object] = [train]
        for test in tests:
            place = places.get((train, test))
            row += cells(None if place is None else overlaps[place], place or 0)
        rows.append(row)
    return title, ["", *(f"{test} {part}" for test in tests for part in parts)], rows, note
