"""Whether the recipes for few clips are better than ridge regression, on collections that chose nothing of them.

Run: python benchmarks/small.py FOLDER [--collections facts,labels,tags] [--experts whole,half] [--seeds 1,2,3]
     [--systems late_fusion,mmt,...]     trains what FOLDER/results.csv lacks, and prints the tables
     python benchmarks/small.py FOLDER --tables     the tables alone

A collection has 1,960 training and 400 test clips and two experts (`tags` lacks its second in a third of all clips);
`half` also hides the second in every other training clip. Each system of `recipes/small` is trained as `reelseek train
small/NAME` does: beside a closed form, whose share of the score, as the epoch, is chosen on validation clips that
training sets aside. Ridge regression from the standardised mean features of both experts to the sentence encoder's
space has its penalty chosen by five folds of all training clips. The tables say whether a system's mean over seeds is
above ridge by more than their standard deviation at R@1, R@5 and R@10, and how the system does that validation chooses.

`--seeds` are those of training. The collections are those of the generators' seed 1; seed 0 set their noise, so that
ridge is near what it reaches on real clips (R@1 .2).
"""

import argparse
import csv
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from reelseek.evaluation.ranks import Direction, metrics, text_to_video_ranks
from reelseek.experts.expert import Track
from reelseek.experts.sentence import packaged_encoder
from reelseek.library import Library, add
from reelseek.library.imports import fingerprint_of
from reelseek.studio.worlds import WorldConfig, make_world
from reelseek.training import evaluate, train
from reelseek.training.recipe import packaged_recipes, read_recipe

Array = npt.NDArray[np.float32]
TRAIN, TEST = 1960, 400
PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(-4, 9))


@dataclass(frozen=True)
class Collection:
    """Captions of each clip, and two experts: modality and, of each clip, values [step, dim], None where absent."""

    captions: list[list[str]]
    experts: dict[str, tuple[str, list[Array | None]]]


def facts(seed: int, noise: float = 2.4) -> Collection:
    """Clips of a studio world seen by its experts of appearance and of sound; two captions each."""
    captioned = ("person", "action", "object", "place", "sound")
    config = WorldConfig(train=TRAIN, validation=0, test=TEST, captions=2, named=(3, 5), told=captioned, noise=noise)
    world = make_world(config, 7_000 + seed)
    clips = [*world.splits["train"], *world.splits["test"]]
    captions: dict[str, list[str]] = {clip: [] for clip in clips}
    for clip, text, *_ in world.captions:
        captions[clip].append(text)
    experts: dict[str, tuple[str, list[Array | None]]] = {}
    for name in ("appearance", "audio"):
        modality, tracks = world.tracks[name]
        experts[name] = modality, [tracks[clip][0] if clip in tracks else None for clip in clips]
    return Collection([captions[clip] for clip in clips], experts)


def labels(seed: int, noise: float = 1.5) -> Collection:
    """Two things out of a thousand, a place and a deed; networks of which one is wide and one sees little of things.

    How things look is only partly how near their names are; captions leave parts out, and use other names.
    """
    rng = np.random.default_rng([seed, 501])
    things, places, verbs = _names("imagenet.txt"), _names("scenes.txt"), _verbs()
    looks = {kind: _looks(rng, words, 96) for kind, words in (("thing", things), ("place", places), ("verb", verbs))}
    wide, narrow = _network(rng, 96, 512), _network(rng, 96, 256)
    captions: list[list[str]] = []
    tracks: dict[str, list[Array | None]] = {"wide": [], "narrow": []}
    for clip in range(TRAIN + TEST):
        thing, other = _zipf(rng, len(things)), _zipf(rng, len(things))
        place, verb = _zipf(rng, len(places)), _zipf(rng, len(verbs))
        parts = looks["thing"][thing], 0.6 * looks["thing"][other], looks["place"][place], 0.5 * looks["verb"][verb]
        for name, network, strengths in (("wide", wide, (1, 1, 1, 0.4)), ("narrow", narrow, (0.4, 0.2, 0.5, 1.6))):
            latent = sum(strength * part for strength, part in zip(strengths, parts, strict=True))
            steps = int(rng.integers(4, 12))
            shaken = latent + noise * rng.normal(size=(steps, 96)) / np.sqrt(96) * 2
            shaken = shaken + 0.8 * noise * rng.normal(size=96) / np.sqrt(96)  # the same in all steps of a clip
            tracks[name].append(network(shaken))
        words = [things[thing], things[other], places[place], verbs[verb]]
        captions.append([_label_caption(rng, words) for _ in range(3 if clip < TRAIN else 1)])
    return Collection(captions, {"wide": ("appearance", tracks["wide"]), "narrow": ("motion", tracks["narrow"])})


