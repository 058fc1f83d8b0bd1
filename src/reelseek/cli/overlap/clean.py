"""`reelseek overlap export` and `check`: splits without shared footage, and whether two splits share any."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from reelseek.cli.outputs import folder_option
from reelseek.cli.overlap.inputs import IdTable, VerdictsFile, existing_file, open_verdicts, read_judged, read_scan
from reelseek.cli.show import print_json, print_table, say
from reelseek.errors import UsageError

if TYPE_CHECKING:
    from reelseek.overlap.clean import Overlap
    from reelseek.overlap.pairs import Pair
    from reelseek.overlap.scan import Scan
    from reelseek.overlap.verdicts import Decision

__all__ = ["register"]


def export(
    pairs: Annotated[list[Path], typer.Argument(help="What `overlap scan` wrote; several make one table.")],
    out: Annotated[Path, folder_option("lists and tables")],
    verdicts: VerdictsFile = None,
    ids: IdTable = None,
    curve: Annotated[
        list[Path] | None, typer.Option(help="What `overlap curve` wrote, one for each of the pairs.")
    ] = None,
    opinions: Annotated[int, typer.Option(help="How many people had to judge each pair.", min=1)] = 1,
    allow_open: Annotated[
        bool, typer.Option("--allow-open", help="Exit with 0 although pairs are disputed, waiting, unsure or unseen.")
    ] = False,
) -> None:
    """Clean split lists with reasons, duplicates as JSONL, CSV and .lst, and tables of what the parts share.

    Pairs without a verdict stay in the lists. They are counted, and the exit status is 1 while there are any.
    """
    from reelseek.evaluation.report import ReportTable, write_tables
    from reelseek.overlap.clean import find_overlap, read_ids
    from reelseek.overlap.tables import overlap_tables

    if curve and len(curve) != len(pairs):
        raise UsageError(f"{len(pairs)} files of pairs and {len(curve)} curves; give one for each, or none")
    original_ids = read_ids(ids) if ids else {}
    searches = [read_judged(path, verdicts) for path in pairs]
    part_names = _part_names([scan for scan, _ in searches])
    overlaps, totals, is_open = [], [], False
    for place, ((scan, judged), names) in enumerate(zip(searches, part_names, strict=True)):
        videos = [*scan.test, *scan.test_without], [*scan.train, *scan.train_without]
        overlap = find_overlap(*videos, names=names, content=scan.content, judged=judged, ids=original_ids)
        _write_lists(out if len(pairs) == 1 else out / f"{names[0]}_{names[1]}", overlap, judged)
        is_open |= _say_open(scan, judged, opinions, pairs[place])
        overlaps.append(overlap)
        totals.append(_estimated_total(curve[place]) if curve else None)
        say(
            f"{names[0]} x {names[1]}: {overlap.reviewed} pairs seen; "
            f"{len(set(overlap.train) - set(overlap.clean_train))} of {len(overlap.train)} training videos leave, "
            f"for {len(overlap.shared_test)} test videos"
        )
    tables = [ReportTable(*table) for table in overlap_tables(overlaps, totals)]
    for table in tables:
        print_table(table.columns, table.rows, title=table.title)
    write_tables(out / "overlap", "Footage that test and training parts share", tables)
    say(f"lists, duplicates and tables: {out}")
    raise typer.Exit(int(is_open and not allow_open))


def _say_open(scan: "Scan", judged: "Sequence[tuple[Pair, Decision]]", opinions: int, pairs: Path) -> bool:
    """Say which pairs have no verdict that stands, and so were left in the lists; whether there are any."""
    from reelseek.overlap.verdicts import count_open

    unseen = [None] * (len(scan.pairs) - len(judged))
    counts = count_open([*(decision for _, decision in judged), *unseen], opinions)
    if counts:
        kinds = ", ".join(f"{number} {kind}" for kind, number in counts.items())
        say(
            f"{sum(counts.values())} of {len(scan.pairs)} pairs are open and not removed: {kinds}; judge them with: "
            f"reelseek overlap review {pairs} (or reelseek overlap judge, for all below a score)"
        )
    return bool(counts)


def _part_names(scans: "Sequence[Scan]") -> list[tuple[str, str]]:
    """Names of the parts of each search in files and tables; with their source where two would be the same."""
    names = [(_part_name(scan.options.test), _part_name(scan.options.train)) for scan in scans]
    if len(set(names)) < len(names):
        stems = [Path(scan.source).stem for scan in scans]
        names = [(f"{stem}-{test}", f"{stem}-{train}") for stem, (test, train) in zip(stems, names, strict=True)]
    if len(set(names)) < len(names):
        raise UsageError("two of the files of pairs compare parts of the same names; export them one by one")
    return names


def _part_name(part: str) -> str:
    """A split's name, or that of the file or folder that lists its videos, without slashes."""
    path = Path(part)
    if path.is_file():
        part = path.stem if path.suffix in (".txt", ".lst", ".csv") else path.name
    return part.replace("/", "-")


