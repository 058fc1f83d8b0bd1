"""Gradients of a contrastive batch that does not fit: embeddings first, then each chunk again with what it owes.

Source: Gao et al. 2021 (Scaling deep contrastive learning batch size under memory limited setup).
"""

import torch
from torch import Tensor

from reelseek.errors import RecipeError
from reelseek.models.model import Batch, Embedding, LearnedModel, RetrievalModel

__all__ = ["cached_gradients"]


def cached_gradients(model: RetrievalModel, batch: Batch, chunk: int, share: int = 1) -> float:
    """Add to every parameter's gradient what the whole batch's loss gives it, divided by `share`; the loss.

    Only a chunk's activations are held at once. Random numbers (dropout) are drawn the same in both passes.

    Raises:
        RecipeError: the system's loss is more than a function of its similarities.
    """
    if not isinstance(model, LearnedModel) or not model.compares_only:
        raise RecipeError(f"train.chunk: {model.system} has a loss of its own, which cannot be taken in chunks")
    batch = batch.with_evidence()
    parts = [batch.rows(rows) for rows in torch.arange(len(batch.texts)).split(chunk)]
    if not len(batch.texts):
        return 0.0
    device = next(iter(batch.tokens.values())).device
    states, embedded = [], []
    with torch.no_grad():
        for part in parts:
            states.append(_random_state(device))
            embedded.append((model.encode_texts(part.texts), model.encode_videos(part.tokens)))
    sides = [Embedding.concat([pair[side] for pair in embedded]) for side in (0, 1)]
    leaves: list[Tensor] = []
    held = []
    for side in sides:
        values, weights = side.values.float().requires_grad_(), side.weights.float().requires_grad_()
        leaves += [values, weights]
        held.append(Embedding(values, side.present, weights))
    loss = model.score_loss(model.similarity(held[0], held[1]), negatives=batch.negatives)
    (loss / share).backward()  # the similarity and the loss may have parameters too
    pieces = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
    after = _random_state(device)
    split = list(zip(*(piece.split(chunk) for piece in pieces), strict=True))
    for part, state, gradients in zip(parts, states, split, strict=True):
        _set_random_state(device, state)
        text, video = model.encode_texts(part.texts), model.encode_videos(part.tokens)
        made = (text.values, text.weights, video.values, video.weights)
        pairs = [(out, g) for out, g in zip(made, gradients, strict=True) if out.requires_grad]
        torch.autograd.backward([out for out, _ in pairs], [g.to(out.dtype) for out, g in pairs])
    _set_random_state(device, after)
    return float(loss.detach())


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Of the host's generator, and of a GPU's, from which dropout draws there."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_random_state(device: torch.device, state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
