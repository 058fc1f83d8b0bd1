"""`reelseek overlap`: find footage that two sets share, judge it, clean, and check."""

import json
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelseek.cli.serve import COPIES_GB, check_copies_gb
from reelseek.cli.show import bars, print_json, print_table, say
from reelseek.errors import UsageError
from reelseek.web import DEFAULT_COPIES_GB

if TYPE_CHECKING:
    from reelseek.library import Video
    from reelseek.overlap.clean import Overlap
    from reelseek.overlap.curve import Estimate
    from reelseek.overlap.scan import Scan
    from reelseek.overlap.sources import Source
    from reelseek.overlap.weights import ScreensaverBank

__all__ = ["app"]

app = typer.Typer(help="Footage that two sets of videos share.", no_args_is_help=True, rich_markup_mode=None)
screensavers = typer.Typer(help="Intros, logos and end cards, which count for nothing.", no_args_is_help=True)
app.add_typer(screensavers, name="screensavers")

_SOURCE = typer.Argument(help="A library, a folder of videos, or a folder of .npy [second, dim].")
_TEST = typer.Option(help="A split, a folder's name, or a file that lists videos, one a line.")
_TRAIN = typer.Option(help="The same for what is compared with it; may be the same set.")
_WINDOW = typer.Option(help="Seconds that have to be alike one after the other.", min=1)
_BANK = typer.Option(help="File of the bank; default: in the library, else beside the pairs.")
_VERDICTS = typer.Option(help="File of verdicts; default: in the library, else beside the pairs.")
_FROM = typer.Option(help="The library or folder, if it is no longer where it was scanned.")
_IDS = typer.Option(help="Table video,id: what videos were cut from, where their names do not tell.")


@app.command(epilog="Example: reelseek overlap scan my.library --test test --train train --out pairs.jsonl")
def scan(
    source: Annotated[Path, _SOURCE],
    test: Annotated[str, _TEST],
    train: Annotated[str, _TRAIN],
    out: Annotated[Path, typer.Option(help="Where: a JSON line a pair, best first. Again, it compares what is new.")],
    expert: Annotated[str | None, typer.Option(help="Whose features; default: copy, else appearance.")] = None,
    window: Annotated[int, _WINDOW] = 4,
    top: Annotated[int, typer.Option(help="How many pairs.", min=1)] = 1000,
    plain: Annotated[bool, typer.Option(help="Weigh frames of a single colour down, such as black ones.")] = True,
    bank: Annotated[Path | None, _BANK] = None,
    common: Annotated[
        int | None, typer.Option(help="Weigh frames down that more than so many other videos have.", min=1)
    ] = None,
    background: Annotated[
        str | None, typer.Option(help="Videos that share nothing with these; scores become relative to them.")
    ] = None,
    approximate: Annotated[bool, typer.Option(help="For large sets: only neighbours of window means.")] = False,
) -> None:
    """The pairs of videos that are most alike over some seconds, each with the place in both."""
    from reelseek.overlap.scan import ScanOptions, read_scan, save_scan
    from reelseek.overlap.scan import scan as search

    asked = ScanOptions(test, train, window, top, plain, common, background, approximate)
    if out.is_dir():
        raise UsageError(f"{out} is a folder; --out is a file, such as {out / 'pairs.jsonl'}")
    parts = [part for part in (test, train, background) if part is not None]
    with bars() as progress, _open(source, expert, out, progress, parts) as opened:
        kept = _bank(bank, source, out)
        known = read_scan(out)
        found = search(opened, asked, bank=kept, previous=known, progress=progress)
        save_scan(out, found)
    _show(found, out, anew=known is None)
    raise typer.Exit(1 if any(notice.lost for notice in opened.notices) else 0)


def _there(given: Path | None) -> Path | None:
    """A file that was named: a name that is mistyped shall not pass for one that is empty."""
    if given is not None and not given.is_file():
        raise UsageError(f"{given} does not exist")
    return given


