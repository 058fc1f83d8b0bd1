"""Clips of a library and texts through a model, in batches."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from reelseek.errors import ModelError, ReelseekError, UsageError
from reelseek.library.source import FeatureSource
from reelseek.library.storage import Storage
from reelseek.library.text_space import check_text_space
from reelseek.library.tokens import Clip, TokenReader, Tokens
from reelseek.models import parallel
from reelseek.models.device import device_of
from reelseek.models.embedding import Embedding
from reelseek.models.model import RetrievalModel
from reelseek.plugins import describe_error

__all__ = [
    "embed_batches",
    "embed_clips",
    "embed_texts",
    "embed_tokens",
    "reader_for",
    "similarity_blocks",
    "similarity_matrix",
]

Item = TypeVar("Item")

_BATCH = 64
_DEVICE_BATCH = 512
_TEXTS = 1024  # encoded together
_TOGETHER = 16  # batches whose embeddings are fetched from a device at once
_SINGLE_THREAD_FLOATS = 2**20  # of embeddings whose dot products one thread takes
_BLOCK_FLOATS = 2**25  # of similarities, or of what pairs are compared by, at once


def reader_for(model: RetrievalModel, library: FeatureSource, experts: Sequence[str] | None = None) -> TokenReader:
    """A reader of those of the model's experts that the library has.

    Raises:
        UsageError: an expert asked for is not the model's, the library has none of them, or it has lines of another
            sentence encoder than a model without training compares with.
    """
    if model.embeds_sentences and isinstance(library, Storage):  # features in memory have no lines
        check_text_space(library)
    have = library.experts()
    for name in experts or ():
        if name not in model.experts:
            raise UsageError(f"{model.system} takes no expert {name!r}; it takes {', '.join(model.experts)}")
    selected = [name for name in (experts or model.experts) if name in have]
    if not selected:
        other = f", or train a model on {', '.join(have)} and name it" if have and not model.record else ""
        raise UsageError(
            f"{library.path} has none of the experts {', '.join(experts or model.experts)}; "
            f"it has {', '.join(have) or 'none'}. Extract them with: reelseek add {library.path} VIDEOS{other}"
        )
    return TokenReader(library, selected, step_by_step=model.step_by_step)


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
    device = device_of(model)
    size, together = _clips_at_once(device), 1 if device.type == "cpu" else _TOGETHER
    model.eval()
    for begin in range(0, len(clips), size * together):
        group = clips[begin : begin + size * together]
        with torch.inference_mode():
            batches = (reader.batch(group[start : start + size]) for start in range(0, len(group), size))
            embedding = Embedding.concat([_encode(model, tokens, device) for tokens in batches]).to("cpu")
        _check_finite(model, embedding, [_name(clip) for clip in group])
        yield embedding
        if progress:
            progress(begin + len(group), len(clips))


def _clips_at_once(device: torch.device) -> int:
    return _BATCH if device.type == "cpu" else _DEVICE_BATCH


def embed_clips(
    model: RetrievalModel,
    reader: TokenReader,
    clips: Sequence[Clip],
    progress: Callable[[int, int], None] | None = None,
    *,
    divided: bool = False,
) -> Embedding:
    """Embeddings of clips in batches, in evaluation mode.

    Args:
        divided: processes that train together embed a share each, and all of them call this with the same clips. The
            batches, and so the bits, are those of one process.

    Raises:
        ModelError: the model makes NaN or infinity of a clip.
    """
    if divided and parallel.active():
        size = _clips_at_once(device_of(model))
        return _embed_shares(clips, size, lambda share: embed_clips(model, reader, share))
    return Embedding.concat(list(embed_batches(model, reader, clips, progress)))


def _embed_shares(items: Sequence[Item], size: int, embed: Callable[[Sequence[Item]], Embedding]) -> Embedding:
    """Embed the share of this process, whole batches of `size`, and gather those of all."""
    batches = math.ceil(len(items) / size)
    rank, processes = parallel.rank(), parallel.world_size()
    start, stop = size * (batches * rank // processes), size * (batches * (rank + 1) // processes)
    if start < stop:
        return embed(items[start:stop]).all_gather()
    return embed(items[:1])[:0].all_gather()  # which has the slots and the width that the others have


def embed_tokens(model: RetrievalModel, tokens: Tokens) -> Embedding:
    """Embeddings of one batch of tokens, in evaluation mode, on the CPU.

    Raises:
        ModelError: the model makes NaN or infinity of them, or refuses them.
    """
    device = device_of(model)
    model.eval()
    with torch.inference_mode():
        embedding = _encode(model, tokens, device).to("cpu")
    _check_finite(model, embedding, [f"clip {number}" for number in range(1, len(embedding) + 1)])
    return embedding


def embed_texts(model: RetrievalModel, texts: str | Sequence[str], *, divided: bool = False) -> Embedding:
    """Embeddings of texts, in evaluation mode; what the text side cannot read has no slot present, nor any weight.

    Args:
        divided: as for `embed_clips`.

    Raises:
        ModelError: a text is empty, or the model makes NaN or infinity of it.
    """
    texts = [texts] if isinstance(texts, str) else texts
    if divided and parallel.active():
        return _embed_shares(texts, _TEXTS, lambda share: embed_texts(model, share))
    parts = [texts[start : start + _TEXTS] for start in range(0, len(texts), _TEXTS)] or [texts]
    return Embedding.concat([_embed_texts(model, part) for part in parts])


def _embed_texts(model: RetrievalModel, texts: Sequence[str]) -> Embedding:
    model.eval()
    with torch.inference_mode(), _failures(model, "encode_texts"):
        part = model.check_embedding(model.encode_texts(texts), "encode_texts").to("cpu")
        read = model.reads(texts).cpu()[:, None]
        part = Embedding(part.values, part.present & read, part.weights * read)
    _check_finite(model, part, [f"the text {text[:80]!r}" for text in texts])
    return part


def similarity_matrix(
    model: RetrievalModel, texts: Embedding, videos: Embedding, *, divided: bool = False
) -> Float[Tensor, "text video"]:
    """The model's own similarity of every text to every video, on the CPU, in blocks of bounded memory.

    Args:
        divided: processes that train together take every so-many-th block of texts; each returns the whole matrix.

    Raises:
        ModelError: the model's similarity fails, has another shape, or is NaN or infinite.
    """
    scores = torch.zeros(len(texts), len(videos))
    shares = (parallel.rank(), parallel.world_size()) if divided else (0, 1)
    for top, block in _score_rows(model, texts, videos, shares):
        scores[top : top + len(block)] = block
    return parallel.all_reduce_sum(scores) if divided and parallel.active() else scores


def similarity_blocks(
    model: RetrievalModel, texts: Embedding, videos: Embedding
) -> Iterator[tuple[int, Float[Tensor, "text video"]]]:
    """Blocks of rows of `similarity_matrix`, one in memory at a time, each with the number of its first text.

    Raises:
        ModelError: as `similarity_matrix`.
    """
    yield from _score_rows(model, texts, videos, (0, 1))


def _score_rows(
    model: RetrievalModel, texts: Embedding, videos: Embedding, share: tuple[int, int]
) -> Iterator[tuple[int, Float[Tensor, "text video"]]]:
    """Every so-many-th block of rows, as (first, step)."""
    device = device_of(model) if model.pairwise else torch.device("cpu")
    widths = (texts.values.shape[1], videos.values.shape[1], videos.values.shape[2]) if model.pairwise else ()
    pairs = max(1, _BLOCK_FLOATS // max(1, math.prod(widths)))
    columns = min(max(1, len(videos)), max(pairs // max(1, len(texts)), math.isqrt(pairs)))
    rows = max(1, pairs // columns)
    model.eval()
    few = not model.pairwise and videos.values.numel() <= _SINGLE_THREAD_FLOATS
    first, step = share
    for top in range(0, len(texts), rows)[first::step]:
        with torch.inference_mode(), _one_thread() if few else nullcontext():
            some_texts = texts[top : top + rows].to(device)
            block = torch.zeros(len(some_texts), len(videos))
            for start in range(0, len(videos), columns):
                part = _similarity(model, some_texts, videos[start : start + columns].to(device))
                block[:, start : start + columns] = part
        yield top, block


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on this thread alone. After a query's few dot products the other threads would wait for more by turning
    in circles, and slow down what comes next: full text and nearest neighbours."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _similarity(model: RetrievalModel, texts: Embedding, videos: Embedding) -> Float[Tensor, "text video"]:
    with _failures(model, "similarity"):
        scores = model.similarity(texts, videos)
    if scores.shape != (len(texts), len(videos)):
        raise ModelError(
            f"the similarity of {model.system} has the shape {tuple(scores.shape)} for {len(texts)} texts and "
            f"{len(videos)} videos; wanted one number for each pair"
        )
    if not bool(torch.isfinite(scores).all()):
        raise ModelError(f"the similarity of {model.system} is NaN or infinite; its weights are damaged")
    return scores.float().cpu()


def _encode(model: RetrievalModel, tokens: Tokens, device: torch.device) -> Embedding:
    with _failures(model, "encode_videos"):
        embedding = model.encode_videos({name: steps.to(device) for name, steps in tokens.items()})
    return model.check_embedding(embedding, "encode_videos")


@contextmanager
def _failures(model: RetrievalModel, method: str) -> Iterator[None]:
    """Say in one line what a model raises: it may come from another package, and raise what it likes."""
    try:
        yield
    except ReelseekError:
        raise
    except Exception as error:
        raise ModelError(f"the {method} of {model.system} failed: {describe_error(error)}") from error


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
