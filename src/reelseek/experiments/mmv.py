"""MultiModal Versatile networks: graphs of spaces, sound and text that never met, and deflation to images."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from reelseek.experiments.experiment import SATURATED, Arm, Claim, Column, Experiment, Pair, Table, View
from reelseek.experiments.premises import redundant
from reelseek.models.backbones import TSMResNet50, deflate, relearn_norms
from reelseek.studio.redundant_worlds import RedundantConfig

__all__ = ["MMV"]

_WORLD = RedundantConfig(told=("person", "action", "object", "place", "sound"), named=(3, 4))
_VIEWS = (View(), View("sight", ("appearance",)), View("sound", ("audio",)))
_REDUNDANT = redundant("appearance", "audio")
_TEXT = "Review of MMV"
_R5 = Column("R@5", "recall_at_5", "sight")
_SOUND = Column("text to sound R@10", "recall_at_10", "sound")


def _graph(name: str, graph: str) -> Arm:
    model = {"system": "mmv", "graph": graph, "fine": 64, "coarse": 64, "words": 128}
    recipe = {"model": model, "data": {"experts": ["appearance", "audio"]}, "train": SATURATED}
    return Arm(name, recipe, _WORLD, _VIEWS)


_FAC, _SHARED, _DISJOINT = (
    _graph("fine and coarse", "fine_and_coarse"), _graph("shared", "shared"), _graph("disjoint", "disjoint"),
)  # fmt: skip
_GRAPHS = Table(
    "graphs",
    "Embedding graphs: one space, one for each pair, or fine and coarse (MMV, section 3.1)",
    (_FAC, _SHARED, _DISJOINT),
    (_R5, Column("R@10", "recall_at_10", "sight"), Column("MnR", "mean_rank", "sight"), _SOUND),
    (
        Claim(
            "Fine and coarse spaces are better than a shared one and than disjoint ones",
            f"{_TEXT}, lines 49 to 52; its table 1 is a picture",
            (Pair(_FAC.name, _SHARED.name, _R5), Pair(_FAC.name, _DISJOINT.name, _R5)),
            quote="Between the different embedding graphs proposed in Fig. 1, the authors settle on the Fine And "
            "Coarse spaces (FAC)",
            premises=_REDUNDANT,
        ),
        Claim(
            "Text and sound can be compared though no loss ever compared them: better than chance",
            f"{_TEXT}, lines 25 and 52",
            (Pair(_FAC.name, None, _SOUND),),
            quote="Enable the different modalities to be easily compared even when they are never seen together during "
            "training",
            premises=_REDUNDANT,
        ),
    ),
    note="Disjoint spaces have no way from text to sound. All spaces are 64 wide, so that none has more room than "
    "another; the paper's coarse one is narrower. Fine and coarse and disjoint take the largest rate of the grid, so "
    "that better ones may lie beyond it.",
    premises=_REDUNDANT,
)

_SIDE, _FRAMES, _CLASSES, _STEPS, _RATE = 32, 8, 8, 240, 3e-3


def _films(rng: np.random.Generator, count: int, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Shapes with stripes that drift over a noisy ground: [film, 3, frame, side, side] in [0, 1], and their classes."""
    grid = np.mgrid[0:_SIDE, 0:_SIDE].astype(np.float32)
    films, labels = [], rng.integers(_CLASSES, size=count)
    for label in labels:
        shape, upright = label % 4, label // 4
        start, speed = rng.uniform(10, _SIDE - 10, 2), rng.uniform(-1.0, 1.0, 2)
        size, colour = rng.uniform(5, 9), rng.uniform(0.4, 1, 3).astype(np.float32)
        ground = rng.uniform(0, 0.5, (3, _SIDE, _SIDE)).astype(np.float32)
        pictures = []
        for frame in range(frames):
            down, right = grid - (start + speed * (frame - frames / 2))[:, None, None]
            inside = [
                np.hypot(down, right) < size,
                np.maximum(abs(down), abs(right)) < 0.85 * size,
                (abs(right) < (down + size) / 2) & (down < size),
                (np.minimum(abs(down), abs(right)) < size / 3) & (np.maximum(abs(down), abs(right)) < size),
            ][shape]
            stripes = 0.6 + 0.4 * np.sign(np.sin((down, right)[upright] * 1.6))
            pictures.append(np.where(inside, colour[:, None, None] * stripes, ground))
        films.append(np.stack(pictures, 1))
    return torch.from_numpy(np.stack(films).astype(np.float32)), torch.from_numpy(labels)


