"""Files of word vectors: GloVe's and word2vec's text form, and word2vec's binary form."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelseek.errors import ModelError

__all__ = ["WordVectors", "split_words"]

Vector = npt.NDArray[np.float32]


def split_words(text: str) -> list[str]:
    """Split a text into words as Everything at Once and HowTo100M split captions.

    >>> split_words("A dog's bark, twice!")
    ['A', "dog's", 'bark', 'twice']
    """
    return re.findall(r"[\w']+", text)


class WordVectors:
    """Word vectors, looked up as written, else in lower case.

    Args:
        path: `.bin` for word2vec's binary form; anything else is text, one word and its numbers per line, with or
            without a first line of counts.

    Raises:
        ModelError: the file is absent, or holds no word vectors.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ModelError(f"{path} is no file; word vectors come as GloVe or word2vec text, or word2vec .bin")
        try:
            self._rows: Mapping[str, Vector] = _read_binary(path) if path.suffix == ".bin" else _read_text(path)
        except (ValueError, UnicodeDecodeError, IndexError) as error:
            raise ModelError(f"{path} is not a file of word vectors: {error}") from error
        if not self._rows:
            raise ModelError(f"{path} holds no word vectors")
        self.width = len(next(iter(self._rows.values())))

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, word: str) -> Vector | None:
        vector = self._rows.get(word)
        return self._rows.get(word.lower()) if vector is None else vector


@cache
def word_vectors(path: str) -> WordVectors:
    """Load a file of word vectors once per process."""
    return WordVectors(Path(path))


def _read_text(path: Path) -> dict[str, Vector]:
    rows: dict[str, Vector] = {}
    width = 0
    with path.open(encoding="utf-8") as lines:
        for line_number, line in enumerate(lines, 1):
            word, *numbers = line.rstrip("\n").split(" ")
            numbers = [number for number in numbers if number]
            if line_number == 1 and len(numbers) == 1:
                continue  # word2vec's counts
            width = width or len(numbers)
            if len(numbers) != width or not width:
                raise ValueError(f"line {line_number} has {len(numbers)} numbers, the first has {width}")
            rows[word] = np.array(numbers, np.float32)
    return rows


def _read_binary(path: Path) -> dict[str, Vector]:
    with path.open("rb") as file:
        count, width = (int(part) for part in file.readline().split())
        rows: dict[str, Vector] = {}
        for _ in range(count):
            word = bytearray()
            while (letter := file.read(1)) != b" ":
                if not letter:
                    raise ValueError(f"ends after {len(rows)} of {count} words")
                if letter != b"\n":
                    word += letter
            values = file.read(4 * width)
            if len(values) != 4 * width:
                raise ValueError(f"ends after {len(rows)} of {count} words")
            rows[word.decode("utf-8", "replace")] = np.frombuffer(values, "<f4")
    return rows
