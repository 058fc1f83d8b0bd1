"""Searches side by side: views of one searcher, a thread each, over indexes that they share.

A view has a connection to the database, readers and caches of its own. What it shares never changes (model, segments)
or is followed by one thread at a time (which index is current). Nobody waits for an index that is built: the one from
before answers until then, and where there is none `IndexPending` says what to wait for.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from reelseek.library.store import Library
from reelseek.search.current import CurrentIndex, IndexPending
from reelseek.search.names import Names
from reelseek.search.searcher import Searcher

__all__ = ["SearcherView", "SharedIndexes"]

_MOST_SELECTIONS = 4  # indexes of some of the experts that are held open


class SharedIndexes:
    """The indexes of one searcher, for all its views.

    Args:
        searcher: it may still be used, by one thread at a time.
    """

    def __init__(self, searcher: Searcher) -> None:
        self.searcher = searcher
        self._libraries: list[Library] = []
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(1, "index")
        self._selections: OrderedDict[tuple[str, ...], Future[CurrentIndex]] = OrderedDict()
        searcher.current.build_in_background()

    def view(self) -> "SearcherView":
        """A searcher for one more thread."""
        library = self._open()
        self._libraries.append(library)
        return SearcherView(self, library)

    def _open(self) -> Library:
        return type(self.searcher.library).open(self.searcher.library.path)

    def all_experts(self) -> CurrentIndex:
        """The index of clips embedded from all that the library has."""
        return self.searcher.current

    def selection(self, experts: Sequence[str]) -> CurrentIndex:
        """The index of clips embedded from some experts.

        Raises:
            IndexPending: it is being opened or built.
            Exception: what it could not be opened for.
        """
        key = tuple(experts)
        with self._lock:
            future = self._selections.get(key)
            if future is None:
                future = self._selections[key] = self._threads.submit(self._open_selection, key)
            elif future.done() and future.exception() is not None:
                del self._selections[key]  # who asks next tries again
                return future.result()
            self._selections.move_to_end(key)
            while len(self._selections) > _MOST_SELECTIONS and next(iter(self._selections.values())).done():
                self._selections.popitem(last=False)
        if not future.done():
            raise IndexPending(f"the index of {', '.join(experts)} is being opened; ask again", future)
        return future.result()

    def _open_selection(self, experts: tuple[str, ...]) -> CurrentIndex:
        library = self._open()  # goes with the index: views may still look at one that makes room for another
        try:
            current = self.searcher.open_selection(experts, library)
        except BaseException:
            library.close()
            raise
        current.build_in_background()
        return current

    def close(self) -> None:
        """Close what views opened, when none of them is used any more."""
        self._threads.shutdown(cancel_futures=True)
        self.searcher.current.close()
        for future in self._selections.values():
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().close()
                future.result().library.close()
        for library in self._libraries:
            library.close()


class SearcherView(Searcher):
    """A searcher of the same library by the same model, for a thread of its own."""

    def __init__(self, shared: SharedIndexes, library: Library) -> None:
        self._shared = shared
        self.library = library
        self._take_settings(shared.searcher)
        self._current = _IndexView(shared.all_experts(), library)
        self._selections = {}
        self._names = Names(library)
        self._follow()

    def _selected(self, experts: tuple[str, ...]) -> CurrentIndex:
        shared = self._shared.selection(experts)
        view = self._selections.get(experts)
        if not isinstance(view, _IndexView) or not view.is_of(shared):
            view = _IndexView(shared, self.library)
            self._galleries.pop(experts, None)
        elif view.refresh():
            self._galleries.pop(experts, None)
        self._selections = {experts: view, **{name: v for name, v in self._selections.items() if name != experts}}
        for name in list(self._selections)[_MOST_SELECTIONS:]:
            del self._selections[name]
            self._galleries.pop(name, None)
        return view


class _IndexView(CurrentIndex):
    """What an index is in one answer: it changes with `refresh` alone, whoever follows the library meanwhile.

    Args:
        leader: follows the library; only by one thread at a time.
        library: whose connection is this view's own.
    """

    def __init__(self, leader: CurrentIndex, library: Library) -> None:
        self._leader, self._library = leader, library
        with leader.lock:
            self._show()

    def is_of(self, leader: CurrentIndex) -> bool:
        """Whether it shows this index."""
        return self._leader is leader

    def _show(self) -> None:
        self._state = self._leader.state
        self.index, self.unindexed = self._leader.index, self._leader.unindexed
        self._hidden, self._followed = self._leader.hidden, self._leader.followed
        self.owners = type(self._leader.owners)(self._library)

    def refresh(self) -> bool:
        with self._leader.lock:
            self._leader.refresh()
            if self._state == self._leader.state:
                return False
            self._show()
            return True

    def has_changed(self) -> bool:
        with self._leader.lock:
            return self._state != self._leader.state or self._leader.has_changed()

    def drop(self, name: str, reason: str) -> bool:
        with self._leader.lock:
            dropped = self._leader.drop(name, reason)
            self._show()
            return dropped

    def close(self) -> None:
        """Nothing is its own."""
