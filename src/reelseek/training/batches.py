"""A batch plan -> the batch on the host: features read, experts dropped, memory pinned for a GPU."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reelseek.library.tokens import Steps, TokenReader, Tokens
from reelseek.models.model import Batch
from reelseek.training.data import Split
from reelseek.training.recipe import TrainRecipe
from reelseek.training.sampler import BatchPlan

__all__ = ["BatchReader"]


class BatchReader:
    """Reads the batches that a sampler planned; may be called from several threads.

    Args:
        pseudo_labels: [clip, dim] for every clip of the split, for systems that learn from them.
        pin: put features into pinned memory, from which a copy to a GPU overlaps other work.
    """

    def __init__(
        self, reader: TokenReader, split: Split, config: TrainRecipe, *, pseudo_labels: Tensor | None, pin: bool
    ) -> None:
        self.reader, self.config, self.pseudo_labels, self.pin = reader, config, pseudo_labels, pin
        number = {video: index for index, video in enumerate(sorted({clip.video for clip in split.clips}))}
        self.video_numbers = torch.tensor([number[clip.video] for clip in split.clips])

    def read(self, plan: BatchPlan) -> Batch:
        tokens: Tokens = self.reader.batch([clip for clip, _ in plan.examples], plan.shifts)
        if plan.drop_scores is not None:
            tokens = drop_experts(tokens, plan.drop_scores >= self.config.drop)
        if self.pin:
            tokens = {name: steps.pinned() for name, steps in tokens.items()}
        clips = torch.from_numpy(plan.clips.astype(np.int64))
        return Batch(
            tokens,
            [text for _, text in plan.examples],
            self.video_numbers[clips],
            clips,
            None if self.pseudo_labels is None else self.pseudo_labels[clips],
            apart=self.config.negatives == "clips",
            local=not self.config.gather,
        )


def drop_experts(tokens: Tokens, keep: npt.NDArray[np.bool_]) -> Tokens:
    """Return the tokens without the experts [video, expert] that are not to be kept; a video that would lose every
    expert it has loses none."""
    if len(tokens) < 2:
        return tokens
    names = list(tokens)
    present = torch.stack([tokens[name].present.any(1) for name in names], dim=1)
    remaining = torch.from_numpy(keep) & present
    remaining = torch.where(remaining.any(1, keepdim=True), remaining, present)
    return {
        name: Steps(tokens[name].values, tokens[name].present & remaining[:, index, None], tokens[name].spans)
        for index, name in enumerate(names)
    }
