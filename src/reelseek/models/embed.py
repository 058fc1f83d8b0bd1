"""Clips of a library and texts through a model, in batches."""

from collections.abc import Callable, Sequence

import torch

from reelseek.errors import UsageError
from reelseek.library.store import Library
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models.device import device_of
from reelseek.models.model import Embedding, RetrievalModel

__all__ = ["embed_clips", "embed_texts", "reader_for"]

_BATCH = 64
_DEVICE_BATCH = 512
_TOGETHER = 16  # batches whose embeddings are fetched from a device at once


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
    device = device_of(model)
    size = _BATCH if device.type == "cpu" else _DEVICE_BATCH
    parts: list[Embedding] = []
    waiting: list[Embedding] = []
    model.eval()
    with torch.inference_mode():
        for begin in range(0, len(clips), size):
            tokens = reader.batch(clips[begin : begin + size])
            waiting.append(model.encode_videos({name: steps.to(device) for name, steps in tokens.items()}))
            if len(waiting) == _TOGETHER:
                parts.append(Embedding.concat(waiting).to("cpu"))
                waiting = []
            if progress:
                progress(min(begin + size, len(clips)), len(clips))
        if waiting:
            parts.append(Embedding.concat(waiting).to("cpu"))
    return Embedding.concat(parts)


def embed_texts(model: RetrievalModel, texts: Sequence[str]) -> Embedding:
    """Embeddings of texts, in evaluation mode."""
    model.eval()
    with torch.inference_mode():
        return model.encode_texts(texts).to("cpu")
