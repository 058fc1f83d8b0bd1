"""The one training loop: epochs over clips, a caption each, the best epoch kept by the validation split."""

import csv
import io
import json
import logging
import os
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor

from reelseek.errors import RecipeError, UsageError
from reelseek.library.files import write_whole
from reelseek.library.store import Library
from reelseek.library.tokens import Clip, Steps, TokenReader, Tokens
from reelseek.models import parallel
from reelseek.models.device import device_of, matmul_precision, resolve_device
from reelseek.models.embed import embed_clips
from reelseek.models.model import Batch, LearnedModel, RetrievalModel, load_model
from reelseek.models.systems import SYSTEMS
from reelseek.models.weights import write_errors, write_tensors
from reelseek.training.ahead import in_order
from reelseek.training.caching import cached_gradients
from reelseek.training.data import Split, Windows, hidden_experts, read_split, recipe_splits, whole_split
from reelseek.training.measure import Measured, clips_with, measure_embedded
from reelseek.training.pseudo import After, pseudo_labels
from reelseek.training.recipe import PseudoRecipe, Recipe, TrainRecipe
from reelseek.training.schedule import rate_factor

__all__ = ["Epoch", "train"]


@dataclass(frozen=True)
class Epoch:
    """One line of the log."""

    epoch: int
    loss: float  # NaN for epoch 0
    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    median_rank: float
    mean_rank: float
    score: float  # by which the best epoch is chosen; higher is better
    best: bool


_log = logging.getLogger("reelseek")
# what a run leaves that was stopped before its first state was whole
_BEGUN = re.compile(r"pseudo|((best|state)\.safetensors|log\.csv)(\.\d+\.partial)?")
_FIT = 8192  # clips that what is fitted in closed form looks at
Report = Callable[[Epoch, int, str], None]


def train(
    recipe: Recipe,
    library: Library,
    out: str | os.PathLike[str],
    *,
    report: Report | None = None,
    after: After | None = None,
    stage: str = "",
    device: str | torch.device | None = None,
) -> RetrievalModel:
    """Train a system on a library; a run that was stopped goes on where it was, and ends with the same weights.

    Started by `torchrun`, its processes share every batch and compare all of its clips; the first one writes.

    Args:
        out: folder for the model (best epoch), the log and the state to resume from.
        report: called after every epoch with its line, the number of epochs and `stage`.
        after: called with the model before an epoch's state is written; called again if that was not reached.
        device: where to learn instead of where the recipe says, see `resolve_device`. A run that was stopped goes on
            on another device as well.

    Returns:
        the model, on that device.

    Raises:
        RecipeError: unknown system or settings, `out` holds a run of another recipe, or a loss cannot be shared.
        UsageError: the library lacks captions or experts.
        ModelError: `out` cannot be written; nothing that was finished is lost.
    """
    out = Path(out)
    place = parallel.join(resolve_device(device if device is not None else recipe.train.device))
    matmul_precision(place)
    torch.manual_seed(recipe.train.seed)
    reader = TokenReader(library, recipe.data.experts)
    data = recipe_splits(library, recipe.data)
    reader.hidden = hidden_experts(library, [c.video for part in data for c in part.clips], recipe.data.groups)
    if recipe.data.validation_needs:
        data = (data[0], clips_with(TokenReader(library), data[1], recipe.data.validation_needs))
    model = _build(recipe, reader)
    if parallel.active() and (recipe.train.chunk or not (isinstance(model, LearnedModel) and model.compares_only)):
        raise RecipeError(
            f"{parallel.size()} processes share a loss that is a function of all clips' similarities, taken whole: "
            f"{model.system} with train.chunk = {recipe.train.chunk} has another; train it in one process"
        )
    reader.step_by_step = dict(model.step_by_step)
    data = (data[0].read_by(model), data[1])
    model.fit_inputs(*_sample(reader, data[0], recipe.train.seed))
    if recipe.train.start is not None:
        _take_over(model, recipe.train.start)
    model.to(place)
    run = _Run(recipe, model, reader, data, out)
    run.sources = _sources(library, recipe, data[0])
    if recipe.pseudo is not None:
        run.pseudo = _pseudo(recipe, recipe.pseudo, library, reader, data[0], out, report, place)
    run.resume()
    run.go(report if report and parallel.first() else (lambda *_: None), after, stage)
    parallel.wait()
    run.take_best()
    parallel.wait()
    if data[1].set_aside_from == data[0].name:  # these clips were lent for choosing; now all of them may be learnt from
        model.cpu().refit(*_sample(reader, whole_split(library, recipe.data), recipe.train.seed))
        model.to(place)
    if parallel.first():
        run.keep_best()
    parallel.wait()
    return model.eval()


