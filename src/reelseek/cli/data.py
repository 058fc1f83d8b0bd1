"""`reelseek data`."""

from pathlib import Path
from typing import Annotated

import typer

from reelseek.cli.device import Device, named_device
from reelseek.cli.features import say_unused
from reelseek.cli.show import bars, print_json, print_table, say

__all__ = ["app"]

app = typer.Typer(help="Published datasets.", no_args_is_help=True, rich_markup_mode=None)


@app.command(
    "import",
    epilog="Example: reelseek data import msrvtt MSRVTT_data.json train_list_jsfusion.txt --library my.library",
)
def import_(
    format: Annotated[str, typer.Argument(help="What the files are; `list` names all formats.")],
    paths: Annotated[list[Path] | None, typer.Argument(help="Files, or folders of them.")] = None,
    library: Annotated[Path | None, typer.Option(help="Folder of the library; begun if it is not there.")] = None,
    dataset: Annotated[str | None, typer.Option(help="A name to put before ids and splits.")] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Of caption features: what recipes call them (features@NAME); default: the file's name."),
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option(help="Of caption features: the words they are of, in the same order, such as raw-captions.pkl."),
    ] = None,
) -> None:
    """Annotations, split lists and features of published datasets, as their owners give them out."""
    from reelseek.errors import UsageError
    from reelseek.library import Library
    from reelseek.library.datasets import import_annotations, import_feature_files, is_features
    from reelseek.library.readers import ANNOTATIONS, FEATURES
    from reelseek.library.readers.caption_vectors import CAPTION_FEATURES

    if format == "list":
        print_table(["format", "what"], [(n, "annotations and splits") for n in ANNOTATIONS])
        print_table(["format", "files"], [(n, " ".join(endings)) for n, (_, endings) in FEATURES.items()])
        rows = [(n, " ".join(endings)) for n, (_, endings) in CAPTION_FEATURES.items()]
        print_table(["format", "files of caption features"], rows)
        return
    features = format not in CAPTION_FEATURES and is_features(format)
    if not paths or library is None:
        raise UsageError("name PATH... and --library LIBRARY; see: reelseek data import --help")
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
    if format in CAPTION_FEATURES:
        _import_caption_features(library, format, paths, name, captions, dataset)
        return
    if name is not None or captions is not None:
        raise UsageError(f"--name and --captions are of caption features: {', '.join(CAPTION_FEATURES)}")
    with Library.open(library, create=not features) as opened, bars() as progress:
        if features:
            report = import_feature_files(opened, format, paths, dataset=dataset, progress=progress)
            say_unused(report)
            _say_first([f"not used: {path}: {reason}" for path, reason in report.failed])
            failed = len(report.failed)
            print(f"{report.imported} tracks imported, {report.empty} say that there is nothing, {failed} failed")
            raise typer.Exit(0 if report.imported and not failed and not report.ambiguous else 1)
        imported = import_annotations(opened, format, paths, dataset=dataset)
    print_table(["split", "videos"], list(imported.splits.items()))
    _say_first([f"note: {notice}" for notice in imported.problems if not notice.lost])
    _say_first([f"not used: {notice}" for notice in imported.problems if notice.lost])
    print(
        f"{imported.videos} new videos, {imported.captions} new captions, {imported.rows} rows read, "
        f"{imported.lost_rows} rows could not be used"
    )
    raise typer.Exit(1 if imported.lost_rows else 0)


