"""`reelseek localize`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelseek.cli.device import Device, named_device
from reelseek.cli.show import bars, clock, print_json, print_table, say
from reelseek.cli.spaces import follow_library
from reelseek.errors import UsageError
from reelseek.media.address import Address

if TYPE_CHECKING:
    from reelseek.library import Library
    from reelseek.moments import Localized, MeasuredSteps, Timeline

__all__ = ["FIGURE", "RADIUS", "check_figure", "draw", "register", "say_left_out"]

FIGURE = typer.Option(help="Draw it: OUT.png and OUT.svg, or for OUT.html a page with the player.")
RADIUS = typer.Option(help="Seconds around each second that are looked at too.", min=0)

# Recall by task, in per cent (EAO's supplement, table 3), by a word of the task's title: a fully supervised baseline,
# CrossTask (Zhukov et al. 2019), HT100M (Miech et al. 2019), MCN (Chen et al. 2021) and EAO.
_PUBLISHED = {
    "kimchi": (19.1, 13.3, 33.5, 25.5, 30.5),
    "pickle": (25.3, 18.0, 27.1, 31.1, 41.2),
    "banana": (38.0, 23.4, 36.6, 39.7, 46.5),
    "steak": (37.5, 23.1, 37.9, 32.7, 46.6),
    "jack": (25.7, 16.9, 24.1, 35.4, 38.9),
    "jello": (28.2, 16.5, 35.6, 36.8, 32.0),
    "tire": (54.3, 30.7, 32.7, 29.0, 19.5),
    "lemonade": (25.8, 21.6, 35.1, 40.0, 48.9),
    "oil": (18.3, 4.6, 30.7, 28.4, 25.8),
    "latte": (31.2, 19.5, 28.5, 33.8, 33.6),
    "shelves": (47.7, 35.3, 43.2, 45.7, 44.7),
    "taco": (12.0, 10.0, 19.8, 27.5, 29.1),
    "french toast": (39.5, 32.3, 34.7, 36.1, 40.7),
    "irish": (23.4, 13.8, 33.6, 34.9, 36.9),
    "strawberry": (30.9, 29.5, 40.4, 39.6, 50.7),
    "pancakes": (41.1, 37.6, 41.6, 42.6, 44.1),
    "meringue": (53.4, 43.0, 41.9, 43.0, 63.1),
    "curry": (17.3, 13.3, 27.4, 29.1, 33.6),
}
_SYSTEMS = ("supervised", "CrossTask", "HT100M", "MCN", "EAO")
_PUBLISHED_MEANS = (31.6, 22.4, 33.6, 35.1, 39.2)


def localize(
    library: Annotated[Path, typer.Argument(help="Folder of the library.")],
    video: Annotated[str | None, typer.Argument(help="A video of it.")] = None,
    steps: Annotated[Path | None, typer.Option(help="A file: one step a line, in order.")] = None,
    model: Annotated[str, typer.Option(help="A model's folder, or concepts.")] = "concepts",
    missing: Annotated[bool, typer.Option(help="Steps may happen nowhere.")] = False,
    ordered: Annotated[bool, typer.Option(help="Steps happen in their order.")] = True,
    truth: Annotated[
        Path | None, typer.Option(help="Where they do happen: rows step,start,end, or .npy [second, step].")
    ] = None,
    radius: Annotated[float, RADIUS] = 1.0,
    figure: Annotated[Path | None, FIGURE] = None,
    crosstask: Annotated[
        Path | None, typer.Option(help="CrossTask's folder instead of a video: recall by task on what is at hand.")
    ] = None,
    device: Device = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Where in a video each step of a task happens; or how well that is found on CrossTask."""
    from reelseek.library import Library
    from reelseek.library.readers.steps import read_crosstask, read_lines, read_truth
    from reelseek.moments import localize as localize_steps
    from reelseek.moments import measure_steps

    if (crosstask is None) == (video is None) or (video is not None and steps is None):
        raise UsageError("wanted LIBRARY VIDEO --steps FILE, or LIBRARY --crosstask FOLDER")
    if crosstask is not None and (steps or truth or figure or missing or not ordered):
        raise UsageError("--crosstask is its own protocol: it takes --model, --radius, --device and --json alone")
    check_figure(figure)
    place = named_device(device)
    with Library.open(library) as opened:
        follow_library(opened)
        if crosstask is not None:
            with bars() as progress:
                data = read_crosstask(crosstask)
                measured = measure_steps(opened, data, model=model, radius=radius, device=place, progress=progress)
            _print_crosstask(measured, {name: task.title for name, task in data.tasks.items()}, json=json)
            say_left_out(measured.skipped, len(data.videos))
            raise typer.Exit(1 if measured.skipped else 0)
        assert video is not None
        assert steps is not None
        lines = read_lines(steps)
        localized = localize_steps(
            opened, video, lines, model=model, ordered=ordered, missing=missing, radius=radius, device=place
        )
        true = read_truth(truth, localized.seconds, len(localized.steps)) if truth is not None else None
        if figure is not None:
            draw(localized.timeline(true), figure, opened, localized.video)
    report = localized.as_json()
    if true is not None:
        happens, hits = true.any(0), (true & localized.placed).any(0)
        report["recall"] = float(hits.sum() / happens.sum()) if happens.any() else None
    if json:
        print_json(report)
        return
    _print_steps(localized)
    if true is not None:
        say(f"recall: {int(hits.sum())} of the {int(happens.sum())} steps that happen are placed where they do")


