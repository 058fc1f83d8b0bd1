"""A query walks through: parse -> select the evidence -> embed -> rank clips -> merge moments -> reasons."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from reelseek.errors import LibraryError, QueryError, ReelseekError, UsageError
from reelseek.library.clips import ClipRule
from reelseek.library.filters import Condition, Filter
from reelseek.library.names import printable
from reelseek.library.store import Library, Video
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models.device import device_of, resolve_device
from reelseek.models.embed import embed_clips, similarity_matrix
from reelseek.models.joint import load_for
from reelseek.models.model import Embedding, RetrievalModel
from reelseek.moments.curves import RADIUS, check_tracks, confidence, peaks, second_clips
from reelseek.search.current import CurrentIndex
from reelseek.search.examples import Example, Then
from reelseek.search.explain import contributions, reasons
from reelseek.search.fulltext import Line, lines_with_phrase, matching_lines
from reelseek.search.gallery import Gallery, Seconds
from reelseek.search.hit import Hit, Miss, Why, Within
from reelseek.search.index import Index
from reelseek.search.nearest import Run, run_here
from reelseek.search.query import Query, parse_query
from reelseek.search.question import Question, ask, select, weigh
from reelseek.search.rank import Ranking, merge_moments, rank, rows_with_phrases
from reelseek.search.scoring import literal_scores
from reelseek.search.segment import DamagedError

__all__ = ["Searcher"]

_ATTEMPTS = 20
_PAUSE_SECONDS = 0.01  # longer after every attempt
_MOST_SELECTIONS = 4  # indexes of some of the experts that are held open
_EXPLAINED = 10  # hits whose modalities are told where that takes embedding them again
Answer = TypeVar("Answer")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Options:
    """How a search is answered; see `Searcher.search`."""

    without: Sequence[str]
    weights: Mapping[str, float]
    group_by: str
    query_id: str


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
        progress: called with how many clips are embedded, and of how many, whenever an index is built.
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
        self._update, self._progress, self._run = update, progress, run
        self._exact_on = (device_of(self.model) if device is None else resolve_device(device)) if exact else None
        self._current = CurrentIndex(library, self.model, rule, update=update, progress=progress)
        self._selections: dict[tuple[str, ...], CurrentIndex] = {}
        self._follow()

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
        """What of a query is looked for word for word only, since the model's text side cannot read it; else ''.

        Raises:
            QueryError: what is wrong and what to do.
        """
        terms = [term.text for term in parse_query(query).terms]
        return " ".join(term for term, read in zip(terms, self.model.reads(terms).tolist(), strict=True) if not read)

    # What is searched

    def _ask(self, query: Query, without: Sequence[str], weights: Mapping[str, float]) -> tuple[Question, Gallery]:
        """The question that a query is to the model, and the clips that it is asked of.

        Raises:
            UsageError: an unknown modality, nothing left, or no video that has any of what is left.
        """
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
        return ask(self.model, query, selection), gallery

    def _gallery(self, experts: tuple[str, ...] | None) -> Gallery:
        current = self._current if experts is None else self._selected(experts)
        if experts not in self._galleries:
            self._galleries[experts] = Gallery(self.library, self.model, current, self._exact_on, self._run)
        return self._galleries[experts]

    def _selected(self, experts: tuple[str, ...]) -> CurrentIndex:
        """The index of clips embedded from some experts, as the library is now.

        The one that was used longest ago is closed when they are many.
        """
        current = self._selections.pop(experts, None)
        if current is None:
            current = CurrentIndex(
                self.library, self.model, self.index.rule,
                experts=experts, unrelated=self.index.unrelated, update=self._update, progress=self._progress,
            )  # fmt: skip
        elif current.refresh():
            self._galleries.pop(experts, None)
        self._selections[experts] = current
        while len(self._selections) > _MOST_SELECTIONS:
            oldest = next(iter(self._selections))
            del self._selections[oldest]
            self._galleries.pop(oldest, None)
        return current

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
        """The best moments, or the best moment of each of the best videos.

        Args:
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
        if like or unlike or then is not None:
            raise UsageError("searches by example, and for what follows, are not ready yet")
        parsed = parse_query(query, filter=filter)
        options = _Options(without, weights or {}, group_by, query_id)
        return self._answer(lambda: self._search(parsed, k, offset, options))

    def _search(self, parsed: Query, k: int, offset: int, options: "_Options") -> list[Hit]:
        question, gallery = self._ask(parsed, options.without, options.weights)
        index, selected = gallery.current.index, gallery.selected(parsed.filter)
        count, most = 4 * (k + offset) + 40, len(index) if selected is None else int(selected.sum())
        while True:
            ranking = rank(
                self.library, self.model, gallery.current, question, count, gallery.exact, gallery.run, selected
            )
            moments = merge_moments(index, ranking, k + offset, options.group_by)
            if len(moments) >= k + offset or count >= most or parsed.phrases:
                break
            count *= 4
        moments = moments[offset:]
        background = gallery.background(question.selection) if question.readable else np.zeros(0)
        best = ranking.rows[[moment[0] for moment in moments]].astype(np.int64)
        why = self._reasons(gallery, question, [index.clips[row] for row in best], index.embedding(best),
                            [ranking.lines.get(row) for row in best.tolist()])  # fmt: skip
        return [
            self._hit(gallery, question, ranking, moment, place, background, reason, options.query_id)
            for place, (moment, reason) in enumerate(zip(moments, why, strict=True), offset + 1)
        ]

    def _hit(
        self, gallery: Gallery, question: Question, ranking: Ranking, moment: Sequence[int], place: int,
        background: npt.NDArray[np.float64], why: tuple[Why, ...], query_id: str,
    ) -> Hit:  # fmt: skip
        clips = [gallery.current.index.clips[ranking.rows[at]] for at in moment]
        video = gallery.current.video(clips[0].video)
        score = float(ranking.scores[moment[0]])
        ends = [clip.end_seconds for clip in clips if clip.end_seconds is not None]
        return Hit(
            query_id=query_id,
            query=question.query.text,
            rank=place,
            video=video.id,
            path=printable(video.path) if video.path else None,
            start=round(min(clip.start_seconds or 0.0 for clip in clips), 3),
            end=round(max(ends), 3) if ends else None,
            similarity=round(score, 6),
            confidence=_known_confidence(score, background),
            why=why,
        )

    def _reasons(
        self, gallery: Gallery, question: Question, clips: Sequence[Clip], embedding: Embedding,
        lines: Sequence[Line | None],
    ) -> list[tuple[Why, ...]]:  # fmt: skip
        """Of each clip; beyond the first ten only the lines where reasons take embedding clips again."""
        gallery.reader.prepare(clip.video for clip in clips)
        explained = contributions(self.model, gallery.evidence, question, clips[:_EXPLAINED], embedding[:_EXPLAINED])
        explained += [{}] * (len(clips) - len(explained))
        return [
            reasons(gallery.evidence, question, clip, gave, line)
            for gave, clip, line in zip(explained, clips, lines, strict=True)
        ]

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
            radius: seconds around each second that are looked at with it.

        Raises:
            QueryError, UsageError: what is wrong and what to do.
        """
        if k < 1:
            raise UsageError(f"-k is {k}; ask for at least one hit")
        parsed = parse_query(query, filter=filter)
        return self._answer(lambda: self._within(parsed, video, k, without, weights or {}, radius, query_id))

    def _within(
        self, parsed: Query, name: str, k: int, without: Sequence[str], weights: Mapping[str, float], radius: float,
        query_id: str,
    ) -> Within:  # fmt: skip
        video = self.library.video(name)
        self._require(video, parsed.filter)
        question, gallery = self._ask(parsed, without, weights)
        seconds = self._seconds(gallery.reader, video, radius)
        lines = {int(row): line for line in reversed(matching_lines(self.library, parsed.words))
                 for row in seconds.rows_of(line, video)}  # fmt: skip
        curve = question.scores(self.model, seconds.embedding) + literal_scores(lines, range(len(seconds.clips)))
        allowed = self._with_phrases(parsed, video, seconds)
        background = self._unrelated_in(gallery, question, seconds) if question.readable else np.zeros(0)
        shown = [
            peak
            for peak in peaks(np.where(allowed, curve, curve.min()), k)
            if allowed[peak[0]] and (question.readable or peak[0] in lines)
        ]
        rows = np.array([row for row, _, _ in shown], np.int64)
        clips, best = [seconds.clips[row] for row in rows], seconds.embedding[torch.from_numpy(rows)]
        why = self._reasons(gallery, question, clips, best, [lines.get(row) for row in rows.tolist()])
        hits = [
            Hit(
                query_id, parsed.text, place, video.id, printable(video.path) if video.path else None,
                round(float(seconds.spans[first, 0]), 3), round(float(seconds.spans[end - 1, 1]), 3),
                round(float(curve[row]), 6), _known_confidence(curve[row], background), why[place - 1],
            )
            for place, (row, first, end) in enumerate(shown, 1)
        ]  # fmt: skip
        return Within(video.id, parsed.text, seconds.spans, curve, tuple(hits))

    def _require(self, video: Video, conditions: Filter) -> None:
        """Refuse to look inside a video that a filter leaves out."""
        refusing = [condition.text for condition in conditions.conditions if not self._meets(video, condition)]
        if refusing:
            raise QueryError(f"{video.id} is left out by {' '.join(refusing)}; leave that away to look inside it")

    def _seconds(self, reader: TokenReader, video: Video, radius: float) -> Seconds:
        check_tracks(self.library, reader, video)
        clips, spans = second_clips(video, reader, radius)
        return Seconds(clips, spans, embed_clips(self.model, reader, clips))

    def _with_phrases(self, parsed: Query, video: Video, seconds: Seconds) -> npt.NDArray[np.bool_]:
        """Seconds that have every phrase that must occur, and none that must not."""
        allowed = np.ones(len(seconds.clips), bool)
        for phrases, must_occur in ((parsed.phrases, True), (parsed.refused, False)):
            for phrase in phrases:
                spoken = np.zeros(len(allowed), bool)
                for line in lines_with_phrase(self.library, phrase):
                    spoken[seconds.rows_of(line, video)] = True
                allowed &= spoken == must_occur
        return allowed

    def _unrelated_in(self, gallery: Gallery, question: Question, seconds: Seconds) -> npt.NDArray[np.float64]:
        """The best score that each of the unrelated queries reaches in some seconds."""
        texts = weigh(gallery.current.index.unrelated, question.selection)
        best: npt.NDArray[np.float64] = similarity_matrix(self.model, texts, seconds.embedding).amax(1).double().numpy()
        return best

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
        """Explain a miss: a video's rank among all videos, and for each modality what it had and what it gave."""
        parsed = parse_query(query, filter=filter)
        return self._answer(lambda: self._why_not(parsed, video, without, weights or {}))

    def _why_not(self, parsed: Query, name: str, without: Sequence[str], weights: Mapping[str, float]) -> Miss:
        video = self.library.video(name)
        question, gallery = self._ask(parsed, without, weights)
        index = gallery.current.index
        ranking = rank(self.library, self.model, gallery.current, question, None)
        numbers, _ = index.spans(ranking.rows)
        _, firsts = np.unique(numbers, return_index=True)  # of each video its best clip
        (places,) = np.isin(ranking.rows, index.rows_of(video.id)).nonzero()
        note = ""
        if parsed.phrases:
            rows = rows_with_phrases(self.library, gallery.current, parsed.phrases)
            if not len(np.intersect1d(rows, index.rows_of(video.id))):
                note = f"none of its lines holds the phrase {' and '.join(parsed.phrases)!r}"
        refusing = [c for c in parsed.filter.conditions if not self._meets(video, c)]
        if refusing:
            note = "; ".join([*([note] if note else []), f"it is left out by {' '.join(c.text for c in refusing)}"])
        place_of = int(places[0]) if len(places) else None
        return Miss(
            query=parsed.text,
            video=video.id,
            rank=int((firsts <= place_of).sum()) if place_of is not None else None,
            videos=len(firsts),
            similarity=round(float(ranking.scores[place_of]), 6) if place_of is not None else None,
            best_similarity=round(float(ranking.scores[0]), 6) if len(firsts) else None,
            modalities=tuple(self._modalities_of(gallery, question, video, ranking, place_of)),
            note=note,
        )

    def _meets(self, video: Video, condition: Condition) -> bool:
        return video.id in self.library.catalog.selection.videos(Filter((condition,)), video.id)

    def _modalities_of(
        self, gallery: Gallery, question: Question, video: Video, ranking: Ranking, place: int | None
    ) -> list[dict[str, Any]]:
        """What the best clip of a video has of each modality, and what it gave."""
        index, reader, evidence = gallery.current.index, gallery.reader, gallery.evidence
        gave: Mapping[str, float] = {}
        if place is not None:
            rows = ranking.rows[place : place + 1]
            clip = index.clips[int(rows[0])]
            (gave,) = contributions(self.model, evidence, question, [clip], index.embedding(rows))
        weights = {} if self.model.pairwise else dict(zip(index.slots, question.weights.tolist(), strict=True))
        names = [*(slot for slot in index.slots if slot in self.model.experts), *gave, *reader.dims]
        modalities = []
        for name in dict.fromkeys(names):
            track = reader.row(video.id, name) if name in reader.dims else None
            if name in gave:
                had = evidence.describe(clip, name) if name in reader.dims else "present"
            elif track is None:
                had = "never extracted"
            else:
                had = track.note or "nothing in this clip"
            weight = round(weights.get(name, 1.0), 4)
            modalities.append(
                {"modality": name, "had": had, "gave": round(gave.get(name, 0.0), 4), "wanted_weight": weight}
            )
        return modalities


def _known_confidence(score: float, background: npt.NDArray[np.float64]) -> float | None:
    """None of a query that the model cannot read: nothing is known of what unrelated ones reach then."""
    return confidence(float(score), background) if len(background) else None
