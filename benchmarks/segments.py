"""An index in segments, of generated embeddings: building, opening, adding one video, searching, and resident memory.

Run: python benchmarks/segments.py 10000 100000 1000000   (clips of 384 dimensions, ten and a line of text a video)
     python benchmarks/segments.py search FOLDER           (one phase of a library that `fill FOLDER CLIPS` made)
Each phase is a process of its own, so that its peak of resident memory is its own. Embedding is left out of building:
vectors lie around those of everyday sentences. Bare calls are FAISS's and SQLite's that a search makes, alone.
10,000,000 clips take 12 GB of disk in TMPDIR.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.experts.expert import Text, Track
from reelseek.experts.sentence import sentence_encoder
from reelseek.library import Library
from reelseek.library.catalog.texts import match_any
from reelseek.library.clips import ClipRule
from reelseek.models import load_model
from reelseek.models.embed import embed_texts
from reelseek.models.model import RetrievalModel
from reelseek.models.systems.concepts import background_queries
from reelseek.search import Searcher, parse_query, update_index
from reelseek.search.changes import Source, short_content
from reelseek.search.columns import Block
from reelseek.search.finish import finish
from reelseek.search.fulltext import _words
from reelseek.search.index import Index, index_folder, put_index
from reelseek.search.merge import write_segments
from reelseek.search.nearest import search_parts
from reelseek.search.neighbours import flat_vectors
from reelseek.search.question import Selection, ask
from reelseek.search.topk import TopK

CLIPS_A_VIDEO = 10
VIDEOS_A_BLOCK = 10_000
QUERIES = 60
RULE = ClipRule(kind="fixed", seconds=8.0)
PLACE = 1  # of speech among the slots of `concepts`


def fill(folder: Path, videos: int) -> None:
    """A library of videos without features, but for the first; each with a line of text."""
    rng = np.random.default_rng(0)
    words = np.array(sorted({word for sentence in background_queries() for word in sentence.split()}))
    with Library.open(folder, create=True) as library:
        for start in range(0, videos, VIDEOS_A_BLOCK):
            numbers = range(start, min(videos, start + VIDEOS_A_BLOCK))
            lines = [" ".join(line) for line in words[rng.integers(len(words), size=(len(numbers), 8))]]
            with library.saving():
                _write_videos(library, numbers, lines)
        with library.saving():
            add_features(library, "v00000000")


def _write_videos(library: Library, numbers: Sequence[int], lines: Sequence[str]) -> None:
    rows = [(f"v{number:08d}", f"content{number:09d}", 80.0) for number in numbers]
    library.db.executemany("INSERT INTO videos(id, content, duration) VALUES (?, ?, ?)", rows)
    library.db.executemany(
        "INSERT INTO texts(id, owner, expert, kind, text, start_seconds, end_seconds, score)"
        " VALUES (?, ?, 'lines', 'said', ?, 8, 16, 1)",
        [(number + 1, row[1], line) for number, row, line in zip(numbers, rows, lines, strict=True)],
    )
    texts = [(number + 1, line) for number, line in zip(numbers, lines, strict=True)]
    library.db.executemany("INSERT INTO texts_words(rowid, words) VALUES (?, ?)", texts)


def add_features(library: Library, video: str) -> None:
    """A track of a video, and a line of text."""
    values = sentence_encoder().encode(background_queries()[:1]).astype(np.float32)
    track = Track(values, np.array([[0.0, 80.0]]), (Text("a dog on the beach", 0.0, 8.0, "said"),))
    library.put_track(f"id:{video}", "speech", "speech:benchmark", "speech", track)


class Generated:
    """Embeds videos by drawing vectors around those of everyday sentences."""

    def __init__(self, source: Source, numbers: dict[str, int]) -> None:
        self.source, self.numbers = source, numbers
        self.centres = sentence_encoder().encode(background_queries()).astype(np.float32)
        self.rng = np.random.default_rng(1)

    def __call__(self, lists: Iterable[Sequence[str]]) -> Iterator[Block]:
        return map(self.embed, lists)

    def embed(self, ids: Sequence[str]) -> Block:
        """One block of videos."""
        entries = self.source.entries({video: self.numbers[video] for video in ids})
        spans = [(clip.start_seconds, clip.end_seconds) for entry in entries for clip in entry.clips]
        near = self.rng.integers(len(self.centres), size=len(spans))
        noise = self.rng.standard_normal((len(spans), self.centres.shape[1]), np.float32)
        present = np.zeros((len(spans), len(self.source.model.slots)), bool)
        present[:, PLACE] = True
        return Block(
            ids, np.array([entry.number for entry in entries]),
            np.array([short_content(entry.video.content) for entry in entries], "S16"),
            np.array([entry.signature for entry in entries], "S32"),
            np.array([len(entry.clips) for entry in entries]), np.array(spans), present,
            self.centres[near] + np.float32(0.05) * noise,
        )  # fmt: skip


def build(folder: Path) -> dict[str, Any]:
    """Write the segments of the whole library."""
    model = load_model("concepts")
    with Library.open(folder) as library, library.writing():
        numbers = {change.video: change.number for change in library.catalog.changed_since(-1) if change.video}
        source = Source(library, model, RULE, None)
        texts = embed_texts(model, background_queries())
        home = index_folder(library, model)
        home.mkdir(parents=True)
        index = Index(home, (), model.system, model.slots, RULE, library.revision(), source.experts, texts)
        fresh = ((video, CLIPS_A_VIDEO) for video in sorted(numbers))
        clips = len(numbers) * CLIPS_A_VIDEO
        started = time.perf_counter()
        segments = []
        for segment in write_segments(home, [], fresh, Generated(source, numbers), clips):
            segments.append(finish(library, model, segment, index, clips))
            index = put_index(replace(index, segments=tuple(segments)))
            print(f"{len(index)} clips after {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return {"build_s": time.perf_counter() - started, "segments": len(segments), "recall": index.recall,
            "bytes_a_clip": sum(size for size, _ in index.files().values()) / clips}  # fmt: skip


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What a function returns, and how many seconds it took."""
    started = time.perf_counter()
    value = function()
    return value, time.perf_counter() - started


