"""Learning to write captions."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked
from torch import Tensor, nn
from torch.nn import functional

from reelseek.errors import RecipeError, UsageError
from reelseek.evaluation.captions import words_of
from reelseek.library.store import Library
from reelseek.library.tokens import TokenReader
from reelseek.models.captioner import Captioner, CaptionerConfig, Memory
from reelseek.models.device import load_on_device, resolve_device
from reelseek.models.model import RetrievalModel
from reelseek.models.settings import STRICT, describe_problems
from reelseek.training.captions.scores import score_stories
from reelseek.training.captions.stories import Story, read_features, stories_of
from reelseek.training.captions.writer import Writer, write_clips
from reelseek.training.caveats import selection_caveats
from reelseek.training.data import check_validation, read_split
from reelseek.training.optimizer import update_average
from reelseek.training.recipe import changed, find_recipe, read_toml

__all__ = ["CaptionRecipe", "read_caption_recipe", "train_captions"]

_log = logging.getLogger("reelseek")
Report = Callable[[int, int, float, float], None]


@checked(frozen=True, config=STRICT, kw_only=True)
class CaptionRecipe:
    """How a captioner learns; rates and sizes are for small collections.

    Args:
        warmup: share of all steps in which the rate grows from nothing; it falls to nothing in the others.
        smoothing: of labels.
        average: decay of the moving average of weights, which is what is measured and kept (released: .9999).
        updates: an epoch has at least so many, in as many passes over the videos as that takes.
        patience: epochs without a better CIDEr-D of validation videos after which it stops.
        rare: words that come less often are unknown.
    """

    width: int = 192
    heads: int = 6
    layers: int = 2
    inner: int = 192
    memory: int = 1
    dropout: float = Field(default=0.1, ge=0, lt=1)
    most_words: int = 22
    epochs: int = Field(default=60, ge=1)
    updates: int = Field(default=50, ge=1)
    batch: int = Field(default=16, ge=1)
    rate: float = Field(default=1e-3, gt=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    average: float = Field(default=0.99, ge=0, lt=1)
    patience: int = Field(default=15, ge=1)
    rare: int = Field(default=1, ge=1)
    seed: int = 0


def read_caption_recipe(
    recipe: str | os.PathLike[str] | None, changes: Sequence[str] = (), options: Mapping[str, Any] | None = None
) -> CaptionRecipe:
    """Read a captioner's recipe: a TOML file, or a packaged one such as `captions/mart`; None is the small default.

    Args:
        changes: `key=value` each, over the recipe.
        options: further settings, over both.

    >>> read_caption_recipe("captions/mart", ["epochs=3"]).width
    768

    Raises:
        RecipeError: it cannot be read, or a key or value is wrong; says which.
    """
    table = read_toml(find_recipe(recipe)) if recipe is not None else {}
    settings = {**changed(table, changes), **(options or {})}
    try:
        return TypeAdapter(CaptionRecipe).validate_python(settings)
    except ValidationError as error:
        raise RecipeError(f"{recipe or 'the recipe'}: {describe_problems(error, CaptionRecipe)}") from error


@dataclass(frozen=True)
class _Data:
    """The stories of a split with their features, and the words of each caption as numbers."""

    stories: list[Story]
    features: Tensor
    present: Tensor
    numbers: list[list[list[list[int]]]]  # [story][clip][caption][word]


def train_captions(
    library: Library,
    recipe: CaptionRecipe | None = None,
    *,
    model: RetrievalModel | str | Path | None = None,
    experts: Sequence[str] | None = None,
    train: str = "train",
    validation: str = "val",
    device: str | torch.device | None = None,
    report: Report = lambda *_: None,
) -> tuple[Writer, dict[str, Any]]:
    """Learn to write the captions of a split.

    The epoch with the best CIDEr-D on the validation split is taken, greedily decoded; of equal ones that with the
    lowest loss there.

    Args:
        model: read its embeddings; None reads the tracks of `experts` (None: of all experts).
        device: where it learns, see `resolve_device`; the embeddings are computed there too.
        report: called after each epoch with its number, how many there are, its loss and CIDEr-D.

    Returns:
        The writer, and the record of its training.

    Raises:
        UsageError: there is no such device, a split has no captions, or see `check_validation`.
    """
    recipe = recipe or CaptionRecipe()
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    splits = [read_split(library, name) for name in (train, validation)]
    check_validation(library, *splits)
    learnt, validated = map(stories_of, splits)
    place = resolve_device(device)
    encoder = None if model is None else load_on_device(model, device)
    dims = TokenReader(library, experts).dims if encoder is None else {}
    learnt_features, validation_features = (
        read_features(library, [story.clips for story in stories], encoder, dims) for stories in (learnt, validated)
    )
    captioner = _build(recipe, learnt, learnt_features, train).to(place)
    data = [
        _data(captioner, stories, features, place)
        for stories, features in ((learnt, learnt_features), (validated, validation_features))
    ]
    fit = _Fit(captioner, recipe, *data)
    epoch, cider = fit.run(rng, report)
    caveats = selection_caveats(validation, sum(len(story.clips) for story in validated))
    for caveat in caveats:
        _log.warning("%s", caveat)
    record = {
        "recipe": asdict(recipe),
        "train": train,
        "validation": validation,
        "epoch": epoch,
        "cider_d": cider,
        "warnings": caveats,
    }
    return Writer(captioner, encoder, dims or None), record


def _build(recipe: CaptionRecipe, stories: Sequence[Story], features: tuple[Tensor, Tensor], split: str) -> Captioner:
    """A captioner of the words that come often enough, fitted to the features."""
    counts = Counter(word for story in stories for texts in story.captions for text in texts for word in words_of(text))
    vocabulary = tuple(sorted(word for word, count in counts.items() if count >= recipe.rare))
    if not vocabulary:
        raise UsageError(f"the captions of {split!r} hold no word that comes {recipe.rare} times")
    captioner = Captioner(
        CaptionerConfig(
            inputs=features[0].shape[3], words=vocabulary, width=recipe.width, heads=recipe.heads,
            layers=recipe.layers, inner=recipe.inner, memory=recipe.memory, dropout=recipe.dropout,
            most_words=recipe.most_words,
        )
    )  # fmt: skip
    captioner.fit(*features)
    return captioner


def _data(captioner: Captioner, stories: list[Story], features: tuple[Tensor, Tensor], device: torch.device) -> _Data:
    numbers = [[[captioner.numbers(words_of(text)) for text in texts] for texts in s.captions] for s in stories]
    return _Data(stories, features[0].to(device), features[1].to(device), numbers)


class _Fit:
    """Epochs of steps, each measured on the validation stories with the averaged weights."""

    def __init__(self, captioner: Captioner, recipe: CaptionRecipe, train: _Data, validation: _Data) -> None:
        self.captioner, self.recipe, self.train, self.validation = captioner, recipe, train, validation
        self.optimizer = torch.optim.AdamW(captioner.parameters(), lr=recipe.rate, weight_decay=0.01)
        batches = -(-len(train.stories) // recipe.batch)
        self.passes = -(-recipe.updates // batches)
        steps = recipe.epochs * self.passes * batches
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: _rate(step, steps, recipe.warmup)
        )
        self.average = {name: value.detach().clone() for name, value in captioner.state_dict().items()}

    def run(self, rng: np.random.Generator, report: Report) -> tuple[int, float]:
        """Train, load the best epoch's weights, and return its number and its CIDEr-D."""
        best, best_epoch, best_weights = (-1.0, -np.inf), 0, self.average
        for epoch in range(1, self.recipe.epochs + 1):
            loss = self._train_epoch(rng)
            cider, validation_loss = self._measure()
            report(epoch, self.recipe.epochs, loss, cider)
            if (cider, -validation_loss) > best:
                best, best_epoch = (cider, -validation_loss), epoch
                best_weights = {name: value.clone() for name, value in self.average.items()}
            if epoch - best_epoch >= self.recipe.patience:
                break
        self.captioner.load_state_dict(best_weights)
        return best_epoch, best[0]

    def _train_epoch(self, rng: np.random.Generator) -> float:
        self.captioner.train()
        data, losses = self.train, []
        for rows in _batches(len(data.stories), self.recipe.batch, self.passes, rng):
            numbers = [[texts[int(rng.integers(len(texts)))] for texts in data.numbers[row]] for row in rows]
            loss = _loss(self.captioner, data.features[rows], data.present[rows], numbers, self.recipe.smoothing)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.captioner.parameters(), 1.0)
            self.optimizer.step()
            self.schedule.step()
            losses.append(float(loss.detach()))
            steps = self.schedule.last_epoch
            update_average(self.average, self.captioner, min(self.recipe.average, (1 + steps) / (10 + steps)))
        return float(np.mean(losses))

    def _measure(self) -> tuple[float, float]:
        """CIDEr-D and the loss on the validation stories, of the averaged weights."""
        weights = {name: value.clone() for name, value in self.captioner.state_dict().items()}
        self.captioner.load_state_dict(self.average)
        data, clips = self.validation, [story.clips for story in self.validation.stories]
        written = write_clips(self.captioner.eval(), data.features, data.present, clips)
        cider = score_stories(data.stories, written).scores.cider_d
        first = [[texts[0] for texts in story] for story in data.numbers]
        with torch.no_grad():  # tells apart epochs that write equally well, or equally badly
            loss = float(_loss(self.captioner, data.features, data.present, first, 0.0))
        self.captioner.load_state_dict(weights)
        return cider, loss


