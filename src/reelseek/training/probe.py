"""What a representation is worth: a linear classifier on it, frozen or learnt along.

Source: the protocols of Alayrac et al. 2020 (MMV), section 4.1: features standardised, a linear classifier, several
windows of a video averaged; sound by mean average precision; pictures through a video network.
"""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from reelseek.errors import UsageError
from reelseek.library.readers.labels import Labelled, read_labels
from reelseek.library.store import Library
from reelseek.library.tokens import Clip, TokenReader, Tokens
from reelseek.models.device import device_of, resolve_device
from reelseek.models.embed import embed_clips, reader_for
from reelseek.models.joint import load_for
from reelseek.models.model import RetrievalModel
from reelseek.overlap.ids import matching
from reelseek.overlap.sources import library_splits

__all__ = ["Classifier", "Probed", "linear_decisions", "probe"]

Matrix = npt.NDArray[np.floating]
Classifier = Literal["logistic", "svm"]
Progress = Callable[[str, int, int, str], None]
Parts = tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]
_STRENGTHS = tuple(float(c) for c in 10.0 ** np.arange(-4, 3))
_HELD = 0.2  # share of training videos on which the strength is chosen


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
        UsageError: fewer than two classes, no training or no test videos at hand, a video in both, or a model that
            cannot be tuned.
    """
    if windows < 1 or not window_seconds > 0:
        raise UsageError(f"{windows} windows of {window_seconds:g} s: wanted at least one, of some length")
    loaded = load_for(library, model).model
    if device is not None:
        loaded.to(resolve_device(device))
    reader = reader_for(loaded, library, experts)
    rows = read_labels(Path(labels)) if isinstance(labels, str | Path) else list(labels)
    samples, skipped = _samples(library, reader, _with_folds(library, rows), windows, window_seconds)
    rng = np.random.default_rng(seed)
    if shuffle:
        order = rng.permutation(len(samples))
        samples = [replace(s, labels=samples[int(o)].labels) for s, o in zip(samples, order, strict=True)]
    classes = tuple(sorted({label for sample in samples for label in sample.labels}))
    if len(classes) < 2:
        raise UsageError(f"the labels name {len(classes)} class of videos at hand; a probe tells at least two apart")
    single = all(len(sample.labels) == 1 for sample in samples)
    targets = np.array([[name in sample.labels for name in classes] for sample in samples])
    rounds = _rounds(samples)
    owner = np.repeat(np.arange(len(samples)), [len(sample.clips) for sample in samples])
    features = None if tune else _embedded(loaded, reader, samples, progress)
    decisions, strength = np.full(targets.shape, np.nan), None
    for learn, held, test in rounds:
        told = {label for sample, used in zip(samples, learn, strict=True) if used for label in sample.labels}
        if len(told) < 2 or not test.any():
            at_hand = f"{int(learn.sum())} samples of {len(told)} classes to learn from and {int(test.sum())} to test"
            raise UsageError(f"{at_hand} are at hand; wanted at least two classes to learn, and something to test")
        chosen_on = held if held.any() else _held_out(samples, targets, learn, rng)
        if features is None:
            found = _tuned(loaded, reader, samples, targets, (learn, chosen_on, test), single=single, rng=rng,
                           progress=progress)  # fmt: skip
        else:
            parts = (learn, chosen_on, test)
            found, strength = linear_decisions(features, owner, targets, parts, classifier, single=single)
        decisions[test] = found
    tested = ~np.isnan(decisions).any(1)
    return Probed(
        loaded.system, classes, int((rounds[-1][0] | rounds[-1][1]).sum()), int(tested.sum()),
        **_scored(targets[tested], decisions[tested], single=single), strength=strength,
        classifier="linear layer" if tune else classifier, tuned=tune, skipped=skipped,
    )  # fmt: skip


@dataclass(frozen=True)
class _Sample:
    video: str
    clips: tuple[Clip, ...]
    labels: tuple[str, ...]
    fold: str


def _rounds(samples: Sequence[_Sample]) -> list[Parts]:
    """What is learnt from, chosen on (nothing: a part of what is learnt from) and tested, for each round.

    Raises:
        UsageError: a fold has another name than train, val, test or a number, or a video is learnt from and tested.
    """
    of_fold = np.array([sample.fold for sample in samples])
    names = sorted(set(of_fold.tolist()))
    if all(name.isdigit() for name in names):
        rounds = [(of_fold != name, np.zeros(len(samples), bool), of_fold == name) for name in names]
    elif set(names) <= {"train", "val", "validation", "test"}:
        rounds = [(of_fold == "train", np.isin(of_fold, ["val", "validation"]), of_fold == "test")]
    else:
        odd = next(name for name in names if name not in ("train", "val", "validation", "test"))
        raise UsageError(f"a split is called {odd!r}; wanted train, test (and val), or numbers of folds")
    videos = np.array([sample.video for sample in samples])
    for learn, held, test in rounds:
        both = (set(videos[learn]) | set(videos[held])) & set(videos[test])
        if both:
            raise UsageError(f"{len(both)} videos are learnt from and tested, such as {sorted(both)[0]}: a leak")
    return rounds


def _samples(
    library: Library, reader: TokenReader, rows: Sequence[Labelled], windows: int, seconds: float
) -> tuple[list[_Sample], int]:
    named, unknown = matching([row.video for row in rows], [video.id for video in library.videos()])
    found, skipped = [], len(unknown)
    for row in rows:
        if row.video not in named:
            continue
        video = library.video(named[row.video][0])
        start = row.start if row.start is not None else 0.0
        end = video.duration if row.end is None else min(row.end, video.duration or row.end)
        clips = tuple(_windows(video.id, start, end, windows, seconds))
        there = np.any(list(reader.present(clips).values()), axis=0)
        kept = tuple(clip for clip, has in zip(clips, there, strict=True) if has)
        if kept:
            found.append(_Sample(video.id, kept, row.labels, row.fold))
        else:
            skipped += 1
    if not found:
        raise UsageError(
            f"of the {len(rows)} labelled videos {library.path} has none with anything that the model reads"
        )
    return found, skipped


def _with_folds(library: Library, rows: Sequence[Labelled]) -> list[Labelled]:
    """The rows, each with a fold."""
    if all(row.fold for row in rows):
        return list(rows)
    tested = set(library_splits(library).get("test", ()))
    named, _ = matching([row.video for row in rows], [video.id for video in library.videos()])
    own = [named[row.video][0] in tested if row.video in named else False for row in rows]
    if not any(own) or all(own):
        order = sorted(range(len(rows)), key=lambda place: hashlib.sha256(rows[place].video.encode()).digest())
        own = [False] * len(rows)
        for label in {row.labels[0] for row in rows}:
            for place in [place for place in order if rows[place].labels[0] == label][::5]:
                own[place] = True
    return [replace(row, fold=row.fold or ("test" if test else "train")) for row, test in zip(rows, own, strict=True)]


def _windows(video: str, start: float, end: float | None, count: int, seconds: float) -> list[Clip]:
    if end is None:
        return [Clip(video)]
    if end - start <= seconds or count == 1:
        return [Clip(video, start, end)]
    begins = np.linspace(start, end - seconds, count)
    return [Clip(video, float(begin), float(begin) + seconds) for begin in begins]


def _embedded(
    model: RetrievalModel,
    reader: TokenReader,
    samples: Sequence[_Sample],
    progress: Progress,
) -> Matrix:
    clips = [clip for sample in samples for clip in sample.clips]
    found = embed_clips(model, reader, clips, lambda done, total: progress("embedding", done, total, ""))
    return found.flat.numpy()


def linear_decisions(
    features: Matrix,
    owner: npt.NDArray[np.int64],
    targets: npt.NDArray[np.bool_],
    parts: Parts,
    kind: Classifier,
    *,
    single: bool,
) -> tuple[Matrix, float]:
    """Decision values of the samples that are tested [sample, class], and the strength that was chosen.

    Args:
        features: of every window; owner: the sample of each.
        targets: [sample, class]; single: whether classes exclude each other.
        parts: samples that are learnt from, chosen on, and tested.
    """
    learn, held, test = parts

    def decided(fit: npt.NDArray[np.bool_], ask: npt.NDArray[np.bool_], strength: float) -> Matrix:
        return _decisions(features, owner, targets, fit, ask, kind, strength, single=single)

    scores = [_score(targets[held], decided(learn & ~held, held, c), single=single) for c in _STRENGTHS]
    strength = _STRENGTHS[int(np.argmax(scores))]
    return decided(learn | held, test, strength), strength


def _held_out(
    samples: Sequence[_Sample],
    targets: npt.NDArray[np.bool_],
    learn: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> npt.NDArray[np.bool_]:
    """Training samples to choose on: all of a fifth of the videos of every class, but none of a class's last one."""
    held = np.zeros(len(learn), bool)
    first, videos = targets.argmax(1), np.array([sample.video for sample in samples])
    for label in range(targets.shape[1]):
        own = rng.permutation(np.unique(videos[learn & (first == label)]))
        taken = own[: min(len(own) - 1, max(1, round(_HELD * len(own))))]
        held |= learn & np.isin(videos, taken)
    if not held.any() or len(np.unique(first[learn & ~held])) < 2:
        raise UsageError("too few training videos: there is nothing to choose the classifier's strength on")
    return held


