"""Embedding the clips of a library, and building their index."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reelseek.errors import LibraryError, ModelError
from reelseek.library.clips import ClipRule, clips_of
from reelseek.library.damage import Damage, note_damage
from reelseek.library.store import Library
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models.embed import embed_batches, embed_texts, reader_for
from reelseek.models.model import RetrievalModel
from reelseek.models.systems.concepts import background_queries
from reelseek.search.generation import Generation, json_file, open_generation, write_generation
from reelseek.search.index import Index, LeftOut, Neighbours, flat_vectors, index_folder, state_of
from reelseek.search.scoring import background_scores, videos_by_owner

__all__ = ["build_index", "short_content"]

_SIGNATURES = "signatures.json"
_CONTENT_LETTERS = 16
_ATTEMPTS = 3
_log = logging.getLogger("reelseek")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Embedded:
    """Clips that an index on disk has, by what their embeddings depend on."""

    rows: dict[str, int]
    values: npt.NDArray[np.float16]
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
    write: bool = True,
) -> Index:
    """Embed every clip (those already embedded are taken over) and build the index anew.

    A video whose tracks are damaged is left out, which is said, and stands in `Index.left_out`; the next `add` makes
    its tracks again.

    Args:
        write: False leaves the library as it is: the index is this process's alone.

    Raises:
        LibraryError: another process is writing, or the disk is full; the old index stays.
        UsageError: the library has none of the model's experts.
        ModelError: the model makes NaN or infinity of a clip.
    """
    rule = rule or ClipRule()
    if write:
        with library.writing():
            built = _build(library, model, rule, progress)
            index = built.index
            write_generation(index.folder, index.about(), {**index.files(), _SIGNATURES: json_file(built.signatures)})
            note_damage(library, built.damage)
    else:
        index = _build_in_memory(library, model, rule, progress)
    for each in index.left_out:
        _log.warning("left out of the index: %s (%d clips): %s", each.video, each.clips, each.reason)
    return index


def _build_in_memory(library: Library, model: RetrievalModel, rule: ClipRule, progress: Progress | None) -> Index:
    """Without being the one writer: again, where another process changed what was being read."""
    for attempt in range(1, _ATTEMPTS + 1):
        revision = library.revision()
        try:
            index = _build(library, model, rule, progress).index
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


def _build(library: Library, model: RetrievalModel, rule: ClipRule, progress: Progress | None) -> _Built:
    state = state_of(library, rule)
    reader = reader_for(model, library)
    clips = list(clips_of(library, rule))
    signatures = _signatures(library, reader, clips)
    old = _embedded_before(library, model)
    fresh = {clip.video for clip, signature in zip(clips, signatures, strict=True) if signature not in old.rows}
    damage = _damaged(library, reader, fresh)
    left_out = _left_out(damage, clips)
    if left_out:
        videos = {each.video for each in left_out}
        sound = [row for row, clip in enumerate(clips) if clip.video not in videos]
        clips, signatures = [clips[row] for row in sound], [signatures[row] for row in sound]
    values, present = _embed(model, reader, clips, signatures, old, progress)
    texts = embed_texts(model, background_queries())
    trials = (texts.values * texts.weights[..., None]).numpy()
    index = Index(
        index_folder(library, model), clips, values, present, _patterns(values, present, trials), model.slots, rule,
        state, {video.id: short_content(video.content) for video in library.videos()}, tuple(reader.dims),
        left_out=left_out,
    )  # fmt: skip
    owners = videos_by_owner(library.videos())
    index.background = background_scores(library, model, index, owners, np.ones(len(model.slots), np.float32), texts)
    return _Built(index, signatures, [pair for pairs in damage.values() for pair in pairs])


def _signatures(library: Library, reader: TokenReader, clips: Sequence[Clip]) -> list[str]:
    """For each clip what its embedding depends on: its span and the tracks of its video."""
    hashes = library.catalog.tracks.hashes()
    by_video: dict[str, str] = {}
    for video in {clip.video for clip in clips}:
        rows = [reader.row(video, expert) for expert in reader.dims]
        by_video[video] = ",".join(hashes.get((row.owner, row.expert), "")[:16] if row else "" for row in rows)
    return [f"{by_video[c.video]}@{c.start_seconds}-{c.end_seconds}" for c in clips]


def _embedded_before(library: Library, model: RetrievalModel) -> _Embedded:
    """What the index on disk has; nothing where it is damaged, since then it is embedded again."""
    try:
        embedded = open_generation(index_folder(library, model), _load_embedded)
    except (LibraryError, OSError):
        embedded = None
    return embedded or _Embedded({}, np.zeros((0, 0, 0), np.float16), np.zeros((0, 0), bool))


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
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]]:
    """Values [clip, slot, dim] in half precision, and present [clip, slot].

    Raises:
        ModelError: a value is none, or too large for half precision.
    """
    fresh = [row for row, signature in enumerate(signatures) if signature not in old.rows]
    values: npt.NDArray[np.float16] | None = None
    present = np.zeros((len(clips), len(model.slots)), bool)
    done = 0
    for part in embed_batches(model, reader, [clips[row] for row in fresh], progress):
        rows = fresh[done : done + len(part)]
        if values is None:
            values = np.zeros((len(clips), *part.values.shape[1:]), np.float16)
        with np.errstate(over="ignore"):
            values[rows] = part.values.masked_fill(~part.present[..., None], 0).numpy()
        if not np.isfinite(values[rows]).all():
            raise ModelError(
                f"{model.system} gives values of up to {float(part.values.abs().max()):.3g}, and an index keeps none "
                "above 65504; a model whose embeddings are normalised can be searched with"
            )
        present[rows] = part.present.numpy()
        done += len(rows)
    if values is None:
        values = np.zeros((len(clips), *old.values.shape[1:]), np.float16)
    known = [row for row, signature in enumerate(signatures) if signature in old.rows]
    if known:
        places = [old.rows[signatures[row]] for row in known]
        values[known], present[known] = old.values[places], old.present[places]
    return values, present


def _patterns(
    values: npt.NDArray[np.float16], present: npt.NDArray[np.bool_], trials: npt.NDArray[np.float32]
) -> dict[tuple[bool, ...], Neighbours]:
    patterns = {}
    for pattern in np.unique(present, axis=0) if len(present) else []:
        if pattern.any():
            rows = np.flatnonzero((present == pattern).all(axis=1))
            vectors = flat_vectors(values[rows], pattern)
            patterns[tuple(bool(p) for p in pattern)] = Neighbours.build(rows, vectors, flat_vectors(trials, pattern))
    return patterns
