"""Captions that come as vectors instead of words."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["CaptionFeatures", "first_words", "join_captions"]


class CaptionFeatures(str):
    """A caption that was encoded already: a string that names it, with its vectors.

    It goes wherever a caption goes; only a text side that takes features (`model.text.encoder = "features"`) reads it.

    Args:
        name: what reports and errors call the caption.
        vectors: float32 [word, dim]; one row where the caption was pooled.
    """

    vectors: npt.NDArray[np.float32]

    def __new__(cls, name: str, vectors: npt.NDArray[np.float32]) -> "CaptionFeatures":
        caption = super().__new__(cls, name)
        caption.vectors = vectors
        return caption

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that name the exact vectors."""
        shape = repr(self.vectors.shape).encode()
        return hashlib.sha256(shape + np.ascontiguousarray(self.vectors).tobytes()).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"CaptionFeatures({str(self)!r}, {self.digest})"

    def __reduce__(self) -> tuple[Any, ...]:
        return CaptionFeatures, (str(self), self.vectors)


def join_captions(captions: Sequence[str]) -> str:
    """One caption of several, in their order: the words of texts, or the vectors of features.

    >>> join_captions(["cut the onion", "fry it"])
    'cut the onion fry it'
    """
    features = [caption for caption in captions if isinstance(caption, CaptionFeatures)]
    text = " ".join(str(caption) for caption in captions)
    if not features or len(features) < len(captions):
        return text
    return CaptionFeatures(text, np.concatenate([caption.vectors for caption in features]))


def first_words(caption: str, count: int) -> str:
    """The beginning of a caption: its first words, or the first vectors of features."""
    text = " ".join(caption.split()[:count])
    return CaptionFeatures(text, caption.vectors[:count]) if isinstance(caption, CaptionFeatures) else text
