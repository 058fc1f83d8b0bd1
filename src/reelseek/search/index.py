"""Embeddings of a library's clips under one model, and a nearest-neighbour index for each presence pattern.

Everything here is derived: it is rebuilt from tracks at will and swapped in whole by one rename. For clips that have
the same slots present the score of a query is a plain dot product up to a constant, so one index a pattern orders
them exactly, and the few patterns are merged.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import torch

from reelseek.library.clips import ClipRule, clips_of
from reelseek.library.store import Library
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models.device import device_of
from reelseek.models.embed import embed_texts, reader_for
from reelseek.models.model import Embedding, RetrievalModel
from reelseek.models.systems.concepts import background_queries

__all__ = [
    "Index",
    "Neighbours",
    "build_index",
    "drop_derived",
    "flat_vectors",
    "index_folder",
    "open_index",
    "state_of",
]

_EXACT_UP_TO = 20_000
_RECALL_WANTED = 0.995
_TRIALS = 64
_BATCH = 64
_DEVICE_BATCH = 512
Matrix = npt.NDArray[np.float32]


def index_folder(library: Library, model: RetrievalModel) -> Path:
    """Where a model's index of a library lies."""
    return library.path / "index" / model.fingerprint.replace(":", "-")


def state_of(library: Library, rule: ClipRule) -> str:
    """Changes whenever the clips or tracks that an index is made of do."""
    import hashlib

    digest = hashlib.sha256(json.dumps(asdict(rule)).encode())
    for query in (
        "SELECT id, content, duration FROM videos ORDER BY id",
        "SELECT owner, expert, fingerprint, sha256 FROM tracks ORDER BY owner, expert",
        "SELECT hash, cuts FROM contents ORDER BY hash",
    ):
        for row in library.db.execute(query):
            digest.update(repr(row).encode())
    return digest.hexdigest()


class Neighbours:
    """The clips of one presence pattern: exact search while small, else inverted lists tuned to recall .995.

    How many lists are probed is measured when it is built, with background queries and with clips as queries.
    """

    def __init__(self, rows: npt.NDArray[np.int64], vectors: Matrix, index: Any | None) -> None:
        self.rows, self.vectors, self._index = rows, vectors, index

    @classmethod
    def build(cls, rows: npt.NDArray[np.int64], vectors: Matrix, trials: Matrix) -> "Neighbours":
        if len(rows) <= _EXACT_UP_TO:
            return cls(rows, vectors, None)
        lists = int(4 * np.sqrt(len(rows)))
        quantizer = faiss.IndexFlatIP(vectors.shape[1])
        index = faiss.IndexIVFFlat(quantizer, vectors.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
        rng = np.random.default_rng(0)
        sample = rng.choice(len(vectors), min(len(vectors), 40 * lists), replace=False)
        index.cp.niter = 8
        index.train(vectors[np.sort(sample)])
        index.add(vectors)
        own = vectors[np.sort(rng.choice(len(vectors), _TRIALS, replace=False))]
        probes = max(_probes(index, vectors, queries) for queries in (own, trials) if len(queries))
        if probes > lists // 3:
            return cls(rows, vectors, None)  # these vectors have no lists worth the name; exact search is as fast
        index.nprobe = probes
        return cls(rows, vectors, index)

    def search(self, queries: Matrix, count: int) -> tuple[Matrix, npt.NDArray[np.int64]]:
        """Scores and clip numbers [query, count] of the best clips."""
        count = min(count, len(self.rows))
        if self._index is not None:
            scores, found = self._index.search(queries, count)
            return scores, np.where(found >= 0, self.rows[found], -1)
        if len(queries) == 1:
            return self._one(queries[0], count)
        scores, found = faiss.knn(queries, self.vectors, count, metric=faiss.METRIC_INNER_PRODUCT)
        return scores, self.rows[found]

    def _one(self, query: Matrix, count: int) -> tuple[Matrix, npt.NDArray[np.int64]]:
        scores = self.vectors @ query
        best = np.argpartition(-scores, count - 1)[:count] if count < len(scores) else np.arange(len(scores))
        best = best[np.lexsort((best, -scores[best]))]
        return scores[best][None], self.rows[best][None]

    def save(self, folder: Path, name: str) -> None:
        np.save(folder / f"{name}.rows.npy", self.rows)
        np.save(folder / f"{name}.vectors.npy", self.vectors)
        if self._index is not None:
            faiss.write_index(self._index, str(folder / f"{name}.faiss"))

    @classmethod
    def load(cls, folder: Path, name: str) -> "Neighbours":
        path = folder / f"{name}.faiss"
        index = faiss.read_index(str(path)) if path.is_file() else None
        vectors = np.load(folder / f"{name}.vectors.npy", mmap_mode="r")
        return cls(np.load(folder / f"{name}.rows.npy"), vectors, index)


def _probes(index: Any, vectors: Matrix, queries: Matrix) -> int:
    """The fewest lists to probe for recall@10 of .995 against exact search over `vectors`."""
    _, wanted = faiss.knn(queries, vectors, 10, metric=faiss.METRIC_INNER_PRODUCT)
    probes = 1
    while probes < index.nlist:
        index.nprobe = probes
        _, found = index.search(queries, 10)
        recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, wanted, strict=True)])
        if recall >= _RECALL_WANTED:
            return min(index.nlist, 2 * probes)  # twice, since other queries are not these
        probes *= 2
    return int(index.nlist)