def add_one(folder: Path) -> dict[str, Any]:
    """Add one video and bring the index up to date; open what results."""
    model = load_model("concepts")
    load_everything(model)
    with Library.open(folder) as library:
        with library.saving():
            library.db.execute("INSERT OR REPLACE INTO videos(id) VALUES ('w')")
            add_features(library, "w")
        cpu = time.process_time()
        index, seconds = timed(lambda: update_index(library, model))
        cpu = time.process_time() - cpu
    assert index.rows_of("w")
    return {"add_one_s": seconds, "add_one_cpu_s": cpu, "segments_then": len(index.segments)}


def load_everything(model: RetrievalModel) -> None:
    """What a process loads once, whatever it does."""
    embed_texts(model, background_queries())


def search(folder: Path) -> dict[str, Any]:
    """Open the index, and search it."""
    model = load_model("concepts")
    load_everything(model)
    before = resident()
    with Library.open(folder) as library:
        searcher, open_s = timed(lambda: Searcher(library, model))
        opened = resident()
        rng = np.random.default_rng(1)
        queries = [" ".join(rng.choice(background_queries(), 2)) for _ in range(QUERIES)]
        _, first_s = timed(lambda: searcher.search(queries[0]))
        ours, bare, recall = [], [], []
        for query in queries:
            model.encode_texts([parse_query(query).words])  # cached from here on
        for query in queries:
            ours.append(timed(lambda query=query: searcher.search(query))[1])
            vectors = query_vectors(searcher, query)
            bare.append(timed(lambda query=query, vectors=vectors: bare_calls(searcher, query, vectors))[1])
        exact = exact_scores(searcher, np.concatenate([query_vectors(searcher, query) for query in queries]))
        for query, least in zip(queries, exact, strict=True):
            vectors = query_vectors(searcher, query)
            (((scores, _),),) = search_parts([(searcher.index.patterns[(False, True, False)], vectors)], 10)
            recall.append(np.mean(scores >= least - 1e-4))
        return {
            "open_s": open_s, "open_mb": opened - before, "first_search_s": first_s,
            "search_p50_ms": 1e3 * statistics.median(ours), "bare_p50_ms": 1e3 * statistics.median(bare),
            "ratio": statistics.median(a / b for a, b in zip(ours, bare, strict=True)), "recall_at_10": np.mean(recall),
        }  # fmt: skip


def query_vectors(searcher: Searcher, query: str) -> np.ndarray:
    """The vector of a query among clips that have speech alone."""
    even = Selection(None, np.ones(len(searcher.index.slots), np.float32))
    texts = ask(searcher.model, parse_query(query), even).texts
    return flat_vectors((texts.values * texts.weights[..., None]).numpy(), (False, True, False))


def bare_calls(searcher: Searcher, query: str, vectors: np.ndarray) -> None:
    """FAISS over every segment, and SQLite's full text."""
    for part in searcher.index.patterns[(False, True, False)]:
        part.neighbours.search(vectors, 80)
    sql = (
        "SELECT t.owner, t.kind, t.text, t.start_seconds, t.end_seconds FROM texts_words f JOIN texts t"
        " ON t.id = f.rowid WHERE texts_words MATCH ? AND t.kind != 'label' ORDER BY f.rank LIMIT 100"
    )
    searcher.library.db.execute(sql, (match_any(_words(parse_query(query).words)),)).fetchall()


def exact_scores(searcher: Searcher, vectors: np.ndarray) -> np.ndarray:
    """The tenth best score of each query, by looking at every clip."""
    best = TopK(len(vectors), 10)
    for rows, embedding in searcher.index.blocks(2**14):
        best.add(vectors @ embedding.values[:, PLACE].numpy().T, rows)
    return best.scores[:, -1]


def resident() -> float:
    """MB of this process in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


PHASES = {"build": build, "add_one": add_one, "search": search}


def run_phase(phase: str, library: Path) -> None:
    """Run a phase in this process, and print what it measured as JSON; what does not apply is null."""
    facts = PHASES[phase](library)
    facts["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps({name: fact if fact is None else round(float(fact), 4) for name, fact in facts.items()}))


def main(sizes: Sequence[int]) -> int:
    """Print all phases of libraries with so many clips; returns how many phases failed."""
    failed = 0
    for clips in sizes:
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "lib"
            fill(library, clips // CLIPS_A_VIDEO)
            print(f"{clips} clips", flush=True)
            for phase in ("build", "search", "add_one", "search"):
                command = [sys.executable, __file__, phase, str(library)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                failed += done.returncode != 0
                message = f"exited with {done.returncode}: {done.stderr[-2000:]}" if done.returncode else done.stdout
                print(f"  {phase}: {message.strip()}", flush=True)
    return failed


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        fill(Path(sys.argv[2]), int(sys.argv[3]) // CLIPS_A_VIDEO)
    elif sys.argv[1] in PHASES:
        run_phase(sys.argv[1], Path(sys.argv[2]))
    else:
        raise SystemExit(1 if main([int(size) for size in sys.argv[1:]]) else 0)
