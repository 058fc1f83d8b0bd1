"""Pictures through a video network: repeated as a film, or through its deflation."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reelseek.errors import UsageError
from reelseek.library.readers.labels import read_image_folders
from reelseek.models.backbones import S3DG, TSMResNet50, deflate, relearn_norms
from reelseek.training.probe import linear_decisions

__all__ = ["ProbedImages", "probe_images"]


@dataclass(frozen=True)
class ProbedImages:
    """Pictures through a video network: repeated as a film, or through its deflation.

    Attributes:
        agreement: mean cosine of the two features of a test picture.
        same: share of test pictures that both probes put into the same class.
        seconds_repeated, seconds_deflated: a picture, the median of five passes.
    """

    classes: tuple[str, ...]
    train: int
    test: int
    accuracy_repeated: float
    accuracy_deflated: float
    chance: float
    agreement: float
    same: float
    seconds_repeated: float
    seconds_deflated: float

    def as_json(self) -> dict[str, Any]:
        """Plain values; shares are fractions."""
        return {**asdict(self), "classes": list(self.classes)}


def probe_images(
    network: S3DG | TSMResNet50, folder: Path, *, frames: int = 16, side: int = 64, relearn: int = 100, seed: int = 0
) -> ProbedImages:
    """A linear probe on pictures in class folders, through a video network in both ways (MMV, section 3.3).

    Args:
        network: S3DG or TSMResNet50.
        frames: how often a picture is repeated.
        side: pictures are resized to so many pixels each way.
        relearn: steps in which the deflated network's normalisations learn to give the video network's features.

    Raises:
        UsageError: one class, or no test pictures.
    """
    from PIL import Image

    rows = read_image_folders(folder)
    classes = tuple(sorted({label for _, label, _ in rows}))
    learn = np.array([split == "train" for *_, split in rows])
    if len(classes) < 2 or learn.all() or not learn.any():
        told = f"{len(classes)} classes, {int(learn.sum())} pictures to learn from and {int((~learn).sum())} to test"
        raise UsageError(f"{folder} holds {told}; wanted at least two classes, and some of both")
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB").resize((side, side))) for path, *_ in rows])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    flat = deflate(network).eval()
    rng = np.random.default_rng(seed)
    known = np.flatnonzero(learn)
    if relearn:
        draws = (images[torch.from_numpy(rng.choice(known, 16))] for _ in range(relearn))
        relearn_norms(flat, network, draws, frames=frames)
    network.eval()

    def repeated(some: Tensor) -> Tensor:
        return network(some[:, :, None].expand(-1, -1, frames, -1, -1))

    features, seconds = {}, {}
    for name, way in (("repeated", repeated), ("deflated", flat)):
        with torch.inference_mode():
            features[name] = torch.cat([way(part) for part in images.split(16)]).numpy()
            took = []
            for _ in range(5):
                began = time.perf_counter()
                way(images[:16])
                took.append((time.perf_counter() - began) / len(images[:16]))
        seconds[name] = float(np.median(took))
    targets = np.array([[label == name for name in classes] for _, label, _ in rows])
    owner = np.arange(len(rows))
    held = np.zeros(len(rows), bool)  # every fifth picture of a class is what the strength is chosen on
    for label in range(len(classes)):
        held[np.flatnonzero(learn & targets[:, label])[::5]] = True
    parts = (learn & ~held, held, ~learn)
    decided = {
        name: linear_decisions(found, owner, targets, parts, "logistic", single=True)[0]
        for name, found in features.items()
    }
    true = targets[~learn].argmax(1)
    one, two = (torch.from_numpy(features[name][~learn]) for name in ("repeated", "deflated"))
    guessed, flatly = (decided[name].argmax(1) for name in ("repeated", "deflated"))
    return ProbedImages(
        classes, int(learn.sum()), int((~learn).sum()), float((guessed == true).mean()), float((flatly == true).mean()),
        float(np.bincount(true).max() / len(true)), float(functional.cosine_similarity(one, two).mean()),
        float((guessed == flatly).mean()), seconds["repeated"], seconds["deflated"],
    )  # fmt: skip
