"""`reelseek demo`: the main job on real video files, with the time of each stage."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelseek.cli.add import update_indexes
from reelseek.cli.evaluate import METRICS, metric_cells
from reelseek.cli.show import Bar, bars, clock, print_table, say

if TYPE_CHECKING:
    from reelseek.evaluation.report import Picture, ReportTable
    from reelseek.library import Library
    from reelseek.models import RetrievalModel
    from reelseek.search import Searcher
    from reelseek.training import Recipe

__all__ = ["demo_recipe", "register"]

_QUERIES = (
    "a cat looking at the camera",
    "a motorcycle in a garage -cat",
    "waves on the sea at sunset",
    '"happy birthday"',
    "someone says the train leaves at seven",
    "people riding bikes in the city",
)
_FILMS, _EPOCHS = 160, 40
_FEWEST_FILMS, _FEW_EPOCHS = 24, 3


class _Stages:
    """Times of stages, printed as they end."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        say(f"== {name}")
        started = time.monotonic()
        yield
        spent = time.monotonic() - started
        self.rows.append((name, f"{spent:.1f} s"))
        say(f"== {name}: {spent:.1f} s")


def demo(
    out: Annotated[Path, typer.Argument(help="Folder for everything the demonstration makes.")] = Path("demo"),
    videos: Annotated[
        Path | None, typer.Option(help="Your own folder of videos instead of the studio's films.")
    ] = None,
    films: Annotated[
        int | None, typer.Option(min=_FEWEST_FILMS, show_default=str(_FILMS), help="How many films the studio shoots.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, show_default=str(_EPOCHS), help="Epochs of training.")] = None,
    small: Annotated[
        bool,
        typer.Option(
            "--small",
            help=f"{_FEWEST_FILMS} films and {_FEW_EPOCHS} epochs: whether all runs, not how well it does.",
        ),
    ] = False,
) -> None:
    """Film (or take) real videos, ingest, train, measure, search, report."""
    from reelseek.library import Library
    from reelseek.search import Searcher
    from reelseek.studio import write_archive

    films = films or (_FEWEST_FILMS if small else _FILMS)
    epochs = epochs or (_FEW_EPOCHS if small else _EPOCHS)
    stages = _Stages()
    folder = videos or out / "videos"
    out.mkdir(parents=True, exist_ok=True)
    if videos is None:
        with stages("filming"), bars() as progress:
            write_archive(folder, films, progress=lambda done, total: progress("filming", done, total, ""))
    with Library.open(out / "library", create=True) as library:
        with stages("ingest and extraction"), bars() as progress:
            _ingest(library, folder, None if videos else folder / "captions.csv", progress)
        tables: list[ReportTable] = []
        best = _Fusion("concepts")
        if videos is None:
            tables, best = _learn(library, out, epochs, stages)
        with stages("search"), Bar("embedding") as bar:
            searcher = Searcher(library, best.model, progress=bar)
            say(f"searching with {best}")
            queries = _QUERIES if videos is None else _queries_of(library)
            rows = [(query, _search(searcher, query, best.without)) for query in queries]
        _report(out, stages, tables, rows)
    print(f"\nThe report: {(out / 'report.html').resolve()}")
    print(f"The page:   .venv/bin/reelseek serve {out / 'library'}")
    print("With your own videos: make demo VIDEOS=~/Videos")


def _ingest(library: "Library", folder: Path, captions: Path | None, progress: Any) -> None:
    from reelseek.library import add

    report = add(library, [folder], captions=captions, progress=progress)
    update_indexes(library, progress)
    for name, reason in report.skipped_experts.items():
        say(f"skipped expert {name}: {reason}")
    for video, expert, reason in report.failed:
        say(f"failed: {video} {expert}: {reason}")
    cells = [(n, e["modality"], e["tracks"], e["present"]) for n, e in library.experts().items()]
    print_table(["expert", "modality", "videos examined", "with evidence"], cells)


def demo_recipe(epochs: int) -> "Recipe":
    """MMT at a size that learns from a few hundred captions in half a minute."""
    from pydantic import TypeAdapter

    from reelseek.training import Recipe

    schedule = {"epochs": epochs, "batch": 32, "rate": 5e-4, "text_rate": 5e-5, "average": 0.9, "drop": 0.2}
    model = {"system": "mmt", "width": 256, "depth": 2, "heads": 4, "inner": 512, "dropout": 0.2}
    # A few hundred captions leave the learnt weights of experts even, and teach a closed form more than a transformer.
    model |= {"expert_factors": True, "linear": True}
    loss = {"name": "max_margin", "settings": {"margin": 0.2}}
    return TypeAdapter(Recipe).validate_python({"model": {**model, "loss": loss}, "train": schedule})


@dataclass(frozen=True)
class _Fusion:
    """A model, and the experts that it does better without."""

    model: str
    without: tuple[str, ...] = ()
    score: float = 0.0

    def __str__(self) -> str:
        rest = f" without {', '.join(self.without)}" if self.without else ""
        return f"{'concepts' if self.model == 'concepts' else 'the model trained here'}{rest}"


def _choose_fusion(model: "RetrievalModel", path: str, library: "Library") -> _Fusion:
    """The experts with which a model does best on the validation split: all, all but one, or one alone.

    A mixture learns its weights on a hundred films, and may trust an expert that tells little of others.
    """
    from reelseek.training import evaluate

    experts = evaluate(model, library, split="val").experts
    subsets = [experts, *([other for other in experts if other != left_out] for left_out in experts)]
    subsets += [[expert] for expert in experts]
    fusions = []
    for subset in subsets if len(experts) > 1 else [experts]:
        measured = evaluate(model, library, split="val", experts=subset).text_to_video
        score = measured.recall_at_1 + measured.recall_at_5 + measured.recall_at_10
        fusions.append(_Fusion(path, tuple(name for name in experts if name not in subset), score))
    return max(fusions, key=lambda fusion: fusion.score)  # the first of equals, which leaves out least


def _learn(library: "Library", out: Path, epochs: int, stages: _Stages) -> "tuple[list[ReportTable], _Fusion]":
    """Train MMT, then measure it and the untrained concepts on the test split: together, by modality, and as chosen on
    the validation split.

    Returns:
        Tables, and what did best on the validation split.
    """
    from reelseek.evaluation.report import ReportTable
    from reelseek.models import load_model
    from reelseek.training import evaluate, train

    recipe = demo_recipe(epochs)
    place = out / f"mmt-{library.digest()[:12]}"  # other videos, another model
    with stages("training mmt"), bars() as progress:
        train(recipe, library, place, report=lambda line, total, _: progress("training", line.epoch, total, ""))
    rows: list[list[object]] = []
    fusions = []
    with stages("evaluation"):
        for name, model_path in (("concepts (no training)", "concepts"), ("mmt (trained here)", str(place))):
            system = load_model(model_path)
            together = evaluate(system, library, split="test")
            rows.append([f"{name}: all, text to video", *metric_cells(together.text_to_video)])
            rows.append([f"{name}: all, video to text", *metric_cells(together.video_to_text)])
            for expert in together.experts if len(together.experts) > 1 else ():
                alone = evaluate(system, library, split="test", experts=[expert])
                rows.append([f"  {expert} alone, text to video", *metric_cells(alone.text_to_video)])
            fusions.append(fusion := _choose_fusion(system, model_path, library))
            if fusion.without:
                selected = [expert for expert in together.experts if expert not in fusion.without]
                measured = evaluate(system, library, split="test", experts=selected)
                label = f"{', '.join(selected)} (chosen on validation), text to video"
                rows.append([f"  {label}", *metric_cells(measured.text_to_video)])
    title = f"Test split: {together.queries} queries, gallery of {together.gallery}"
    print_table(["", *METRICS], rows, title)
    protocol = f"{together.protocol}: {together.says}"
    note = f"Recalls in per cent. {protocol}. Split {together.split_hash}; seed 0; {epochs} epochs."
    return [ReportTable(title, ["", *METRICS], rows, note)], max(fusions, key=lambda fusion: fusion.score)


def _queries_of(library: "Library") -> Sequence[str]:
    """Queries about these videos: their commonest labels and a few of their words."""
    labels = [label.partition(",")[0] for label in library.catalog.texts.commonest_labels("object", 4)]
    words = [" ".join(line.replace('"', " ").split()[:6]) for line in library.catalog.texts.surest_lines(2)]
    return [*labels, *(word for word in words if word)] or ["people talking"]


def _search(searcher: "Searcher", query: str, without: Sequence[str]) -> list["Picture"]:
    """Print the five best moments of a query; returns their pictures."""
    from reelseek.evaluation.report import Picture

    pictures = []
    hits = searcher.search(query, k=5, without=[*without, "name", "captions"])  # the films' own, which would tell all
    cells = []
    for hit in hits:
        video = searcher.library.video(hit.video)
        middle = (hit.start + (hit.end or hit.start)) / 2
        jpeg = searcher.library.thumbnail(video.content, middle) if video.content else None
        reasons = dict.fromkeys(f"{w.modality}{f': {w.matched[:60]}' if w.matched else ''}" for w in hit.why)
        why = "; ".join([*reasons][:2])
        moment = f"{clock(hit.start)}-{clock(hit.end)}"
        pictures.append(Picture(jpeg, f"{hit.video} {moment} ({hit.similarity:.2f}) {why}"))
        cells.append((hit.video, moment, f"{hit.similarity:.2f}", why))
    print_table(["video", "moment", "similarity", "why"], cells, f"\n{query}")
    return pictures


def _report(out: Path, stages: _Stages, tables: list["ReportTable"], rows: list[tuple[str, list["Picture"]]]) -> None:
    from reelseek.evaluation.report import Examples, ReportTable, html_report

    times = ReportTable("Time of each stage", ["stage", "wall time"], stages.rows)
    (out / "report.html").write_text(
        html_report(
            "Reelseek: from raw video to a ranked moment",
            [*tables, times, Examples("Queries and the moments found", rows)],
        ),
        "utf-8",
    )
    print_table(["stage", "wall time"], stages.rows)


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek demo demo --videos ~/Videos")(demo)
