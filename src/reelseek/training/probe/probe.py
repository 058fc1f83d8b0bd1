"""The probe: labelled videos in, scores of a linear classifier on their embeddings out."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reelseek.errors import UsageError
from reelseek.library.readers.labels import Labelled, read_labels
from reelseek.library.store import Library
from reelseek.library.tokens import TokenReader
from reelseek.models.embed import embed_clips, reader_for
from reelseek.models.joint import load_for
from reelseek.models.model import RetrievalModel
from reelseek.training.probe.linear import Classifier, linear_decisions
from reelseek.training.probe.samples import Bools, Parts, Sample, held_out, read_samples, rounds_of, with_folds
from reelseek.training.probe.scores import Matrix, score_tables
from reelseek.training.probe.tuning import tuned_decisions

__all__ = ["Probed", "probe"]

Progress = Callable[[str, int, int, str], None]
Decide = Callable[[Parts], tuple[Matrix, float | None]]


@dataclass(frozen=True)
class Probed:
    """What a probe found.

    Attributes:
        accuracy, top_5, mean_class_accuracy: where classes exclude each other, else None.
        mean_average_precision: where they do not.
        train, test: how many samples (videos, or spans of them) were learnt from in the last round, and tested.
        chance: share of the most common class among the test videos, or the mean share of positives.
        strength: C, chosen on training videos that were set aside; of several folds the last one's.
        confusion: [class, class] of the test videos, rows are true.
        skipped: labelled videos that the library has not or that have no evidence.
    """

    model: str
    classes: tuple[str, ...]
    train: int
    test: int
    accuracy: float | None
    top_5: float | None
    mean_class_accuracy: float | None
    mean_average_precision: float | None
    chance: float
    strength: float | None
    classifier: str
    tuned: bool
    skipped: int
    confusion: npt.NDArray[np.int64] = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """Plain values; shares are fractions."""
        return {**asdict(self), "classes": list(self.classes), "confusion": self.confusion.tolist()}


def probe(
    model: RetrievalModel | str | Path,
    library: Library,
    labels: Sequence[Labelled] | str | Path,
    *,
    experts: Sequence[str] | None = None,
    classifier: Classifier = "logistic",
    windows: int = 10,
    window_seconds: float = 2.56,
    tune: bool = False,
    shuffle: bool = False,
    seed: int = 0,
    progress: Progress = lambda *_: None,
    device: str | torch.device | None = None,
) -> Probed:
    """Train a linear classifier on a model's embeddings of labelled videos, and test it.

    Args:
        labels: what each video shows, or where that is written (`read_labels`). Where no split is told, it is the
            library's own: `test` against all others; where that tells nothing either, every fifth video is for testing.
        experts: use only these of the model's experts.
        classifier: logistic regression, or a linear support vector machine.
        windows: so many windows of a video are embedded each by itself; decisions are averaged over them.
        window_seconds: length of a window; 32 frames at 12.5 a second are 2.56. Videos that are shorter are one window.
        tune: learn the model's weights along with the classifier, instead of keeping them.
        device: where the model is moved to first; None leaves it where it is.
        shuffle: give the videos each other's labels, which ought to bring the probe to chance.

    Raises:
        UsageError: fewer than two classes, no training or test videos, a video in both, or a model without weights.
    """
    if windows < 1 or not window_seconds > 0:
        raise UsageError(f"{windows} windows of {window_seconds:g} s: wanted at least one, of some length")
    loaded = load_for(library, model, device).model
    reader = reader_for(loaded, library, experts)
    rows = read_labels(Path(labels)) if isinstance(labels, str | Path) else list(labels)
    samples, skipped = read_samples(library, reader, with_folds(library, rows), windows, window_seconds)
    rng = np.random.default_rng(seed)
    if shuffle:
        order = rng.permutation(len(samples))
        samples = [replace(s, labels=samples[int(o)].labels) for s, o in zip(samples, order, strict=True)]
    classes = tuple(sorted({label for sample in samples for label in sample.labels}))
    if len(classes) < 2:
        raise UsageError(f"the labels name {len(classes)} class of videos at hand; a probe tells at least two apart")
    single = all(len(sample.labels) == 1 for sample in samples)
    targets = np.array([[name in sample.labels for name in classes] for sample in samples])
    rounds = rounds_of(samples)
    if tune:
        decide = _tuned(loaded, reader, samples, targets, single=single, rng=rng, progress=progress)
    else:
        decide = _frozen(loaded, reader, samples, targets, classifier, single=single, progress=progress)
    decisions, strength = _decide_rounds(decide, samples, targets, rounds, rng)
    tested = ~np.isnan(decisions).any(1)
    return Probed(
        loaded.system, classes, int((rounds[-1][0] | rounds[-1][1]).sum()), int(tested.sum()),
        **score_tables(targets[tested], decisions[tested], single=single), strength=strength,
        classifier="linear layer" if tune else classifier, tuned=tune, skipped=skipped,
    )  # fmt: skip


def _decide_rounds(
    decide: Decide, samples: Sequence[Sample], targets: Bools, rounds: Sequence[Parts], rng: np.random.Generator
) -> tuple[Matrix, float | None]:
    """Decisions [sample, class] of all rounds, NaN for samples that none tests, and the last round's strength."""
    decisions, strength = np.full(targets.shape, np.nan), None
    for learn, held, test in rounds:
        labels = {label for sample, used in zip(samples, learn, strict=True) if used for label in sample.labels}
        if len(labels) < 2 or not test.any():
            counts = f"{int(learn.sum())} samples of {len(labels)} classes to learn from and {int(test.sum())} to test"
            raise UsageError(f"{counts} are at hand; wanted at least two classes to learn, and something to test")
        validated = held if held.any() else held_out(samples, targets, learn, rng)
        decisions[test], strength = decide((learn, validated, test))
    return decisions, strength


def _tuned(
    model: RetrievalModel,
    reader: TokenReader,
    samples: Sequence[Sample],
    targets: Bools,
    *,
    single: bool,
    rng: np.random.Generator,
    progress: Progress,
) -> Decide:
    """Decisions of a round, by the model tuned with the classifier."""

    def decide(parts: Parts) -> tuple[Matrix, float | None]:
        return tuned_decisions(model, reader, samples, targets, parts, single=single, rng=rng, progress=progress), None

    return decide


def _frozen(
    model: RetrievalModel,
    reader: TokenReader,
    samples: Sequence[Sample],
    targets: Bools,
    classifier: Classifier,
    *,
    single: bool,
    progress: Progress,
) -> Decide:
    """Decisions of a round, by a classifier on the embeddings of every window."""
    clips = [clip for sample in samples for clip in sample.clips]
    embedding = embed_clips(model, reader, clips, lambda done, total: progress("embedding", done, total, ""))
    features = embedding.flat.numpy()
    owner = np.repeat(np.arange(len(samples)), [len(sample.clips) for sample in samples])

    def decide(parts: Parts) -> tuple[Matrix, float | None]:
        return linear_decisions(features, owner, targets, parts, classifier, single=single)

    return decide
