"""Training a system by a recipe, and the one loop over its epochs."""

import logging
import os
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, nullcontext
from dataclasses import replace
from itertools import islice
from math import isfinite, isnan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reelseek.errors import ModelError, RecipeError
from reelseek.library.notebook import NotebookProgress, in_notebook
from reelseek.library.source import FeatureSource
from reelseek.library.store import Library
from reelseek.library.tokens import TokenReader
from reelseek.models import parallel
from reelseek.models.batch import Batch
from reelseek.models.device import device_of, matmul_precision, peak_memory, resolve_device
from reelseek.models.model import RetrievalModel
from reelseek.models.once import encode_once
from reelseek.models.planning import AttentionPlanner
from reelseek.models.text import named_features
from reelseek.training.batches import batch_reader_of
from reelseek.training.card import training_card, training_record
from reelseek.training.caveats import pack_videos, training_caveats, unreadable_caveats
from reelseek.training.checkpoints import Checkpoints, RunState, run_identity
from reelseek.training.data import hidden_experts, read_features, recipe_splits, whole_split
from reelseek.training.log import Epoch
from reelseek.training.measure import Measured, clips_with
from reelseek.training.optimizer import build_optimizer, set_rate, train_mode, update_average
from reelseek.training.pixels.reader import PixelReader
from reelseek.training.pseudo import AfterEpoch, pseudo_labels
from reelseek.training.recipe import PseudoRecipe, Recipe, read_recipe
from reelseek.training.sampler import Sampler, mixture_parts
from reelseek.training.schedule import rate_factor
from reelseek.training.split import Split
from reelseek.training.start import (
    build_model,
    check_loss,
    check_norms,
    fitting_sample,
    load_matching,
    set_text_dropout,
)
from reelseek.training.step import BatchStep, broken_layers
from reelseek.training.validation import Validator, averaged

__all__ = ["Trainer", "predict_seconds", "train"]

_log = logging.getLogger("reelseek")

Report = Callable[[Epoch, int, str], None]


@parallel.lost_processes()
def train(
    recipe: Recipe | str | os.PathLike[str] | Mapping[str, Any],
    library: FeatureSource,
    out: str | os.PathLike[str],
    *,
    report: Report | None = None,
    after: AfterEpoch | None = None,
    watch: AfterEpoch | None = None,
    stage: str = "",
    device: str | torch.device | None = None,
) -> RetrievalModel:
    """Train a system; a run that was stopped resumes where it was, and ends with the same weights.

    A finished run of fewer epochs goes on, and ends as one that was asked for all of them at once, unless its schedule
    is `cosine`.

    Started by `torchrun`, its processes share every batch and compare all of its clips; the main one writes.

    Args:
        recipe: one that was read, or what `read_recipe` reads.
        library: a library, or a data set in memory.
        out: folder for the model (its best epoch, or as `train.keep` says), the log and the state to resume from.
        report: called after every epoch with its line, the number of epochs and `stage`; None shows a bar in a
            notebook, and nothing elsewhere.
        after: called with the model before an epoch's state is written; called again if that was not reached. A run
            with this callback does not go on with more epochs: what was made of its last ones would be of others.
        watch: called as `after` is, with the weights by which the epoch was judged (those of `train.average` where it
            is set); it measures, and leaves the model as it is.
        device: where to train instead of where the recipe says, see `resolve_device`. A run that was stopped resumes
            on another device as well.

    Returns:
        the model, on that device.

    Raises:
        RecipeError: unknown system or settings, `out` holds a run of another recipe, or a loss cannot be shared.
        UsageError: the library lacks captions or experts, or another of the processes ended.
        ModelError: `out` cannot be written, or a loss is not finite; nothing that was finished is lost.
    """
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    out, target = Path(out), _join(recipe, device)
    trainer = _begin(recipe, library, out, target)
    model, reader, splits = trainer.model, trainer.reader, trainer.splits
    if after is not None:
        trainer.checkpoints.longer = ""  # pseudo-labels are means over the last epochs, which would be others
    if recipe.pseudo is not None:
        labels = _pseudo_labels(recipe, recipe.pseudo, library, reader, splits[0], out, report, target)
        trainer.batch_reader.pseudo_labels = labels
    trainer.resume()
    report = report or _default_report()
    trainer.fit(report if parallel.is_main_process() else (lambda *_: None), after, watch, stage)
    parallel.share_file(trainer.checkpoints.folder / "best.safetensors")
    trainer.checkpoints.load_best(model)
    parallel.barrier()
    if recipe.pixels is None and splits[1].set_aside_from == splits[0].name:
        # They were set aside for validation only; closed forms may use them now.
        _refit(trainer, _encoded(recipe, library, whole_split(library, recipe.data)))
    trainer.finish(library, out)
    parallel.barrier()
    return model.eval()