def _import_caption_features(
    library: Path, format: str, paths: list[Path], name: str | None, captions: Path | None, dataset: str | None
) -> None:
    """Import caption features; exit 1 if captions of a video could not be matched."""
    from reelseek.library import Library
    from reelseek.library.caption_imports import import_caption_features

    name = name or "".join(c if c.isalnum() or c in "-_." else "_" for c in paths[0].stem)
    with Library.open(library) as opened, bars() as progress:
        report = import_caption_features(
            opened, format, paths, name, captions=captions, dataset=dataset, progress=progress
        )
    _say_first([f"not used: {label}: {reason}" for label, reason in report.failed])
    if report.unmatched:
        shown = ", ".join(report.unmatched[:5]) + (" ..." if len(report.unmatched) > 5 else "")
        say(f"{len(report.unmatched)} videos of the files are not in the library: {shown}")
    if report.empty:
        say(f"{report.empty} captions have no vector, and none of their words was known to who made them")
    print(f"{report.captions} captions of {report.videos} videos have features {name}, {len(report.failed)} failed")
    if report.captions:
        say(f"train on them with: --set model.text.encoder=features@{name}")
    raise typer.Exit(0 if report.captions and not report.failed else 1)


@app.command(epilog="Example: reelseek data encode my.library --encoder bert-base-uncased --name bert")
def encode(
    library: Annotated[Path, typer.Argument(help="Folder of the library.")],
    encoder: Annotated[
        str, typer.Option(help="`sentence` (packaged), or a folder or pulled hub name of a BERT-like model.")
    ] = "sentence",
    name: Annotated[str, typer.Option(help="What recipes call the vectors (features@NAME).")] = "paragraphs",
    layers: Annotated[int, typer.Option(min=1, help="Put the last so many layers of a token side by side.")] = 2,
    device: Device = None,
) -> None:
    """Captions of a video, read together as one paragraph (as COOT's text features); a stopped run goes on."""
    from reelseek.library import Library
    from reelseek.models.paragraphs import encode_paragraphs

    with Library.open(library) as opened, bars() as progress:
        report = encode_paragraphs(opened, encoder, name, layers=layers, device=named_device(device), progress=progress)
    _say_first([f"not encoded: {video}: {reason}" for video, reason in report.failed])
    for count, what in (
        (report.existing, "captions had these vectors before"),
        (report.alone, "captions have no span and were encoded alone, without their video's other captions"),
        (report.empty, "captions are blank or full stops alone, and have no vectors"),
        (report.shared, "captions are in several paragraphs; their vectors are of the first"),
        (report.cut, "tokens were left out of paragraphs that are longer than the encoder reads"),
    ):
        if count:
            say(f"{count} {what}")
    print(f"{report.captions} captions of {report.videos} videos encoded as {name}, {len(report.failed)} failed")
    say(f"train on them with: --set model.text.encoder=features@{name}")
    raise typer.Exit(1 if report.failed else 0)


def _say_first(lines: list[str]) -> None:
    """Say at most twenty lines, and how many more there are."""
    for line in lines[:20]:
        say(line)
    if len(lines) > 20:
        say(f"and {len(lines) - 20} more")


@app.command(epilog="Example: reelseek data check my.library --json")
def check(
    library: Annotated[Path, typer.Argument(help="Folder of the library.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Counts of every split, and what is wrong with them; exit 1 if anything is."""
    from reelseek.library import Library
    from reelseek.library.datasets import check_data

    with Library.open(library) as opened:
        report = check_data(opened)
    wrong = bool(report["shared"] or report["empty_captions"] or report["unexpected"])
    if json:
        print_json(report)
        raise typer.Exit(int(wrong))
    columns = ["split", "videos", "expected", "captions", "words", "no caption"]
    splits = report["splits"]
    experts = sorted({name for counts in splits.values() for name in counts["without_features"]})
    rows = [
        (name, counts["videos"], counts["expected_videos"] or "", counts["captions"], counts["words_a_caption"],
         counts["videos_without_captions"], *(counts["without_features"][expert] for expert in experts))
        for name, counts in splits.items()
    ]  # fmt: skip
    print_table([*columns, *(f"no {name}" for name in experts)], rows)
    for pair, count in report["shared"].items():
        say(f"{count} videos are in both {pair}")
    for name in report["unexpected"]:
        say(f"{name} has {splits[name]['videos']} videos, and {splits[name]['expected_videos']} were published")
    say(f"{report['repeated_captions']} captions repeat another's words; {report['empty_captions']} are empty")
    raise typer.Exit(int(wrong))