def check_figure(figure: Path | None) -> None:
    """Refuse a file that no figure can be written to, before anything is computed for it.

    Raises:
        UsageError: its ending is not one of a figure.
    """
    if figure is not None and figure.suffix not in ("", ".png", ".svg", ".html"):
        raise UsageError(f"the figure is {figure}; wanted a name that ends in .png, .svg or .html")


def draw(timeline: "Timeline", figure: Path, library: "Library", video: str) -> None:
    """Draw a timeline into the file that is named; a page also has the video's player."""
    file = library.video(video).path
    if isinstance(file, Address):
        say(f"{file} lies in a store, so the figure has no player")
    say(f"drawn: {timeline.save(figure, media=file if isinstance(file, Path) and file.is_file() else None)}")


def _print_steps(localized: "Localized") -> None:
    rows = [
        (s.step, s.text, "nowhere", "", "") if s.start is None or s.similarity is None or s.confidence is None
        else (s.step, s.text, clock(s.start), f"{s.similarity:.3f}", f"{s.confidence:.0%}")
        for s in localized.steps
    ]  # fmt: skip
    print_table(["", "step", "at", "similarity", "confidence"], rows)
    confidences = [step.confidence for step in localized.steps if step.confidence is not None]
    if confidences and sum(confidences) / len(confidences) < 0.5:
        say("weak: unrelated texts score as high in this video. Do its features show such steps, in this language?")


def _print_crosstask(measured: "MeasuredSteps", titles: dict[str, str], *, json: bool) -> None:
    """Print recall by task beside the published one."""
    recall, even = measured.recall, measured.even
    if json:
        print_json(
            {
                "video_mean": recall.video_mean, "pooled": recall.pooled, "even_video_mean": even.video_mean,
                "mean_of_video_means": recall.mean_of_video_means, "mean_of_pooled": recall.mean_of_pooled,
                "even_mean_of_video_means": even.mean_of_video_means, "videos": measured.videos,
                "of_videos": recall.of_videos, "skipped": [list(row) for row in measured.skipped],
            }
        )  # fmt: skip
        return
    rows: list[list[object]] = []
    for task, videos in measured.videos.items():
        published = next((recalls for word, recalls in _PUBLISHED.items() if word in titles[task].lower()), None)
        cells = [100 * recall.video_mean[task], 100 * recall.pooled[task], 100 * even.video_mean[task]]
        beside = [""] * len(_SYSTEMS) if published is None else [f"{value:.1f}" for value in published]
        rows.append([titles[task], videos, *(f"{cell:.1f}" for cell in cells), *beside])
    means = [recall.mean_of_video_means, recall.mean_of_pooled, even.mean_of_video_means]
    printed = [f"{mean:.1f}" for mean in _PUBLISHED_MEANS]
    rows.append(["mean of tasks", sum(measured.videos.values()), *(f"{100 * mean:.1f}" for mean in means), *printed])
    columns = ["task", "videos", "mean of videos", "pooled", "spread evenly", *(f"{name} (paper)" for name in _SYSTEMS)]
    print_table(columns, rows)


def say_left_out(skipped: Sequence[tuple[str, str]], total: int) -> None:
    """Say how many of a list's videos were not measured, and of the first ones why."""
    if skipped:
        say(f"{len(skipped)} of the {total} videos of the list were not measured")
    for video, reason in skipped[:5]:
        say(f"left out: {video}: {reason}")
    if len(skipped) > 5:
        say(f"and {len(skipped) - 5} more were left out")


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek localize my.library cake.mp4 --steps steps.txt --figure cake.html")(localize)