def tags(seed: int, noise: float = 2.0) -> Collection:
    """Probabilities of 300 tags, of which single ones are large, beside 128 numbers of sound that a third lacks.

    Half of the steps of a clip show something else. One caption a clip.
    """
    rng = np.random.default_rng([seed, 733])
    things, places = _names("imagenet.txt")[::4], _names("scenes.txt")
    looks, rooms = _looks(rng, things, 64), _looks(rng, places, 64)
    tag = rng.normal(size=(64, 300)) / 8
    sound = _network(rng, 64, 128)
    captions: list[list[str]] = []
    probabilities: list[Array | None] = []
    sounds: list[Array | None] = []
    for _ in range(TRAIN + TEST):
        subject, place = int(rng.integers(len(things))), int(rng.integers(len(places)))
        latent = looks[subject] + 0.8 * rooms[place]
        steps = int(rng.integers(6, 16))
        shown = np.where(rng.random((steps, 1)) < 0.5, latent, looks[rng.integers(len(things), size=steps)])
        logits = 6 * (shown + noise * rng.normal(size=(steps, 64)) / 8) @ tag
        powers = np.exp(logits - logits.max(1, keepdims=True))
        probabilities.append((powers / powers.sum(1, keepdims=True)).astype(np.float32))
        heard = rooms[place] + 0.4 * looks[subject] + 1.5 * noise * rng.normal(size=(3, 64)) / 8
        sounds.append(sound(heard) if rng.random() > 0.33 else None)
        count = ("a", "one", "the", "some")[int(rng.integers(4))]
        captions.append([f"{count} {_one_name(rng, things[subject])} in {_one_name(rng, places[place])}"])
    return Collection(captions, {"tags": ("object", probabilities), "sound": ("audio", sounds)})


COLLECTIONS = {"facts": facts, "labels": labels, "tags": tags}


def _names(file: str) -> list[str]:
    return files("reelseek.experts").joinpath(file).read_text("utf-8").strip().splitlines()


def _verbs() -> list[str]:
    return files("reelseek.models").joinpath("verbs.txt").read_text("utf-8").split()


def _one_name(rng: np.random.Generator, names: str) -> str:
    options = names.split(", ")
    return options[int(rng.integers(len(options)))]


def _label_caption(rng: np.random.Generator, words: Sequence[str]) -> str:
    thing, other, place, verb = (_one_name(rng, names) for names in words)
    pieces = [f"a {thing}"]
    pieces += [f"and a {other}"] if rng.random() < 0.5 else []
    pieces += [f"in {place}"] if rng.random() < 0.7 else []
    pieces += [f"which people {verb}"] if rng.random() < 0.5 else []
    return " ".join(pieces)


def _looks(rng: np.random.Generator, words: Sequence[str], width: int) -> Array:
    """How each word looks [word, width]: half what its meaning is near to, half its own."""
    meanings = packaged_encoder().encode([word.partition(",")[0] for word in words])
    meanings = meanings - meanings.mean(0)
    near = _unit(meanings @ rng.normal(size=(meanings.shape[1], width)))
    return _unit(near + _unit(rng.normal(size=(len(words), width)))).astype(np.float32)


def _unit(rows: Array) -> Array:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


class _network:
    """Two layers at random; what comes out is zero or more, and heavy-tailed as what networks give."""

    def __init__(self, rng: np.random.Generator, inputs: int, outputs: int) -> None:
        self.first = rng.normal(size=(inputs, 2 * inputs)) / np.sqrt(inputs)
        self.second = rng.normal(size=(2 * inputs, outputs)) / np.sqrt(inputs)

    def __call__(self, rows: Array) -> Array:
        hidden = np.maximum(0, rows @ self.first * np.sqrt(rows.shape[-1]))
        return (np.maximum(0, hidden @ self.second) ** 1.5).astype(np.float32)


def _zipf(rng: np.random.Generator, count: int) -> int:
    weights = 1 / (10 + np.arange(count))
    return int(rng.choice(count, p=weights / weights.sum()))


# Ridge regression


def ridge_metrics(collection: Collection, hidden: Sequence[bool]) -> dict[str, float]:
    """Recalls of ridge regression on the test clips.

    Args:
        hidden: the training clips that lack the second expert.
    """
    rows = _mean_features(collection, hidden)
    encoder = packaged_encoder()
    targets = np.stack([encoder.encode(texts).mean(0) for texts in collection.captions]).astype(np.float64)
    folds = np.arange(TRAIN) % 5
    scores = np.zeros(len(PENALTIES))
    for fold in range(5):
        learn, judge = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        scores += [sum(recalls.values()) for recalls in _ridge(rows, targets, learn, judge, PENALTIES)]
    best = PENALTIES[int(scores.argmax())]
    return next(_ridge(rows, targets, np.arange(TRAIN), np.arange(TRAIN, TRAIN + TEST), [best]))


