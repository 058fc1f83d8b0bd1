"""The database of a library: the one place with SQL. Outside, a method says what is read or written."""

from reelseek.library.catalog.catalog import Catalog
from reelseek.library.catalog.changes import Change
from reelseek.library.catalog.connection import Connection
from reelseek.library.catalog.contents import SidecarState
from reelseek.library.catalog.exchange import EXCHANGED
from reelseek.library.catalog.schema import FORMAT_VERSION
from reelseek.library.catalog.texts import Stemmer, TextMatch
from reelseek.library.catalog.tracks import TrackGroup
from reelseek.library.catalog.videos import FileState

__all__ = [
    "EXCHANGED",
    "FORMAT_VERSION",
    "Catalog",
    "Change",
    "Connection",
    "FileState",
    "SidecarState",
    "Stemmer",
    "TextMatch",
    "TrackGroup",
]
