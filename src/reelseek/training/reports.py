"""What models do, to look at: systems side by side, combinations of modalities, what was found, maps and curves."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelseek.errors import UsageError
from reelseek.evaluation.chance import chance_text_to_video, chance_video_to_text
from reelseek.evaluation.compare import compare
from reelseek.evaluation.figures import curves, heat_map, picture_map, similarity_graph
from reelseek.evaluation.protocols import PROTOCOLS
from reelseek.evaluation.report import Examples, Figure, Picture, ReportTable, mean_and_spread
from reelseek.library.source import FeatureSource
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models.embed import embed_clips, embed_texts, reader_for
from reelseek.models.model import RetrievalModel, load_model
from reelseek.models.text import caption_features_of
from reelseek.training.data import read_features, read_split, split_names
from reelseek.training.log import read_log
from reelseek.training.measure import Measured, evaluate, rank_options, write_measured
from reelseek.training.split import Split
from reelseek.training.watch import read_watched

__all__ = [
    "Row",
    "combination_map",
    "comparison_table",
    "embedding_map",
    "examples",
    "influence_graph",
    "read_rows",
    "training_curves",
]

_RECALLS = ("recall_at_1", "recall_at_5", "recall_at_10")


@dataclass(frozen=True)
class Row:
    """A system of a table: its models, one a seed, and what is known of their training."""

    name: str
    models: tuple[RetrievalModel, ...]
    parameters: int
    steps: int | None


def read_rows(paths: Sequence[str]) -> list[Row]:
    """A row for each model's folder, each folder of several seeds, and each system that needs no training.

    Raises:
        UsageError: two rows would have one name.
    """
    rows = []
    for path in paths:
        folder = Path(path)
        parts = _seed_folders(folder)
        models = tuple(load_model(part) for part in parts)
        parameters = sum(p.numel() for p in models[0].parameters())
        rows.append(Row(folder.name, models, parameters, _steps(parts[0])))
    names = [row.name for row in rows]
    if len(set(names)) < len(names):
        raise UsageError(
            f"two of {', '.join(names)} have one name; a table tells its rows apart by their folders' names"
        )
    return rows


def _seed_folders(folder: Path) -> list[Path]:
    """The models of `train --seeds` in a folder, or the folder itself."""
    seeds = folder / "seeds.json"
    return [folder / f"seed-{n}" for n in json.loads(seeds.read_text("utf-8"))] if seeds.is_file() else [folder]


def _steps(folder: Path) -> int | None:
    """Optimiser steps until the last epoch, if that was kept."""
    config = folder / "config.json"
    steps: int | None = json.loads(config.read_text("utf-8")).get("steps") if config.is_file() else None
    return steps


def comparison_table(
    rows: Sequence[Row], library: FeatureSource, runs: Path, *, split: str | None, protocol: str
) -> ReportTable:
    """Systems side by side, text to video and video to text, mean and standard deviation over seeds; `p` is the paired
    bootstrap's against the first row, on reciprocal ranks of the first seed.

    Args:
        runs: folder for the TREC runs that the rows link to, beside the table.
    """
    cells_by_row: list[list[object]] = []
    caveats: list[str] = []
    first: Measured | None = None
    for row in rows:
        runs_of_row = [evaluate(model, library, split=split, protocol=protocol) for model in row.models]
        for place, measured in enumerate(runs_of_row):
            write_measured(runs / f"{row.name}-{place}.run", measured, row.name)
        cells: list[object] = [row.name]
        for direction in ("text_to_video", "video_to_text"):
            parts = [getattr(measured, direction) for measured in runs_of_row]
            cells += [mean_and_spread([100 * getattr(part, name) for part in parts]) for name in _RECALLS]
            cells += [mean_and_spread([getattr(part, name) for part in parts]) for name in ("median_rank", "mean_rank")]
        p = "" if first is None else f"{compare(first.ranks, runs_of_row[0].ranks)[-1].p:.4f}"
        first = first or runs_of_row[0]
        link = (f"{row.name}-0.run", f"{runs.name}/{row.name}-0.run")
        caveats += [f"{row.name}: {caveat}" for measured in runs_of_row for caveat in measured.warnings]
        cells_by_row.append([*cells, p, f"{row.parameters:,}", row.steps or "", len(runs_of_row), link])
    assert first is not None
    cells_by_row.append(["chance", *_chance_cells(first), *[""] * 5])
    metrics = [f"{way} {name}" for way in ("t2v", "v2t") for name in ("R@1", "R@5", "R@10", "MdR", "MnR")]
    note = (
        f"Recalls in per cent. {first.protocol}: {first.says}. Split {first.split} ({first.split_hash}): "
        f"{first.queries} queries, gallery of {first.gallery}. p: paired bootstrap against the first row, "
        "reciprocal ranks of the first seed."
    )
    if first.published_gallery not in (None, first.gallery):
        note += f" Not comparable with published figures, whose gallery has {first.published_gallery} videos."
    note += "".join(f" {caveat}." for caveat in dict.fromkeys(caveats))
    return ReportTable("Systems", ["", *metrics, "p", "parameters", "steps", "seeds", "run"], cells_by_row, note)


def _chance_cells(measured: Measured) -> list[object]:
    """What a random order gives in both directions, as the protocol counts."""
    assert measured.data is not None
    rule, owners = PROTOCOLS[measured.protocol], measured.data.clip_of_text
    words = rank_options(rule, measured.data)["same_words"]
    cells: list[object] = []
    for direction in (
        chance_text_to_video(owners, measured.gallery, same_words=words),
        chance_video_to_text(owners, same_words=words, each=rule.reverse == "each"),
    ):
        cells += [f"{100 * getattr(direction, name):.1f}" for name in _RECALLS]
        cells += [f"{direction.median_rank:.1f}", f"{direction.mean_rank:.1f}"]
    return cells


def combination_map(
    rows: Sequence[Row],
    library: FeatureSource,
    combinations: Sequence[Sequence[str]],
    path: Path,
    *,
    split: str | None,
    metric: str,
    progress: Callable[[str, int, int, str], None] = lambda *_: None,
) -> tuple[ReportTable, Figure]:
    """Text to video for every combination (rows) and system (columns), as a table and a heat map; empty where a system
    takes none of a combination's experts.

    Raises:
        UsageError: no system takes any expert of a combination.
    """
    for experts in combinations:
        if not any(name in row.models[0].experts for name in experts for row in rows):
            raise UsageError(f"no system takes any of {', '.join(experts)}")
    values = np.full((len(combinations), len(rows)), np.nan)
    names = ["+".join(experts) for experts in combinations]
    total = len(combinations) * len(rows)
    for column, row in enumerate(rows):
        for place, experts in enumerate(combinations):
            taken = [name for name in experts if name in row.models[0].experts]
            if taken:
                runs = [evaluate(model, library, split=split, experts=taken).text_to_video for model in row.models]
                values[place, column] = np.mean([getattr(run, metric) for run in runs])
            progress("measuring", column * len(combinations) + place + 1, total, f"{row.name} {names[place]}")
    ranks = metric.endswith("rank")
    if not ranks:
        values *= 100
    title = f"{metric.replace('_', ' ')}, text to video"
    png = heat_map(path, values, names, [row.name for row in rows], title, lower_is_better=ranks)
    cells = [
        [name, *("" if np.isnan(v) else f"{v:.1f}" for v in line)] for name, line in zip(names, values, strict=True)
    ]
    return ReportTable(title, ["given", *(row.name for row in rows)], cells), Figure(title, png)


def examples(
    model: RetrievalModel, library: FeatureSource, *, split: str | None, count: int, seed: int = 0
) -> tuple[Measured, list[Examples]]:
    """The five best clips for some queries, the right one outlined: queries whose answer came first, among the first
    five, and later (as figure 1 of Everything at Once's supplement has them)."""
    measured = evaluate(model, library, split=split)
    data = measured.data
    assert data is not None
    rng = np.random.default_rng(seed)
    parts = []
    for title, low, high in (("Found at rank 1", 0, 1), ("Found among the first five", 1, 5), ("Missed", 5, np.inf)):
        rows = np.flatnonzero((measured.ranks > low) & (measured.ranks <= high))
        queries = sorted(rng.permutation(rows)[:count].tolist())
        examples_of_part = [(_query(measured, data, row), _five(measured, data, library, row)) for row in queries]
        parts.append(Examples(f"{title}: {len(rows)} of {len(measured.ranks)}", examples_of_part))
    return measured, parts


def _query(measured: Measured, data: Split, row: int) -> str:
    return f"{data.texts[row]} (rank {measured.ranks[row]:g})"


def _five(measured: Measured, data: Split, library: FeatureSource, row: int) -> list[Picture]:
    scores = np.where(measured.scorable, measured.all_scores()[row], -np.inf)
    best = np.argsort(-scores, kind="stable")[:5]
    right = data.clip_of_text[row]
    return [
        Picture(
            _thumbnail(library, data.clips[clip]), f"{_named(data.clips[clip])} ({scores[clip]:.2f})", clip == right
        )
        for clip in best.tolist()
    ]


def _named(clip: Clip) -> str:
    if clip.start_seconds is None:
        return clip.video
    end = "" if clip.end_seconds is None else f"{clip.end_seconds:g}"
    return f"{clip.video} {clip.start_seconds:g}-{end} s"


def _thumbnail(library: FeatureSource, clip: Clip) -> bytes | None:
    video = library.video(clip.video)
    if not video.content:
        return None
    start = clip.start_seconds or 0.0
    end = clip.end_seconds if clip.end_seconds is not None else (video.duration or start)
    return library.thumbnail(video.content, (start + end) / 2)


def embedding_map(
    model: RetrievalModel, library: FeatureSource, path: Path, *, split: str | None, most: int = 400, of: str = "video"
) -> Figure:
    """t-SNE of the embeddings of clips, or of their captions (CrossCLR, supplement, figure 7), with thumbnails."""
    data = _sample(library, split, most)
    if of == "text":
        data, _ = read_features(data, library, caption_features_of(model))
        rows = [rows[0] for rows in data.captions_by_clip() if rows]
        embedding = embed_texts(model, [data.texts[row] for row in rows])
        clips = [data.clips[data.clip_of_text[row]] for row in rows]
        labels = [data.texts[row] for row in rows]
    else:
        clips = list(data.clips)
        embedding = embed_clips(model, reader_for(model, library), clips)
        labels = [_named(clip) for clip in clips]
    values = embedding.flat.numpy()
    pictures = [_thumbnail(library, clip) for clip in clips]
    title = f"{len(clips)} {'captions' if of == 'text' else 'clips'} of {data.name} as {model.system} embeds them"
    return Figure(title, picture_map(path, _flat(values), pictures, labels, title))


def influence_graph(
    library: FeatureSource, path: Path, *, expert: str, split: str | None, threshold: float, most: int = 400
) -> tuple[Figure, ReportTable]:
    """Clips joined where the cosine of their mean features is above a threshold, and those that are connected most
    (CrossCLR, supplement, figure 4): they are what its pruning takes out of the negatives."""
    data = _sample(library, split, most)
    reader = TokenReader(library, [expert])
    steps = reader.batch(data.clips)[expert]
    present = steps.present.any(1).numpy()
    means = (steps.clean.sum(1) / steps.present.sum(1, keepdim=True).clamp(min=1)).numpy()[present]
    clips = [clip for clip, has_steps in zip(data.clips, present, strict=True) if has_steps]
    unit = means / np.linalg.norm(means, axis=1, keepdims=True).clip(1e-12)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, 0.0)
    connectivity = cosine.sum(1) / (len(clips) - 1)
    edges = [(int(a), int(b)) for a, b in np.argwhere(np.triu(cosine, 1) > threshold)]
    title = f"{len(clips)} clips of {data.name}, joined where {expert} is alike (cosine above {threshold:g})"
    png = similarity_graph(path, _flat(unit), edges, connectivity, title)
    order = np.argsort(-connectivity)[:20]
    cells = [
        [_named(clips[at]), f"{connectivity[at]:.3f}", f"{connectivity[at] / connectivity.max():.3f}",
         int((cosine[at] > threshold).sum())]
        for at in order
    ]  # fmt: skip
    columns = ["clip", "mean similarity", "over the greatest", "neighbours"]
    return Figure(title, png, f"{len(edges)} edges."), ReportTable("The most influential clips", columns, cells)


