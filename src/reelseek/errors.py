"""Every exception that Reelseek raises on purpose.

ReelseekError
├── UsageError            what was asked for contradicts itself or names something unknown
├── MediaError            something is wrong with one media file
│   ├── DecodeError         it cannot be opened or decoded
│   └── LimitError          decoding it would take more time, memory or pixels than allowed
├── ExpertUnavailable     an expert cannot run here: a package or its weights are missing
├── FeatureError          features have the wrong width, hold NaN, or belong to another expert
├── LibraryError          the library is missing, locked, damaged or of another version
├── CollectionError       a table, list or folder of videos cannot be read
├── ModelError            a model cannot be loaded, or was given what it was not built for
├── RecipeError           a training recipe is wrong
├── ClusterError          a cluster of machines cannot be reached, or its nodes differ
└── QueryError            a query cannot be understood
"""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "ClusterError",
    "CollectionError",
    "DecodeError",
    "ExpertUnavailable",
    "FeatureError",
    "LibraryError",
    "LimitError",
    "MediaError",
    "ModelError",
    "QueryError",
    "RecipeError",
    "ReelseekError",
    "UsageError",
    "suggest",
]


def suggest(name: str, names: Iterable[str]) -> str:
    """Name the nearest of some names, for the end of a sentence that refuses one; '' where none is near.

    >>> suggest("audoi", ["audio", "motion"])
    "; did you mean 'audio'?"
    """
    by_lower = {other.lower(): other for other in names}
    near = get_close_matches(name.lower(), list(by_lower), 1, 0.6)
    return f"; did you mean {by_lower[near[0]]!r}?" if near else ""


class ReelseekError(Exception):
    """Root of the tree; its text says what was given, what was wanted and what to do next."""


class UsageError(ReelseekError):
    """The request contradicts itself or names something unknown."""


class MediaError(ReelseekError):
    """Something is wrong with one media file."""


class DecodeError(MediaError):
    """The file cannot be opened or decoded."""


class LimitError(MediaError):
    """Decoding the file would take more time, memory, pixels or duration than allowed."""


class ExpertUnavailable(ReelseekError):
    """An expert cannot run here: a package or its weights are missing."""


class FeatureError(ReelseekError):
    """Features have the wrong width, hold NaN where present, or belong to another expert."""


class LibraryError(ReelseekError):
    """The library is missing, locked, damaged, full or of another version."""


class CollectionError(ReelseekError):
    """A table, list or folder of videos cannot be read."""


class ModelError(ReelseekError):
    """A model cannot be loaded, or was given what it was not built for."""


class RecipeError(ReelseekError):
    """A training recipe is wrong."""


class ClusterError(ReelseekError):
    """A cluster of machines cannot be reached, its nodes differ, or it lends no processor."""


class QueryError(ReelseekError):
    """A query cannot be understood."""
