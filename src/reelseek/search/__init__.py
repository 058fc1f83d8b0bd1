"""An index over clips; a query -> ranked moments with their reasons."""

from reelseek.library.clips import ClipRule, clips_of
from reelseek.search.build import build_index, update_index
from reelseek.search.erase import erase_videos
from reelseek.search.examples import Footage, Moment, Picture, Then
from reelseek.search.hit import Hit
from reelseek.search.index import Index, open_index
from reelseek.search.merging import merge_due, merge_index
from reelseek.search.query import Query, parse_query
from reelseek.search.searcher import Searcher

__all__ = [
    "ClipRule",
    "Footage",
    "Hit",
    "Index",
    "Moment",
    "Picture",
    "Query",
    "Searcher",
    "Then",
    "build_index",
    "clips_of",
    "erase_videos",
    "merge_due",
    "merge_index",
    "open_index",
    "parse_query",
    "update_index",
]
