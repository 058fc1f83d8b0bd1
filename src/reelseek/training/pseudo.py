"""UMI's first stage: what models of single modalities would have predicted for each training clip.

One model a modality is trained alone; the mean of its outputs over the last epochs is that modality's pseudo-label of
a clip. Of the modalities that a clip has, the label nearest its captions by cosine is kept (Zhang et al. 2023,
section 3.3).
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from reelseek.errors import ModelError, UsageError
from reelseek.library.tokens import TokenReader
from reelseek.models.embed import embed_clips
from reelseek.models.learned import LearnedModel
from reelseek.models.model import RetrievalModel
from reelseek.models.systems.umi import choose_pseudo_labels
from reelseek.models.weights import read_checked_tensors, write_tensors
from reelseek.training.recipe import PseudoRecipe, Recipe
from reelseek.training.split import Split

__all__ = ["AfterEpoch", "pseudo_labels"]

AfterEpoch = Callable[[RetrievalModel, TokenReader, int], None]
Stage = Callable[[Recipe, Path, AfterEpoch, str], RetrievalModel]


def pseudo_labels(
    recipe: Recipe, config: PseudoRecipe, reader: TokenReader, split: Split, out: Path, stage: Stage
) -> Tensor:
    """A label [clip, dim] for each clip of a training split; zeros for one without captions.

    Args:
        out: folder of the models of single modalities, each of which goes on where it was stopped.
        stage: trains by a recipe into a folder, calling back after every epoch.

    Raises:
        UsageError: the folder holds means over other epochs.
    """
    candidates, present = {}, {}
    for expert in reader.dims:
        folder = out / expert
        alone = replace(
            recipe,
            pseudo=None,
            anchor=None,
            data=replace(recipe.data, experts=(expert,)),
            train=replace(recipe.train, epochs=config.epochs, patience=None),
        )
        mean = _Mean(split, out / f"{expert}.safetensors", config.epochs - config.last)
        model = stage(alone, folder, mean, expert)
        candidates[expert], present[expert] = mean.result()
    assert isinstance(model, LearnedModel)
    truth = _captions(model, split)
    return choose_pseudo_labels(candidates, present, truth)[0]


def _captions(model: LearnedModel, split: Split) -> Tensor:
    """The mean of a clip's captions in the text encoder's space."""
    with torch.inference_mode():
        rows = functional.normalize(model.text.pooled(split.texts), dim=-1).cpu().clone()
    owner = torch.tensor(split.clip_of_text)
    total = rows.new_zeros(len(split.clips), rows.shape[1]).index_add(0, owner, rows)
    return total / torch.bincount(owner, minlength=len(split.clips)).clamp(min=1)[:, None]


class _Mean:
    """The mean output of the epochs after `start`, kept in a file so that a stopped run loses nothing."""

    def __init__(self, split: Split, path: Path, start: int) -> None:
        self.split, self.path, self.start = split, path, start
        stored = int(self._read()[0].get("start", start))  # earlier versions did not write it
        if stored != start:
            raise UsageError(
                f"{path} holds the mean of what came after epoch {stored}, and pseudo.epochs and pseudo.last want what "
                f"comes after epoch {start}; give the settings it was made with, or another --out"
            )

    def __call__(self, model: RetrievalModel, reader: TokenReader, epoch: int) -> None:
        metadata, earlier = self._read()
        done = int(metadata.get("epoch", 0))
        if epoch <= max(self.start, done):
            return
        embedding = embed_clips(model, reader, self.split.clips)
        total = {
            "total": embedding.values[:, 0].clone(),
            "present": embedding.present[:, 0].clone(),
            "count": torch.ones(()),
        }
        if done > self.start:
            total["total"], total["count"] = total["total"] + earlier["total"], total["count"] + earlier["count"]
        write_tensors(self.path, total, {"epoch": str(epoch), "start": str(self.start)})

    def _read(self) -> tuple[dict[str, str], dict[str, Tensor]]:
        """What is written so far, and up to which epoch; empty where nothing is."""
        if not self.path.is_file():
            return {}, {}
        try:
            return read_checked_tensors(self.path)
        except ModelError as error:
            raise UsageError(f"{error}; {self._remedy}") from error

    @property
    def _remedy(self) -> str:
        return f"put it back, or remove {self.path.parent} to train the first stage again"

    def result(self) -> tuple[Tensor, Tensor]:
        _, state = self._read()
        if not state:
            raise UsageError(f"{self.path} is gone, without which the first stage has no labels; {self._remedy}")
        return state["total"] / state["count"], state["present"]
