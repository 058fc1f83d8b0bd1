"""Training with 180,000 captions and a frozen text side: what it costs once, and its share of every later epoch.

Run: python benchmarks/texts.py [CLIPS] [SYSTEM,...]   (default 9,000 clips of 20 captions; mmt,eao)
As many clips and captions as MSR-VTT's training part has, in a library on disk; features of two experts of 64 numbers
and up to 30 steps, captions of 8 to 12 words, read by a BERT of one layer and 64 numbers with random weights. So small
are models and features that the rest of a step costs as little as it ever will, which makes the share an upper bound:
what is read of a text is four kilobytes, and a step of a real system takes ten to a hundred times as long. The text
side is all that `TextEncoder` does: finding a caption's vectors, checking and padding them.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter

import reelseek.models
from reelseek.experts.expert import Track
from reelseek.library import Library
from reelseek.models.text import TextEncoder
from reelseek.training import Recipe, train
from reelseek.training.log import Epoch

CAPTIONS = 20
EXPERTS = {"see": "appearance", "hear": "audio"}
DIM = 64
WIDTH = 64
SYSTEMS: dict[str, dict[str, Any]] = {
    "mmt": {"width": 128, "depth": 2, "heads": 4, "inner": 256},
    "eao": {"width": 128, "inner": 256, "embedding": 256, "depth": 1, "heads": 4, "spectrograms": {}},
}


def save_encoder(folder: Path) -> list[str]:
    """Save a small BERT and its tokenizer; the words that it knows."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    background = (Path(reelseek.models.__file__).parent / "background.txt").read_text("utf-8")
    words = sorted({word for word in background.lower().split() if word.isalpha()})
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]), "utf-8")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 2 * WIDTH}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(words) + 5, **sizes)).save_pretrained(folder)
    return words


def fill(library: Library, clips: int, words: list[str]) -> None:
    rng = np.random.default_rng(0)
    with library.writing(), library.saving():
        for clip in range(clips):
            library.db.execute("INSERT INTO videos(id) VALUES (?)", (f"v{clip}",))
            for name, modality in EXPERTS.items():
                steps = int(rng.integers(1, 31))
                spans = np.stack([np.arange(steps), np.arange(steps) + 1.0], 1)
                track = Track(rng.standard_normal((steps, DIM), np.float32), spans)
                library.put_track(f"id:v{clip}", name, f"{name}:benchmark", modality, track)
            texts = [" ".join(rng.choice(words, rng.integers(8, 13))) for _ in range(CAPTIONS)]
            rows = [(f"v{clip}", place, text, None, None, "train") for place, text in enumerate(texts)]
            library.db.executemany("INSERT INTO captions VALUES (?, ?, ?, ?, ?, ?)", rows)


class Stopwatch:
    """Seconds within the methods of every text side, calls of each other counted once."""

    def __init__(self) -> None:
        self.seconds, self._depth = 0.0, 0

    def watch(self, method: str) -> None:
        inner = getattr(TextEncoder, method)

        def timed(encoder: TextEncoder, *arguments: Any) -> Any:
            started, self._depth = time.perf_counter(), self._depth + 1
            try:
                return inner(encoder, *arguments)
            finally:
                self._depth -= 1
                self.seconds += 0.0 if self._depth else time.perf_counter() - started

        setattr(TextEncoder, method, timed)


def measure(system: str, library: Library, encoder: Path, out: Path, stopwatch: Stopwatch) -> None:
    """Train two epochs, and print what the text side took of each."""
    model = {"system": system, "text": {"encoder": str(encoder)}, **SYSTEMS[system]}
    settings = {"epochs": 2, "batch": 64, "device": "cpu"}
    recipe = TypeAdapter(Recipe).validate_python({"model": model, "train": settings})
    marks = [(time.perf_counter(), stopwatch.seconds)]

    def report(line: Epoch, *_: object) -> None:
        marks.append((time.perf_counter(), stopwatch.seconds))
        (before, text_before), (now, text_now) = marks[-2:]
        what = "start, encoding and epoch 0" if line.epoch == 0 else f"epoch {line.epoch}"
        print(f"{system}, {what}: {now - before:.1f} s, of which the text side {text_now - text_before:.2f} s "
              f"({(text_now - text_before) / (now - before):.2%})", flush=True)  # fmt: skip

    train(recipe, library, out, report=report)
    (begun, text_begun), (ended, text_ended) = marks[-2], marks[-1]
    size = sum(file.stat().st_size for file in (library.path / "texts").rglob("*") if file.is_file())
    print(f"{system}: {(text_ended - text_begun) / (ended - begun):.2%} after the first epoch (wanted: below 2 %); "
          f"texts of all systems so far take {size / 1e6:.0f} MB", flush=True)  # fmt: skip


def main(clips: int, systems: list[str]) -> None:
    stopwatch = Stopwatch()
    for method in ("words", "pooled", "reads"):
        stopwatch.watch(method)
    with tempfile.TemporaryDirectory() as folder:
        words = save_encoder(Path(folder) / "encoder")
        with Library.open(Path(folder) / "library", create=True) as library:
            started = time.perf_counter()
            fill(library, clips, words)
            print(
                f"{clips} clips, {clips * CAPTIONS} captions: made in {time.perf_counter() - started:.0f} s", flush=True
            )
            for system in systems:
                measure(system, library, Path(folder) / "encoder", Path(folder) / system, stopwatch)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(int(arguments[0]) if arguments else 9000, arguments[1].split(",") if len(arguments) > 1 else list(SYSTEMS))