def _bank(given: Path | None, source: Path, out: Path) -> "ScreensaverBank":
    from reelseek.overlap.scan import log_path
    from reelseek.overlap.weights import ScreensaverBank

    if given is not None and not given.is_file():
        say(f"{given} does not exist: no screensavers are known")
    return ScreensaverBank(given or log_path(source, out, "screensavers"))


def _open(
    source: Path, expert: str | None, out: Path, progress: Any = lambda *_: None, parts: Sequence[str] = ()
) -> "Source":
    """The source; frames of a folder of videos are kept in a library beside `out`."""
    from reelseek.overlap.sources import open_source

    opened = open_source(source, expert, out.with_name(f".{out.name}.library"), progress, parts=parts)
    for notice in opened.notices:
        say(f"note: {notice}")
    return opened


def _show(found: "Scan", out: Path, *, anew: bool) -> None:
    without = list(dict.fromkeys((*found.test_without, *found.train_without)))
    if without:
        say(f"{len(without)} videos have no frames and are not compared: {', '.join(without[:5])}")
    heard = any(pair.sound is not None for pair in found.pairs)
    rows = []
    for p in found.pairs[:10]:
        sound = [] if not heard else ["" if p.sound is None else f"{p.sound:.2f}"]
        rows.append((p.test, p.train, f"{p.score:.3f}", f"{p.test_start:g}", f"{p.train_start:g}", *sound))
    print_table(["test", "train", "score", "at (s)", "at (s)", *(["sound"] if heard else [])], rows)
    again = "" if anew else f" ({found.compared} pairs compared that were not before)"
    say(
        f"{len(found.pairs)} pairs of {len(found.test)} x {len(found.train)} videos{again}, window of "
        f"{found.options.window} s, features {found.space}: {out}"
    )
    if found.missed is not None:
        say(f"approximate: of the best pairs of a sample of videos it missed {100 * found.missed:.1f} %")


