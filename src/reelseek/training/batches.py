"""Batch plans -> batches on the host: features read ahead, experts dropped, memory pinned for a GPU."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from reelseek.library.source import FeatureSource
from reelseek.library.storage import Storage
from reelseek.library.token_loader import TokenLoader, TokenRequest, drop_experts, read_tokens
from reelseek.library.tokens import TokenReader, Tokens
from reelseek.models.batch import Batch
from reelseek.models.blocks.mix import Plan
from reelseek.models.planning import AttentionPlanner, read_plans
from reelseek.training.ahead import in_order
from reelseek.training.pixels.reader import PixelReader
from reelseek.training.recipe import TrainRecipe
from reelseek.training.sampler import BatchPlan
from reelseek.training.split import Split

__all__ = ["BatchReader", "batch_reader_of"]


class BatchReader:
    """Reads the batches that a sampler planned, by workers ahead of the step: the same for any number of them.

    Args:
        library: what `reader` reads. Features on disk are read by worker processes, features in memory, which would
            have to be copied into each process, by threads.
        pseudo_labels: [clip, dim] for every clip of the split, for systems that learn from them.
        pin: put features into pinned memory, from which a copy to a GPU overlaps other work.
        planner: plans attention in the worker processes; without them, or without it, `forward` plans.
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
        planner: AttentionPlanner | None = None,
    ) -> None:
        self.reader, self.config, self.pseudo_labels, self.pin = reader, config, pseudo_labels, pin
        number = {video: index for index, video in enumerate(sorted({clip.video for clip in split.clips}))}
        self.video_numbers = torch.tensor([number[clip.video] for clip in split.clips])
        processes = config.workers if isinstance(library, Storage) else 0
        self._loader = TokenLoader(reader, processes, pin=pin, prepare=planner) if processes else None

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
                yield self._request(plan)

        for tokens, written in self._loader.read(requests()):
            yield self._batch(ahead.popleft(), tokens, read_plans(written) or None)

    def close(self) -> None:
        """End the worker processes."""
        if self._loader is not None:
            self._loader.close()

    def _read(self, plan: BatchPlan) -> Batch:
        tokens = self._tokens(plan)
        if self.pin:
            tokens = {name: steps.pinned() for name, steps in tokens.items()}
        return self._batch(plan, tokens)

    def _tokens(self, plan: BatchPlan) -> Tokens:
        return read_tokens(self.reader, self._request(plan))

    def _request(self, plan: BatchPlan) -> TokenRequest:
        remaining = None if plan.drop_scores is None else plan.drop_scores >= self.config.drop
        return TokenRequest([clip for clip, _ in plan.examples], plan.shifts, remaining)

    def _batch(self, plan: BatchPlan, tokens: Tokens, plans: Mapping[bytes, Plan] | None = None) -> Batch:
        clips = torch.from_numpy(plan.clips.astype(np.int64))
        return Batch(
            tokens,
            [text for _, text in plan.examples],
            self.video_numbers[clips],
            clips,
            None if self.pseudo_labels is None else self.pseudo_labels[clips],
            more_texts=plan.more_texts,
            apart=self.config.negatives == "clips",
            local=not self.config.gather,
            plans=plans,
        )


def batch_reader_of(
    reader: TokenReader,
    split: Split,
    config: TrainRecipe,
    *,
    library: FeatureSource,
    pin: bool,
    planner: AttentionPlanner | None,
) -> BatchReader:
    """Return what reads the batches of a run: its features, or with a PixelReader windows of its files."""
    if isinstance(reader, PixelReader):
        return _PixelBatchReader(reader, split, config, library=library, pin=pin)
    return BatchReader(reader, split, config, library=library, pseudo_labels=None, pin=pin, planner=planner)


class _PixelBatchReader(BatchReader):
    """Reads windows of frames and sound: the processes of `reader` decode the clips of a batch side by side, and
    those of the next batches while a step is taken.

    Args:
        reader, split, config, library, pin: as of BatchReader; `config.workers` 0 decodes when a batch is asked for.
    """

    def __init__(
        self, reader: PixelReader, split: Split, config: TrainRecipe, *, library: FeatureSource, pin: bool
    ) -> None:
        super().__init__(reader, split, config, library=library, pseudo_labels=None, pin=pin)
        self.pixels = reader

    def read_all(self, plans: Iterable[BatchPlan]) -> Iterator[Batch]:
        """Yield the batch of each plan, in order; plans are taken as `BatchReader` takes them."""
        yield from in_order(plans, self._read, min(1, self.config.workers))

    def close(self) -> None:
        """End the processes that decode."""
        self.pixels.close()

    def _tokens(self, plan: BatchPlan) -> Tokens:
        request = self._request(plan)
        tokens = self.pixels.batch(request.clips, seeds=plan.seeds)
        if request.remaining is not None:
            drop_experts(tokens, request.remaining)
        return tokens
