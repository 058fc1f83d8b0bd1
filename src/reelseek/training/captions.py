"""Captions that a machine writes: what they are written from, learning to write them, and how good they are.

Source: Lei et al. 2020 (MART), on embeddings as Ging et al. 2020 (COOT) and Zolfaghari et al. 2021 (CrossCLR) do it.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass as checked
from torch import Tensor, nn
from torch.nn import functional

from reelseek.errors import ModelError, UsageError
from reelseek.evaluation.captions import CaptionScores, score_captions, words_of
from reelseek.library.store import Library
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models.blocks.arrange import align_experts
from reelseek.models.captioner import Captioner, CaptionerConfig, Memory
from reelseek.models.device import device_of
from reelseek.models.embed import embed_clips, reader_for
from reelseek.models.model import STRICT, RetrievalModel, load_model
from reelseek.models.weights import read_saved, write_saved
from reelseek.training.data import Split, read_split

__all__ = [
    "CaptionRecipe",
    "MeasuredCaptions",
    "Story",
    "Writer",
    "check_place",
    "load_writer",
    "measure_captions",
    "nearest_captions",
    "stories_of",
    "train_captions",
]

_STEPS = 12  # of a clip, where raw tracks are read
_BATCH = 32
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


@dataclass(frozen=True)
class Story:
    """The clips of one video in order, with what people said of each."""

    video: str
    clips: tuple[Clip, ...]
    captions: tuple[tuple[str, ...], ...]


def stories_of(split: Split) -> list[Story]:
    """Videos of a split whose clips have captions, clips in order of time."""
    rows = split.captions_by_clip()
    by_video: dict[str, list[int]] = {}
    for place, clip in enumerate(split.clips):
        if rows[place]:
            by_video.setdefault(clip.video, []).append(place)
    found = []
    for video, places in by_video.items():
        places.sort(key=lambda place: split.clips[place].start_seconds or 0.0)
        told = tuple(tuple(split.texts[row] for row in rows[place]) for place in places)
        found.append(Story(video, tuple(split.clips[place] for place in places), told))
    return found


class Writer:
    """A captioner with what it reads: embeddings of a retrieval model, or raw tracks.

    Args:
        model: whose embeddings of a clip and of its whole video are read; None reads tracks.
        experts: whose tracks are read, with their widths.
    """

    def __init__(
        self, captioner: Captioner, model: RetrievalModel | None = None, experts: Mapping[str, int] | None = None
    ) -> None:
        if (model is None) == (experts is None):
            raise ValueError("a writer reads either a model's embeddings or tracks")
        self.captioner, self.model, self.experts = captioner.eval(), model, dict(experts or {})

    def to(self, device: torch.device | str) -> "Writer":
        """Move the captioner, and the model whose embeddings it reads."""
        self.captioner.to(device)
        if self.model is not None:
            self.model.to(device)
        return self

    def write(self, library: Library, videos: Sequence[Sequence[Clip]], *, beam: int = 1) -> list[list[str]]:
        """A sentence for each clip of each video; an empty one where there is no evidence."""
        told: list[list[str]] = []
        for begin in range(0, len(videos), _BATCH):
            some = videos[begin : begin + _BATCH]
            features, present = _features(library, some, self.model, self.experts)
            device = device_of(self.captioner)
            told += _written(self.captioner, features.to(device), present.to(device), some, beam=beam)
        return told

    def save(self, folder: Path, about: Mapping[str, Any]) -> None:
        """The captioner, and beside it the model whose embeddings it reads.

        Raises:
            UsageError: the folder holds something else.
            ModelError: one of the files cannot be written.
        """
        check_place(folder)
        if self.model is not None:
            self.model.save(folder / "encoder")
        encoder = None if self.model is None else self.model.fingerprint
        settings = {"captioner": asdict(self.captioner.config), "experts": self.experts, "encoder": encoder}
        write_saved(folder, self.captioner.state_dict(), {"format": 1, **settings, **about})


def _written(
    captioner: Captioner, features: Tensor, present: Tensor, videos: Sequence[Sequence[Clip]], *, beam: int = 1
) -> list[list[str]]:
    rows = captioner.write(features, present, beam=beam)
    return [sentences[: len(clips)] for sentences, clips in zip(rows, videos, strict=True)]


def check_place(folder: Path) -> None:
    """Refuse a folder that holds another kind of model, which would be lost.

    Raises:
        UsageError: it does.
    """
    if not (folder / "config.json").is_file():
        return
    try:
        told = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        told = None
    if not isinstance(told, dict) or "captioner" not in told:
        raise UsageError(f"{folder} holds a model that is no captioner, which would be lost; name another folder")


def load_writer(folder: Path) -> Writer:
    """A captioner from its folder.

    Raises:
        ModelError: it is none, or its files do not fit together.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is no captioner: it has no config.json; `reelseek captioner train` makes one")
    try:
        config, weights = read_saved(folder)
        captioner = Captioner(TypeAdapter(CaptionerConfig).validate_python(config["captioner"]))
        captioner.load_state_dict(weights)
        experts = {str(name): int(dim) for name, dim in config["experts"].items()}
    except Exception as error:  # safetensors, pydantic and torch have no common root for a damaged or foreign file
        raise ModelError(f"{folder} cannot be loaded as a captioner: {error}") from error
    if experts:
        return Writer(captioner, experts=experts)
    model = load_model(folder / "encoder")
    if config.get("encoder") not in (None, model.fingerprint):  # None: saved before it was named
        raise ModelError(
            f"{folder}: the captioner and the model in {folder / 'encoder'} were not saved together; run the command "
            "that wrote them again"
        )
    return Writer(captioner, model)