def _refit(trainer: "Trainer", learnt: Split) -> None:
    """Fit the closed forms of a trained model to all clips that it may learn from."""
    trainer.model.cpu().refit(*fitting_sample(trainer.reader, learnt, trainer.config.seed))
    trainer.model.to(trainer.device)


def _begin(recipe: Recipe, library: FeatureSource, out: Path, target: torch.device) -> "Trainer":
    """A run before its first step: data opened, model built and fitted, captions encoded."""
    torch.manual_seed(recipe.train.seed)
    reader, splits = _open_data(recipe, library)
    model = build_model(recipe, reader, splits[0])
    check_loss(recipe, model)
    check_norms(recipe, model)
    if recipe.train.text_dropout is not None:
        set_text_dropout(model, recipe.train.text_dropout)
    reader.step_by_step = dict(model.step_by_step)
    splits = (splits[0].read_by(model), splits[1])
    if recipe.pixels is None:  # features of networks that have not learnt yet say nothing of later ones
        model.fit_inputs(*fitting_sample(reader, splits[0], recipe.train.seed))
    if recipe.train.start is not None:
        load_matching(model, recipe.train.start)
    model.to(target)
    _encode_texts_once(model, library, splits)
    return Trainer(recipe, model, reader, splits, library=library, out=out)


def predict_seconds(
    recipe: Recipe | str | os.PathLike[str] | Mapping[str, Any],
    library: FeatureSource,
    *,
    device: str | torch.device | None = None,
) -> float:
    """Predict how long `train` takes, from timed steps and a validation; only encoded captions are kept.

    Raises:
        RecipeError, UsageError: as `train`.
    """
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    target = _join(recipe, device)
    with TemporaryDirectory() as folder:
        trainer = _begin(recipe, library, Path(folder), target)
        steps, validation = trainer.time_epoch()
    runs = [recipe.train.epochs]
    if recipe.pseudo is not None:  # UMI's first stage
        runs += [recipe.pseudo.epochs] * len(trainer.reader.dims)
    return sum(epochs * steps + (epochs + 1) * validation for epochs in runs)  # epoch 0 is validated too


def _default_report() -> Report:
    """A notebook's bar with the loss and the recall of each epoch; elsewhere nothing."""
    if not in_notebook():
        return lambda *_: None
    progress = NotebookProgress()

    def report(line: Epoch, total: int, stage: str) -> None:
        loss = "" if isnan(line.loss) else f"loss {line.loss:.4f}, "
        progress(stage or "training", line.epoch, total, f"{loss}validation R@1 {line.recall_at_1:.1%}")

    return report


def _join(recipe: Recipe, device: str | torch.device | None) -> torch.device:
    """Join the processes that train together, if there are any; returns where this one computes."""
    named = None if recipe.train.device == "auto" else recipe.train.device  # the default leaves it to REELSEEK_DEVICE
    target = parallel.join(resolve_device(named if device is None else device))
    matmul_precision(target)
    return target