def _sample(library: FeatureSource, split: str | None, most: int) -> Split:
    if split is None:
        split = "test" if "test" in split_names(library) else None
    data = read_split(library, split)
    clips = np.random.default_rng(0).permutation(len(data.clips))[:most]
    return data.subset(sorted(clips.tolist()), data.name)


def _flat(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """t-SNE to two dimensions, the same every time.

    Raises:
        UsageError: too few to lay out.
    """
    from sklearn.manifold import TSNE

    if len(values) < 4:
        raise UsageError(
            f"a map wants four clips or more, and there are {len(values)}; name another split with --split"
        )
    neighbours = min(30.0, (len(values) - 1) / 3)
    points: npt.NDArray[np.float32] = TSNE(2, perplexity=neighbours, init="pca", random_state=0).fit_transform(values)
    return points


def training_curves(paths: Sequence[Path], path: Path) -> Figure:
    """Loss, recall and mean rank on the validation split over the epochs of some models, and R@5 on watched splits.

    Raises:
        UsageError: a folder has no log.
    """
    panels: dict[str, dict[str, tuple[Sequence[float], Sequence[float]]]] = {"loss": {}, "R@5": {}, "mean rank": {}}
    for folder in (part for path in paths for part in _seed_folders(path)):
        log = read_log(folder)
        for title, key in (("loss", "loss"), ("R@5", "recall_at_5"), ("mean rank", "mean_rank")):
            points = [(float(line["epoch"]), float(line[key])) for line in log if np.isfinite(float(line[key]))]
            panels[title][str(folder)] = ([epoch for epoch, _ in points], [value for _, value in points])
        for split, line in read_watched(folder).items():
            panels.setdefault(f"R@5 on {split}", {})[str(folder)] = line
    return Figure("Training", curves(path, panels, "epoch"))
