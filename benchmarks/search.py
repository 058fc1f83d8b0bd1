"""Search over many clips against the bare nearest-neighbour and full-text calls in it, and its recall.

Run: python benchmarks/search.py [CLIPS]   (default 100,000 clips of 384 dimensions, clustered, a line of text each)
Encoding the query is left out of both sides: it is cached before the clock starts.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from reelseek.experts.expert import Text, Track
from reelseek.experts.sentence import sentence_encoder
from reelseek.library import Library
from reelseek.library.catalog.texts import match_any
from reelseek.models.systems.concepts import background_queries
from reelseek.search import Searcher, parse_query
from reelseek.search.fulltext import _words
from reelseek.search.nearest import search_parts
from reelseek.search.neighbours import flat_vectors
from reelseek.search.question import Selection, ask

QUERIES = 60


def build(folder: Path, clips: int) -> Library:
    """Speech tracks around the vectors of everyday sentences; the words of each line are drawn from them too."""
    rng = np.random.default_rng(0)
    sentences = background_queries()
    centres = sentence_encoder().encode(sentences)
    words = sorted({word for sentence in sentences for word in sentence.split()})
    library = Library.open(folder / "lib", create=True)
    with library.saving():
        for number in range(clips):
            near = rng.integers(len(sentences))
            values = (centres[near] + 0.05 * rng.normal(size=384))[None].astype(np.float32)
            line = Text(" ".join(rng.choice(words, 8)), 0.0, 1.0, "said")
            library.db.execute("INSERT INTO videos(id) VALUES (?)", (f"v{number}",))
            track = Track(values, np.array([[0.0, 1.0]]), (line,))
            library.put_track(f"id:v{number}", "speech", "speech:benchmark", "speech", track)
    return library


def queries() -> list[str]:
    """Two-sentence mixtures, which are no clip's centre."""
    rng = np.random.default_rng(1)
    return [" ".join(rng.choice(background_queries(), 2)) for _ in range(QUERIES)]


def main(clips: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder), clips)
        started = time.perf_counter()
        searcher = Searcher(library)
        print(f"index of {clips} clips: {time.perf_counter() - started:.1f} s; {len(searcher.index.patterns)} pattern")
        texts = queries()
        for query in texts[:3]:
            searcher.search(query)
        for query in texts:
            parsed = parse_query(query)
            searcher.model.encode_texts([parsed.words])
        ((pattern, parts),) = searcher.index.patterns.items()
        every = flat_vectors(searcher.index.embedding(slice(None)).values.numpy(), pattern)
        ours, bare, recall = [], [], []
        for query in texts:
            parsed = parse_query(query)
            even = Selection(None, np.ones(len(searcher.index.slots), np.float32))
            texts = ask(searcher.model, parsed, even).texts
            flat = flat_vectors((texts.values * texts.weights[..., None]).numpy(), pattern)
            started = time.perf_counter()
            searcher.search(query)
            ours.append(time.perf_counter() - started)
            started = time.perf_counter()
            (((_, rows),),) = search_parts([(parts, flat)], 80)
            sql = (
                "SELECT t.owner, t.kind, t.text, t.start_seconds, t.end_seconds FROM texts_words f JOIN texts t"
                " ON t.id = f.rowid WHERE texts_words MATCH ? AND t.kind != 'label' ORDER BY f.rank LIMIT 100"
            )
            library.db.execute(sql, (match_any(_words(parsed.words)),)).fetchall()
            bare.append(time.perf_counter() - started)
            exact = np.argsort(-(every @ flat[0]))[:10]
            recall.append(len(set(exact) & set(rows[:10])) / 10)
        ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
        print(f"median of {QUERIES} queries: ours {1e3 * statistics.median(ours):.2f} ms, bare calls "
              f"{1e3 * statistics.median(bare):.2f} ms, ratio {ratio:.2f} (wanted: at most 2); "
              f"recall@10 {np.mean(recall):.4f} (wanted: at least .99)")  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