@dataclass
class Index:
    """Clips of a library under one model.

    Args:
        clips: the clip of every row.
        embedding: values [clip, slot, dim], present [clip, slot] (memory-mapped).
        patterns: for each presence pattern (a tuple of bool a slot) its neighbours.
        state: what it was made from, see `state_of`.
    """

    folder: Path
    clips: list[Clip]
    values: npt.NDArray[np.float16]
    present: npt.NDArray[np.bool_]
    patterns: dict[tuple[bool, ...], Neighbours]
    slots: tuple[str, ...]
    rule: ClipRule
    state: str

    def rows_of(self, video: str) -> list[int]:
        """Row numbers of a video's clips."""
        return self._by_video().get(video, [])

    def _by_video(self) -> dict[str, list[int]]:
        known: dict[str, list[int]] | None = self.__dict__.get("_videos")
        if known is None:
            known = self.__dict__["_videos"] = {}
            for row, clip in enumerate(self.clips):
                known.setdefault(clip.video, []).append(row)
        return known


def flat_vectors(values: npt.NDArray[Any], pattern: Sequence[bool]) -> Matrix:
    """The slots of a pattern side by side [item, slot * dim]."""
    kept = values[:, np.flatnonzero(pattern)]
    return np.ascontiguousarray(kept.reshape(len(kept), -1), np.float32)


