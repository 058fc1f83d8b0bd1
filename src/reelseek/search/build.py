"""Embedding the clips of a library, and building their index."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from reelseek.errors import LibraryError, ModelError
from reelseek.library.clips import ClipRule, clips_of
from reelseek.library.damage import Damage, note_damage
from reelseek.library.store import Library
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models.embed import embed_batches, embed_texts, reader_for
from reelseek.models.model import Embedding, RetrievalModel
from reelseek.models.systems.concepts import background_queries
from reelseek.search.generation import Generation, json_file, open_generation, write_generation
from reelseek.search.index import Index, LeftOut, index_folder, state_of
from reelseek.search.neighbours import EXACT_UP_TO, Neighbours, flat_vectors
from reelseek.search.recall import fewest_candidates, measured_recall
from reelseek.search.scoring import background_scores, videos_by_owner

__all__ = ["build_index", "short_content"]

_SIGNATURES = "signatures.json"
_CONTENT_LETTERS = 16
_ATTEMPTS = 3
_log = logging.getLogger("reelseek")
_ROWS_A_TIME = 4096
Progress = Callable[[int, int], None]
Floats = npt.NDArray[np.float32] | npt.NDArray[np.float16]


@dataclass(frozen=True)
class _Embedded:
    """Clips that an index on disk has, by what their embeddings depend on."""

    rows: dict[str, int]
    values: Floats
    present: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Built:
    """An index, what each of its clips depends on, and the tracks that could not be read."""

    index: Index
    signatures: list[str]
    damage: Damage


def build_index(
    library: Library,
    model: RetrievalModel,
    rule: ClipRule | None = None,
    progress: Progress | None = None,
    *,
    experts: Sequence[str] | None = None,
    unrelated: Embedding | None = None,
    write: bool = True,
) -> Index:
    """Embed every clip (those already embedded are taken over) and build the index anew.

    A video whose tracks are damaged is left out, which is said, and stands in `Index.left_out`; the next `add` makes
    its tracks again.

    Args:
        experts: embed clips from these alone; None takes all of the model's that the library has.
        unrelated: the embeddings of the background queries, if they are at hand.
        write: False leaves the library as it is: the index is this process's alone.

    Raises:
        LibraryError: another process is writing, or the disk is full; the old index stays.
        UsageError: the library has none of the model's experts.
        ModelError: the model makes NaN or infinity of a clip.
    """
    rule = rule or ClipRule()
    if write:
        with library.writing():
            built = _build(library, model, rule, experts, unrelated, progress)
            index = built.index
            write_generation(
                index.folder, index.description(), {**index.files(), _SIGNATURES: json_file(built.signatures)}
            )
            note_damage(library, built.damage)
    else:
        index = _build_in_memory(library, model, rule, experts, unrelated, progress)
    for video in index.left_out:
        _log.warning("left out of the index: %s (%d clips): %s", video.video, video.clips, video.reason)
    return index


def _build_in_memory(
    library: Library, model: RetrievalModel, rule: ClipRule, experts: Sequence[str] | None,
    unrelated: Embedding | None, progress: Progress | None,
) -> Index:  # fmt: skip
    """Without being the one writer: again, where another process changed what was being read."""
    for attempt in range(1, _ATTEMPTS + 1):
        revision = library.revision()
        try:
            index = _build(library, model, rule, experts, unrelated, progress).index
        except LibraryError:
            if attempt == _ATTEMPTS or library.revision() == revision:
                raise
        else:
            if attempt == _ATTEMPTS or library.revision() == revision:
                break
    return index


def short_content(content: str | None) -> str:
    """What tells the contents of files apart, shortened."""
    return (content or "")[:_CONTENT_LETTERS]


def _build(
    library: Library, model: RetrievalModel, rule: ClipRule, experts: Sequence[str] | None,
    unrelated: Embedding | None, progress: Progress | None,
) -> _Built:  # fmt: skip
    state = state_of(library, rule)
    folder = index_folder(library, model, experts)
    reader = reader_for(model, library, experts)
    clips = list(clips_of(library, rule))
    signatures = _signatures(library, reader, clips)
    old = _embedded_before(folder, exact=len(clips) <= EXACT_UP_TO)
    fresh = {clip.video for clip, signature in zip(clips, signatures, strict=True) if signature not in old.rows}
    damage = _damaged(library, reader, fresh)
    left_out = _left_out(damage, clips)
    if left_out:
        videos = {video.video for video in left_out}
        sound = [row for row, clip in enumerate(clips) if clip.video not in videos]
        clips, signatures = [clips[row] for row in sound], [signatures[row] for row in sound]
    values, present = _embed(model, reader, clips, signatures, old, progress)
    texts = unrelated or embed_texts(model, background_queries())
    index = Index(
        folder, clips, values, present, {}, model.system, model.slots, rule, state,
        {video.id: short_content(video.content) for video in library.videos()}, tuple(reader.dims), texts,
        np.zeros(0), left_out=left_out,
    )  # fmt: skip
    index.patterns = _patterns(model, index)
    if model.pairwise:
        index.candidates = fewest_candidates(model, index)
    index.recall = measured_recall(model, index)
    index.background = background_scores(library, model, index, videos_by_owner(library.videos()), texts)
    return _Built(index, signatures, [pair for pairs in damage.values() for pair in pairs])


def _signatures(library: Library, reader: TokenReader, clips: Sequence[Clip]) -> list[str]:
    """For each clip what its embedding depends on: its span and the tracks of its video."""
    hashes = library.catalog.tracks.hashes()
    by_video: dict[str, str] = {}
    for video in {clip.video for clip in clips}:
        rows = [reader.row(video, expert) for expert in reader.dims]
        by_video[video] = ",".join(hashes.get((row.owner, row.expert), "")[:16] if row else "" for row in rows)
    return [f"{by_video[c.video]}@{c.start_seconds}-{c.end_seconds}" for c in clips]


def _embedded_before(folder: Path, *, exact: bool) -> _Embedded:
    """What the index on disk has; nothing where it is damaged, or less exact than it shall be."""
    try:
        embedded = open_generation(folder, _load_embedded)
    except (LibraryError, OSError):
        embedded = None
    if embedded is None or (exact and embedded.values.dtype != np.float32):
        return _Embedded({}, np.zeros((0, 1, 1), np.float32), np.zeros((0, 1), bool))
    return embedded


def _load_embedded(generation: Generation) -> _Embedded:
    rows = {signature: row for row, signature in enumerate(generation.json(_SIGNATURES))}
    return _Embedded(rows, generation.array("values.npy"), generation.array("present.npy"))


def _damaged(library: Library, reader: TokenReader, videos: Collection[str]) -> dict[str, Damage]:
    """Those of some videos that have tracks which are not what was written, or are gone; every byte is read."""
    damage: dict[str, Damage] = {}
    for video in sorted(videos):
        for expert in reader.dims:
            row = reader.row(video, expert)
            problem = library.damage(row) if row is not None else None
            if row is not None and problem is not None:
                damage.setdefault(video, []).append((row, problem))
    return damage


def _left_out(damage: Mapping[str, Damage], clips: Sequence[Clip]) -> tuple[LeftOut, ...]:
    counts = dict.fromkeys(damage, 0)
    for clip in clips:
        if clip.video in counts:
            counts[clip.video] += 1
    return tuple(LeftOut(video, counts[video], pairs[0][1]) for video, pairs in damage.items())


def _embed(
    model: RetrievalModel,
    reader: TokenReader,
    clips: Sequence[Clip],
    signatures: Sequence[str],
    old: _Embedded,
    progress: Progress | None,
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Values [clip, slot, dim], in half precision where they are many, and present [clip, slot].

    Raises:
        ModelError: a value is NaN, or too large for half precision; or a video's slots have weights.
    """
    dtype = np.float32 if len(clips) <= EXACT_UP_TO else np.float16
    fresh = [row for row, signature in enumerate(signatures) if signature not in old.rows]
    values = np.zeros((len(clips), *old.values.shape[1:]), dtype)
    present = np.zeros((len(clips), *old.present.shape[1:]), bool)
    done = 0
    for part in embed_batches(model, reader, [clips[row] for row in fresh], progress):
        rows = fresh[done : done + len(part)]
        if not done:
            values = np.zeros((len(clips), *part.values.shape[1:]), dtype)
            present = np.zeros((len(clips), *part.present.shape[1:]), bool)
        _check_part(model, part)
        values[rows] = part.values.masked_fill(~part.present[..., None], 0).numpy()
        present[rows] = part.present.numpy()
        done += len(rows)
    reused = [row for row, signature in enumerate(signatures) if signature in old.rows]
    if reused:
        places = [old.rows[signatures[row]] for row in reused]
        values[reused], present[reused] = old.values[places], old.present[places]
    return values, present


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