def _encode_texts_once(model: RetrievalModel, library: FeatureSource, splits: tuple[Split, Split]) -> None:
    """Let a frozen text side read every caption from what it gave once; it is kept beside a library."""
    folder = library.path / "texts" if isinstance(library, Library) else None
    texts = [text for split in splits for text in split.texts]
    if folder is None or parallel.is_local_main_process():
        encode_once(model, texts, folder)
    parallel.barrier()
    if folder is not None and not parallel.is_local_main_process():
        encode_once(model, texts, folder)


def _open_data(recipe: Recipe, library: FeatureSource) -> tuple[TokenReader, tuple[Split, Split]]:
    """Features, and the clips to learn from and to validate on."""
    pixels = None if recipe.pixels is None else PixelReader(library, recipe.pixels, processes=recipe.train.workers)
    reader = pixels or TokenReader(library, recipe.data.experts)
    train_split, validation = (_encoded(recipe, library, split) for split in recipe_splits(library, recipe.data))
    videos = [clip.video for split in (train_split, validation) for clip in split.clips]
    if pixels is not None:
        with parallel.same_errors():  # a machine may lack files that another has
            pixels.check_files(videos)
    reader.hidden = hidden_experts(library, videos, recipe.data.groups)
    if recipe.data.validation_needs:
        validation = clips_with(TokenReader(library), validation, recipe.data.validation_needs)
    return reader, (train_split, validation)


def _encoded(recipe: Recipe, library: FeatureSource, split: Split) -> Split:
    """A split with the caption features that the recipe names, if it names some."""
    name = named_features(recipe.model.get("text", {}).get("encoder"))
    encoded, missing = read_features(split, library, name)
    if missing:
        count = len(encoded.texts) + missing
        _log.warning("%d of %d captions of %r have no features %r, and are left out", missing, count, split.name, name)
    return encoded


def _pseudo_labels(
    recipe: Recipe,
    config: PseudoRecipe,
    library: FeatureSource,
    reader: TokenReader,
    split: Split,
    out: Path,
    report: Report | None,
    device: torch.device,
) -> Tensor:
    """Train a model of each modality alone, and return what they predict for each clip."""
    if not str(recipe.model.get("system")).startswith("umi"):
        raise RecipeError(f"[pseudo] is a stage of umi; {recipe.model.get('system')} has no branch for pseudo-labels")

    def train_alone(part: Recipe, folder: Path, after: AfterEpoch, expert: str) -> RetrievalModel:
        return train(part, library, folder, report=report, after=after, stage=expert, device=device)

    return pseudo_labels(recipe, config, reader, split, out / "pseudo", train_alone)