def deflation(folder: Path, seed: int) -> dict[str, dict[str, Any]]:
    """Train a small TSM-ResNet50 to classify drifting shapes, and probe it on still images in three ways.

    A logistic regression takes its features of each image repeated as a film, those of its deflation, and those of the
    deflation with normalisation statistics learnt again. Times are shares of that of repeated images, and distances
    from its features (L1) shares of that of the plain deflation.

    Args:
        folder: not used; only the numbers are stored.
    """
    del folder
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 77])
    network = TSMResNet50(1 / 8, (1, 1, 1, 1))
    head = nn.Linear(network.width, _CLASSES)
    optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=_RATE)
    for _ in range(_STEPS):
        films, labels = _films(rng, 16, _FRAMES)
        loss = functional.cross_entropy(head(network(films)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    plain, learnt = deflate(network).eval(), deflate(network).eval()
    stills = (_films(rng, 16, 1)[0][:, :, 0] for _ in range(100))
    relearn_norms(learnt, network, stills, frames=_FRAMES, rate=_RATE)
    training, test = _films(rng, 240, 1), _films(rng, 320, 1)

    def repeated(images: torch.Tensor) -> torch.Tensor:
        return network(images[:, :, None].expand(-1, -1, _FRAMES, -1, -1))

    ways = {"repeated": repeated, "deflated": plain, "norms learnt again": learnt}
    values = {name: _probe(way, training, test) for name, way in ways.items()}
    images = test[0][:, :, 0]
    with torch.inference_mode():
        aim = repeated(images)
        before, after = (float((way(images) - aim).abs().mean()) for way in (plain, learnt))
    values["deflated"]["distance"], values["norms learnt again"]["distance"] = 1.0, after / before
    for measured in values.values():
        measured["time"] = measured["seconds"] / values["repeated"]["seconds"]
    return values


def _probe(
    way: Any, training: tuple[torch.Tensor, torch.Tensor], test: tuple[torch.Tensor, torch.Tensor]
) -> dict[str, Any]:
    """Accuracy of a logistic regression, and seconds per image (the median of five passes)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    took = []
    with torch.inference_mode():
        training_features = way(training[0][:, :, 0]).numpy()
        for _ in range(5):
            began = time.perf_counter()
            test_features = way(test[0][:, :, 0]).numpy()
            took.append((time.perf_counter() - began) / len(test_features))
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(
        training_features, training[1].numpy()
    )
    return {"accuracy": float(probe.score(test_features, test[1].numpy())), "seconds": float(np.median(took))}


_TSM = Arm("TSM-ResNet50, small", rates=(_RATE,), measure=deflation)
_ACCURACY = {
    name: Column(f"accuracy, {name}", "accuracy", name) for name in ("repeated", "deflated", "norms learnt again")
}
_SECONDS = {name: Column(f"seconds, {name}", "seconds", name) for name in ("repeated", "norms learnt again")}
_FASTER = {name: Column(f"time, {name}", "time", name) for name in _SECONDS}
_DISTANCE = {name: Column(f"L1 distance, {name}", "distance", name) for name in ("deflated", "norms learnt again")}
_DEFLATION = Table(
    "deflation",
    "A video network on images: frames repeated, or deflated (MMV, section 3.3)",
    (_TSM,),
    (*_ACCURACY.values(), *_DISTANCE.values(), *_SECONDS.values()),
    (
        Claim(
            "Learning the norms again brings the deflated network nearer to what it gives of a still film",
            f"{_TEXT}, lines 75 to 78; no figures",
            (Pair(_TSM.name, _TSM.name, _DISTANCE["norms learnt again"], _DISTANCE["deflated"]),),
            quote="the solution proposed by the authors is to learn new parameters gamma and beta in batch "
            "normalization layers to correct this boundary effect",
        ),
        Claim(
            "Deflated it is faster",
            f"{_TEXT}, lines 70 and 71; no figures",
            (Pair(_TSM.name, _TSM.name, _FASTER["norms learnt again"], _FASTER["repeated"]),),
            quote="A standard trick is to repeat the image to obtain a static video, but the authors claim that there "
            "is a more efficient way of doing things.",
        ),
        Claim(
            "Deflated, with its norms learnt again, it is as accurate as on repeated frames",
            _TEXT,
            why="the review speaks of the output and of efficiency, not of accuracy",
        ),
    ),
    note="On drifting striped shapes of 32 x 32 pixels in eight classes, eight frames a film; no world's features.",
)

MMV = Experiment(
    "mmv",
    "Alayrac et al. Self-Supervised MultiModal Versatile Networks, NeurIPS 2020, by a review",
    (_GRAPHS, _DEFLATION),
)