def _pseudo(
    recipe: Recipe,
    how: PseudoRecipe,
    library: Library,
    reader: TokenReader,
    split: Split,
    out: Path,
    report: Report | None,
    device: torch.device,
) -> Tensor:
    if not str(recipe.model.get("system")).startswith("umi"):
        raise RecipeError(f"[pseudo] is a stage of umi; {recipe.model.get('system')} has no branch for pseudo-labels")

    def alone(part: Recipe, folder: Path, after: After, expert: str) -> RetrievalModel:
        return train(part, library, folder, report=report, after=after, stage=expert, device=device)

    return pseudo_labels(recipe, how, reader, split, out / "pseudo", alone)


def _sources(library: Library, recipe: Recipe, split: Split) -> list[tuple[float, list[list[int]]]]:
    """For each split of a mixture its weight, and the captioned clips of each of its videos that are learnt from."""
    captioned = {clip for clip, rows in enumerate(split.captions_by_clip()) if rows}
    place = {clip: index for index, clip in enumerate(split.clips)}
    found = []
    for name, weight in recipe.data.weights.items():
        videos: dict[str, list[int]] = {}
        for clip in read_split(library, name).clips:
            if place.get(clip) in captioned:
                videos.setdefault(clip.video, []).append(place[clip])
        if videos:
            found.append((weight, list(videos.values())))
    return found


def _sample(reader: TokenReader, split: Split, seed: int) -> tuple[Tokens, list[list[str]]]:
    """Clips with captions, at most _FIT of them, and the captions of each."""
    captions = split.captions_by_clip()
    chosen = np.random.default_rng(seed).permutation([clip for clip, rows in enumerate(captions) if rows])[:_FIT]
    texts = [[split.texts[row] for row in captions[clip]] for clip in chosen]
    return reader.batch([split.clips[clip] for clip in chosen]), texts


def _build(recipe: Recipe, reader: TokenReader) -> RetrievalModel:
    settings = dict(recipe.model)
    name = settings.pop("system", None)
    if name not in SYSTEMS or not SYSTEMS[name].trained:
        trained = ", ".join(key for key, system in SYSTEMS.items() if system.trained)
        raise RecipeError(f"model.system is {name!r}; systems that can be trained are: {trained}")
    settings.setdefault("experts", reader.dims)
    return SYSTEMS[name].build(settings)


def _take_over(model: RetrievalModel, folder: str) -> None:
    """Give a model the parameters of another one, wherever name and shape are the same.

    Raises:
        RecipeError: there are none; says what either model is.
    """
    given = load_model(folder)
    own = model.state_dict()
    same = {name: value for name, value in given.state_dict().items() if name in own and own[name].shape == value.shape}
    if not set(same) & {name for name, _ in model.named_parameters()}:
        raise RecipeError(
            f"train.start = {folder!r} is {given.system} over {', '.join(given.experts)}, of which {model.system} over "
            f"{', '.join(model.experts)} can take nothing over: no parameter has the same name and shape"
        )
    model.load_state_dict({**own, **same})
    _log.info("%d of %d tensors are taken over from %s", len(same), len(own), folder)