class Trainer:
    """One run: epochs of batches, each followed by validation and a checkpoint.

    Args:
        model: fitted, and on its device.
        splits: training and validation.
        out: folder of the checkpoints.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: RetrievalModel,
        reader: TokenReader,
        splits: tuple[Split, Split],
        *,
        library: FeatureSource,
        out: Path,
    ) -> None:
        self.recipe, self.config, self.model, self.reader, self.splits = recipe, recipe.train, model, reader, splits
        self.device = device_of(model)
        self.sampler = Sampler(
            splits[0], recipe.train, recipe.data, mixture=mixture_parts(library, recipe.data, splits[0]),
            shifts=model.shifts, experts=len(reader.dims), whole_videos=model.joins_clips,
            seeds=recipe.pixels is not None,
        )  # fmt: skip
        self.batch_reader = batch_reader_of(
            reader, splits[0], recipe.train, library=library, pin=self.device.type == "cuda", planner=self._planner()
        )
        self.step = BatchStep(model, recipe.train, self.device)
        self.validator = Validator(reader, splits[1], recipe.train.metric)
        self.state = RunState(model, build_optimizer(model, recipe.train, self.device))
        if recipe.train.average:
            self.state.average = {name: value.detach().clone() for name, value in model.state_dict().items()}
        longer = ""
        if recipe.train.schedule != "cosine":  # whose rate depends on the last epoch from the first one on
            longer = run_identity(replace(recipe, train=replace(recipe.train, epochs=1)), splits, reader.fingerprints)
        identity = run_identity(recipe, splits, reader.fingerprints)
        self.checkpoints = Checkpoints(out, identity, recipe.train.epochs, longer, keep=recipe.train.keep)

    def _planner(self) -> AttentionPlanner | None:
        """Plan ahead for an accelerator, whose queue runs empty while this process plans; on a CPU it costs more than
        it saves, and a model that is compiled whole plans for itself."""
        compiled_whole = self.config.compile and not self.config.buckets
        return (
            None if self.device.type == "cpu" or compiled_whole else AttentionPlanner(self.model, self.config.buckets)
        )

    def resume(self) -> None:
        """Continue the run that the folder of the main process holds, if it holds one.

        Raises:
            RecipeError: the folder holds something else, or processes read different libraries.
        """
        identity = self.checkpoints.identity.encode()
        if not parallel.all_true(parallel.broadcast_bytes(identity) == identity):
            raise RecipeError("processes read different recipes, splits or features; give machines the same library")
        for name in ("best.safetensors", "log.csv", "state.safetensors"):
            parallel.share_file(self.checkpoints.folder / name)
        self.checkpoints.resume(self.state)

    def fit(self, report: Report, after: AfterEpoch | None, watch: AfterEpoch | None, stage: str) -> None:
        """Run the epochs that are left; see `train` for the callbacks."""
        with closing(self.batch_reader):
            self._fit(report, after, watch, stage)

    def _fit(self, report: Report, after: AfterEpoch | None, watch: AfterEpoch | None, stage: str) -> None:
        state = self.state
        while state.epoch <= self.config.epochs and not self._out_of_patience():
            # Epoch 0 is the model before its first step: what is fitted in closed form may be the best there is.
            loss = self.train_epoch() if state.epoch else float("nan")
            state.log.append(self._judge(loss, self.validator.measure(self.model, state.average)))
            if after is not None:
                after(self.model, self.reader, state.epoch)
            if watch is not None:
                with averaged(self.model, state.average) if state.average else nullcontext():
                    watch(self.model, self.reader, state.epoch)
            state.epoch += 1
            if parallel.is_main_process():
                self.checkpoints.save(state)
            report(state.log[-1], self.config.epochs, stage)

    def train_epoch(self) -> float:
        """Take the steps of one epoch; the mean loss of its batches.

        All random numbers depend on the seed and the epoch alone.

        Raises:
            ModelError: the loss of a batch is NaN or infinite; names the batch, and the layer where that begins.
            RecipeError: see `BatchStep`.
        """
        losses = torch.stack([loss for _, loss in self._steps()]).cpu()  # what the host waits for, once an epoch
        if self.config.buckets:
            _log.info(
                "epoch %d: since this process began, transformers computed %s", self.state.epoch, self.step.layers
            )
        broken = (~losses.isfinite()).nonzero()[:, 0].tolist()
        first = parallel.all_min(min(broken, default=len(losses)))  # in any process, for all of them take it again
        if first < len(losses):
            raise ModelError(self._explain(first, float(losses[first])))
        return float(np.mean(losses.numpy().astype(np.float64)))

    def time_epoch(self, count: int = 3) -> tuple[float, float]:
        """Measure the seconds of an epoch's steps, by a few of them after one to warm up, and of its validation."""
        self.state.epoch = 1
        seconds = []
        with closing(self.batch_reader):
            steps = self._steps()
            before = time.perf_counter()
            for _, loss in islice(steps, count + 1):
                loss.cpu()
                seconds.append(time.perf_counter() - before)
                before = time.perf_counter()
            steps.close()
            batches = len(self.sampler.batches(np.random.default_rng(0)))
            before = time.perf_counter()
            self.validator.measure(self.model, self.state.average)
            return float(np.median(seconds[1:] or seconds)) * batches, time.perf_counter() - before

    def _steps(self) -> Generator[tuple[Batch, Tensor], None, None]:
        """Take the steps of the epoch, and yield each batch with its loss once its gradients are added."""
        state, config = self.state, self.config
        rng = np.random.default_rng([config.seed, state.epoch])
        torch.manual_seed(config.seed * 100_003 + state.epoch)
        scores = [line.score for line in state.log]
        set_rate(state.optimizer, rate_factor(config, state.epoch, scores))
        train_mode(self.model, freeze_norms=config.freeze_norms)
        clips = self.sampler.batches(rng)
        plans = (self.sampler.plan(numbers, rng) for numbers in clips)
        batches = self.batch_reader.read_all(plans)
        for begin in range(0, len(clips), config.accumulate):
            count = min(config.accumulate, len(clips) - begin)
            state.optimizer.zero_grad()
            if config.rate_per == "step":
                set_rate(state.optimizer, rate_factor(config, state.epoch, scores, begin / len(clips)))
            for batch in islice(batches, count):
                yield batch, self.step.backward(batch, count)
            if parallel.active():
                parallel.average_gradients(self.model)
            if config.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
            state.optimizer.step()
            state.steps += 1
            update_average(state.average, self.model, config.average)

    def _explain(self, number: int, loss: float) -> str:
        """Say where a loss stopped being finite: the epoch is taken again, up to that batch, and watched there."""
        epoch = self.state.epoch
        self.resume()
        steps = self._steps()
        for _ in range(number):
            next(steps)
        with broken_layers(self.model) as layers, self.step.layers.uncompiled():
            batch, again = next(steps)
        steps.close()
        if isfinite(loss):
            return f"epoch {epoch}, batch {number + 1}: the loss of another process is not finite; it says more"
        if bool(again.isfinite()):
            cause = "a second pass over the same batches did not repeat it"
        elif layers:
            cause = f"the first layer whose output is not finite is {layers[0]}"
        else:
            cause = "the outputs of all layers are finite, so that it comes from the loss itself"
        captions = ", ".join(repr(str(text)) for text in batch.texts[:3])
        precision = "" if self.config.precision == "float32" else ' or train.precision = "float32"'
        return (
            f"epoch {epoch}, batch {number + 1} (captions {captions}, ...): the loss is {loss:g}; {cause}. "
            f"Train with a lower train.rate{precision}, in another folder"
        )

    def finish(self, library: FeatureSource, out: Path) -> None:
        """Give the model the record of its training, and write it with its card."""
        state, (train_split, validation) = self.state, self.splits
        unreadable = self.reader.unreadable
        selection = training_caveats(validation, state.log) if self.config.keep == "best" else ()
        caveats = (*selection, *unreadable_caveats(unreadable))
        record = training_record(
            self.recipe, validation, self.reader.fingerprints, log=state.log, steps=state.steps, caveats=caveats
        )
        learnt = (
            whole_split(library, self.recipe.data) if validation.set_aside_from == train_split.name else train_split
        )
        videos = pack_videos(library, [clip.video for clip in learnt.clips])
        damage = {"unreadable_videos": unreadable} if unreadable else {}
        self.model.record = record | videos | damage | peak_memory(self.device) | self._padding()
        if parallel.is_main_process():
            for caveat in caveats:
                _log.warning("%s", caveat)
            card = training_card(self.model, self.splits, state.log, caveats, keep=self.config.keep)
            self.model.save(out, card=card, about=self.model.record)

    def _padding(self) -> dict[str, Any]:
        return {"buckets": self.step.layers.record} if self.config.buckets else {}

    def _out_of_patience(self) -> bool:
        since_best = next((count for count, line in enumerate(reversed(self.state.log)) if line.best), 0)
        return self.config.patience is not None and since_best >= self.config.patience

    def _judge(self, loss: float, measured: Measured) -> Epoch:
        metrics, score = measured.text_to_video, self.validator.score(measured)
        best = score > self.state.best_score
        if best:
            self.state.best_score = score
        recalls = (metrics.recall_at_1, metrics.recall_at_5, metrics.recall_at_10)
        return Epoch(self.state.epoch, loss, *recalls, metrics.median_rank, metrics.mean_rank, score, best)