@app.command(
    epilog="Example: reelseek overlap curve my.library --test test --train train --pairs pairs.jsonl --out curve"
)
def curve(
    source: Annotated[Path, _SOURCE],
    test: Annotated[str, _TEST],
    train: Annotated[str, _TRAIN],
    out: Annotated[Path, typer.Option(help="OUT.json, OUT.png and OUT.svg are written.")],
    expert: Annotated[list[str] | None, typer.Option(help="Give it several times to compare experts.")] = None,
    window: Annotated[int | None, _WINDOW] = None,
    queries: Annotated[int, typer.Option(help="At most so many test videos are augmented.", min=1)] = 500,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    pairs: Annotated[Path | None, typer.Option(help="Pairs that were judged: estimates how many are left.")] = None,
    verdicts: Annotated[Path | None, _VERDICTS] = None,
    bank: Annotated[Path | None, _BANK] = None,
    augmented: Annotated[
        Path | None, typer.Option(help="For .npy: folder with features of augmented test videos, by the same names.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """How many pairs have to be looked at to find a share of the duplicates, F(x); and after a review, what is left."""
    from reelseek.evaluation.figures import curves
    from reelseek.evaluation.report import ending
    from reelseek.overlap.effort import measure_effort
    from reelseek.overlap.scan import ScanOptions

    searched, seen = _judged(pairs, verdicts) if pairs else (None, None)
    asked = ScanOptions(test, train)
    if searched is not None:  # the same window and weights, or its pairs would not stand where the curve counts
        asked = replace(searched.options, test=test, train=train)
    asked = replace(asked, window=window or asked.window)
    told = {}
    with bars() as progress, ExitStack() as stack:
        changed = stack.enter_context(_open(augmented, None, out)) if augmented else None
        for name in expert or [""]:
            beside = out.with_name(f"{out.name}.{name.partition('@')[0]}") if name else out
            opened = stack.enter_context(_open(source, name or None, beside, progress, (test, train)))
            told[name or opened.space.partition(":")[0]] = measure_effort(
                opened, asked, bank=_bank(bank, source, pairs or out),
                queries=queries, seed=seed, judged=seen, augmented_in=changed, progress=progress,
            )  # fmt: skip
    found = {name: each.as_json() for name, each in told.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    ending(out, ".json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    lines = {
        name: ([float(x) for x in each.curve.recall], [float(n) + 1 for n in each.curve.negatives])
        for name, each in told.items()
    }
    curves(out, {"negative pairs above, plus one": lines}, "share of duplicates found", log=True)
    if json_:
        print_json(found)
        return
    rows = [(n, *(each.curve.at(x) for x in (0.5, 0.8, 0.9, 0.95, 1.0)), each.curve.pairs) for n, each in told.items()]
    print_table(["expert", "F(.5)", "F(.8)", "F(.9)", "F(.95)", "F(1)", "negatives"], rows)
    for name, each in told.items():
        if each.estimate is not None:
            say(f"{name}: {_left(each.estimate)}")


def _left(estimate: "Estimate") -> str:
    """What is left to find, in words."""
    seen = f"{estimate.duplicates} duplicates in {estimate.reviewed} pairs seen"
    if estimate.recall is None or estimate.total is None or estimate.linear is None:
        return f"{seen}; how many there are cannot be told from that"
    return (
        f"{seen}, {100 * estimate.recall:.0f} % of the {estimate.total:.0f} that there may be; {estimate.more:.0f} "
        "more pairs until 95 % are found. Linear extrapolation, as in the paper's table 12: "
        f"{estimate.linear:.0f} pairs for all of them"
    )


def _judged(pairs: Path, verdicts: Path | None) -> "tuple[Scan, list[Any]]":
    """A search, and its pairs that somebody saw with what stands about them."""
    from reelseek.overlap.scan import judged_pairs, log_path
    from reelseek.overlap.verdicts import Verdicts

    known = _scanned(pairs)
    file = _there(verdicts) or log_path(Path(known.source), pairs, "decisions")
    kept = Verdicts(file)
    if kept.broken:
        say(f"{file}: lines {', '.join(map(str, kept.broken))} cannot be read and are left out")
    return known, judged_pairs(known.pairs, known.content, kept)


def _scanned(pairs: Path) -> "Scan":
    """The search that wrote some pairs; pairs alone are taken as they are."""
    from reelseek.overlap.pairs import read_pairs
    from reelseek.overlap.scan import Scan, ScanOptions, read_scan

    if not pairs.is_file():
        raise UsageError(f"{pairs} does not exist; `reelseek overlap scan` writes it")
    known = read_scan(pairs)
    if known is not None:
        return known
    rows = tuple(read_pairs(pairs))
    ones, others = (dict.fromkeys((getattr(row, side) for row in rows), "") for side in ("test", "train"))
    return Scan(str(pairs.absolute().parent), "", ScanOptions("test", "train"), ones, others, {}, (), (), 0, None, rows)


@app.command(epilog="Example: reelseek overlap review pairs.jsonl --opinions 2 --port 8001")
def review(
    pairs: Annotated[Path, typer.Argument(help="What `overlap scan` wrote.")],
    source: Annotated[Path | None, _FROM] = None,
    host: Annotated[str, typer.Option(help="Address; any but this machine's own needs --token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port.")] = 8001,
    token: Annotated[str | None, typer.Option(envvar="REELSEEK_TOKEN", help="Secret that requests must carry.")] = None,
    opinions: Annotated[int, typer.Option(help="How many people judge each pair, blindly.", min=1)] = 1,
    verdicts: Annotated[Path | None, _VERDICTS] = None,
    bank: Annotated[Path | None, _BANK] = None,
    copies_gb: Annotated[float, COPIES_GB] = DEFAULT_COPIES_GB,
) -> None:
    """A page to judge pairs side by side, by keys; several people can do it at once. No video is ever changed."""
    from reelseek.overlap.scan import log_path, pair_keys
    from reelseek.overlap.sources import LibrarySource
    from reelseek.overlap.verdicts import Review, Verdicts
    from reelseek.overlap.weights import ScreensaverBank
    from reelseek.web.review import create_review
    from reelseek.web.server import serve_app

    check_copies_gb(copies_gb)
    known = _scanned(pairs)
    where = source or Path(known.source)
    with _reopened(where, pairs, known) or nullcontext() as opened:
        library = opened.library if isinstance(opened, LibrarySource) else None
        if library is None:
            say(f"{where} has no videos to show: pairs are judged by their names")
        log = Verdicts(verdicts or log_path(where, pairs, "decisions"))
        saved = ScreensaverBank(bank or log_path(where, pairs, "screensavers"))
        if log.broken:
            say(f"{log.path}: lines {', '.join(map(str, log.broken))} cannot be read and are left out")
        handed = Review(known.pairs, pair_keys(known.pairs, known.content), log, opinions)
        title = f"{known.options.test} and {known.options.train}"

        def find(name: str) -> "Video | None":
            return opened.video(name) if opened is not None else None

        def keep(place: int, who: str) -> list[int]:
            return _keep(opened, saved, handed.pairs[place], who) if opened is not None else []

        def drop(numbers: Sequence[int], who: str) -> None:
            there = {entry.id for entry in saved.entries}
            for number in numbers:
                if number in there:  # somebody may have taken it out by hand
                    saved.remove(number, who)

        say(f"verdicts are kept in {log.path}")
        serve_app(
            lambda: create_review(
                handed, library, title=title, video=find, keep=keep, drop=drop,
                token=token, host=host, copies_gb=copies_gb,
            ),
            host=host, port=port, token=token,
        )  # fmt: skip


def _reopened(where: Path, pairs: Path, known: "Scan") -> "Source | None":
    """The source of a search as it was, without extracting anything; None where it is gone or holds no videos."""
    from reelseek.overlap.sources import LibrarySource

    beside = pairs.with_name(f".{pairs.name}.library")
    expert = known.space.partition(":")[0] or None
    if (where / "library.db").is_file():
        return LibrarySource.open(where, expert)
    if (beside / "library.db").is_file():
        return LibrarySource.open(beside, expert, folder=where)
    return _open(where, None, pairs) if any(where.rglob("*.npy")) else None


def _keep(source: "Source", bank: "ScreensaverBank", pair: Any, who: str) -> list[int]:
    """Both windows of a pair into the bank."""
    numbers = []
    for name, start in ((pair.test, pair.test_start), (pair.train, pair.train_start)):
        frames = source.read(name)
        if frames is not None:
            numbers.append(bank.add(name, start, source.space, frames[int(start) : int(start + pair.window)], who))
    return numbers


@app.command(epilog="Example: reelseek overlap export pairs.jsonl --out clean")
def export(
    pairs: Annotated[list[Path], typer.Argument(help="What `overlap scan` wrote; several make one table.")],
    out: Annotated[Path, typer.Option(help="Folder for lists and tables.")],
    verdicts: Annotated[Path | None, _VERDICTS] = None,
    ids: Annotated[Path | None, _IDS] = None,
    curve: Annotated[
        list[Path] | None, typer.Option(help="What `overlap curve` wrote, one for each of the pairs.")
    ] = None,
) -> None:
    """Clean split lists with reasons, duplicates as JSONL, CSV and .lst, and tables of what the parts share."""
    from reelseek.evaluation.report import ReportTable, write_tables
    from reelseek.overlap.clean import find_overlap, read_ids
    from reelseek.overlap.tables import overlap_tables

    if curve and len(curve) != len(pairs):
        raise UsageError(f"{len(pairs)} files of pairs and {len(curve)} curves; give one for each, or none")
    known_ids = read_ids(ids) if ids else {}
    judged = [_judged(path, verdicts) for path in pairs]
    named = _part_names([known for known, _ in judged])
    found, totals = [], []
    for place, ((known, seen), names) in enumerate(zip(judged, named, strict=True)):
        every = [*known.test, *known.test_without], [*known.train, *known.train_without]
        overlap = find_overlap(*every, names=names, content=known.content, judged=seen, ids=known_ids)
        _write_lists(out if len(pairs) == 1 else out / f"{names[0]}_{names[1]}", overlap, seen)
        found.append(overlap)
        totals.append(_total(curve[place]) if curve else None)
        say(
            f"{names[0]} x {names[1]}: {overlap.reviewed} pairs seen; "
            f"{len(set(overlap.train) - set(overlap.clean_train))} of {len(overlap.train)} training videos leave, "
            f"for {len(overlap.shared_test)} test videos"
        )
    tables = [ReportTable(*each) for each in overlap_tables(found, totals)]
    for table in tables:
        print_table(table.columns, table.rows, title=table.title)
    write_tables(out / "overlap", "Footage that test and training parts share", tables)
    say(f"lists, duplicates and tables: {out}")


def _part_names(scans: "Sequence[Scan]") -> list[tuple[str, str]]:
    """What the parts of each search are called in files and tables; with their source where two are called the same."""

    def name(known: "Scan", given: str) -> str:
        path = Path(given)
        return (path.stem if path.suffix in (".txt", ".lst", ".csv") else path.name) if path.is_file() else given

    found = [tuple(name(k, part).replace("/", "-") for part in (k.options.test, k.options.train)) for k in scans]
    if len(set(found)) < len(found):
        found = [
            tuple(f"{Path(k.source).stem}-{part}" for part in parts) for k, parts in zip(scans, found, strict=True)
        ]
    if len(set(found)) < len(found):
        raise UsageError("two of the files of pairs compare parts of the same names; export them one by one")
    return [(one, two) for one, two in found]


def _write_lists(folder: Path, overlap: "Overlap", seen: "Sequence[Any]") -> None:
    from reelseek.library.files import write_whole
    from reelseek.overlap.clean import removed_table
    from reelseek.overlap.pairs import write_pairs
    from reelseek.overlap.verdicts import SAME

    same = [pair for pair, decision in seen if decision.verdict in SAME]
    stem = f"{overlap.test_name}_{overlap.train_name}"
    lists = {"train.clean": overlap.clean_train, "test.clean": overlap.clean_test, "test.shared": overlap.shared_test}
    for name, videos in lists.items():
        write_whole(folder / f"{name}.txt", "".join(f"{video}\n" for video in videos))
    write_whole(folder / "removed.csv", removed_table(overlap))
    for suffix in (".lst", ".csv", ".jsonl"):
        write_pairs(folder / f"{stem}{suffix}", same)


def _total(curve: Path) -> float | None:
    """The estimated number of duplicates that a curve's file tells."""
    try:
        told = json.loads(curve.read_text("utf-8"))
        return next((each["estimate"]["total"] for each in told.values() if each["estimate"]), None)
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise UsageError(f"{curve} is not what `overlap curve` writes: {error!r}") from error


@app.command(epilog="Example: reelseek overlap check my.library --test test --train train")
def check(
    library: Annotated[Path, typer.Argument(help="Folder of the library.")],
    test: Annotated[str, typer.Option(help="A split.")],
    train: Annotated[str, typer.Option(help="Another split.")],
    exclude: Annotated[Path | None, typer.Option(help="Training videos that are left out, as a recipe would.")] = None,
    ids: Annotated[Path | None, _IDS] = None,
    verdicts: Annotated[Path | None, _VERDICTS] = None,
    json_: Annotated[bool, typer.Option("--json", help="A JSON line a pair.")] = False,
) -> None:
    """Videos that two splits share by id, source, bytes or verdict; exit 1 if there are any."""
    from reelseek.library import Library
    from reelseek.overlap.clean import find_overlap, read_ids, read_videos
    from reelseek.overlap.ids import matching
    from reelseek.overlap.scan import log_path
    from reelseek.overlap.sources import library_splits, name_splits
    from reelseek.overlap.verdicts import Verdicts, decisions_between

    with Library.open(library) as opened:
        splits = library_splits(opened)
        for name in (test, train):
            if name not in splits:
                raise UsageError(f"{library} has no split {name!r}; {name_splits(name, splits)}")
        content = {video.id: video.content for video in opened.videos() if video.content}
    log = Verdicts(_there(verdicts) or log_path(library, library, "decisions"))
    said = decisions_between(log, splits[test], splits[train], content)
    known_ids = read_ids(ids) if ids else None
    found = find_overlap(splits[test], splits[train], content=content, judged=said, ids=known_ids).leaks
    if exclude is not None:
        named, _ = matching(read_videos(exclude), splits[train])
        gone = {video for videos in named.values() for video in videos}
        found = tuple(leak for leak in found if leak.train not in gone)
    for leak in found if json_ else ():
        print_json({"test": leak.test, "train": leak.train, "why": leak.why})
    if not json_:
        print_table(["test", "train", "same"], [(leak.test, leak.train, leak.why) for leak in found[:50]])
    videos = len({leak.test for leak in found})
    say(f"{videos} of {len(splits[test])} videos of {test} are in {train} too, in {len(found)} pairs")
    raise typer.Exit(int(bool(found)))


@screensavers.command(name="list", epilog="Example: reelseek overlap screensavers list my.library/screensavers.jsonl")
def list_(bank: Annotated[Path, typer.Argument(help="File of the bank.")]) -> None:
    """What a bank holds."""
    from reelseek.overlap.weights import ScreensaverBank

    rows = [
        (each.id, each.video, f"{each.start:g}", len(each.vectors), each.space, each.who, each.when)
        for each in ScreensaverBank(bank).entries
    ]
    print_table(["number", "video", "at (s)", "frames", "features", "by", "when"], rows)


@screensavers.command(
    epilog="Example: reelseek overlap screensavers add bank.jsonl my.library intro.mp4 --start 0 --seconds 5"
)
def add(
    bank: Annotated[Path, typer.Argument(help="File of the bank; begun if there is none.")],
    source: Annotated[Path, _SOURCE],
    video: Annotated[str, typer.Argument(help="A video of it.")],
    start: Annotated[float, typer.Option(help="Where the screensaver begins, in seconds.", min=0)] = 0.0,
    seconds: Annotated[float, typer.Option(help="How long it is.", min=1)] = 4.0,
    expert: Annotated[str | None, typer.Option(help="Whose features, as in `overlap scan`.")] = None,
    who: Annotated[str, typer.Option(help="Your name.")] = "command line",
) -> None:
    """Put frames of a video into a bank: those like them count for nothing in later scans."""
    from reelseek.overlap.weights import ScreensaverBank

    with bars() as progress, _open(source, expert, bank, progress) as opened:
        frames = opened.read(video) if video in opened.names else None
    if frames is None or not len(frames[int(start) : int(start + seconds)]):
        raise UsageError(f"{source} has no frames of {video!r} from {start:g} to {start + seconds:g} s")
    chosen = frames[int(start) : int(start + seconds)]
    number = ScreensaverBank(bank).add(video, start, opened.space, chosen, who)
    say(f"screensaver {number}: {len(chosen)} frames of {video}")


@screensavers.command(epilog="Example: reelseek overlap screensavers remove my.library/screensavers.jsonl 3")
def remove(
    bank: Annotated[Path, typer.Argument(help="File of the bank.")],
    number: Annotated[int, typer.Argument(help="Its number, as `list` shows it.")],
    who: Annotated[str, typer.Option(help="Your name.")] = "command line",
) -> None:
    """Take an entry out of a bank; its line stays in the file."""
    from reelseek.overlap.weights import ScreensaverBank

    ScreensaverBank(bank).remove(number, who)
    say(f"screensaver {number} counts no more")