def _features(
    library: Library, videos: Sequence[Sequence[Clip]], model: RetrievalModel | None, experts: Mapping[str, int]
) -> tuple[Tensor, Tensor]:
    """Features [video, clip, step, dim] of the clips, and which are there; in evaluation mode."""
    clips = [clip for some in videos for clip in some]
    if model is not None:
        wholes = [_whole(some) for some in videos]
        found = embed_clips(model, reader_for(model, library), [*clips, *wholes])
        flat, there = found.flat, found.present.any(1)
        owner = torch.tensor([place for place, some in enumerate(videos) for _ in some]) + len(clips)
        rows = torch.cat([flat[: len(clips)], flat[owner]], 1)[:, None]
        present = there[: len(clips), None]
    else:
        reader = TokenReader(library, list(experts), most_steps=_STEPS)
        wrong = {name: dim for name, dim in reader.dims.items() if dim != experts[name]}
        if wrong:
            raise ModelError(f"the captioner reads {dict(experts)}, and {library.path} has {wrong}")
        steps = align_experts(reader.batch(clips), list(experts))
        rows, present = steps.clean, steps.present
    values = rows.new_zeros(len(videos), max(map(len, videos)), *rows.shape[1:])
    kept = torch.zeros(values.shape[:3], dtype=torch.bool)
    at = 0
    for place, some in enumerate(videos):
        values[place, : len(some)], kept[place, : len(some)] = rows[at : at + len(some)], present[at : at + len(some)]
        at += len(some)
    return values, kept


def _whole(clips: Sequence[Clip]) -> Clip:
    """From the start of the first clip to the end of the last."""
    starts, ends = [clip.start_seconds for clip in clips], [clip.end_seconds for clip in clips]
    known = None not in starts and None not in ends
    return Clip(
        clips[0].video,
        min(s for s in starts if s is not None) if known else None,
        max(e for e in ends if e is not None) if known else None,
    )