def _write_lists(folder: Path, overlap: "Overlap", judged: "Sequence[tuple[Pair, Decision]]") -> None:
    from reelseek.library.files import write_whole
    from reelseek.overlap.clean import removed_table
    from reelseek.overlap.pairs import write_pairs
    from reelseek.overlap.verdicts import SAME

    duplicates = [pair for pair, decision in judged if decision.verdict in SAME]
    stem = f"{overlap.test_name}_{overlap.train_name}"
    lists = {"train.clean": overlap.clean_train, "test.clean": overlap.clean_test, "test.shared": overlap.shared_test}
    for name, videos in lists.items():
        write_whole(folder / f"{name}.txt", "".join(f"{video}\n" for video in videos))
    write_whole(folder / "removed.csv", removed_table(overlap))
    for suffix in (".lst", ".csv", ".jsonl"):
        write_pairs(folder / f"{stem}{suffix}", duplicates)


def judge(
    pairs: Annotated[Path, typer.Argument(help="What `overlap scan` wrote.")],
    below: Annotated[float, typer.Option(help="Judge the pairs whose score is lower and that nobody has judged.")],
    who: Annotated[str, typer.Option(help="The reviewer's name, as on the page.")],
    verdict: Annotated[str, typer.Option(help="not, looked-at or unsure.")] = "not",
    verdicts: VerdictsFile = None,
) -> None:
    """Judge every pair below a score at once; one that somebody has judged is left as it is."""
    from reelseek.overlap.reviewing import judge_below
    from reelseek.overlap.scan import log_path, pair_keys
    from reelseek.overlap.verdicts import BulkVerdict

    if verdict not in get_args(BulkVerdict):
        raise UsageError(f"--verdict is {verdict!r}; many at once take not, looked-at or unsure")
    if not who.strip():
        raise UsageError("--who names nobody; a verdict needs its reviewer")
    scan = read_scan(pairs)
    log = open_verdicts(verdicts or log_path(Path(scan.source), pairs, "decisions"))
    keys = pair_keys(scan.pairs, scan.content)
    bulk = cast("BulkVerdict", verdict)
    judged, lower = judge_below(scan.pairs, keys, log, below=below, verdict=bulk, who=who)
    print(f"{judged} pairs below {below:g} are now {verdict}, by {who}")
    say(f"{lower - judged} below it had been judged before; {len(scan.pairs) - lower} are not below it ({log.path})")


def _estimated_total(curve: Path) -> float | None:
    """The estimated number of duplicates in a file that `overlap curve` wrote."""
    try:
        efforts = json.loads(curve.read_text("utf-8")).values()
        return next((effort["estimate"]["total"] for effort in efforts if effort["estimate"]), None)
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise UsageError(f"{curve} is not what `overlap curve` writes: {error!r}") from error


def check(
    library: Annotated[Path, typer.Argument(help="Folder of the library.")],
    test: Annotated[str, typer.Option(help="A split.")],
    train: Annotated[str, typer.Option(help="Another split.")],
    exclude: Annotated[Path | None, typer.Option(help="Training videos that are left out, as a recipe would.")] = None,
    ids: IdTable = None,
    verdicts: VerdictsFile = None,
    json_: Annotated[bool, typer.Option("--json", help="A JSON line a pair.")] = False,
) -> None:
    """Videos that two splits share by id, source, bytes or verdict; exit 1 if there are any."""
    from reelseek.library import Library
    from reelseek.overlap.clean import find_overlap, read_ids, read_videos
    from reelseek.overlap.ids import matching
    from reelseek.overlap.scan import log_path
    from reelseek.overlap.sources import library_splits, name_splits
    from reelseek.overlap.verdicts import decisions_between

    with Library.open(library) as opened:
        splits = library_splits(opened)
        for name in (test, train):
            if name not in splits:
                raise UsageError(f"{library} has no split {name!r}; {name_splits(name, splits)}")
        content = {video.id: video.content for video in opened.videos() if video.content}
    log = open_verdicts(existing_file(verdicts) or log_path(library, library, "decisions"))
    judged = decisions_between(log, splits[test], splits[train], content)
    original_ids = read_ids(ids) if ids else None
    leaks = find_overlap(splits[test], splits[train], content=content, judged=judged, ids=original_ids).leaks
    if exclude is not None:
        matches, _ = matching(read_videos(exclude), splits[train])
        excluded = {video for videos in matches.values() for video in videos}
        leaks = tuple(leak for leak in leaks if leak.train not in excluded)
    for leak in leaks if json_ else ():
        print_json({"test": leak.test, "train": leak.train, "why": leak.why})
    if not json_:
        print_table(["test", "train", "same"], [(leak.test, leak.train, leak.why) for leak in leaks[:50]])
    videos = len({leak.test for leak in leaks})
    say(f"{videos} of {len(splits[test])} videos of {test} are in {train} too, in {len(leaks)} pairs")
    raise typer.Exit(int(bool(leaks)))


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek overlap export pairs.jsonl --out clean")(export)
    app.command(epilog="Example: reelseek overlap judge pairs.jsonl --below 0.6 --who Ann")(judge)
    app.command(epilog="Example: reelseek overlap check my.library --test test --train train")(check)
