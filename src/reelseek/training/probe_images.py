"""Pictures through a video network: repeated as a film, or through its deflation."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from reelseek.errors import UsageError
from reelseek.library.readers.labels import read_image_folders
from reelseek.models.backbones import S3DG, TSMResNet50, deflate, relearn_norms
from reelseek.training.probe import linear_decisions
from reelseek.training.probe.samples import Bools, Parts

__all__ = ["ProbedImages", "probe_images"]

_BATCH = 16


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
    rows = read_image_folders(folder)
    classes = tuple(sorted({label for _, label, _ in rows}))
    learn = np.array([split == "train" for *_, split in rows])
    if len(classes) < 2 or learn.all() or not learn.any():
        counts = f"{len(classes)} classes, {int(learn.sum())} pictures to learn from and {int((~learn).sum())} to test"
        raise UsageError(f"{folder} holds {counts}; wanted at least two classes, and some of both")
    images = _read_images([path for path, *_ in rows], side)
    flat = deflate(network).eval()
    rng = np.random.default_rng(seed)
    train_rows = np.flatnonzero(learn)
    if relearn:
        draws = (images[torch.from_numpy(rng.choice(train_rows, 16))] for _ in range(relearn))
        relearn_norms(flat, network, draws, frames=frames)
    network.eval()

    def repeated(batch: Tensor) -> Tensor:
        return network(batch[:, :, None].expand(-1, -1, frames, -1, -1))

    features, seconds = zip(*(_embed(way, images) for way in (repeated, flat)), strict=True)
    targets = np.array([[label == name for name in classes] for _, label, _ in rows])
    parts = _parts(targets, learn)
    owner = np.arange(len(rows))
    guesses = [
        linear_decisions(values, owner, targets, parts, "logistic", single=True)[0].argmax(1) for values in features
    ]
    true = targets[~learn].argmax(1)
    by_repeating, by_deflation = (torch.from_numpy(values[~learn]) for values in features)
    return ProbedImages(
        classes, int(learn.sum()), int((~learn).sum()), float((guesses[0] == true).mean()),
        float((guesses[1] == true).mean()), float(np.bincount(true).max() / len(true)),
        float(functional.cosine_similarity(by_repeating, by_deflation).mean()),
        float((guesses[0] == guesses[1]).mean()), seconds[0], seconds[1],
    )  # fmt: skip


def _read_images(paths: Sequence[Path], side: int) -> Tensor:
    """Pictures [picture, channel, height, width] in [0, 1], resized to a square."""
    from PIL import Image

    pixels = np.stack([np.asarray(Image.open(path).convert("RGB").resize((side, side))) for path in paths])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def _embed(network: Callable[[Tensor], Tensor], images: Tensor) -> tuple[npt.NDArray[np.float32], float]:
    """Features of all pictures, and the seconds that one takes: the median of five passes over the first batch."""
    with torch.inference_mode():
        features = torch.cat([network(batch) for batch in images.split(_BATCH)]).numpy()
        seconds = []
        for _ in range(5):
            begin = time.perf_counter()
            network(images[:_BATCH])
            seconds.append((time.perf_counter() - begin) / len(images[:_BATCH]))
    return features, float(np.median(seconds))


def _parts(targets: Bools, learn: Bools) -> Parts:
    """Pictures that are learnt from, validated on (every fifth of a class), and tested."""
    held = np.zeros(len(learn), bool)
    for label in range(targets.shape[1]):
        held[np.flatnonzero(learn & targets[:, label])[::5]] = True
    return learn & ~held, held, ~learn
