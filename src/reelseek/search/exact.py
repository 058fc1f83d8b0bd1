"""Exact search: a query is scored against every clip, in blocks on a device, instead of nearest neighbours."""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from reelseek.errors import UsageError
from reelseek.models.device import describe, free_memory
from reelseek.models.embedding import Embedding
from reelseek.models.model import RetrievalModel
from reelseek.search.index import Index
from reelseek.search.question import Question, coarse_similarity

__all__ = ["ExactGallery"]

_BLOCK_FLOATS = 2**25  # of embeddings, or of what pairs are compared by, in one block
_WORK_BYTES = 4 * 4 * _BLOCK_FLOATS  # a block and what is made of it
Rows = npt.NDArray[np.int64]


class ExactGallery:
    """Finds the best clips by the model's own similarity to each.

    On an accelerator the embeddings of all clips stay in its memory; on the CPU they are read from the index, which is
    memory-mapped, block by block for each query.

    Args:
        rows: the clips that are searched.

    Raises:
        UsageError: the clips do not fit into the device's memory; says how many would, and what to do.
    """

    def __init__(self, model: RetrievalModel, index: Index, rows: Rows, device: torch.device) -> None:
        self._model, self._index, self._device = model, index, device
        _, self._slots, self._dim = index.embedding(rows[:1]).values.shape
        size = max(1, _BLOCK_FLOATS // max(1, self._slots * self._dim))
        self._blocks = [rows[start : start + size] for start in range(0, len(rows), size)]
        self._on_device: list[Embedding] = []
        if device.type != "cpu":
            self._check_memory(len(rows))
            try:
                self._on_device = [index.embedding(block).to(device) for block in self._blocks]
            except torch.OutOfMemoryError as error:
                raise UsageError(self._too_large(len(rows))) from error

    @property
    def _clip_bytes(self) -> int:
        return self._slots * (4 * self._dim + 4 + 1)

    def _check_memory(self, clips: int) -> None:
        free = free_memory(self._device)
        if free is not None and clips * self._clip_bytes + _WORK_BYTES > free:
            raise UsageError(self._too_large(clips, free))

    def _too_large(self, clips: int, free: int | None = None) -> str:
        fit = "" if free is None else f", where {max(0, free - _WORK_BYTES) // self._clip_bytes} would fit"
        return (
            f"exact search of {clips} clips takes {(clips * self._clip_bytes + _WORK_BYTES) / 2**30:.2g} GiB of the "
            f"memory of {describe(self._device)}{fit}; search without it, by nearest neighbours, or on the CPU "
            "(--device cpu), which reads the clips from disk"
        )

    def nearest(self, question: Question, count: int, selected: npt.NDArray[np.bool_] | None = None) -> Rows:
        """The best clips that have any of the evidence that counts; of equal ones those that come first.

        Args:
            selected: rows that count [row]; None is all.
        """
        rows = np.concatenate([np.zeros(0, np.int64), *self._blocks])
        texts = question.texts.to(self._device)
        mix = torch.from_numpy(question.mix[0]).to(self._device)
        coarse = None if question.coarse is None else question.coarse.to(self._device)
        self._model.eval()
        with torch.no_grad():
            parts = [self._scores(texts, coarse, mix, videos) for videos in self._embeddings()]
            scores = torch.cat(parts) if parts else torch.zeros(0)
            if selected is not None:
                scores[torch.from_numpy(~selected[rows]).to(scores.device)] = -math.inf
            best = _best(scores, count).cpu().numpy()
        return rows[best]

    def _embeddings(self) -> Iterator[Embedding]:
        if self._on_device:
            yield from self._on_device
        else:
            yield from (self._index.embedding(block) for block in self._blocks)

    def _scores(
        self, texts: Embedding, coarse: Embedding | None, mix: Tensor, videos: Embedding
    ) -> Float[Tensor, " video"]:
        """The sum over terms and examples of the similarity to each clip; minus infinity to those without evidence."""
        size = len(videos)
        if self._model.pairwise:
            size = max(1, _BLOCK_FLOATS // max(1, math.prod((*texts.values.shape[:2], *videos.values.shape[1:]))))
        similarity = [
            self._model.similarity(texts, videos[start : start + size]).float()
            for start in range(0, len(videos), max(1, size))
        ]
        scores = mix[: len(texts)] @ torch.cat(similarity, dim=1)
        if coarse is not None:
            scores = scores + mix[len(texts) :] @ coarse_similarity(self._model, coarse, videos)
        present = videos.present
        if not self._model.pairwise:
            present = present & ((texts.weights * texts.present) != 0).any(0)
        return scores.masked_fill(~present.any(1), -math.inf)


def _best(scores: Float[Tensor, " video"], count: int) -> Tensor:
    """Places of the best scores, ascending; of those equal to the last one the first."""
    count = min(count, int((scores > -math.inf).sum()))
    if not count:
        return torch.zeros(0, dtype=torch.long)
    least = scores.topk(count).values[-1]
    above = (scores > least).nonzero()[:, 0]
    equal = (scores == least).nonzero()[: count - len(above), 0]
    return torch.cat([above, equal]).sort().values
