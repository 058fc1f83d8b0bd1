"""An index over clips; a query -> ranked moments with their reasons."""

from reelseek.search.clips import ClipRule, clips_of
from reelseek.search.index import Index, build_index, open_index
from reelseek.search.query import Query, parse_query
from reelseek.search.searcher import Hit, Searcher

__all__ = ["ClipRule", "Hit", "Index", "Query", "Searcher", "build_index", "clips_of", "open_index", "parse_query"]