def _batches(count: int, size: int, passes: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    for _ in range(passes):
        order = rng.permutation(count)
        for begin in range(0, count, size):
            yield order[begin : begin + size]


def _rate(step: int, steps: int, warmup: float) -> float:
    done = step / max(1, steps)
    return done / warmup if done < warmup else max(0.0, (1 - done) / (1 - warmup))


def _loss(
    captioner: Captioner,
    features: Tensor,
    present: Tensor,
    numbers: Sequence[Sequence[Sequence[int]]],
    smoothing: float,
) -> Tensor:
    """Mean cross-entropy over the words of all clips.

    Args:
        numbers: [video][clip][word].
    """
    memory: Memory | None = None
    total, count = features.new_zeros(()), 0
    for clip in range(features.shape[1]):
        rows = [story[clip] if clip < len(story) else [] for story in numbers]
        active = torch.tensor([bool(row) for row in rows]).to(features.device) & present[:, clip].any(1)
        words = torch.zeros(len(rows), max(2, *map(len, rows)), dtype=torch.long)
        for index, row in enumerate(rows):
            words[index, : len(row)] = torch.tensor(row, dtype=torch.long)
        words = words.to(features.device)
        words[~active] = 0
        logits, memory = captioner(features[:, clip], present[:, clip], words, memory)
        targets = words[:, 1:]
        total = total + functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), targets.flatten(), ignore_index=0, label_smoothing=smoothing, reduction="sum"
        )
        count += int((targets > 0).sum())
    return total / max(1, count)
