"""Vectors of fixed texts by the packaged sentence encoder, which come with the package, so that nobody waits for them.

They are those of the background queries, and of the names of the 1,000 ImageNet classes.
`benchmarks/packaged/shipped_vectors.py` makes them; a test makes them again.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.experts.efficientnet import imagenet_labels
from reelseek.experts.sentence import SentenceEncoder

__all__ = ["SHIPPED", "label_means", "label_names", "remember_shipped", "shipped_vectors"]

SHIPPED = Path(__file__).parent / "shipped_vectors.npz"


def label_names(label: str) -> list[str]:
    """Split a class into its names.

    >>> label_names("tench, Tinca tinca")
    ['tench', 'Tinca tinca']
    """
    return [name.strip() for name in label.split(",")]


def label_means(encoder: SentenceEncoder, labels: Sequence[str]) -> npt.NDArray[np.float32]:
    """Mean vector [label, dim] of the names of each class."""
    return np.stack([encoder.encode(label_names(label)).mean(axis=0) for label in labels])


def shipped_vectors(
    encoder: SentenceEncoder, queries: Sequence[str], labels: Sequence[str]
) -> dict[str, npt.NDArray[Any]]:
    """Make what SHIPPED holds: the vectors [text, dim] of queries and of the names of classes, and of what they are."""
    names = [name for label in labels for name in label_names(label)]
    return {
        "queries": encoder.encode(queries),
        "names": np.concatenate([encoder.encode(label_names(label)) for label in labels]),
        "of": np.array(_key(encoder, [*queries, *names])),
    }


def remember_shipped(encoder: SentenceEncoder, queries: Sequence[str]) -> bool:
    """Let an encoder take the vectors that come with the package.

    Returns:
        False where they are those of another encoder or other texts, and nothing was done.
    """
    names = [name for label in imagenet_labels() for name in label_names(label)]
    with np.load(SHIPPED, allow_pickle=False) as arrays:
        if str(arrays["of"]) != _key(encoder, [*queries, *names]):
            return False
        encoder.remember([*queries, *names], np.concatenate([arrays["queries"], arrays["names"]]))
    return True


def _key(encoder: SentenceEncoder, texts: Sequence[str]) -> str:
    return f"{encoder.fingerprint} {hashlib.sha256(chr(10).join(texts).encode()).hexdigest()}"