def _decisions(
    features: Matrix,
    owner: npt.NDArray[np.int64],
    targets: npt.NDArray[np.bool_],
    fit: npt.NDArray[np.bool_],
    ask: npt.NDArray[np.bool_],
    kind: Classifier,
    strength: float,
    *,
    single: bool,
) -> Matrix:
    """Mean over windows of the decision values [sample, class]; -inf for a class that was not learnt."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    def classifier() -> Any:
        if kind == "svm":
            return LinearSVC(C=strength, dual="auto", random_state=0)
        return LogisticRegression(C=strength, max_iter=500)

    rows, asked = fit[owner], ask[owner]
    scaler = StandardScaler()
    learnt, test = scaler.fit_transform(features[rows]), scaler.transform(features[asked])
    values = np.full((len(test), targets.shape[1]), -np.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # weak ones need not converge to be compared
        if single:
            labels = targets.argmax(1)[owner[rows]]
            made = classifier().fit(learnt, labels)
            found = made.decision_function(test)
            values[:, made.classes_] = np.stack([-found, found], 1) if found.ndim == 1 else found
        else:
            for label in range(targets.shape[1]):
                positive = targets[owner[rows], label]
                if positive.any() and not positive.all():
                    values[:, label] = classifier().fit(learnt, positive).decision_function(test)
    numbers = np.searchsorted(np.flatnonzero(ask), owner[asked])
    total = np.zeros((int(ask.sum()), targets.shape[1]))
    np.add.at(total, numbers, values)
    return total / np.bincount(numbers)[:, None]


def _score(targets: npt.NDArray[np.bool_], decisions: Matrix, *, single: bool) -> float:
    if single:
        return float((decisions.argmax(1) == targets.argmax(1)).mean())
    return _mean_average_precision(targets, decisions)


def _mean_average_precision(targets: npt.NDArray[np.bool_], decisions: Matrix) -> float:
    from sklearn.metrics import average_precision_score

    there = [label for label in range(targets.shape[1]) if targets[:, label].any()]
    values = np.where(np.isfinite(decisions), decisions, -1e9)
    return float(np.mean([average_precision_score(targets[:, label], values[:, label]) for label in there]))


def _scored(targets: npt.NDArray[np.bool_], decisions: Matrix, *, single: bool) -> dict[str, Any]:
    true, guessed = targets.argmax(1), decisions.argmax(1)
    confusion = np.zeros((targets.shape[1],) * 2, np.int64)
    np.add.at(confusion, (true, guessed), 1)
    none: dict[str, Any] = dict.fromkeys(("accuracy", "top_5", "mean_class_accuracy", "mean_average_precision"))
    if not single:
        share = float(targets[:, targets.any(0)].mean())
        return {**none, "mean_average_precision": _mean_average_precision(targets, decisions), "chance": share,
                "confusion": confusion}  # fmt: skip
    five = np.argsort(-decisions, axis=1)[:, :5]
    there = confusion.sum(1) > 0
    by_class = confusion.diagonal()[there] / confusion.sum(1)[there]
    return {
        **none,
        "accuracy": float((true == guessed).mean()),
        "top_5": float((five == true[:, None]).any(1).mean()),
        "mean_class_accuracy": float(by_class.mean()),
        "chance": float(np.bincount(true).max() / len(true)),
        "confusion": confusion,
    }


def _tuned(
    model: RetrievalModel,
    reader: TokenReader,
    samples: Sequence[_Sample],
    targets: npt.NDArray[np.bool_],
    parts: Parts,
    *,
    single: bool,
    rng: np.random.Generator,
    progress: Progress,
    epochs: int = 20,
) -> Matrix:
    """Decision values of the test samples by a linear layer and the model's own weights, both learnt; the epoch with
    the best score on training videos that were set aside is taken."""
    mine = deepcopy(model)
    if not any(True for _ in mine.parameters()):
        raise UsageError(f"{model.system} has no weights to tune; leave --tune out")
    torch.manual_seed(int(rng.integers(2**31)))
    mine.requires_grad_(True)
    place = device_of(mine)

    def read(clips: Sequence[Clip]) -> Tokens:
        return {name: steps.to(place) for name, steps in reader.batch(clips).items()}

    with torch.no_grad():
        width = mine.eval().encode_videos(read(samples[0].clips[:1])).flat.shape[1]
    norm, head = nn.BatchNorm1d(width, affine=False).to(place), nn.Linear(width, targets.shape[1]).to(place)
    learn, held, test = parts
    groups = [{"params": mine.parameters(), "lr": 1e-4}, {"params": head.parameters(), "lr": 1e-2}]
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-3)
    goal = torch.from_numpy(targets).float().to(place)

    def decided(clips: Sequence[Clip]) -> Tensor:
        return head(norm(mine.encode_videos(read(clips)).flat))

    def asked(which: npt.NDArray[np.bool_]) -> Matrix:
        mine.eval()
        norm.eval()
        with torch.inference_mode():
            rows = [decided(samples[i].clips).mean(0) for i in np.flatnonzero(which).tolist()]
        return torch.stack(rows).cpu().numpy()

    best, kept = -1.0, asked(test)
    chosen = np.flatnonzero(learn & ~held)
    for epoch in range(1, epochs + 1):
        mine.train()
        norm.train()
        order = rng.permutation(chosen)
        for begin in range(0, len(order), 32):
            rows = order[begin : begin + 32]
            clips = [samples[i].clips[int(rng.integers(len(samples[i].clips)))] for i in rows.tolist()]
            if len(clips) < 2:
                continue
            scores, wanted = decided(clips), goal[torch.from_numpy(rows).to(place)]
            loss = (
                functional.cross_entropy(scores, wanted.argmax(1))
                if single
                else functional.binary_cross_entropy_with_logits(scores, wanted)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        score = _score(targets[held], asked(held), single=single)
        progress("tuning", epoch, epochs, f"{score:.3f}")
        if score > best:
            best, kept = score, asked(test)
    return kept