@dataclass(frozen=True)
class _Drawn:
    """What chance has decided of a batch: clips with a caption each, shifts in seconds, numbers for `_drop`."""

    clips: npt.NDArray[np.int64]
    examples: Sequence[tuple[Clip, str]]
    shifts: dict[str, list[float]]
    kept: npt.NDArray[np.float64] | None


class _Run:
    """State of one training run."""

    def __init__(
        self, recipe: Recipe, model: RetrievalModel, reader: TokenReader, data: tuple[Split, Split], out: Path
    ) -> None:
        self.recipe, self.how, self.model, self.reader, self.out = recipe, recipe.train, model, reader, out
        self.device = device_of(model)
        self.train, self.validation = data
        self.captions = self.train.captions_by_clip()
        self.number_of_video = {v: n for n, v in enumerate(sorted({clip.video for clip in self.train.clips}))}
        seconds = recipe.data.window_seconds
        self.windows = None if seconds is None else Windows(self.train, seconds)
        self.pseudo: Tensor | None = None
        self.sources: list[tuple[float, list[list[int]]]] = []
        self.optimizer = _optimizer(model, recipe.train, self.device)
        self.average = {k: v.detach().clone() for k, v in model.state_dict().items()} if self.how.average else {}
        self.epoch, self.steps, self.best_score = 0, 0, float("-inf")
        self.log: list[Epoch] = []
        self.order = [index for index, rows in enumerate(self.captions) if rows]
        if len(self.order) < 2:
            raise UsageError(f"the split {self.train.name!r} has {len(self.order)} captioned clips; training needs two")
        self.identity = json.dumps(
            [_identity(recipe), self.train.hash, self.validation.hash, reader.fingerprints], sort_keys=True, default=str
        )

    # One epoch

    def go(self, report: Report, after: After | None, stage: str) -> None:
        total = self.how.epochs
        while self.epoch <= total and not self._patience_is_over():
            # Epoch 0 is the model before its first step: what is fitted in closed form may be the best there is.
            loss = self._learn() if self.epoch else float("nan")
            measured = self._validate()
            line = self._judge(loss, measured)
            self.log.append(line)
            if after is not None:
                after(self.model, self.reader, self.epoch)
            self.epoch += 1
            self._save()
            report(line, total, stage)

    def _patience_is_over(self) -> bool:
        since = next((i for i, line in enumerate(reversed(self.log)) if line.best), 0)
        return self.how.patience is not None and since >= self.how.patience

    def _learn(self) -> float:
        """One pass over the clips; every number drawn depends on the seed and the epoch alone."""
        drawn = np.random.default_rng([self.how.seed, self.epoch])
        torch.manual_seed(self.how.seed * 100_003 + self.epoch)
        factor = rate_factor(self.how, self.epoch, [line.score for line in self.log])
        for group in self.optimizer.param_groups:
            group["lr"] = group["start"] * factor
        losses: list[Tensor] = []
        self.model.train()
        parts = self._batches(drawn)
        parts = [part for part in parts if len(part) >= max(2, parallel.size())]
        batches = in_order((self._draw(clips, drawn) for clips in parts), self._read, self.how.workers)
        for begin in range(0, len(parts), self.how.accumulate):
            together = min(self.how.accumulate, len(parts) - begin)
            self.optimizer.zero_grad()
            losses += [self._gradients(batch, together) for batch in islice(batches, together)]
            if parallel.active():
                parallel.average_gradients(self.model)
            self.optimizer.step()
            self.steps += 1
            self._follow()
        return float(
            np.mean(torch.stack(losses).cpu().numpy().astype(np.float64))
        )  # the one number of an epoch that the host waits for

    def _batches(self, drawn: np.random.Generator) -> list[npt.NDArray[np.int64]]:
        """The clips of every batch of an epoch."""
        order, per_video = self._drawn(drawn), self.how.clips_per_video
        if per_video is None:
            return [order[begin : begin + self.how.batch] for begin in range(0, len(order), self.how.batch)]
        of_video: dict[str, list[np.int64]] = {}
        for clip in order:
            of_video.setdefault(self.train.clips[clip].video, []).append(clip)
        videos = [clips[:per_video] for clips in of_video.values()]
        shuffled = [videos[place] for place in drawn.permutation(len(videos))]
        together = max(1, self.how.batch // per_video)
        groups = [shuffled[begin : begin + together] for begin in range(0, len(shuffled), together)]
        return [np.array([clip for clips in group for clip in clips], np.int64) for group in groups]

    def _drawn(self, drawn: np.random.Generator) -> npt.NDArray[np.int64]:
        """The clips of one epoch: each once, or examples of a mixture."""
        if not self.sources:
            return drawn.permutation(self.order)
        weights = np.array([weight for weight, _ in self.sources])
        count = self.recipe.data.drawn or sum(len(clips) for _, videos in self.sources for clips in videos)
        chosen = drawn.choice(len(weights), count, p=weights / weights.sum())
        clips = []
        for source in chosen:
            videos = self.sources[source][1]
            of_video = videos[drawn.integers(len(videos))]
            clips.append(of_video[drawn.integers(len(of_video))])
        return np.array(clips, np.int64)

    def _draw(self, clips: npt.NDArray[np.int64], drawn: np.random.Generator) -> "_Drawn":
        """Everything of a batch that is left to chance, whole, so that several processes stay in step."""
        moved = {
            expert: drawn.choice([-1.0, 1.0], len(clips)) * seconds for expert, seconds in self.model.shifts.items()
        }
        kept = drawn.random((len(clips), len(self.reader.dims))) if self.how.drop else None
        examples = [self._example(int(clip), drawn) for clip in clips]
        mine = np.array_split(np.arange(len(clips)), parallel.size())[parallel.rank()]
        shifts = {expert: seconds[mine].tolist() for expert, seconds in moved.items()}
        chosen = [examples[place] for place in mine]
        return _Drawn(clips[mine], chosen, shifts, None if kept is None else kept[mine])

    def _read(self, drawn: "_Drawn") -> Batch:
        """A batch on the host, in memory from which it goes to a GPU beside other work."""
        batch = self.reader.batch([clip for clip, _ in drawn.examples], drawn.shifts)
        tokens = batch if drawn.kept is None else _drop(batch, self.how.drop, drawn.kept)
        if self.device.type == "cuda":
            tokens = {name: steps.pinned() for name, steps in tokens.items()}
        numbers = torch.from_numpy(drawn.clips.astype(np.int64))
        video = torch.tensor([self.number_of_video[self.train.clips[clip].video] for clip in drawn.clips])
        pseudo = None if self.pseudo is None else self.pseudo[numbers]
        apart, local = self.how.negatives == "clips", not self.how.gather
        return Batch(tokens, [text for _, text in drawn.examples], video, numbers, pseudo, apart, local)

    def _gradients(self, batch: Batch, share: int) -> Tensor:
        """Add the gradients of a batch, divided by `share`; its loss, which nobody waits for here."""
        batch = batch.to(self.device)
        half = torch.autocast(self.device.type, torch.bfloat16) if self.how.precision == "bfloat16" else nullcontext()
        if self.how.chunk is not None:
            with half:
                return torch.tensor(cached_gradients(self.model, batch, self.how.chunk, share))
        with half:
            loss = torch.stack([term.float() for term in self.model.loss(batch).values()]).sum()
        (loss / share).backward()
        return loss.detach()

    def _example(self, clip: int, drawn: np.random.Generator) -> tuple[Clip, str]:
        """What is seen and what is said of one clip."""
        if self.windows is not None:
            return self.windows.draw(clip, drawn)
        rows = self.captions[clip]
        return self.train.clips[clip], self.train.texts[rows[0] if self.how.caption == "first" else drawn.choice(rows)]

    def _follow(self) -> None:
        """Move the average a little towards the weights."""
        for name, value in self.model.state_dict().items() if self.average else ():
            if value.dtype.is_floating_point:
                self.average[name].lerp_(value, 1 - self.how.average)
            else:
                self.average[name].copy_(value)

    def _validate(self) -> Measured:
        """Measure the averaged weights if there are any, with the best of what the model leaves to be chosen."""
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        if self.average:
            self.model.load_state_dict(self.average)
        videos = embed_clips(self.model, self.reader, self.validation.clips)
        measured = measure_embedded(self.model, self.reader, self.validation, videos)
        for name, values in self.model.choices().items():
            state = self.model.state_dict()[name]
            tried = []
            for value in values:
                state.fill_(value)
                found = measure_embedded(self.model, self.reader, self.validation, videos)
                tried.append((self._score(found), value, found))
            _, chosen, measured = max(tried, key=lambda row: (row[0], -row[1]))
            for weights in (own, self.average):
                if name in weights:
                    weights[name].fill_(chosen)
        self.model.load_state_dict(own)
        return measured

    def _score(self, measured: Measured) -> float:
        found = measured.text_to_video
        return -found.mean_rank if self.how.metric == "mean_rank" else float(getattr(found, self.how.metric))

    def _judge(self, loss: float, measured: Measured) -> Epoch:
        found = measured.text_to_video
        score = self._score(measured)
        best = score > self.best_score
        if best:
            self.best_score = score
        recalls = (found.recall_at_1, found.recall_at_5, found.recall_at_10)
        return Epoch(self.epoch, loss, *recalls, found.median_rank, found.mean_rank, score, best)

    # Keeping and resuming

    def _save(self) -> None:
        if not parallel.first():
            return
        if self.log[-1].best:
            write_tensors(self.out / "best.safetensors", self.average or self.model.state_dict())
        _write_log(self.out / "log.csv", self.log)
        state = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        state |= {f"average.{name}": value for name, value in self.average.items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in slots.items()}
        log = [asdict(line) for line in self.log]
        about = {"epoch": self.epoch, "steps": self.steps, "best": self.best_score, "log": log}
        metadata = {"identity": self.identity, "about": json.dumps(about)}
        write_tensors(self.out / "state.safetensors", state, metadata)

    def resume(self) -> None:
        path = self.out / "state.safetensors"
        if not path.is_file():
            if self.out.is_dir() and any(not _BEGUN.fullmatch(each.name) for each in self.out.iterdir()):
                raise RecipeError(f"{self.out} is not empty and holds no run to resume; name another folder")
            return
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
            state = load_file(path)
        except SafetensorError as error:
            raise RecipeError(f"{path} cannot be read: {error}; remove the folder to begin again") from error
        if metadata.get("identity") != self.identity:
            raise RecipeError(
                f"{self.out} holds a run of another recipe, split or features; name another folder, or remove it"
            )
        about = json.loads(metadata["about"])
        self.epoch, self.steps, self.best_score = about["epoch"], about["steps"], about["best"]
        self.log = [Epoch(**line) for line in about["log"]]
        self.model.load_state_dict(_under(state, "model."))
        beside = self.model.state_dict()
        self.average = {name: each.to(beside[name].device) for name, each in _under(state, "average.").items()}
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(state, "optimizer.").items():
            index, _, slot = name.partition(".")
            slots.setdefault(int(index), {})[slot] = value
        whole = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": slots, "param_groups": whole["param_groups"]})

    def take_best(self) -> None:
        """Put the best epoch's weights into the model."""
        self.model.load_state_dict(load_file(self.out / "best.safetensors"))

    def keep_best(self) -> None:
        """Write the model out with what is known of it."""
        best = next(line for line in reversed(self.log) if line.best)
        about: dict[str, Any] = {
            "recipe": asdict(self.recipe),
            "fingerprints": self.reader.fingerprints,
            "steps": self.steps,
            "validation": {"split": self.validation.name, "split_hash": self.validation.hash, **_plain(best)},
            "log": [_plain(line) for line in self.log],
        }
        self.model.save(self.out, card=_card(self.model, self.train, self.validation, best), about=about)


def _identity(recipe: Recipe) -> dict[str, Any]:
    """What a run must share with one that goes on with it: everything but where and by how many it is computed."""
    settings = asdict(recipe)
    for name in ("device", "workers"):
        del settings["train"][name]
    return settings


def _plain(line: Epoch) -> dict[str, Any]:
    """As JSON can hold it, which knows no NaN."""
    return asdict(line) | {"loss": None if np.isnan(line.loss) else line.loss}


def _under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "radam": torch.optim.RAdam,
    "sgd": torch.optim.SGD,
}


