"""Clips of a library and texts through a model, in batches."""

from collections.abc import Callable, Sequence

import torch

from reelseek.errors import UsageError
from reelseek.library.store import Library
from reelseek.library.tokens import Clip, TokenReader, Tokens
from reelseek.models.model import Embedding, RetrievalModel

__all__ = ["embed_clips", "embed_texts", "reader_for"]

_BATCH = 64


def reader_for(model: RetrievalModel, library: Library, experts: Sequence[str] | None = None) -> TokenReader:
    """A reader of those of the model's experts that the library has.

    Raises:
        UsageError: an expert asked for is not the model's, or the library has none of them.
    """
    have = library.experts()
    for name in experts or ():
        if name not in model.experts:
            raise UsageError(f"{model.system} takes no expert {name!r}; it takes {', '.join(model.experts)}")
    chosen = [name for name in (experts or model.experts) if name in have]
    if not chosen:
        raise UsageError(
            f"{library.path} has none of the experts {', '.join(experts or model.experts)}; "
            f"it has {', '.join(have) or 'none'}. Extract them with: reelseek add {library.path} VIDEOS"
        )
    return TokenReader(library, chosen, step_by_step=model.step_by_step)


def embed_clips(
    model: RetrievalModel,
    reader: TokenReader,
    clips: Sequence[Clip],
    progress: Callable[[int, int], None] | None = None,
) -> Embedding:
    """Embeddings of clips in batches, in evaluation mode."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    parts = []
    model.eval()
    with torch.inference_mode():
        for begin in range(0, len(clips), _BATCH):
            tokens = _to(reader.batch(clips[begin : begin + _BATCH]), device)
            part = model.encode_videos(tokens)
            parts.append(Embedding(part.values.cpu(), part.present.cpu(), part.weights.cpu()))
            if progress:
                progress(min(begin + _BATCH, len(clips)), len(clips))
    return Embedding.concat(parts)


def embed_texts(model: RetrievalModel, texts: Sequence[str]) -> Embedding:
    """Embeddings of texts, in evaluation mode; what the text side cannot read has no slot present, nor any weight."""
    model.eval()
    with torch.inference_mode():
        part = model.encode_texts(texts)
        read = model.reads(texts).cpu()[:, None]
        return Embedding(part.values.cpu(), part.present.cpu() & read, part.weights.cpu() * read)


def _to(tokens: Tokens, device: torch.device) -> Tokens:
    if device.type == "cpu":
        return tokens
    return {
        name: type(steps)(steps.values.to(device), steps.present.to(device), steps.spans.to(device))
        for name, steps in tokens.items()
    }
