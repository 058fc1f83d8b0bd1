"""`reelseek segment`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from reelseek.cli.device import Device, named_device
from reelseek.cli.localize import FIGURE, RADIUS, check_figure, draw, say_left_out
from reelseek.cli.show import bars, clock, print_json, print_table, say
from reelseek.cli.spaces import follow_library
from reelseek.errors import UsageError

if TYPE_CHECKING:
    import torch

    from reelseek.library import Library
    from reelseek.library.readers.steps import SegmentedVideo
    from reelseek.models import RetrievalModel
    from reelseek.moments import MeasuredSegments, Segmented

__all__ = ["register"]

_Labels = Annotated[
    Path | None, typer.Option(help="A file of all labels, one a line; default: those of the transcript.")
]
_MeanSeconds = Annotated[
    float | None, typer.Option(help="How long a part lasts on average; 0: lengths say nothing.", min=0)
]
_Truth = Annotated[
    Path | None, typer.Option(help="A label a line for every second: scores the result; blank is background.")
]
_CrossTask = Annotated[
    Path | None, typer.Option(help="CrossTask's folder instead of a video: IoU and IoD on what is at hand.")
]
_MiningYouTube = Annotated[
    Path | None, typer.Option(help="The same of a folder with groundTruth/VIDEO.txt, a label for every frame.")
]


def segment(
    library: Annotated[Path, typer.Argument(help="Folder of the library.")],
    video: Annotated[str | None, typer.Argument(help="A video of it.")] = None,
    transcript: Annotated[Path | None, typer.Option(help="A file: what happens, one label a line, in order.")] = None,
    labels: _Labels = None,
    model: Annotated[str, typer.Option(help="A model's folder, or concepts.")] = "concepts",
    ordered: Annotated[
        bool, typer.Option(help="Without it, the transcript is a set of steps that each happen once or not at all.")
    ] = True,
    background: Annotated[bool, typer.Option(help="Seconds may show none of them.")] = False,
    mean_seconds: _MeanSeconds = None,
    temperature: Annotated[float, typer.Option(help="Of the labels' probabilities.", min=1e-4)] = 0.05,
    public_decoder: Annotated[bool, typer.Option(help="Decode as the public code of Mining YouTube does.")] = False,
    truth: _Truth = None,
    radius: Annotated[float, RADIUS] = 1.0,
    figure: Annotated[Path | None, FIGURE] = None,
    crosstask: _CrossTask = None,
    mining_youtube: _MiningYouTube = None,
    device: Device = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say of every second of a video which part of a transcript it shows; or how well that is done on a data set."""
    from reelseek.library import Library
    from reelseek.library.readers.steps import read_lines
    from reelseek.moments import segment as decode

    options: dict[str, Any] = {
        "background": background, "mean_seconds": mean_seconds, "temperature": temperature,
        "public_decoder": public_decoder, "radius": radius,
    }  # fmt: skip
    if crosstask is not None or mining_youtube is not None:
        if video or transcript or labels or truth or figure or not ordered or (crosstask and mining_youtube):
            raise UsageError("a data set is its own transcripts, labels and truth; name one folder, and no video")
        place = named_device(device)
        _segment_data_set(library, crosstask, mining_youtube, json=json, model=model, device=place, **options)
    if video is None or transcript is None:
        raise UsageError("wanted LIBRARY VIDEO --transcript FILE, or LIBRARY --crosstask or --mining-youtube FOLDER")
    check_figure(figure)
    with Library.open(library) as opened:
        follow_library(opened)
        segmented = decode(
            opened, video, read_lines(transcript), labels=read_lines(labels) if labels else None, model=model,
            ordered=ordered, device=named_device(device), **options,
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
    _print_parts(segmented)
    if true is not None:
        say(", ".join(f"{name.replace('_', ' ')} {100 * value:.1f} %" for name, value in report["scores"].items()))


def _print_parts(segmented: "Segmented") -> None:
    rows = [
        (part.label or "(background)", f"{clock(part.start)}-{clock(part.end)}",
         "" if part.similarity is None else f"{part.similarity:.3f}")
        for part in segmented.parts
    ]  # fmt: skip
    print_table(["part", "from - to", "similarity"], rows)


# Scores in per cent (EAO's supplement, table 2): recall of steps, IoD and IoU, by data set.
_PUBLISHED: dict[str, dict[str, tuple[float | None, ...]]] = {
    "crosstask": {"MCN": (35.1, 33.6, 22.2), "EAO": (39.3, 32.5, 18.5)},
    "mining_youtube": {"Mining YouTube": (None, 19.2, 9.8), "MCN": (18.1, 32.0, 23.1), "EAO": (19.4, 32.7, 23.1)},
}


def _segment_data_set(
    path: Path,
    crosstask: Path | None,
    mining_youtube: Path | None,
    *,
    json: bool,
    model: str,
    device: "torch.device",
    **options: Any,
) -> NoReturn:
    """Segment the videos of a data set that a library has, and print the scores beside the published ones."""
    from reelseek.library import Library
    from reelseek.library.readers.steps import read_segmented
    from reelseek.models.joint import load_for
    from reelseek.moments import measure_segments

    with Library.open(path) as library, bars() as progress:
        follow_library(library)
        loaded = load_for(library, model, device).model
        unusable: list[tuple[str, str]] = []
        if mining_youtube is not None:
            videos = read_segmented(mining_youtube)
        else:
            assert crosstask is not None
            videos, unusable = _crosstask(library, crosstask, loaded)
        measured = measure_segments(library, videos, model=loaded, progress=progress, **options)
    kinds = ("mean_iod", "mean_iou", "frame_accuracy")
    left_out = [*unusable, *measured.skipped]
    if json:
        print_json({
            "videos": len(measured.videos), "labels": measured.labels, "without_annotation": len(unusable),
            "mean_of_videos": {kind: measured.mean(kind) for kind in kinds},
            "pooled": {kind: getattr(measured.pooled, kind) for kind in kinds},
            "skipped": [list(row) for row in measured.skipped],
        })  # fmt: skip
    else:
        _print_segments(measured, _PUBLISHED["crosstask" if crosstask else "mining_youtube"], kinds)
    say_left_out(left_out, len(measured.videos) + len(left_out))
    raise typer.Exit(1 if left_out else 0)


def _print_segments(
    measured: "MeasuredSegments", published: Mapping[str, tuple[float | None, ...]], kinds: tuple[str, ...]
) -> None:
    rows: list[list[object]] = [
        ["here, mean of videos", "", *(f"{100 * measured.mean(kind):.1f}" for kind in kinds)],
        ["here, pooled by label", "", *(f"{100 * getattr(measured.pooled, kind):.1f}" for kind in kinds)],
    ]
    for name, numbers in published.items():
        rows.append([f"{name} (paper)", *("" if number is None else f"{number:.1f}" for number in numbers), ""])
    print_table(["", "recall", "IoD", "IoU", "frames"], rows)
    say(f"{len(measured.videos)} videos, each second among {measured.labels} labels; recall: reelseek localize")


def _crosstask(
    library: "Library", folder: Path, model: "RetrievalModel"
) -> "tuple[tuple[SegmentedVideo, ...], list[tuple[str, str]]]":
    """CrossTask's videos that the library has, and the others, each with the reason."""
    from reelseek.library.readers.steps import crosstask_videos, read_crosstask
    from reelseek.models.embed import reader_for
    from reelseek.moments.crosstask import identify
    from reelseek.moments.curves import second_clips

    reader, names = reader_for(model, library), library.names()
    reasons: dict[str, str] = {}

    def seconds(video: str) -> int:
        try:
            return len(second_clips(library.video(identify(names, video)), reader)[1])
        except UsageError as error:
            reasons[video] = str(error)
            return 0

    data = read_crosstask(folder)
    videos = crosstask_videos(data, seconds)
    usable = {video.name for video in videos}
    others = [(video, reasons.get(video, "no annotation")) for _, video in data.videos if video not in usable]
    if not videos:
        listed = "; ".join(f"{video}: {reason}" for video, reason in others[:3])
        raise UsageError(f"not one of the {len(others)} videos could be segmented: {listed}")
    return videos, others


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
