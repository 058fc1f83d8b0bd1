"""An index over clips; a query -> ranked moments with their reasons."""

from reelseek.library.clips import ClipRule, clips_of
from reelseek.search.build import build_index
from reelseek.search.hit import Hit
from reelseek.search.index import Index, open_index
from reelseek.search.localize import Localized, localize, measure_steps
from reelseek.search.query import Query, parse_query
from reelseek.search.searcher import Searcher
from reelseek.search.segment import Segmented, segment

__all__ = [
    "ClipRule",
    "Hit",
    "Index",
    "Localized",
    "Query",
    "Searcher",
    "Segmented",
    "build_index",
    "clips_of",
    "localize",
    "measure_steps",
    "open_index",
    "parse_query",
    "segment",
]
