"""Gradients of a contrastive batch that does not fit into memory, by gradient caching.

First pass: embed the batch in chunks without a graph. Then take the loss of all embeddings and cache its gradients with
respect to them. Second pass: recompute each chunk and backpropagate its cached gradient.

Source: Gao et al. 2021 (Scaling deep contrastive learning batch size under memory limited setup).
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from reelseek.errors import RecipeError
from reelseek.library.mask import Mask
from reelseek.models import parallel
from reelseek.models.batch import Batch, Rows
from reelseek.models.embedding import Embedding
from reelseek.models.learned import LearnedModel
from reelseek.models.model import RetrievalModel

__all__ = ["blockwise_similarity", "cached_gradients"]


def cached_gradients(model: RetrievalModel, batch: Batch, chunk: int, share: int = 1) -> float:
    """Add the gradients of the whole batch's loss, divided by `share`, to the parameters'; the loss.

    Only one chunk's activations are in memory at once, in the encoders and, where the system is pairwise, in its
    similarity. Parameters inside the similarity and inside the loss get their gradients too. Random numbers (dropout)
    are the same in both passes.

    Args:
        chunk: clips per chunk, in each of the processes that train together; of a pairwise similarity, texts per chunk.

    Raises:
        RecipeError: the system's loss is more than a function of what it embeds.
        ModelError: the batch holds what the model was not built for, as `loss` refuses it.
    """
    if not isinstance(model, LearnedModel) or not model.compares_only:
        raise RecipeError(f"train.chunk: {model.system} has a loss of its own, which cannot be taken in chunks")
    model.check(batch.tokens)
    batch, parts = _chunks(model, batch, chunk)
    if not parts:
        return 0.0
    if model.has_parts:
        return _cached_parts(model, batch, parts, share)
    device = next(iter(batch.tokens.values())).device
    states, embedded = [], []
    with torch.no_grad():
        for part in parts:
            states.append(_random_state(device))
            embedded.append(_embed(model, part))
    texts, videos = (_as_leaves(Embedding.concat([pair[side] for pair in embedded])) for side in (0, 1))
    loss = model.compare(texts, videos, batch, lambda texts, videos: blockwise_similarity(model, texts, videos, chunk))
    (loss / share).backward()
    last_state = _random_state(device)
    sizes = [len(part) for part in parts]
    cached = [_gradients(leaf, sizes) for leaf in (texts.values, texts.weights, videos.values, videos.weights)]
    for part, state, gradients in zip(parts, states, zip(*cached, strict=True), strict=True):
        _set_random_state(device, state)
        _backward_chunk(model, part, gradients)
    _set_random_state(device, last_state)
    return float(loss.detach())


def _chunks(model: LearnedModel, batch: Batch, chunk: int) -> tuple[Batch, list[Batch]]:
    """What a batch has to learn from, and its chunks in the same order; none where there is nothing.

    Processes that train together take as many chunks each, since a chunk's batch statistics are of all of theirs.
    """
    if not model.any_evidence(batch):
        return batch, []
    if parallel.active():
        count = parallel.all_max(-(-int(batch.evident.sum()) // chunk))
        batch = batch.with_evidence(at_least=count)
        count = parallel.all_min(min(count, len(batch)))  # one with fewer clips takes fewer, and so do all
        return batch, [batch.rows(rows) for rows in torch.arange(len(batch)).tensor_split(count)]
    batch = batch.with_evidence()
    sizes: int | list[int] = chunk
    if model.joins_clips:
        batch = batch.rows(batch.video_numbers.argsort(stable=True))
        sizes = _sizes_of_whole_videos(batch, chunk)
    return batch, [batch.rows(rows) for rows in torch.arange(len(batch)).split(sizes)]


def _sizes_of_whole_videos(batch: Batch, chunk: int) -> list[int]:
    """How many clips each chunk takes: whole videos of `chunk` clips at most, and one video at least."""
    sizes: list[int] = []
    for count in torch.unique_consecutive(batch.video_numbers, return_counts=True)[1].tolist():
        if sizes and sizes[-1] + count <= chunk:
            sizes[-1] += count
        else:
            sizes.append(count)
    return sizes


def _cached_parts(model: LearnedModel, batch: Batch, chunks: Sequence[Batch], share: int) -> float:
    """Gradient caching of a loss that is a function of `parts`."""
    device, states, embedded = batch.video.device, [], []
    with torch.no_grad():
        for chunk in chunks:
            states.append(_random_state(device))
            embedded.append(_parts(model, chunk))
    leaves = {name: torch.cat([parts[name][0] for parts in embedded]).requires_grad_() for name in embedded[0]}
    masks = {
        name: Mask(*(torch.cat([getattr(parts[name][1], place) for parts in embedded]) for place in ("tensor", "host")))
        for name in embedded[0]
    }
    losses = model.compare_parts({name: (values, masks[name]) for name, values in leaves.items()}, batch)
    if not losses:
        return 0.0
    loss = torch.stack([term.float() for term in losses.values()]).sum()
    (loss / share).backward()
    last_state, begin = _random_state(device), 0
    for chunk, state in zip(chunks, states, strict=True):
        _set_random_state(device, state)
        rows = slice(begin, begin + len(chunk))
        begin = rows.stop
        pairs = [
            (values, leaf.grad[rows])
            for (values, _), leaf in zip(_parts(model, chunk).values(), leaves.values(), strict=True)
            if values.requires_grad and leaf.grad is not None
        ]
        torch.autograd.backward([values for values, _ in pairs], [g.to(values.dtype) for values, g in pairs])
    _set_random_state(device, last_state)
    return float(loss.detach())


def _embed(model: RetrievalModel, part: Batch) -> tuple[Embedding, Embedding]:
    """Captions and clips of a chunk."""
    with parallel.uncounted(nothing=not bool(part.evident.any())):
        return model.encode_texts(part.texts), model.encode_videos(part.tokens)


def _parts(model: LearnedModel, part: Batch) -> dict[str, Rows]:
    """What `model.parts` makes of a chunk."""
    with parallel.uncounted(nothing=not bool(part.evident.any())):
        return model.parts(part)


def _as_leaves(embedding: Embedding) -> Embedding:
    """The embedding as leaves of a new graph, at which gradients are cached."""
    values, weights = embedding.values.float(), embedding.weights.float()
    return Embedding(values.requires_grad_(), embedding.present, weights.requires_grad_())


def blockwise_similarity(model: RetrievalModel, texts: Embedding, videos: Embedding, chunk: int) -> Tensor:
    """Return the similarity matrix, with a graph.

    Of a pairwise system it is taken in blocks of `chunk` texts, which are recomputed in the backward pass, so that the
    graph keeps the embeddings and the matrix alone.
    """
    if not model.pairwise:
        return model.similarity(texts, videos)
    replicated = not parallel.active()  # here, and so where the backward pass computes a block again

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), parallel.replicated() if replicated else nullcontext()

    blocks = [texts[begin : begin + chunk] for begin in range(0, len(texts), chunk)]
    rows: list[Tensor] = [
        checkpoint(model.similarity, block, videos, use_reentrant=False, context_fn=contexts) for block in blocks
    ]
    return torch.cat(rows)


def _gradients(leaf: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
    """A leaf's cached gradient, chunk by chunk."""
    gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
    return gradient.split(sizes)


def _backward_chunk(model: RetrievalModel, part: Batch, gradients: Sequence[Tensor]) -> None:
    """Embed a chunk again, with a graph, and backpropagate its cached gradients."""
    texts, videos = _embed(model, part)
    outputs = (texts.values, texts.weights, videos.values, videos.weights)
    pairs = [(output, g) for output, g in zip(outputs, gradients, strict=True) if output.requires_grad]
    torch.autograd.backward([output for output, _ in pairs], [g.to(output.dtype) for output, g in pairs])


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """States of the host's generator, and of a GPU's, from which dropout draws there."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_random_state(device: torch.device, state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