def _mean_features(collection: Collection, hidden: Sequence[bool]) -> npt.NDArray[np.float64]:
    """Standardised means of both experts, side by side; zeros where one is absent."""
    blocks = []
    for number, (_, tracks) in enumerate(collection.experts.values()):
        dim = next(track.shape[1] for track in tracks if track is not None)
        block = np.full((len(tracks), dim), np.nan)
        for clip, track in enumerate(tracks):
            if track is not None and not (number == 1 and clip < TRAIN and hidden[clip]):
                block[clip] = track.mean(0)
        learnt = block[:TRAIN]
        block = (block - np.nanmean(learnt, 0)) / (np.nanstd(learnt, 0) + 0.1 * np.nanstd(learnt, 0).mean())
        blocks.append(np.nan_to_num(block))
    return np.hstack(blocks)


def _ridge(
    rows: Array, targets: Array, learn: Array, judge: Array, penalties: Iterable[float]
) -> Iterator[dict[str, float]]:
    """Recalls of each penalty."""
    centre = targets[learn].mean(0)
    values, vectors = np.linalg.eigh(rows[learn].T @ rows[learn])
    learnt = vectors.T @ (rows[learn].T @ (targets[learn] - centre))
    queries, features = _unit(targets[judge] - centre), rows[judge] @ vectors
    for penalty in penalties:
        predicted = _unit(features @ (learnt / (values + penalty * values.mean())[:, None]))
        yield _recalls(metrics(text_to_video_ranks(queries @ predicted.T, range(len(judge)))))


def _recalls(measured: Direction) -> dict[str, float]:
    return {"R@1": measured.recall_at_1, "R@5": measured.recall_at_5, "R@10": measured.recall_at_10}


# Systems


def write_library(collection: Collection, hidden: Sequence[bool], folder: Path) -> Path:
    """The collection as a library, written once."""
    path = folder / "library"
    if path.is_dir():
        return path
    folder.mkdir(parents=True)
    names = [f"{'train' if clip < TRAIN else 'test'}{clip:05}" for clip in range(TRAIN + TEST)]
    table = folder / "captions.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["video", "caption", "split"])
        for name, texts in zip(names, collection.captions, strict=True):
            lines.writerows([name, text, name[:-5]] for text in texts)
    with Library.open(path, create=True) as library:
        add(library, [table], media=False)
        with library.writing(), library.saving():
            for number, (expert, (modality, tracks)) in enumerate(collection.experts.items()):
                for clip, values in enumerate(tracks):
                    if values is None or (number == 1 and clip < TRAIN and hidden[clip]):
                        continue
                    made_by = fingerprint_of(expert, modality, None, values.shape[1])
                    edges = np.linspace(0, 10, len(values) + 1)
                    spans = np.stack([edges[:-1], edges[1:]], 1)
                    library.put_track(f"id:{names[clip]}", expert, made_by, modality, Track(values, spans))
    return path


def measure_system(library: Path, system: str, seed: int, out: Path) -> dict[str, float]:
    """Train `small/SYSTEM` and test it; `validation` is the score by which its best epoch was selected."""
    started = time.process_time()
    recipe = read_recipe(f"small/{system}", [f"train.seed={seed}"])
    with Library.open(library) as opened:
        model = train(recipe, opened, out)
        recalls = _recalls(evaluate(model, opened, split="test").text_to_video)
    with (out / "log.csv").open(encoding="utf-8") as file:
        epochs = list(csv.DictReader(file))
    scores = [float(epoch["score"]) for epoch in epochs]
    return {
        **recalls,
        "validation": max(scores),
        "epoch": scores.index(max(scores)),
        "share": float(model.share),
        "seconds": time.process_time() - started,
    }


# Runs and tables

FIELDS = ("collection", "experts", "system", "seed", "R@1", "R@5", "R@10", "validation", "epoch", "share", "seconds")
Row = dict[str, str]


def run(folder: Path, names: Sequence[str], kinds: Sequence[str], seeds: Sequence[int], systems: Sequence[str]) -> None:
    """Measure what is missing, a line of `results.csv` each; seeds outermost, so that a stopped run is of use."""
    for seed in seeds:
        for name in names:
            for kind in kinds:
                _run_collection(folder, name, kind, seed, systems)