def _patterns(model: RetrievalModel, index: Index) -> dict[tuple[bool, ...], Neighbours]:
    """Neighbours for each presence pattern; none where a system has no coarse embeddings to find candidates by."""
    with torch.inference_mode():
        texts = model.coarse_texts(index.unrelated)
        parts = [
            model.coarse_videos(index.embedding(slice(start, start + _ROWS_A_TIME)))
            for start in range(0, len(index.clips), _ROWS_A_TIME)
        ] if model.pairwise else []  # fmt: skip
    values, present = index.values, index.present
    if not index.clips:
        return {}
    if parts:
        coarse = Embedding.concat(parts)
        values, present = coarse.values.float().numpy(), coarse.present.numpy()
    if values.shape[1:] != texts.values.shape[1:]:
        _log.warning(
            "%s compares in a way of its own, and has no coarse embeddings of one width: a search scores every clip",
            model.system,
        )
        return {}
    trials = (texts.values * (texts.weights * texts.present)[..., None]).numpy()
    patterns = {}
    for pattern in np.unique(present, axis=0) if len(present) else []:
        if pattern.any():
            rows = np.flatnonzero((present == pattern).all(axis=1))
            vectors = flat_vectors(values[rows], pattern)
            patterns[tuple(bool(p) for p in pattern)] = Neighbours.build(rows, vectors, flat_vectors(trials, pattern))
    return patterns