def build_index(
    library: Library,
    model: RetrievalModel,
    rule: ClipRule | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Index:
    """Embed every clip (those already embedded are taken over) and build the index anew.

    Raises:
        LibraryError: another process is writing, or the disk is full; the old index stays.
        UsageError: the library has none of the model's experts.
    """
    rule = rule or ClipRule()
    with library.writing():
        reader = reader_for(model, library)
        clips = list(clips_of(library, rule))
        signatures = _signatures(library, reader, clips)
        embedding = _embed(library, model, reader, clips, signatures, progress)
        index = _assemble(library, model, rule, clips, embedding)
        _write(index, signatures)
    return index


def _signatures(library: Library, reader: TokenReader, clips: Sequence[Clip]) -> list[str]:
    """For each clip what its embedding depends on: its span and the tracks of its video."""
    hashes = {(o, e): h for o, e, h in library.db.execute("SELECT owner, expert, sha256 FROM tracks")}
    of_video: dict[str, str] = {}
    for video in {clip.video for clip in clips}:
        rows = [reader.row(video, expert) for expert in reader.dims]
        of_video[video] = ",".join(hashes[row.owner, row.expert][:16] if row else "" for row in rows)
    return [f"{of_video[c.video]}@{c.start_seconds}-{c.end_seconds}" for c in clips]


def _embed(
    library: Library,
    model: RetrievalModel,
    reader: TokenReader,
    clips: Sequence[Clip],
    signatures: Sequence[str],
    progress: Callable[[int, int], None] | None,
) -> Embedding:
    old = _old_rows(index_folder(library, model))
    fresh = [row for row, signature in enumerate(signatures) if signature not in old[0]]
    values: npt.NDArray[np.float16] | None = None
    present = np.zeros((len(clips), len(model.slots)), bool)
    device = device_of(model)
    size = _BATCH if device.type == "cpu" else _DEVICE_BATCH
    model.eval()
    with torch.inference_mode():
        for begin in range(0, len(fresh), size):
            rows = fresh[begin : begin + size]
            tokens = reader.batch([clips[row] for row in rows])
            part = model.encode_videos({name: steps.to(device) for name, steps in tokens.items()}).to("cpu")
            if values is None:
                values = np.zeros((len(clips), *part.values.shape[1:]), np.float16)
            values[rows] = torch.where(part.present[..., None], part.values, torch.zeros(())).numpy()
            present[rows] = part.present.numpy()
            if progress:
                progress(min(begin + size, len(fresh)), len(fresh))
    if values is None:
        values = np.zeros((len(clips), *old[1].shape[1:]), np.float16)
    kept = [row for row, signature in enumerate(signatures) if signature in old[0]]
    if kept:
        places = [old[0][signatures[row]] for row in kept]
        values[kept], present[kept] = old[1][places], old[2][places]
    return Embedding(torch.from_numpy(values), torch.from_numpy(present), torch.ones(present.shape))


def _old_rows(folder: Path) -> tuple[dict[str, int], npt.NDArray[np.float16], npt.NDArray[np.bool_]]:
    try:
        about = json.loads((folder / "index.json").read_text("utf-8"))
        signatures = {signature: row for row, signature in enumerate(about["signatures"])}
        return signatures, np.load(folder / "values.npy"), np.load(folder / "present.npy")
    except (OSError, ValueError, KeyError, EOFError):
        return {}, np.zeros((0, 0, 0), np.float16), np.zeros((0, 0), bool)


def _assemble(
    library: Library, model: RetrievalModel, rule: ClipRule, clips: list[Clip], embedding: Embedding
) -> Index:
    values, present = embedding.values.numpy(), embedding.present.numpy()
    texts = embed_texts(model, background_queries())
    trials = (texts.values * texts.weights[..., None]).numpy()
    patterns: dict[tuple[bool, ...], Neighbours] = {}
    for pattern in np.unique(present, axis=0) if len(present) else []:
        if pattern.any():
            rows = np.flatnonzero((present == pattern).all(axis=1))
            vectors = flat_vectors(values[rows], pattern)
            patterns[tuple(bool(p) for p in pattern)] = Neighbours.build(rows, vectors, flat_vectors(trials, pattern))
    folder = index_folder(library, model)
    return Index(folder, clips, values, present, patterns, model.slots, rule, state_of(library, rule))


def _write(index: Index, signatures: Sequence[str]) -> None:
    """Write beside the old index and swap by rename."""
    partial, old = index.folder.with_suffix(".partial"), index.folder.with_suffix(".old")
    for folder in (partial, old):
        shutil.rmtree(folder, ignore_errors=True)
    partial.mkdir(parents=True)
    np.save(partial / "values.npy", index.values)
    np.save(partial / "present.npy", index.present)
    names = ["".join("01"[p] for p in pattern) for pattern in index.patterns]
    for name, neighbours in zip(names, index.patterns.values(), strict=True):
        neighbours.save(partial, name)
    about = {
        "format": 1,
        "slots": index.slots,
        "rule": asdict(index.rule),
        "state": index.state,
        "patterns": names,
        "clips": [[clip.video, clip.start_seconds, clip.end_seconds] for clip in index.clips],
        "signatures": list(signatures),
    }
    (partial / "index.json").write_text(json.dumps(about), "utf-8")
    if index.folder.exists():
        os.rename(index.folder, old)
    os.rename(partial, index.folder)
    shutil.rmtree(old, ignore_errors=True)


def drop_derived(library: Library) -> None:
    """Delete every index and browser copy: after videos were forgotten, nothing derived from them may stay."""
    with library.writing():
        for name in ("index", "copies"):
            shutil.rmtree(library.path / name, ignore_errors=True)


def open_index(library: Library, model: RetrievalModel) -> Index | None:
    """The index on disk, or None where there is none that can be read: it is derived, and built again at will."""
    folder = index_folder(library, model)
    if not (folder / "index.json").is_file():
        return None
    try:
        about = json.loads((folder / "index.json").read_text("utf-8"))
        patterns = {tuple(c == "1" for c in name): Neighbours.load(folder, name) for name in about["patterns"]}
        return Index(
            folder,
            [Clip(*clip) for clip in about["clips"]],
            np.load(folder / "values.npy", mmap_mode="r"),
            np.load(folder / "present.npy"),
            patterns,
            tuple(about["slots"]),
            ClipRule(**about["rule"]),
            about["state"],
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError):
        return None
