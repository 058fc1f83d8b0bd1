"""`reelseek info`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelseek.cli.show import clock, print_json, print_table, say

if TYPE_CHECKING:
    from reelseek.library import Library

__all__ = ["register"]


def info(
    library: Annotated[Path, typer.Argument(help="Folder of the library.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    videos: Annotated[bool, typer.Option("--videos", help="List the videos.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the database, and read every byte of every track and index again.")
    ] = False,
) -> None:
    """What a library holds: videos, tracks by expert, failures with reasons; with --json or --verify its digest."""
    from reelseek.library import Library
    from reelseek.library.names import printable
    from reelseek.search.index import describe_indexes

    with Library.open(library) as opened:
        problems = opened.verify([_damaged_indexes]) if verify else []
        for name, problem in problems:
            say(f"damaged: {name}: {problem}")
        count, with_media, seconds = opened.catalog.videos.totals()
        rows = opened.videos() if videos else []
        experts, failures, notices = opened.experts(), opened.failures(), opened.notices()
        facts: dict[str, Any] = {
            "videos": count,
            "with_media": with_media,
            "seconds": round(seconds, 3),
            "captions": sum(opened.splits().values()),
            "splits": opened.splits(),
            "tracks": {name: expert["tracks"] for name, expert in experts.items()},
            "experts": experts,
            "failures": failures,
            "notices": [{"video": video, **vars(notice)} for video, notice in notices],
            "indexes": describe_indexes(opened),
            **({"digest": opened.digest()} if json or verify else {}),  # which reads every row
            **({"problems": [{"name": name, "problem": problem} for name, problem in problems]} if verify else {}),
        }
    code = 1 if problems else 0
    if json:
        listed = [{"id": v.id, "path": printable(v.path) if v.path else None, "duration": v.duration} for v in rows]
        print_json({**facts, **({"list": listed} if videos else {})})
        raise typer.Exit(code)
    if videos:
        print_table(["video", "length"], [(v.id, clock(v.duration) if v.duration else "") for v in rows])
        raise typer.Exit(code)
    print(f"{facts['videos']} videos ({facts['with_media']} with files), {clock(facts['seconds'])}")
    print(f"{facts['captions']} captions; splits: {facts['splits']}")
    cells = [
        (n, e["modality"], e["dim"], e["tracks"], e["present"], e["tracks"] - e["present"]) for n, e in experts.items()
    ]
    print_table(["expert", "modality", "dim", "tracks", "with evidence", "without"], cells)
    if failures:
        print_table(["failed", "expert", "reason"], [(f["video"], f["expert"] or "", f["reason"]) for f in failures])
    if notes := [(video, str(notice)) for video, notice in notices if not notice.lost]:
        print_table(["video", "note"], notes)
    if facts["indexes"]:
        print_table(
            ["index", "clips", "experts", "scored again", "recall at 10"], list(map(_index_cells, facts["indexes"]))
        )
    print(f"digest {facts['digest']}" if "digest" in facts else "digest: not computed; show it with --verify or --json")
    raise typer.Exit(code)


def _index_cells(index: dict[str, Any]) -> tuple[object, ...]:
    """An index in a row of the table; one that scores every clip has no recall to speak of."""
    recall = "exact" if index["recall"] is None else f"{index['recall']:.3f}"
    return index["system"], index["clips"], ", ".join(index["experts"]), index["candidates"] or "", recall


def _damaged_indexes(library: "Library") -> list[tuple[str, str]]:
    from reelseek.search.index import verify

    return [(file, f"{problem}; the next search or add builds it again") for file, problem in verify(library)]


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek info my.library --json")(info)
