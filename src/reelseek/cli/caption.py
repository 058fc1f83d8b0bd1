"""`reelseek caption` and `reelseek captioner`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelseek.cli.device import Device, named_device
from reelseek.cli.lists import names_in
from reelseek.cli.outputs import folder_option
from reelseek.cli.show import bars, clock, print_json, print_table, say
from reelseek.cli.spaces import follow_library
from reelseek.errors import CollectionError, UsageError

if TYPE_CHECKING:
    from reelseek.evaluation.report import Picture
    from reelseek.library import Library
    from reelseek.library.tokens import Clip
    from reelseek.training.captions import MeasuredCaptions, Story

__all__ = ["app", "register"]

app = typer.Typer(help="Captioners: learn to write, and how well they do.", no_args_is_help=True, rich_markup_mode=None)
_COLUMNS = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D", "METEOR", "repetition"]


def caption(
    library: Annotated[Path, typer.Argument(help="Folder of the library.")],
    videos: Annotated[list[str], typer.Argument(help="Videos of it.")],
    model: Annotated[
        str, typer.Option(help="A captioner's folder; concepts says what labels, writing and speech tell.")
    ] = "concepts",
    segments: Annotated[
        Path | None, typer.Option(help="Table video,start,end of spans to describe; default: shots of 8 s at most.")
    ] = None,
    beam: Annotated[int, typer.Option(help="Hypotheses that are followed; 1 is greedy.", min=1)] = 4,
    srt: Annotated[Path | None, typer.Option(help="Folder for subtitles, .srt and .vtt, one of each a video.")] = None,
    index: Annotated[bool, typer.Option(help="Let search find the lines as text, marked as machine-written.")] = True,
    device: Device = None,
    json: Annotated[bool, typer.Option("--json", help="A JSON line a video.")] = False,
) -> None:
    """Write a first description of videos, shot by shot."""
    from reelseek.library import Library
    from reelseek.training.describe import caption as describe
    from reelseek.training.describe import write_subtitles

    with Library.open(library) as opened, bars() as progress:
        follow_library(opened)
        stories = describe(
            opened, videos, model=model, segments=_read_segments(segments, opened) if segments else None, beam=beam,
            index=index, device=named_device(device), progress=progress,
        )  # fmt: skip
    for story in stories:
        if json:
            print_json(story.as_json())
        else:
            rows = [(f"{clock(line.start)}-{clock(line.end)}", line.text) for line in story.lines]
            print_table([story.video, ""], rows)
        if not story.lines:
            say(f"{story.video}: nothing was written: it has no evidence that {story.model} reads")
        if srt is not None and story.lines:
            say(", ".join(str(path) for path in write_subtitles(story, srt)))


def _read_segments(path: Path, library: "Library") -> "list[Clip]":
    from reelseek.library.tables import read_table
    from reelseek.library.tokens import Clip

    try:
        rows = [row.cells for row in read_table(path, ("video", "start", "end")).require_all()]
        if rows and not {"video", "start", "end"} <= set(rows[0]):
            raise ValueError(f"its columns are {', '.join(rows[0])}")
        return [Clip(library.video(row["video"]).id, float(row["start"]), float(row["end"])) for row in rows]
    except (CollectionError, KeyError, ValueError, TypeError) as error:
        raise UsageError(f"{path} is not a table of video,start,end: {error!r}") from error


@app.command(epilog="Example: reelseek captioner train my.library --out my.captioner --model crossclr.model")
def train(
    library: Annotated[Path, typer.Argument(help="Folder of the library.")],
    out: Annotated[Path, folder_option("the captioner")],
    model: Annotated[
        str | None, typer.Option(help="A retrieval model whose embeddings are read; default: tracks as they are.")
    ] = None,
    experts: Annotated[
        list[str] | None, typer.Option(help="Without --model: whose tracks; a,b or the option again.")
    ] = None,
    split: Annotated[str, typer.Option("--train", help="The split that is learnt from.")] = "train",
    validation: Annotated[str, typer.Option(help="The split that the best epoch is chosen on.")] = "val",
    recipe: Annotated[
        str | None, typer.Option(help="A TOML file, or captions/mart for MART's published sizes; default: small.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change the recipe: heads=12.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="At most; default 60.")] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate; default 1e-3.")] = None,
    memory: Annotated[int | None, typer.Option(min=0, help="Cells that go from clip to clip; default 1.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of all that is drawn; default 0.")] = None,
    device: Device = None,
) -> None:
    """Learn to write captions (MART) from embeddings of a model, or from tracks."""
    from reelseek.library import Library
    from reelseek.training.captions import check_place, read_caption_recipe, train_captions

    if model is not None and experts is not None:
        raise UsageError("--model and --experts both name what is read; leave one out")
    check_place(out)
    if rate is not None and not 0 < rate < 1:
        raise UsageError(f"--rate is {rate:g}; it takes a number between 0 and 1")
    options = {"epochs": epochs, "rate": rate, "memory": memory, "seed": seed}
    named = {name: value for name, value in options.items() if value is not None}
    settings = read_caption_recipe(recipe, set_ or (), named)
    with Library.open(library) as opened, bars() as progress:
        writer, summary = train_captions(
            opened, settings, model=model, experts=names_in(experts), train=split,
            validation=validation, device=named_device(device),
            report=lambda epoch, total, loss, cider: progress("training", epoch, total, f"CIDEr-D {cider:.3f}"),
        )  # fmt: skip
    writer.save(out, summary)
    print(f"{out}: epoch {summary['epoch']}, CIDEr-D {summary['cider_d']:.3f} on {validation}")
    if summary["cider_d"] == 0:
        say("nothing of what it wrote was right: learn for longer (--epochs), or give it more captions")


@app.command(
    epilog="Example: reelseek captioner evaluate a.captioner b.captioner --library my.library --page page.html"
)
def evaluate(
    captioners: Annotated[list[Path], typer.Argument(help="Folders of captioners.")],
    library: Annotated[Path, typer.Option(help="Folder of the library.")],
    split: Annotated[str, typer.Option(help="Whose captions are wanted.")] = "test",
    beam: Annotated[int, typer.Option(help="Hypotheses that are followed; 1 is greedy.", min=1)] = 1,
    nearest: Annotated[bool, typer.Option(help="Beside them, copying the nearest clip's caption of train.")] = True,
    page: Annotated[
        Path | None, typer.Option(help="Write a page: frames, every system's paragraph, the truth.")
    ] = None,
    examples: Annotated[int, typer.Option(help="Videos on the page.", min=1)] = 12,
    device: Device = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """BLEU, ROUGE-L, CIDEr-D, METEOR (with REELSEEK_METEOR set to its jar) and repetition, side by side."""
    from reelseek.library import Library
    from reelseek.training.captions import load_writer, measure_captions, nearest_captions

    place = named_device(device)
    with Library.open(library) as opened:
        systems: dict[str, MeasuredCaptions] = {}
        for path in captioners:
            name = path.name if path.name not in systems else str(path)
            systems[name] = measure_captions(load_writer(path).to(place), opened, split, beam=beam)
        if nearest:
            systems["nearest caption"] = nearest_captions(opened, split=split)
        if page is not None:
            _write_page(page, opened, systems, split, examples)
    if json:
        print_json({name: measured.scores.as_json() for name, measured in systems.items()})
        return
    print_table(["", *_COLUMNS], [[name, *_cells(measured)] for name, measured in systems.items()])
    clips = next(iter(systems.values())).scores.captions
    decoding = "greedy" if beam == 1 else f"beam of {beam}"
    say(f"{clips} clips of {split}, {decoding}; words in lower case, without punctuation, as COCO's code counts")


def _cells(measured: "MeasuredCaptions") -> list[str]:
    s = measured.scores
    shares = [f"{100 * value:.1f}" for value in (s.bleu_1, s.bleu_2, s.bleu_3, s.bleu_4, s.rouge_l)]
    return [
        *shares,
        f"{s.cider_d:.3f}",
        "" if s.meteor is None else f"{100 * s.meteor:.1f}",
        f"{100 * s.repetition:.1f}",
    ]


def _write_page(path: Path, library: "Library", systems: "dict[str, MeasuredCaptions]", split: str, count: int) -> None:
    from reelseek.evaluation.report import Paragraphs, ReportTable, html_report

    first = next(iter(systems.values()))
    parts: list[Any] = [
        ReportTable(
            f"Captions of {split}",
            ["", *_COLUMNS],
            [[name, *_cells(measured)] for name, measured in systems.items()],
            "BLEU, ROUGE-L, METEOR and repetition in per cent. Words in lower case without punctuation.",
        )
    ]
    for place, story in list(enumerate(first.stories))[:count]:
        written = [
            (name, ". ".join(text or "(nothing)" for text in measured.written[place]))
            for name, measured in systems.items()
        ]
        truth = ". ".join(texts[0] for texts in story.captions)
        parts.append(Paragraphs(story.video, _frames(library, story), written, truth))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html_report("What machines wrote, and what people said", parts), "utf-8")
    say(f"page: {path}")


def _frames(library: "Library", story: "Story") -> "list[Picture]":
    """A picture of each clip; four of a video that is one clip."""
    from reelseek.evaluation.report import Picture

    video = library.video(story.video)
    pictures = []
    for clip in story.clips:
        start, end = clip.start_seconds or 0.0, clip.end_seconds or video.duration or 0.0
        for share in (0.5,) if len(story.clips) > 1 else (0.125, 0.375, 0.625, 0.875):
            at = start + share * (end - start)
            pictures.append(Picture(library.thumbnail(video.content, at) if video.content else None, clock(at)))
    return pictures


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek caption my.library holiday.mp4 --srt subtitles")(caption)
