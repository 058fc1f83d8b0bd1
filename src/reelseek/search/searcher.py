"""A query walks through: parse -> select the evidence -> embed -> rank clips -> merge moments -> reasons."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import torch

from reelseek.errors import LibraryError, QueryError, ReelseekError, UsageError
from reelseek.library.clips import ClipRule
from reelseek.library.notebook import NotebookProgress, in_notebook
from reelseek.library.store import Library
from reelseek.models.device import device_of, resolve_device
from reelseek.models.joint import load_for
from reelseek.models.model import RetrievalModel
from reelseek.moments.curves import RADIUS
from reelseek.search.current import CurrentIndex
from reelseek.search.examples import NO_EXAMPLES, Example, Examples, Then
from reelseek.search.following import following_hits
from reelseek.search.fulltext import lines_with_phrase
from reelseek.search.gallery import Gallery
from reelseek.search.hit import Hit, Miss, Within
from reelseek.search.index import Index
from reelseek.search.inside import look_inside
from reelseek.search.likeness import compared_alone
from reelseek.search.misses import explain_miss, refusing_terms
from reelseek.search.moments import Page, best_hits
from reelseek.search.names import Names
from reelseek.search.nearest import Run, run_here
from reelseek.search.query import Query, parse_query
from reelseek.search.question import Question, ask, select
from reelseek.search.segment import DamagedError

__all__ = ["Searcher"]

_ATTEMPTS = 20
_PAUSE_SECONDS = 0.01  # longer after every attempt
_MOST_SELECTIONS = 4  # indexes of some of the experts that are held open
Answer = TypeVar("Answer")
Progress = Callable[[int, int], None]


class Searcher:
    """Answers queries over one library with one model; its index is brought up to date when it is opened.

    Every score is the model's own `similarity` to a clip. Leaving a modality out means that clips are embedded without
    it, by an index of their own where that takes one; it is made when it is first asked for, and kept.

    Every answer is about the library as it is: what other processes removed meanwhile is no hit any more, and an index
    that they built anew is opened. It serves one thread at a time.

    Args:
        library: open.
        model: a model, its folder, or the name of a system that needs no training; `concepts` takes the joint model
            along that the library's `clip` tracks come from, see `load_for`.
        rule: how clips are cut; None keeps the index's own.
        update: False takes the index as it is, if there is one.
        device: where clips and queries are embedded, see `resolve_device`; a model that was given stays where it is
            if nothing is named.
        exact: score every clip on that device instead of searching nearest neighbours; on an accelerator the
            embeddings of all clips have to fit into its memory.
        progress: called with how many clips are embedded, and of how many, whenever an index is built; None shows a
            bar in a notebook, and nothing elsewhere.
        run: reads the segments for `search`: this process, or replicas on a cluster, see `replicas.Replicas`.

    Attributes:
        left_out: why tracks of the library that the model could read are not searched; '' where none are.

    Raises:
        UsageError, ModelError: the model cannot be used with this library.
    """

    def __init__(
        self,
        library: Library,
        model: RetrievalModel | str | Path = "concepts",
        *,
        rule: ClipRule | None = None,
        update: bool = True,
        device: str | torch.device | None = None,
        exact: bool = False,
        progress: Progress | None = None,
        run: Run = run_here,
    ) -> None:
        self.library = library
        loaded = load_for(library, model, device)
        self.model, self.left_out = loaded.model, loaded.left_out
        if progress is None and in_notebook():
            progress = partial(NotebookProgress(), "embedding")
        self._update, self._progress, self._run = update, progress, run
        self._exact_on = (device_of(self.model) if device is None else resolve_device(device)) if exact else None
        self._current = CurrentIndex(library, self.model, rule, update=update, progress=progress)
        self._selections: dict[tuple[str, ...], CurrentIndex] = {}
        self._names = Names(library)
        self._follow()

    @property
    def current(self) -> CurrentIndex:
        """The index of clips embedded from all that the library has, as it is now."""
        return self._current

    @property
    def index(self) -> Index:
        """What is searched; clips of videos that are no longer in the library are stepped over."""
        return self._current.index

    def refresh(self) -> bool:
        """Follow the library, if it has changed since the last answer; says whether it has. Every answer begins so."""
        changed = self._current.refresh()
        if changed:
            self._follow()
        return changed

    def _follow(self) -> None:
        self._modalities = {name: str(facts["modality"]) for name, facts in self.library.experts().items()}
        self._galleries: dict[tuple[str, ...] | None, Gallery] = {}

    def _answer(self, answer: Callable[[], Answer]) -> Answer:
        """Of one state of the library: once more where another process changed it in the middle of an answer."""
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE_SECONDS * attempt)  # several removals may follow upon each other
            self.refresh()
            try:
                return answer()
            except DamagedError as error:
                for current in (self._current, *self._selections.values()):
                    current.drop(error.segment.record.name, str(error))
                self._follow()
            except (ReelseekError, KeyError):
                if not self._current.has_changed():
                    raise
        raise LibraryError(f"{self.library.path} changes faster than it can be searched; ask again")

    def unread(self, query: str) -> str:
        """Return what of a query is looked for word for word only, since the model's text side cannot read it; else ''.

        Raises:
            QueryError: what is wrong and what to do.
        """
        terms = [term.text for term in parse_query(query, words_required=False).terms]
        if not terms:
            return ""
        return " ".join(term for term, read in zip(terms, self.model.reads(terms).tolist(), strict=True) if not read)

    def notes(
        self,
        query: str = "",
        *,
        filter: str = "",
        like: Sequence[Example] = (),
        unlike: Sequence[Example] = (),
        then: Then | None = None,
    ) -> list[str]:
        """Say how a query is answered: which dates a filter goes by, how examples are compared.

        Phrases that no line of the library holds, so that there can be no hit, are named.

        Of `then` it also says which words the model cannot read; of the query itself `unread` does.

        Raises:
            QueryError: what is wrong and what to do.
        """
        parsed = parse_query(query, filter=filter, words_required=False)
        conditions, phrases = parsed.filter, [*parsed.phrases]
        notes = []
        if then is not None:
            following = parse_query(then.query)
            conditions, phrases = conditions & following.filter, [*phrases, *following.phrases]
            if words := self.unread(then.query):
                notes.append(f"{words!r}, which must follow, is matched word for word only: the model cannot read it")
        if any(condition.key in ("before", "after") for condition in conditions.conditions):
            taken, changed, unknown = self.library.catalog.selection.date_sources()
            notes.append(
                f"dates: of {taken} videos when they were filmed, of {changed} when their file last changed"
                + (f"; {unknown} have none, and are neither before nor after" if unknown else "")
            )
        for phrase in dict.fromkeys(phrases):
            if not lines_with_phrase(self.library, phrase):
                notes.append(f"nobody says {phrase!r}, nor is it written; without its quotes it need not be")
        if (like or unlike) and self.model.pairwise:
            notes.append(f"{self.model.system} compares texts with clips; examples are compared by coarse embeddings")
        return notes

    # What is searched

    def _ask(
        self,
        query: Query,
        without: Sequence[str],
        weights: Mapping[str, float],
        examples: Examples = NO_EXAMPLES,
        *,
        more_words: bool = False,
    ) -> tuple[Question, Gallery]:
        """The question that a query is to the model, and the clips that it is asked of.

        Args:
            more_words: words of another query are asked of the same clips.

        Raises:
            UsageError: an unknown modality, nothing left, or no video that has any of what is left.
        """
        alone = compared_alone(self.model, self._modalities, examples, words=bool(query.terms) or more_words)
        if alone is not None:
            without = [*without, *(name for name in self.index.experts if alone not in (name, self._modalities[name]))]
        selection = select(self.model, self._modalities, self.index.experts, without, weights)
        gallery = self._gallery(selection.experts)
        uneven = selection.factors.size and not selection.even
        counted = selection.factors > 0 if uneven else slice(None)
        if (without or weights) and not gallery.current.index.has_any(counted):
            excluded = {*without, *(name for name, weight in (weights or {}).items() if weight == 0)}
            remaining = [name for name in self.index.experts if not {name, self._modalities[name]} & excluded]
            raise UsageError(
                f"no video has anything of {', '.join(remaining)} that {self.model.system} compares with text; "
                "leave out less"
            )
        return ask(self.model, query, selection, gallery.likenesses(examples), self.index.unrelated), gallery

    def _gallery(self, experts: tuple[str, ...] | None) -> Gallery:
        current = self._current if experts is None else self._selected(experts)
        if experts not in self._galleries:
            self._galleries[experts] = Gallery(
                self.library, self.model, current, self._names, self._exact_on, self._run
            )
        return self._galleries[experts]

    def _selected(self, experts: tuple[str, ...]) -> CurrentIndex:
        """The index of clips embedded from some experts, as the library is now.

        The one that was used longest ago is closed when they are many.
        """
        current = self._selections.pop(experts, None)
        if current is None:
            current = self.open_selection(experts, self.library)
        elif current.refresh():
            self._galleries.pop(experts, None)
        self._selections[experts] = current
        while len(self._selections) > _MOST_SELECTIONS:
            oldest = next(iter(self._selections))
            del self._selections[oldest]
            self._galleries.pop(oldest, None)
        return current

    def _take_settings(self, other: "Searcher") -> None:
        self.model, self.left_out = other.model, other.left_out
        self._update, self._progress, self._run = other._update, other._progress, other._run
        self._exact_on = other._exact_on

    def open_selection(self, experts: tuple[str, ...], library: Library) -> CurrentIndex:
        """The index of clips embedded from some experts; it is built where there is none, which may take long.

        Args:
            library: whose connection it uses.
        """
        return CurrentIndex(
            library, self.model, self.index.rule,
            experts=experts, unrelated=self.index.unrelated, update=self._update, progress=self._progress,
        )  # fmt: skip

    # The walk

    def search(
        self,
        query: str = "",
        *,
        k: int = 10,
        offset: int = 0,
        group_by: Literal["moment", "video"] = "moment",
        without: Sequence[str] = (),
        weights: Mapping[str, float] | None = None,
        filter: str = "",
        like: Sequence[Example] = (),
        unlike: Sequence[Example] = (),
        then: Then | None = None,
        query_id: str = "1",
    ) -> list[Hit]:
        """Find the best moments, or the best moment of each of the best videos.

        Args:
            query: see `parse_query`; may be empty where `like` is not.
            k: how many hits, from 1 on.
            offset: how many of the best are stepped over, for the next page of a list.
            without: modalities or experts that shall not count: videos are embedded without them.
            weights: factors for modalities or experts; 0 leaves one out. A system that fuses its modalities takes no
                others.
            filter: which videos count, see `library.filters`; its terms may stand in the query, too.
            like, unlike: examples of what is looked for, and of what is taken away.
            then: what must follow in the same video.

        Raises:
            QueryError, UsageError: what is wrong and what to do.
        """
        if k < 1:
            raise UsageError(f"-k is {k}; ask for at least one hit")
        if offset < 0:
            raise UsageError(f"the offset is {offset}; wanted how many hits to step over, from 0 on")
        examples = Examples(tuple(like), tuple(unlike))
        if unlike and not like and not query.strip():
            raise QueryError(
                "examples of what is not looked for say only what not to find; add words, or one of what is"
            )
        parsed = parse_query(query, filter=filter, words_required=not like)
        after = None if then is None else parse_query(then.query)
        page = Page(k, offset, group_by, query_id)

        def answer() -> list[Hit]:
            question, gallery = self._ask(parsed, without, weights or {}, examples, more_words=then is not None)
            if then is None or after is None:
                return best_hits(gallery, question, page)
            second, _ = self._ask(after, without, weights or {})
            return following_hits(gallery, question, second, then.within, page)

        return self._answer(answer)

    # Inside one video

    def within(
        self,
        query: str,
        video: str,
        *,
        k: int = 10,
        without: Sequence[str] = (),
        weights: Mapping[str, float] | None = None,
        filter: str = "",
        radius: float = RADIUS,
        query_id: str = "1",
    ) -> Within:
        """Look inside one video, second by second: how near each is to the query, and where that peaks.

        Scores are what `search` would give a clip of that second; a phrase in quotes leaves only seconds with it.

        Args:
            video: its id, its path, or the end of either.
            k: how many peaks.
            radius: seconds around each second that are looked at with it.

        Raises:
            QueryError, UsageError: what is wrong and what to do.
        """
        if k < 1:
            raise UsageError(f"-k is {k}; ask for at least one hit")
        parsed = parse_query(query, filter=filter)
        page = Page(k, query_id=query_id)

        def answer() -> Within:
            inside = self.library.video(video)
            if terms := refusing_terms(self.library, inside, parsed.filter):
                raise QueryError(f"{inside.id} is left out by {' and '.join(terms)}; leave that away to look inside it")
            question, gallery = self._ask(parsed, without, weights or {})
            return look_inside(gallery, question, inside, radius, page)

        return self._answer(answer)

    # Misses

    def why_not(
        self,
        query: str,
        video: str,
        *,
        without: Sequence[str] = (),
        weights: Mapping[str, float] | None = None,
        filter: str = "",
    ) -> Miss:
        """Explain a miss: a video's rank among all videos, and for each modality what it had and what it gave.

        Args, errors: as for `within`.
        """
        parsed = parse_query(query, filter=filter)

        def answer() -> Miss:
            miss = self.library.video(video)
            question, gallery = self._ask(parsed, without, weights or {})
            return explain_miss(gallery, question, miss)

        return self._answer(answer)
