"""Batch plans -> batches on the host: features read ahead, experts dropped, memory pinned for a GPU."""

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reelseek.library.source import FeatureSource
from reelseek.library.storage import Storage
from reelseek.library.token_loader import TokenLoader, TokenRequest
from reelseek.library.tokens import TokenReader, Tokens
from reelseek.models.model import Batch
from reelseek.training.ahead import in_order
from reelseek.training.data import Split
from reelseek.training.recipe import TrainRecipe
from reelseek.training.sampler import BatchPlan

__all__ = ["BatchReader"]


class BatchReader:
    """Reads the batches that a sampler planned, by workers ahead of the step: the same for any number of them.

    Args:
        library: what `reader` reads. Features on disk are read by worker processes, features in memory, which would
            have to be copied into each process, by threads.
        pseudo_labels: [clip, dim] for every clip of the split, for systems that learn from them.
        pin: put features into pinned memory, from which a copy to a GPU overlaps other work.
    """

    def __init__(
        self,
        reader: TokenReader,
        split: Split,
        config: TrainRecipe,
        *,
        library: FeatureSource,
        pseudo_labels: Tensor | None,
        pin: bool,
    ) -> None:
        self.reader, self.config, self.pseudo_labels, self.pin = reader, config, pseudo_labels, pin
        number = {video: index for index, video in enumerate(sorted({clip.video for clip in split.clips}))}
        self.video_numbers = torch.tensor([number[clip.video] for clip in split.clips])
        processes = config.workers if isinstance(library, Storage) else 0
        self._loader = TokenLoader(reader, processes, pin=pin) if processes else None

    def read_all(self, plans: Iterable[BatchPlan]) -> Iterator[Batch]:
        """Yield the batch of each plan, in order.

        Plans are taken by the caller's thread alone, one after the other, so that random numbers drawn while making
        them do not depend on the number of workers.

        Raises:
            LibraryError: a worker process died.
        """
        if self._loader is None:
            yield from in_order(plans, self._read, self.config.workers)
            return
        ahead: deque[BatchPlan] = deque()

        def requests() -> Iterator[TokenRequest]:
            for plan in plans:
                ahead.append(plan)
                yield _request(plan)

        for tokens in self._loader.load(requests()):
            yield self._batch(ahead.popleft(), tokens)

    def close(self) -> None:
        """End the worker processes."""
        if self._loader is not None:
            self._loader.close()

    def _read(self, plan: BatchPlan) -> Batch:
        tokens: Tokens = self.reader.batch(*_request(plan))
        if self.pin:
            tokens = {name: steps.pinned() for name, steps in tokens.items()}
        return self._batch(plan, tokens)

    def _batch(self, plan: BatchPlan, tokens: Tokens) -> Batch:
        if plan.drop_scores is not None:
            drop_experts(tokens, plan.drop_scores >= self.config.drop)
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


def _request(plan: BatchPlan) -> TokenRequest:
    return TokenRequest([clip for clip, _ in plan.examples], plan.shifts)


def drop_experts(tokens: Tokens, keep: npt.NDArray[np.bool_]) -> None:
    """Mark as absent, in place, the experts [video, expert] that are not to be kept; a video that would lose every
    expert it has loses none."""
    if len(tokens) < 2:
        return
    present = torch.stack([steps.present.any(1) for steps in tokens.values()], dim=1)
    remaining = torch.from_numpy(keep) & present
    remaining = torch.where(remaining.any(1, keepdim=True), remaining, present)
    for index, steps in enumerate(tokens.values()):
        steps.present.logical_and_(remaining[:, index, None])
