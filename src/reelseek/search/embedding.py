"""Embedding the videos of a library in blocks that become segments, here or on the nodes of a cluster."""

import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from reelseek.cluster import Cluster, Shared
from reelseek.errors import ModelError
from reelseek.library.clips import ClipRule
from reelseek.library.cluster_work import threads_of
from reelseek.library.damage import Damage
from reelseek.library.store import Library
from reelseek.library.tokens import TokenReader
from reelseek.models.device import device_of
from reelseek.models.embed import embed_batches
from reelseek.models.embedding import Embedding
from reelseek.models.model import RetrievalModel
from reelseek.search.changes import Entry, Source, short_content
from reelseek.search.columns import Block
from reelseek.search.index import LeftOut

__all__ = ["EmbeddedVideos", "embed_on", "embed_videos"]

_BLOCKS_A_SLOT = 8  # that are under way together: so many wait in memory at most for the one before them
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class EmbeddedVideos:
    """Some videos, embedded.

    Args:
        block: None where all of them are damaged.
        clips: how many were embedded.
        damage: tracks that could not be read, by video.
        left_out: these videos.
    """

    block: Block | None
    clips: int
    damage: dict[str, Damage] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()


def embed_videos(source: Source, numbers: dict[str, int], progress: Progress | None = None) -> EmbeddedVideos:
    """Embed videos, without those whose tracks are damaged.

    Args:
        numbers: of the videos in the library, by id.
        progress: called with how many clips are embedded, and of how many.

    Raises:
        ModelError: a value is NaN, or too large for half precision; or a video's slots have weights.
    """
    entries = source.entries(numbers)
    damage = _damaged(source.library, source.reader, entries)
    counts = {entry.video.id: len(entry.clips) for entry in entries}
    left_out = tuple(LeftOut(video, counts[video], pairs[0][1]) for video, pairs in damage.items())
    entries = [entry for entry in entries if entry.video.id not in damage]
    block = _block(source, entries, progress) if entries else None
    return EmbeddedVideos(block, sum(len(entry.clips) for entry in entries), damage, left_out)


def _damaged(library: Library, reader: TokenReader, entries: Sequence[Entry]) -> dict[str, Damage]:
    """Those of some videos that have tracks which are not what was written, or are gone; every byte is read."""
    damage: dict[str, Damage] = {}
    for entry in entries:
        for expert in reader.dims:
            row = reader.row(entry.video.id, expert)
            problem = library.damage(row) if row is not None else None
            if row is not None and problem is not None:
                damage.setdefault(entry.video.id, []).append((row, problem))
    return damage


def _block(source: Source, entries: Sequence[Entry], progress: Progress | None) -> Block:
    model, reader = source.model, source.reader
    clips = [clip for entry in entries for clip in entry.clips]
    parts = []
    for part in embed_batches(model, reader, clips, progress):
        _check_part(model, part)
        parts.append(part)
    embedding = Embedding.concat(parts)
    coarse = None
    if model.pairwise:
        with torch.inference_mode():
            videos = model.coarse_videos(embedding)
        coarse = videos.present.numpy(), videos.values[videos.present].float().numpy()
    spans = [(clip.start_seconds, clip.end_seconds) for clip in clips]
    return Block(
        [entry.video.id for entry in entries],
        np.array([entry.number for entry in entries], np.int64),
        np.array([short_content(entry.video.content) for entry in entries], "S16"),
        np.array([entry.signature for entry in entries], "S32"),
        np.array([len(entry.clips) for entry in entries], np.int64),
        np.array(spans, np.float64).reshape(-1, 2),
        embedding.present.numpy(),
        embedding.values[embedding.present].float().numpy(),
        coarse,
    )


def _check_part(model: RetrievalModel, part: Embedding) -> None:
    """Refuse what an index cannot keep, also where it has few clips and keeps them in single precision."""
    largest = float(part.values.masked_fill(~part.present[..., None], 0).abs().max())
    if largest > float(np.finfo(np.float16).max):
        raise ModelError(
            f"{model.system} gives values of up to {largest:.3g}, and an index keeps none above 65504; "
            "a model whose embeddings are normalised can be searched with"
        )
    if not bool((part.weights[part.present] == 1).all()):
        raise ModelError(
            f"{model.system} gives the slots of a video weights of their own, by which no index can order clips; "
            "captions may weigh slots, videos leave them at 1"
        )


# On a cluster


@dataclass(frozen=True)
class _Part:
    """What a node embeds at a time.

    Args:
        run: names the model, which an actor holds from its first part on.
    """

    run: str
    model: Shared[RetrievalModel]
    device: str
    library: Path
    rule: ClipRule
    experts: tuple[str, ...] | None
    place: int
    numbers: dict[str, int]


_held: dict[str, RetrievalModel] = {}  # by an actor


def embed_on(cluster: Cluster, source: Source, parts: Iterable[dict[str, int]]) -> Iterator[EmbeddedVideos]:
    """Embed on nodes what `embed_videos` does here, part by part in order; which node embeds what does not matter.

    Every node reads the library at its path, see `require_library`.

    Args:
        parts: numbers of videos in the library, by id.
    """
    model, library = source.model, source.library.path.absolute()
    device = device_of(model)
    resources, prepare = threads_of(torch.get_num_threads(), str(device))
    model.to("cpu")  # where every node can take it from
    shared, run = Shared(model), secrets.token_hex(8)
    model.to(device)
    experts = None if source.named is None else tuple(source.named)
    waiting = (
        _Part(run, shared, device.type, library, source.rule, experts, place, numbers)
        for place, numbers in enumerate(parts)
    )
    with cluster.mapping(_embed_part, prepare=prepare, resources=resources) as embed:
        while window := list(itertools.islice(waiting, _BLOCKS_A_SLOT * cluster.slots(resources))):
            embedded = {part.place: videos for part, videos in embed(window)}
            yield from (embedded[part.place] for part in window)


def _embed_part(part: _Part) -> EmbeddedVideos:
    if part.run not in _held:
        _held.clear()
        _held[part.run] = part.model.get().to(part.device)
    with Library.open(part.library) as library:
        return embed_videos(Source(library, _held[part.run], part.rule, part.experts), part.numbers)
