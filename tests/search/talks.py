"""A small library that needs no films: imported speech, a line of text a clip."""

from pathlib import Path

import numpy as np

from reelseek.experts.expert import Text, Track
from reelseek.library import Library

_WORDS = "a dog barks on the beach while two people cook red soup in an old kitchen and a train leaves".split()

_CENTRES = np.random.default_rng(4).normal(size=(20, 384)).astype(np.float32)


def add_talk(library: Library, video: str, rng: np.random.Generator, steps: int = 2) -> None:
    """A video of so many seconds, with a speech vector and a line for each; call it inside `saving`."""
    spans = np.stack([np.arange(steps), np.arange(steps) + 1.0], axis=1)
    values = _CENTRES[rng.integers(len(_CENTRES))] + 0.5 * rng.normal(size=(steps, 384)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    lines = tuple(Text(" ".join(rng.choice(_WORDS, 5)), *span, "said") for span in spans.tolist())
    library.db.execute("INSERT INTO videos(id) VALUES (?)", (video,))
    library.put_track(f"id:{video}", "speech", "speech:test", "speech", Track(values, spans, lines))


def make_talks(folder: Path, videos: int) -> Library:
    """Videos v000, v001 and so on, which are the same at every call."""
    rng = np.random.default_rng(5)
    library = Library.open(folder, create=True)
    with library.saving():
        for number in range(videos):
            add_talk(library, f"v{number:03d}", rng)
    return library
