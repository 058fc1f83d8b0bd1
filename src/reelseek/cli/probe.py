"""`reelseek probe`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelseek.cli.device import Device, named_device
from reelseek.cli.lists import names_in
from reelseek.cli.show import bars, print_json, print_table, say
from reelseek.cli.spaces import follow_library
from reelseek.errors import UsageError

if TYPE_CHECKING:
    from reelseek.training.probe import Probed

__all__ = ["register"]


def probe(
    model: Annotated[str, typer.Argument(help="A model's folder, or concepts; with --images a video network's.")],
    library: Annotated[Path | None, typer.Option(help="Folder of the library.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Table video,label(,split), or a folder of UCF101's, HMDB51's, ESC-50's or AudioSet's lists."
        ),
    ] = None,
    experts: Annotated[
        list[str] | None, typer.Option(help="Use only these of the model's experts; a,b or the option again.")
    ] = None,
    classifier: Annotated[str, typer.Option(help="logistic or svm.")] = "logistic",
    windows: Annotated[int, typer.Option(help="Windows of a video, whose decisions are averaged.", min=1)] = 10,
    window_seconds: Annotated[float, typer.Option(help="Length of a window.", min=0.1)] = 2.56,
    tune: Annotated[bool, typer.Option("--tune", help="Learn the model's weights along.")] = False,
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="Give videos each other's labels: a probe ought to be at chance then.")
    ] = False,
    split: Annotated[int, typer.Option(help="Which of the three of UCF101 and HMDB51.", min=1, max=3)] = 1,
    images: Annotated[
        Path | None, typer.Option(help="Class folders of pictures, through a video network: repeated, or deflated.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    figure: Annotated[Path | None, typer.Option(help="Draw the confusion matrix: OUT.png and OUT.svg.")] = None,
    device: Device = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object; shares are fractions.")] = False,
) -> None:
    """A linear classifier on a model's embeddings: how well do they tell classes apart?"""
    from reelseek.library import Library
    from reelseek.library.readers.labels import read_labels
    from reelseek.training.probe import probe as measure

    if images is not None:
        if library or labels or figure or tune or shuffle or experts or device:
            raise UsageError("--images takes a video network, --seed and --json alone")
        _probe_images(Path(model), images, seed, json=json)
        return
    if library is None or labels is None:
        raise UsageError("wanted MODEL --library LIBRARY --labels FILE, or NETWORK --images FOLDER")
    if classifier not in ("logistic", "svm"):
        raise UsageError(f"--classifier is {classifier!r}; wanted logistic or svm")
    with Library.open(library) as opened, bars() as progress:
        follow_library(opened)
        probed = measure(
            model, opened, read_labels(labels, split=split), experts=names_in(experts),
            classifier="svm" if classifier == "svm" else "logistic", windows=windows, window_seconds=window_seconds,
            tune=tune, shuffle=shuffle, seed=seed, progress=progress, device=named_device(device),
        )  # fmt: skip
    if json:
        print_json(probed.as_json())
    else:
        _print_probed(probed)
    if figure is not None:
        _draw_confusion(probed, figure)


def _print_probed(probed: "Probed") -> None:
    shares = {
        "accuracy": probed.accuracy, "top 5": probed.top_5, "mean of classes": probed.mean_class_accuracy,
        "mean average precision": probed.mean_average_precision, "chance": probed.chance,
    }  # fmt: skip
    print_table(["", "%"], [(name, f"{100 * value:.1f}") for name, value in shares.items() if value is not None])
    weights = "weights learnt along" if probed.tuned else f"frozen, {probed.classifier}, C {probed.strength:g}"
    samples = f"{len(probed.classes)} classes, {probed.train} samples to learn, {probed.test} to test"
    say(f"{probed.model}, {weights}; {samples}")
    if probed.skipped:
        say(f"{probed.skipped} labelled videos are left out: not in the library, or nothing that the model reads")


def _draw_confusion(probed: "Probed", path: Path) -> None:
    import numpy as np

    from reelseek.evaluation.figures import heat_map

    if probed.mean_average_precision is not None:
        say("classes that do not exclude each other have no confusion matrix: nothing is drawn")
        return
    shares = 100 * probed.confusion / probed.confusion.sum(1, keepdims=True).clip(min=1)
    rows = np.where(shares > 0, shares, np.nan)  # empty cells, for zeros would be most of the picture
    say(f"drawn: {heat_map(path, rows, probed.classes, probed.classes, 'true (rows) and found (columns), %')}")


def _probe_images(network: Path, folder: Path, seed: int, *, json: bool) -> None:
    """Print how well a video network tells pictures apart: repeated as a film, and deflated."""
    from reelseek.models.backbones import load_network
    from reelseek.training.probe_images import probe_images

    probed = probe_images(load_network(network), folder, seed=seed)
    if json:
        print_json(probed.as_json())
        return
    rows = [
        ("repeated as a film", f"{100 * probed.accuracy_repeated:.1f}", f"{1e3 * probed.seconds_repeated:.1f}"),
        ("deflated", f"{100 * probed.accuracy_deflated:.1f}", f"{1e3 * probed.seconds_deflated:.1f}"),
    ]
    print_table(["", "accuracy (%)", "ms a picture"], rows)
    say(
        f"{len(probed.classes)} classes, {probed.train} pictures to learn, {probed.test} to test, chance "
        f"{100 * probed.chance:.1f} %; features agree with a cosine of {probed.agreement:.3f}, decisions in "
        f"{100 * probed.same:.1f} %; deflated {probed.seconds_repeated / probed.seconds_deflated:.1f} x as fast"
    )


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: reelseek probe mmv.model --library ucf.library --labels ucfTrainTestlist")(probe)