def train_captions(
    library: Library,
    recipe: CaptionRecipe | None = None,
    *,
    model: RetrievalModel | str | Path | None = None,
    experts: Sequence[str] | None = None,
    train: str = "train",
    validation: str = "val",
    report: Report = lambda *_: None,
) -> tuple[Writer, dict[str, Any]]:
    """Learn to write the captions of a split.

    The epoch with the best CIDEr-D on the validation split is kept, greedily decoded; of equal ones that with the
    lowest loss there.

    Args:
        model: read its embeddings; None reads the tracks of `experts` (None: of all experts).
        report: called after each epoch with its number, how many there are, its loss and CIDEr-D.

    Returns:
        The writer, and what is to be known of how it came to be.

    Raises:
        UsageError: a split has no captions.
    """
    recipe = recipe or CaptionRecipe()
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    learnt, held = (stories_of(read_split(library, name)) for name in (train, validation))
    encoder = None if model is None else load_model(model)
    dims = TokenReader(library, experts).dims if encoder is None else {}
    features, present = _features(library, [story.clips for story in learnt], encoder, dims)
    held_clips = [story.clips for story in held]
    held_features = _features(library, held_clips, encoder, dims)
    words = Counter(word for story in learnt for some in story.captions for text in some for word in words_of(text))
    vocabulary = tuple(sorted(word for word, count in words.items() if count >= recipe.rare))
    if not vocabulary:
        raise UsageError(f"the captions of {train!r} hold no word that comes {recipe.rare} times")
    captioner = Captioner(
        CaptionerConfig(
            inputs=features.shape[3], words=vocabulary, width=recipe.width, heads=recipe.heads, layers=recipe.layers,
            inner=recipe.inner, memory=recipe.memory, dropout=recipe.dropout, most_words=recipe.most_words,
        )
    )  # fmt: skip
    captioner.fit(features, present)
    numbers = [[[captioner.numbers(words_of(text)) for text in some] for some in story.captions] for story in learnt]
    optimizer = torch.optim.AdamW(captioner.parameters(), lr=recipe.rate, weight_decay=0.01)
    passes = -(-recipe.updates // -(-len(learnt) // recipe.batch))
    steps = recipe.epochs * passes * -(-len(learnt) // recipe.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, recipe.warmup))
    average = {name: value.detach().clone() for name, value in captioner.state_dict().items()}
    held_numbers = [[captioner.numbers(words_of(some[0])) for some in story.captions] for story in held]
    best, best_epoch, kept = (-1.0, -np.inf), 0, average
    for epoch in range(1, recipe.epochs + 1):
        captioner.train()
        losses = []
        for rows in _batches(len(learnt), recipe.batch, passes, rng):
            drawn = [[some[int(rng.integers(len(some)))] for some in numbers[row]] for row in rows]
            loss = _loss(captioner, features[rows], present[rows], drawn, recipe.smoothing)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(captioner.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
            done = min(recipe.average, (1 + schedule.last_epoch) / (10 + schedule.last_epoch))
            for name, value in captioner.state_dict().items():
                average[name].lerp_(value, 1 - done)
        own = {name: value.clone() for name, value in captioner.state_dict().items()}
        captioner.load_state_dict(average)
        cider = _scored(held, _written(captioner.eval(), *held_features, held_clips)).scores.cider_d
        with torch.no_grad():  # tells epochs apart that write equally well, or equally badly
            doubt = float(_loss(captioner, *held_features, held_numbers, 0.0))
        report(epoch, recipe.epochs, float(np.mean(losses)), cider)
        if (cider, -doubt) > best:
            best, best_epoch = (cider, -doubt), epoch
            kept = {name: value.clone() for name, value in average.items()}
        captioner.load_state_dict(own)
        if epoch - best_epoch >= recipe.patience:
            break
    captioner.load_state_dict(kept)
    about = {
        "recipe": asdict(recipe),
        "train": train,
        "validation": validation,
        "epoch": best_epoch,
        "cider_d": best[0],
    }
    return Writer(captioner, encoder, dims or None), about


def _batches(count: int, size: int, passes: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    for _ in range(passes):
        order = rng.permutation(count)
        for begin in range(0, count, size):
            yield order[begin : begin + size]


def _rate(step: int, steps: int, warmup: float) -> float:
    done = step / max(1, steps)
    return done / warmup if done < warmup else max(0.0, (1 - done) / (1 - warmup))


def _loss(
    captioner: Captioner, features: Tensor, present: Tensor, drawn: Sequence[Sequence[Sequence[int]]], smoothing: float
) -> Tensor:
    """Mean over words of all clips."""
    memory: Memory | None = None
    total, count = features.new_zeros(()), 0
    for clip in range(features.shape[1]):
        said = [story[clip] if clip < len(story) else [] for story in drawn]
        alive = torch.tensor([bool(words) for words in said]) & present[:, clip].any(1)
        words = torch.zeros(len(said), max(2, *map(len, said)), dtype=torch.long)
        for row, each in enumerate(said):
            words[row, : len(each)] = torch.tensor(each, dtype=torch.long)
        words[~alive] = 0
        logits, memory = captioner(features[:, clip], present[:, clip], words, memory)
        wanted = words[:, 1:]
        total = total + functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), wanted.flatten(), ignore_index=0, label_smoothing=smoothing, reduction="sum"
        )
        count += int((wanted > 0).sum())
    return total / max(1, count)


@dataclass(frozen=True)
class MeasuredCaptions:
    """What was written of a split, in the order of its stories, and how good it is."""

    scores: CaptionScores
    stories: tuple[Story, ...]
    written: tuple[tuple[str, ...], ...]


def measure_captions(writer: Writer, library: Library, split: str = "test", *, beam: int = 1) -> MeasuredCaptions:
    """Write the captions of a split's clips and score them against what people said.

    Raises:
        UsageError: it has no captions.
    """
    return _measure(writer, library, stories_of(read_split(library, split)), beam=beam)


def _measure(writer: Writer, library: Library, stories: Sequence[Story], *, beam: int) -> MeasuredCaptions:
    return _scored(stories, writer.write(library, [story.clips for story in stories], beam=beam))


def _scored(stories: Sequence[Story], written: Sequence[Sequence[str]]) -> MeasuredCaptions:
    flat = [text for some in written for text in some]
    told = [texts for story in stories for texts in story.captions]
    scores = score_captions(flat, told, [" ".join(some) for some in written])
    return MeasuredCaptions(scores, tuple(stories), tuple(tuple(some) for some in written))


def nearest_captions(
    library: Library, *, model: RetrievalModel | None = None, train: str = "train", split: str = "test"
) -> MeasuredCaptions:
    """What copying gives: each clip takes the first caption of the training clip whose embedding is nearest.

    Args:
        model: whose embeddings; None takes the means of all tracks, standardised.
    """
    learnt, asked = (stories_of(read_split(library, name)) for name in (train, split))
    dims = TokenReader(library).dims if model is None else {}
    rows = []
    for stories in (learnt, asked):
        values, there = _features(library, [story.clips for story in stories], model, dims)
        weights = there[..., None].float()
        mean = (values * weights).sum(2) / weights.sum(2).clamp(min=1)
        taken = torch.tensor([[clip < len(s.clips) for clip in range(mean.shape[1])] for s in stories])
        rows.append(mean[taken])
    shift, scale = rows[0].mean(0), rows[0].std(0).clamp(min=1e-6)
    one, two = (functional.normalize((each - shift) / scale, dim=-1) for each in rows)
    nearest = (two @ one.T).argmax(1).tolist()
    captions = [texts[0] for story in learnt for texts in story.captions]
    copied = iter([captions[place] for place in nearest])
    return _scored(asked, [[next(copied) for _ in story.clips] for story in asked])