def _optimizer(model: RetrievalModel, how: TrainRecipe, device: torch.device) -> torch.optim.Optimizer:
    text = [p for name, p in model.named_parameters() if name.startswith(model.text_side)]
    video = [p for name, p in model.named_parameters() if not name.startswith(model.text_side)]
    text_rate = how.rate if how.text_rate is None else how.text_rate
    groups = [{"params": video, "start": how.rate}, {"params": text, "start": text_rate}]
    groups = [group for group in groups if group["params"]]
    more: dict[str, Any] = {"momentum": how.momentum} if how.optimizer == "sgd" else {}
    if device.type == "cuda" and how.optimizer != "radam":  # which has no fused form
        more["fused"] = True
    return _OPTIMIZERS[how.optimizer](groups, lr=how.rate, weight_decay=how.weight_decay, **more)


def _drop(tokens: Tokens, chance: float, drawn: npt.NDArray[np.float64]) -> Tokens:
    """Leave out experts of single videos by chance, never all that a video has.

    Args:
        drawn: a number from 0 to 1 for each video and expert.
    """
    if len(tokens) < 2:
        return tokens
    names = list(tokens)
    there = torch.stack([tokens[name].present.any(1) for name in names], dim=1)
    kept = torch.from_numpy(drawn >= chance) & there
    kept = torch.where(kept.any(1, keepdim=True), kept, there)
    return {
        name: Steps(tokens[name].values, tokens[name].present & kept[:, index, None], tokens[name].spans)
        for index, name in enumerate(names)
    }


