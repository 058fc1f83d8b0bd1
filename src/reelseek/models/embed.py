"""Clips of a library and texts through a model, in batches."""

from collections.abc import Callable, Iterator, Sequence

import torch

from reelseek.errors import ModelError, UsageError
from reelseek.library.store import Library
from reelseek.library.tokens import Clip, TokenReader, Tokens
from reelseek.models.model import Embedding, RetrievalModel

__all__ = ["embed_batches", "embed_clips", "embed_texts", "reader_for"]

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


def embed_batches(
    model: RetrievalModel,
    reader: TokenReader,
    clips: Sequence[Clip],
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Embedding]:
    """Embeddings of clips, a batch at a time, in evaluation mode.

    Raises:
        ModelError: the model makes NaN or infinity of a clip.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    model.eval()
    for begin in range(0, len(clips), _BATCH):
        batch = clips[begin : begin + _BATCH]
        with torch.inference_mode():
            part = model.encode_videos(_to(reader.batch(batch), device))
            part = Embedding(part.values.cpu(), part.present.cpu(), part.weights.cpu())
        _check_finite(model, part, [_name(clip) for clip in batch])
        yield part
        if progress:
            progress(begin + len(batch), len(clips))


def embed_clips(
    model: RetrievalModel,
    reader: TokenReader,
    clips: Sequence[Clip],
    progress: Callable[[int, int], None] | None = None,
) -> Embedding:
    """Embeddings of clips in batches, in evaluation mode.

    Raises:
        ModelError: the model makes NaN or infinity of a clip.
    """
    return Embedding.concat(list(embed_batches(model, reader, clips, progress)))


def embed_texts(model: RetrievalModel, texts: Sequence[str]) -> Embedding:
    """Embeddings of texts, in evaluation mode; what the text side cannot read has no slot present, nor any weight.

    Raises:
        ModelError: a text is empty, or the model makes NaN or infinity of it.
    """
    model.eval()
    with torch.inference_mode():
        part = model.encode_texts(texts)
        read = model.reads(texts).cpu()[:, None]
        part = Embedding(part.values.cpu(), part.present.cpu() & read, part.weights.cpu() * read)
    _check_finite(model, part, [f"the text {text[:80]!r}" for text in texts])
    return part


def _name(clip: Clip) -> str:
    if clip.start_seconds is None and clip.end_seconds is None:
        return clip.video
    end = "its end" if clip.end_seconds is None else f"{clip.end_seconds:g} s"
    return f"{clip.video} from {clip.start_seconds or 0:g} s to {end}"


def _check_finite(model: RetrievalModel, embedding: Embedding, names: Sequence[str]) -> None:
    """Refuse embeddings that no similarity can be taken of; what is not present may hold anything."""
    finite = torch.isfinite(embedding.values).all(-1) | ~embedding.present
    wrong = (~(finite & torch.isfinite(embedding.weights)).all(-1)).nonzero()[:, 0]
    if len(wrong):
        raise ModelError(
            f"{model.system} makes NaN or infinity of {names[int(wrong[0])]} ({len(wrong)} of {len(names)} in its "
            "batch): its weights are damaged, or it was not trained on such features; train it again or take another"
        )


def _to(tokens: Tokens, device: torch.device) -> Tokens:
    if device.type == "cpu":
        return tokens
    return {
        name: type(steps)(steps.values.to(device), steps.present.to(device), steps.spans.to(device))
        for name, steps in tokens.items()
    }