def _run_collection(folder: Path, name: str, kind: str, seed: int, systems: Sequence[str]) -> None:
    finished = {(row["collection"], row["experts"], row["system"], row["seed"]) for row in read_rows(folder)}
    collection, place = None, folder / f"{name}-{kind}"
    for system, of_seed in [("ridge", 0), *((system, seed) for system in systems)]:
        if (name, kind, system, str(of_seed)) in finished:
            continue
        if collection is None:
            collection = COLLECTIONS[name](1)
            hidden = (np.arange(TRAIN) % 2 == 1) & (kind == "half")
            library = write_library(collection, hidden, place)
        if system == "ridge":
            measured = ridge_metrics(collection, hidden)
        else:
            measured = measure_system(library, system, seed, place / f"{system}-{seed}")
        _append(folder, {"collection": name, "experts": kind, "system": system, "seed": of_seed, **measured})


def _append(folder: Path, row: Mapping[str, object]) -> None:
    path = folder / "results.csv"
    begun = path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        lines = csv.DictWriter(file, FIELDS)
        if not begun:
            lines.writeheader()
        lines.writerow({key: f"{value:.4f}" if isinstance(value, float) else value for key, value in row.items()})
    print(
        row["collection"], row["experts"], row["system"], row["seed"], row["R@1"], row["R@5"], row["R@10"], flush=True
    )


def read_rows(folder: Path) -> list[Row]:
    """The lines of `results.csv`; none if nothing was measured yet."""
    path = folder / "results.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def tables(rows: Sequence[Row]) -> Iterator[str]:
    """A table for each collection: mean and standard deviation over seeds, and whether they are above ridge."""
    for name, kind in dict.fromkeys((row["collection"], row["experts"]) for row in rows):
        group = [row for row in rows if (row["collection"], row["experts"]) == (name, kind)]
        ridge = next(row for row in group if row["system"] == "ridge")
        yield f"\n{name}, {kind}: ridge R@1 {ridge['R@1']}, R@5 {ridge['R@5']}, R@10 {ridge['R@10']}"
        yield "| system | seeds | R@1 | R@5 | R@10 | validation | all above ridge by a deviation | below ridge |"
        yield "|---|---|---|---|---|---|---|---|"
        systems = dict.fromkeys(row["system"] for row in group if row["system"] != "ridge")
        lines = [_line(system, [row for row in group if row["system"] == system], ridge) for system in systems]
        yield from (line for _, line in sorted(lines, reverse=True))
        yield _selected(group, ridge)


def _line(system: str, rows: Sequence[Row], ridge: Row) -> tuple[float, str]:
    validation = float(np.mean([float(row["validation"]) for row in rows]))
    cells, above, below = _against(rows, ridge)
    return validation, f"| {system} | {len(rows)} | {' | '.join(cells)} | {validation:.3f} | {above} | {below} |"


def _against(rows: Sequence[Row], ridge: Row) -> tuple[list[str], str, str]:
    """Means and deviations, whether all lie above ridge by a deviation, and which means lie below ridge."""
    cells, above, below = [], [], []
    for key in ("R@1", "R@5", "R@10"):
        values = [float(row[key]) for row in rows]
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        cells.append(f"{np.mean(values):.3f} ± {deviation:.3f}")
        above.append(bool(np.mean(values) - float(ridge[key]) > deviation))
        below += [key] if np.mean(values) < float(ridge[key]) else []
    verdict = "one seed cannot tell" if len(rows) < 2 else "yes" if all(above) else "no"
    return cells, verdict, ", ".join(below) or "none"


def _selected(group: Sequence[Row], ridge: Row) -> str:
    """The system with the best validation score, of each seed."""
    seeds = sorted({row["seed"] for row in group if row["system"] != "ridge"})
    best = [
        max(
            (row for row in group if row["seed"] == seed and row["system"] != "ridge"),
            key=lambda r: float(r["validation"]),
        )
        for seed in seeds
    ]
    cells, above, below = _against(best, ridge)
    names = ", ".join(row["system"] for row in best)
    return f"validation chooses {names}: {', '.join(cells)}; above ridge: {above}; below: {below}"


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("folder", type=Path)
    options.add_argument("--collections", default=",".join(COLLECTIONS))
    options.add_argument("--experts", default="whole,half")
    options.add_argument("--seeds", default="1,2,3")
    options.add_argument("--systems", default=",".join(_small_systems()))
    options.add_argument("--tables", action="store_true")
    arguments = options.parse_args()
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if not arguments.tables:
        names, kinds, systems = (
            value.split(",") for value in (arguments.collections, arguments.experts, arguments.systems)
        )
        run(arguments.folder, names, kinds, [int(seed) for seed in arguments.seeds.split(",")], systems)
    print("\n".join(tables(read_rows(arguments.folder))))


def _small_systems() -> Iterable[str]:
    small = (name for name in packaged_recipes() if name.startswith("small/"))
    return (name.removeprefix("small/") for name in small if read_recipe(name).pixels is None)


if __name__ == "__main__":
    main()
