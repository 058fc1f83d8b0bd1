"""`reelseek segment`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from reelseek.cli.device import Device, named_device
from reelseek.cli.localize import FIGURE, RADIUS, check_figure, draw
from reelseek.cli.show import clock, print_json, print_table, say
from reelseek.cli.spaces import follow_library
from reelseek.errors import UsageError

__all__ = ["register"]


def segment(
    library: Annotated[Path, typer.Argument(help="Folder of the library.")],
    video: Annotated[str, typer.Argument(help="A video of it.")],
    transcript: Annotated[Path, typer.Option(help="A file: what happens, one label a line, in order.")],
    labels: Annotated[
        Path | None, typer.Option(help="A file of all labels, one a line; default: those of the transcript.")
    ] = None,
    model: Annotated[str, typer.Option(help="A model's folder, or concepts.")] = "concepts",
    ordered: Annotated[
        bool, typer.Option(help="Without it, the transcript is a set of steps that each happen once or not at all.")
    ] = True,
    background: Annotated[bool, typer.Option(help="Seconds may show none of them.")] = False,
    mean_seconds: Annotated[
        float | None, typer.Option(help="How long a part lasts on average; 0: lengths say nothing.", min=0)
    ] = None,
    temperature: Annotated[float, typer.Option(help="Of the labels' probabilities.", min=1e-4)] = 0.05,
    public_decoder: Annotated[bool, typer.Option(help="Decode as the public code of Mining YouTube does.")] = False,
    truth: Annotated[
        Path | None, typer.Option(help="A label a line for every second: scores the result; blank is background.")
    ] = None,
    radius: Annotated[float, RADIUS] = 1.0,
    figure: Annotated[Path | None, FIGURE] = None,
    device: Device = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say of every second of a video which part of a transcript it shows."""
    from reelseek.library import Library
    from reelseek.library.readers.steps import read_lines
    from reelseek.moments import segment as decode

    check_figure(figure)
    with Library.open(library) as opened:
        follow_library(opened)
        segmented = decode(
            opened, video, read_lines(transcript), labels=read_lines(labels) if labels else None, model=model,
            ordered=ordered, background=background, mean_seconds=mean_seconds, temperature=temperature,
            public_decoder=public_decoder, radius=radius, device=named_device(device),
        )  # fmt: skip
        true = _read_truth(truth, segmented.curves.texts) if truth is not None else None
        if figure is not None:
            draw(segmented.timeline(true), figure, opened, segmented.video)
    report = segmented.as_json()
    if true is not None:
        report["scores"] = _scores(segmented.labels, true, segmented.curves.texts)
    if json:
        print_json(report)
        return
    rows = [
        (part.label or "(background)", f"{clock(part.start)}-{clock(part.end)}",
         "" if part.similarity is None else f"{part.similarity:.3f}")
        for part in segmented.parts
    ]  # fmt: skip
    print_table(["part", "from - to", "similarity"], rows)
    if true is not None:
        say(", ".join(f"{name.replace('_', ' ')} {100 * value:.1f} %" for name, value in report["scores"].items()))


def _read_truth(path: Path, labels: tuple[str, ...]) -> list[str | None]:
    """The true label of every second; None is background."""
    from reelseek.library.texts import read_text, split_lines

    lines = split_lines(read_text(path))
    if not lines[-1]:  # behind the last line's end; blank lines before it are seconds of background
        lines.pop()
    truth = [" ".join(line.split()) or None for line in lines]
    unknown = [label for label in truth if label is not None and label not in labels]
    if unknown:
        raise UsageError(f"{path} names {unknown[0]!r}, which is none of the labels {', '.join(labels[:5])} ...")
    return truth


def _scores(predicted: tuple[str | None, ...], true: list[str | None], labels: tuple[str, ...]) -> dict[str, Any]:
    import numpy as np

    from reelseek.evaluation.segments import score

    if abs(len(predicted) - len(true)) > 1:
        raise UsageError(f"the video has {len(predicted)} seconds and the truth {len(true)} lines")
    count = min(len(predicted), len(true))
    numbers = {name: number for number, name in enumerate(labels)}
    pairs = [[numbers.get(name or "", len(labels)) for name in names[:count]] for names in (predicted, true)]
    scores = score(np.array(pairs[0], np.int64), np.array(pairs[1], np.int64), background=len(labels))
    return {"frame_accuracy": scores.frame_accuracy, "iou": scores.mean_iou, "iod": scores.mean_iod,
            "recall": scores.recall}  # fmt: skip


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek segment my.library cake.mp4 --transcript parts.txt --background")(segment)
