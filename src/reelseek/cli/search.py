"""`reelseek search`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from reelseek.cli.device import Device, Exact, named_device
from reelseek.cli.lists import names_in
from reelseek.cli.localize import check_figure, draw
from reelseek.cli.resident import VARIABLE, answer_elsewhere
from reelseek.cli.show import Bar, clock, print_json, print_table, say
from reelseek.cli.spaces import follow_library, say_joint_model
from reelseek.errors import QueryError, UsageError, suggest

if TYPE_CHECKING:
    from reelseek.library import Library
    from reelseek.media.notice import Notice
    from reelseek.search import Hit, Searcher
    from reelseek.search.hit import Within

__all__ = ["register"]


_Query = Annotated[str | None, typer.Argument(help='What to look for: words, -without, word^2, "must occur".')]
_Without = Annotated[
    list[str] | None,
    typer.Option(help="Leave out modalities or experts: videos are embedded without them. a,b or the option again."),
]
_Weights = Annotated[
    list[str] | None,
    typer.Option(help="Weigh modalities or experts: ocr=2,audio=0.5, or the option again; 0 leaves one out."),
]
_Filter = Annotated[
    str, typer.Option(help="Which videos count: folder:holiday before:2020 has:speech -name:old longer:90s tag:beach.")
]
_Like = Annotated[
    list[str] | None,
    typer.Option(help="Nearer to an example: VIDEO@12-18 of the library (then :MODALITY), a picture, or footage."),
]
_Curve = Annotated[
    Path | None, typer.Option(help="With --video: draw its similarity, OUT.png and OUT.svg, or a page OUT.html.")
]


_NoHelper = Annotated[
    bool,
    typer.Option(
        "--no-helper",
        help=f"Search in this process, and leave none behind that answers the next search faster; {VARIABLE}=0 always "
        "does.",
    ),
]


def search(
    context: typer.Context,
    library: Annotated[Path, typer.Argument(help="Folder of the library.")],
    query: _Query = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many hits.")] = 10,
    group_by: Annotated[str, typer.Option(help="moment or video.")] = "moment",
    model: Annotated[str, typer.Option(help="A model's folder, or concepts.")] = "concepts",
    without: _Without = None,
    weights: _Weights = None,
    filter: _Filter = "",
    offset: Annotated[int, typer.Option(min=0, help="Step over so many hits, for the next page.")] = 0,
    like: _Like = None,
    unlike: Annotated[list[str] | None, typer.Option(help="Less like an example.")] = None,
    then: Annotated[str | None, typer.Option(help="What must follow in the same video.")] = None,
    within_seconds: Annotated[float | None, typer.Option(help="How soon, with --then; 30 if nothing is named.")] = None,
    video: Annotated[str | None, typer.Option(help="Look only inside this video, second by second.")] = None,
    curve: _Curve = None,
    why_not: Annotated[str | None, typer.Option(help="Explain why this video is not higher.")] = None,
    queries: Annotated[Path | None, typer.Option(help="A file: one query a line, or id<TAB>query.")] = None,
    run: Annotated[Path | None, typer.Option(help="Write a TREC run here.")] = None,
    device: Device = None,
    exact: Exact = False,
    no_helper: _NoHelper = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON line a hit.")] = False,
) -> None:
    """Find moments. A query that begins with '-' comes after '--'."""
    examples = bool(like or unlike)
    if within_seconds is not None and then is None:
        raise UsageError("--within-seconds says how soon something follows; say what, with --then")
    _check_query(query, queries, group_by, examples=examples)
    _check_inside(query, video, why_not, curve, whole_library=examples or then is not None or offset > 0)
    if not no_helper and context.obj is not None and (code := answer_elsewhere(context.obj)) is not None:
        raise typer.Exit(code)
    from reelseek.library import Library
    from reelseek.search import Searcher, Then

    weighed, absent = _weights(weights or []), names_in(without) or []
    absent += _unmeasured(run, absent, weighed)
    options: dict[str, Any] = {"without": absent, "weights": weighed, "filter": filter}
    with Library.open(library) as opened, Bar("embedding") as bar:
        follow_library(opened)
        searcher = Searcher(opened, model, device=named_device(device), exact=exact, progress=bar)
        say_joint_model(searcher.model)
        if why_not is not None:
            _explain(searcher, query or "", why_not, options, json)
            return
        shown = _parse_examples(opened, like=like, unlike=unlike)
        follows = None if then is None else Then(then, 30.0 if within_seconds is None else within_seconds)
        of_library = {"offset": offset, "group_by": group_by, "then": follows, **shown}
        answer = _answerer(searcher, {"k": k, **options}, of_library, video, curve)
        notes = partial(searcher.notes, filter=filter, then=follows, **shown)
        hits, failed = _answer_all(searcher, answer, notes, query, queries, json)
    if run is not None:
        _write_run(run, hits, group_by, model)
    if not json:
        _show(hits, several=queries is not None)
    missing = searcher.index.left_out or searcher.index.damaged
    raise typer.Exit(1 if failed or missing or searcher.left_out else 0)


def _check_query(query: str | None, queries: Path | None, group_by: str, *, examples: bool) -> None:
    if (query is not None and queries is not None) or (query is None and queries is None and not examples):
        raise UsageError("give one query, or a file of them with --queries, or an example with --like")
    if group_by not in ("moment", "video"):
        raise UsageError(f"--group-by is {group_by!r}{suggest(group_by, ('moment', 'video'))}; wanted moment or video")


def _check_inside(
    query: str | None, video: str | None, why_not: str | None, curve: Path | None, *, whole_library: bool
) -> None:
    """Refuse what cannot be asked of one video, or without a query."""
    if curve is not None and (video is None or query is None):
        raise UsageError("--curve draws one query inside one video; name it with --video")
    check_figure(curve)
    if why_not is not None and query is None:
        raise UsageError("--why-not explains one query; give it instead of --queries")
    if whole_library and (video is not None or why_not is not None):
        raise UsageError("--like, --unlike, --then and --offset search the library; leave --video and --why-not away")


def _parse_examples(library: "Library", **options: list[str] | None) -> dict[str, Any]:
    """The examples of each option, `like` and `unlike`."""
    from reelseek.search.examples import parse_example

    return {name: [parse_example(text, library) for text in texts or ()] for name, texts in options.items()}


def _unmeasured(run: Path | None, without: Sequence[str], weights: Mapping[str, float]) -> list[str]:
    """What a run leaves out, since its queries may be these very captions, and names tell what is searched."""
    from reelseek.search.fulltext import ABOUT

    names = [name for name in ABOUT if run is not None and name not in without and name not in weights]
    if names:
        say(f"a run measures the model without {' and '.join(names)}; --weights captions=1 counts captions")
    return names


Answer = Callable[[str, str], "list[Hit]"]
Notes = Callable[[str], list[str]]


def _answerer(
    searcher: "Searcher", options: dict[str, Any], of_library: dict[str, Any], video: str | None, curve: Path | None
) -> Answer:
    """What answers a query by its id and its text: the library, or one video, whose curve may be drawn.

    Args:
        of_library: options of a search in the library alone.
    """

    def answer(query_id: str, text: str) -> "list[Hit]":
        if video is None:
            return searcher.search(text, query_id=query_id, **options, **of_library)
        inside = searcher.within(text, video, query_id=query_id, **options)
        if curve is not None:
            _draw(inside, curve, searcher.library)
        return list(inside.hits)

    return answer


def _answer_one(
    searcher: "Searcher", answer: Answer, notes: Notes, text: str, json: bool, query_id: str = "1"
) -> "list[Hit]":
    """The hits of a query, printed if as JSON; what of it the model cannot read is said."""
    hits = answer(query_id, text)
    for note in notes(text):
        say(f"note: {note}")
    if words := searcher.unread(text):
        say(f"{words!r} is matched word for word only: the model cannot read it; it reads {_reads(searcher)}")
    if not hits:
        say(f"no moment meets {text!r}" if text else "no moment meets the query")
    if json:
        for hit in hits:
            print_json(hit.as_json())
    return hits


def _answer_all(
    searcher: "Searcher", answer: Answer, notes: Notes, query: str | None, queries: Path | None, json: bool
) -> "tuple[list[Hit], int]":
    """The hits of one query or of a file of them, and how many of these could not be answered."""
    if query is not None or queries is None:
        return _answer_one(searcher, answer, notes, query or "", json), 0
    hits: list[Hit] = []
    failed = 0
    for query_id, text in _read_queries(queries):
        try:
            hits += _answer_one(searcher, answer, notes, text, json, query_id)
        except QueryError as error:
            say(f"failed: query {query_id}: {error}")
            failed += 1
    return hits, failed


def _reads(searcher: "Searcher") -> str:
    from reelseek.experts.sentence import packaged_encoder, sentence_encoder

    if searcher.model.embeds_sentences:
        joint = getattr(searcher.model.config, "clip_model", None)
        return sentence_encoder().language + (f", and the words that {joint} knows" if joint else "")
    encoder = getattr(getattr(searcher.model.config, "text", None), "encoder", "sentence")
    return packaged_encoder().language if encoder == "sentence" else f"the words that {encoder} knows"


def _draw(inside: "Within", path: Path, library: "Library") -> None:
    from reelseek.moments import Timeline

    peaks = [(0, hit.start, hit.end) for hit in inside.hits if hit.end is not None]
    title = f"{inside.video}: {inside.query}"
    draw(Timeline(title, [inside.query], inside.curve[:, None], {"prediction": peaks}), path, library, inside.video)


def _weights(options: list[str]) -> dict[str, float]:
    weights = {}
    for piece in (piece for text in options for piece in text.split(",")):
        name, _, value = piece.partition("=")
        try:
            weights[name.strip()] = float(value)
        except ValueError as error:
            raise UsageError(f"--weights {piece!r}: wanted modality=number, such as ocr=2") from error
    return weights


def _read_queries(path: Path) -> Iterator[tuple[str, str]]:
    from reelseek.library.texts import read_lines

    notices: "list[Notice]" = []
    lines = read_lines(path, notices)
    for notice in notices:
        say(f"note: {notice}")
    for number, line in lines:
        identifier, tab, text = line.partition("\t")
        yield (identifier.strip(), text) if tab else (str(number), line)


def _write_run(path: Path, hits: "list[Hit]", group_by: str, model: str) -> None:
    """TREC run: `query Q0 document rank score tag`; blanks in names are percent-encoded."""
    tag = quote(f"reelseek-{Path(model).name}", safe="")
    lines = []
    for hit in hits:
        document = quote(hit.video, safe="/!$&'()*+,:;=@~")
        if group_by == "moment":
            document += f"@{hit.start:g}-{'end' if hit.end is None else f'{hit.end:g}'}"
        query_id = quote(hit.query_id, safe="/!$&'()*+,:;=@~")
        lines.append(f"{query_id} Q0 {document} {hit.rank} {hit.similarity:.6f} {tag}\n")
    try:
        path.write_text("".join(lines), "utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def _show(hits: "list[Hit]", *, several: bool) -> None:
    from reelseek.library.names import shown_name

    rows = []
    for hit in hits:
        why = "; ".join(f"{w.modality} {w.gave:+.2f}{f': {w.matched[:48]}' if w.matched else ''}" for w in hit.why[:3])
        sure = "" if hit.confidence is None else f"{hit.confidence:.0%} {hit.strength}"
        first = [f"{hit.query_id} {hit.query}"] if several else []
        rows.append(
            [
                *first,
                shown_name(hit.video, hit.path),
                f"{clock(hit.start)}-{clock(hit.end)}",
                f"{hit.similarity:.3f}",
                sure,
                why,
            ]
        )
    if not rows:
        return
    print_table([*(["query"] if several else []), "video", "moment", "similarity", "confidence", "why"], rows)
    if not several and hits[0].confidence is not None and hits[0].confidence < 0.5:
        say("weak matches: unrelated queries score as high as these on this library")


def _explain(searcher: "Searcher", query: str, video: str, options: dict[str, Any], json: bool) -> None:
    from dataclasses import asdict

    miss = searcher.why_not(query, video, **options)
    if json:
        print_json(asdict(miss))
        return
    rank = f"rank {miss.rank} of {miss.videos}" if miss.rank else "not indexed"
    print(
        f"{miss.video}: {rank} for {miss.query!r}, similarity {miss.similarity} (the best has {miss.best_similarity})"
    )
    if miss.note:
        print(miss.note)
    print_table(
        ["modality", "weight", "gave", "had"],
        [(m["modality"], m["wanted_weight"], m["gave"], m["had"]) for m in miss.modalities],
    )


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek search my.library 'red car -people' -k 5 --weights ocr=2")(search)
