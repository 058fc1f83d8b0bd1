"""`reelseek add`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelseek.cli.cluster import OnRay, Ray, on_cluster
from reelseek.cli.device import Device
from reelseek.cli.lists import names_in
from reelseek.cli.show import bars, clock, say
from reelseek.cli.spaces import follow_library
from reelseek.errors import UsageError

if TYPE_CHECKING:
    from reelseek.library import AddReport, Library
    from reelseek.search import Index

__all__ = ["merge_indexes", "register", "update_indexes"]

Within = Annotated[
    list[Path] | None, typer.Option(help="Refuse files outside of this folder, also where links lead there.")
]

_Paths = Annotated[
    list[str] | None,
    typer.Argument(
        help="Folders, video files, tar shards, lists (.txt) or tables (.csv .tsv .json .jsonl .parquet), here or in a "
        "store (s3://bucket/folder)."
    ),
]
_Experts = Annotated[
    list[str] | None,
    typer.Option(help="NAME, NAME@MODEL or preset:NAME; a,b or the option again. Default: all that run here."),
]


def add(
    library: Annotated[Path, typer.Argument(help="Folder of the library; begun if it does not exist.")],
    paths: _Paths = None,
    captions: Annotated[
        str | None, typer.Option(help="Table: video, caption(s), and if known start, end, split.")
    ] = None,
    media: Annotated[
        bool, typer.Option("--media/--no-media", help="Rows only, from a table; look for no files.")
    ] = True,
    experts: _Experts = None,
    preset: Annotated[
        str | None, typer.Option(help="offline, standard or best: experts as people choose them; --experts adds more.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a core.")] = None,
    device: Device = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed before.")] = False,
    within: Within = None,
    ray: Ray = None,
) -> None:
    """Ingest, extract and index what is new. Interrupted, it goes on where it was."""
    from reelseek.library import Library
    from reelseek.library import add as add_videos
    from reelseek.library.listing import expand_paths
    from reelseek.media.address import parse_paths
    from reelseek.media.store import is_directory

    paths = paths or []
    if not paths and captions is None:
        raise UsageError("name at least one folder, file, list or table to add")
    names = names_in(experts)
    if not media and captions is None and all(map(is_directory, parse_paths(paths))):
        raise UsageError("--no-media takes rows from a table; name one (CSV, TSV, JSONL or Parquet)")
    if not media:
        _refuse_extraction(experts or preset, device, ray)
    specs = _named_experts(names, preset)
    expand_paths(parse_paths(paths))  # before a library is begun for nothing
    started = time.monotonic()
    with on_cluster(ray) as cluster, Library.open(library, create=True) as opened:
        latest = None
        try:
            with opened.writing(), bars() as progress:
                follow_library(opened)
                try:
                    report = add_videos(
                        opened, paths, captions=captions, media=media, experts=specs, workers=workers,
                        retry_failed=retry_failed, device=device, progress=progress, cluster=cluster,
                        within=within,
                    )  # fmt: skip
                    index = update_indexes(opened, progress)
                finally:
                    latest = progress.latest
        except KeyboardInterrupt:
            say(_stopped(latest))
            raise typer.Exit(130) from None
        _print_report(report, time.monotonic() - started)
        merge_indexes(opened, index)
    raise typer.Exit(1 if report.failed or (index is not None and index.left_out) else 0)


def _refuse_extraction(experts: list[str] | str | None, device: str | None, ray: str | None) -> None:
    """Refuse options that say how features are extracted, where none are."""
    if experts:
        raise UsageError("--no-media extracts nothing, so --experts and --preset contradict it; leave one out")
    if device is not None or ray is not None:
        option = "--ray" if device is None else "--device"
        raise UsageError(f"--no-media extracts nothing, so {option} has no effect; leave one out")


def _stopped(latest: tuple[str, int, int, str] | None) -> str:
    """What to say at Ctrl-C: what was kept, and how to go on."""
    go_on = "the same command goes on from there"
    if latest is None:
        return f"stopped before anything was done; {go_on}"
    stage, done, total, detail = latest
    if stage == "reading":
        return f"stopped while reading new files; those that were read to their end are kept, and {go_on}"
    if stage != "extracting":
        return f"stopped while {stage}, {done} of {total} done; they are kept, and {go_on}"
    files = detail.partition(",")[0]
    return (
        f"stopped while extracting; what was made of {clock(done)} of {clock(total)} of video is kept ({files} whole, "
        f"of long ones what has been stored), and {go_on}"
    )


def _named_experts(experts: list[str] | None, preset: str | None) -> list[str] | None:
    """The experts that are named, presets among them; None where nothing is named.

    Raises:
        UsageError: a preset that is none.
        ExpertUnavailable: models of a preset are not on this machine; said before a library is begun for nothing.
    """
    from reelseek.experts.presets import expand_presets

    specs = [*([f"preset:{preset}"] if preset is not None else []), *(experts or [])]
    expand_presets(specs)
    return specs or None


def _print_report(report: "AddReport", seconds: float) -> None:
    """Work that was done on standard output, the rest on standard error."""
    for name, reason in report.skipped_experts.items():
        say(f"skipped expert {name}: {reason}")
    for video, expert, reason in report.failed:
        say(f"failed: {video}{f' ({expert})' if expert else ''}: {reason}")
    for video, notice in report.notices:
        say(f"note: {video}: {notice}" if video else f"note: {notice}")
    for video, expert in report.remade:
        say(f"made again: {expert} of {video}, whose bytes were lost or damaged")
    if report.unmatched:
        shown = ", ".join(report.unmatched[:5]) + (" ..." if len(report.unmatched) > 5 else "")
        say(f"{len(report.unmatched)} names in the table are no video here and were left out: {shown}")
    if report.rows or report.lost_rows:
        say(f"rows of tables and lists: {report.rows} read, {report.lost_rows} not")
    if report.known_failures:
        say(f"{report.known_failures} files failed before and were not tried again; use --retry-failed to do so")
    if report.nothing_new and not report.videos_seen and not report.rows:
        print("nothing to add: what was named holds no video files")
    elif report.nothing_new:
        print(f"nothing new: {report.videos_seen} files are as they were")
    else:
        print(
            f"{report.videos_new} new videos, {report.captions} new captions, {report.extracted} files extracted, "
            f"{len(report.failed)} failed, in {seconds:.1f} s"
        )


def update_indexes(library: "Library", progress: object = None) -> "Index | None":
    """Bring the index of `concepts` up to date; None if the library has no track that the model reads.

    Videos whose damaged tracks kept them out of an older index are tried again. A caller that is the writer merges
    segments when it no longer is, see `merge_indexes`.
    """
    from reelseek.models.joint import load_for
    from reelseek.search import update_index

    model = load_for(library, "concepts").model
    if not set(model.experts) & {name for name, row in library.experts().items() if row["present"]}:
        return None
    report = progress if callable(progress) else (lambda *_: None)
    return update_index(library, model, progress=lambda done, total: report("indexing", done, total, ""))


def merge_indexes(library: "Library", index: "Index | None") -> None:
    """Merge what `update_indexes` left to be merged; another process may write meanwhile.

    Args:
        index: what it returned.
    """
    from reelseek.models.joint import load_for
    from reelseek.search import merge_due
    from reelseek.search.merge import due

    if index is not None and due(index.segments):
        merge_due(library, load_for(library, "concepts").model)


def register(app: typer.Typer) -> None:
    app.command(cls=OnRay, epilog="Example: reelseek add my.library ~/Videos --preset standard")(add)