def _write_log(path: Path, lines: Sequence[Epoch]) -> None:
    text = io.StringIO(newline="")
    rows = csv.DictWriter(text, [each.name for each in fields(Epoch)])
    rows.writeheader()
    rows.writerows(asdict(line) for line in lines)
    with write_errors(path):
        write_whole(path, text.getvalue())


def _card(model: RetrievalModel, train: Split, validation: Split, best: Epoch) -> str:
    parameters = sum(p.numel() for p in model.parameters())
    return (
        f"# {model.system}\n\n{SYSTEMS[model.system].paper}.\n\n"
        f"- experts: {', '.join(f'{name} ({dim})' for name, dim in model.experts.items())}\n"
        f"- parameters: {parameters:,}\n"
        f"- trained on {len(train.clips)} clips and {len(train.texts)} captions of `{train.name}` ({train.hash})\n"
        f"- best epoch {best.epoch} by `{validation.name}` ({validation.hash}, {len(validation.clips)} clips), "
        f"text to video: R@1 {best.recall_at_1:.3f}, R@5 {best.recall_at_5:.3f}, R@10 {best.recall_at_10:.3f}, "
        f"MdR {best.median_rank:g}, MnR {best.mean_rank:.1f}\n\n"
        f"Where an expert is absent: {SYSTEMS[model.system].missing}.\n"
    )
