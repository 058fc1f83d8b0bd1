"""A query walks through: parse -> embed -> nearest clips of each pattern -> full text -> moments -> reasons."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from reelseek.errors import LibraryError, ReelseekError, UsageError
from reelseek.experts import MODALITIES
from reelseek.experts.efficientnet import imagenet_labels
from reelseek.experts.sentence import sentence_encoder
from reelseek.library.clips import ClipRule
from reelseek.library.names import printable
from reelseek.library.store import Library, Video
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models.device import resolve_device
from reelseek.models.embed import embed_clips, embed_texts, reader_for
from reelseek.models.model import RetrievalModel, load_model
from reelseek.models.systems.concepts import background_queries, label_vectors
from reelseek.moments.curves import RADIUS, check_tracks, peaks, second_clips
from reelseek.search.current import CurrentIndex
from reelseek.search.fulltext import Line, lines_with_phrase, matching_lines
from reelseek.search.hit import Hit, Miss, Why, Within
from reelseek.search.index import Index
from reelseek.search.query import Query, parse_query
from reelseek.search.scoring import (
    LITERAL,
    background_scores,
    lines_by_row,
    nearest_rows,
    rows_of_line,
    similarities,
)

__all__ = ["Searcher"]

_MERGE = 0.9  # a neighbouring clip joins a moment if it scores at least this share of the moment's best
_LONGEST_MOMENT = 60.0
_SOURCES = {"said": "speech", "written": "ocr", "told": "machine-written"}
_FEWEST_BACKGROUND = 50
_ATTEMPTS = 5
_log = logging.getLogger("reelseek")
Answer = TypeVar("Answer")
Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Seconds:
    """Embedded seconds of one video."""

    clips: Sequence[Clip]
    spans: npt.NDArray[np.float64]
    values: npt.NDArray[np.float32]
    present: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Scored:
    """Clip rows with their scores, best first."""

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    lines: Mapping[int, Line] = field(default_factory=dict)


class Searcher:
    """Answers queries over one library with one model; its index is brought up to date when it is opened.

    Every answer is about the library as it is: what other processes removed meanwhile is no hit any more, and an index
    that they built anew is opened. It serves one thread at a time.

    Args:
        library: open.
        model: a model, its folder, or the name of a system that needs no training.
        rule: how clips are cut; None keeps the index's own.
        update: False takes the index as it is, if there is one.
        device: where clips and queries are embedded, see `resolve_device`; a model that was given stays where it is
            if nothing is named.

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
    ) -> None:
        self.library = library
        self.model = load_model(model)
        if device is not None or self.model is not model:
            self.model.to(resolve_device(device))
        self._current = CurrentIndex(library, self.model, rule, update=update)
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
        experts = self.library.experts()
        self._modality = {name: str(about["modality"]) for name, about in experts.items()}
        self._background: dict[tuple[float, ...], npt.NDArray[np.float64]] = {}
        self._tracks: TokenReader | None = None
        self._damage: dict[tuple[str, str], str | None] = {}

    def _answer(self, answer: Callable[[], Answer]) -> Answer:
        """Of one state of the library: once more where another process changed it in the middle of an answer."""
        for _ in range(_ATTEMPTS):
            self.refresh()
            try:
                return answer()
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

    # The walk

    def search(
        self,
        query: str,
        *,
        k: int = 10,
        group_by: Literal["moment", "video"] = "moment",
        without: Sequence[str] = (),
        weights: Mapping[str, float] | None = None,
        query_id: str = "1",
    ) -> list[Hit]:
        """The best moments, or the best moment of each of the best videos.

        Args:
            without: modalities or experts that shall not count.
            weights: factors for modalities or experts.

        Raises:
            QueryError, UsageError: what is wrong and what to do.
        """
        if k < 1:
            raise UsageError(f"-k is {k}; ask for at least one hit")
        parsed = parse_query(query)
        return self._answer(lambda: self._search(parsed, k, group_by, without, weights or {}, query_id))

    def _search(
        self, parsed: Query, k: int, group_by: str, without: Sequence[str], weights: Mapping[str, float], query_id: str
    ) -> list[Hit]:
        factors = self._factors(without, weights)
        vectors, scale = self._embed(parsed, factors)
        count = 4 * k + 40
        while True:
            scored = self._score(parsed, vectors, scale, count)
            moments = self._moments(scored, k, group_by)
            if len(moments) >= k or count >= len(self.index.clips) or parsed.phrases:
                break
            count *= 4
        background = self._background_scores(factors) if scale.any() else np.zeros(0)  # nothing, for words unread
        return [
            self._hit(parsed, vectors, scale, scored, moment, rank, background, query_id)
            for rank, moment in enumerate(moments, 1)
        ]

    def within(
        self,
        query: str,
        video: str,
        *,
        k: int = 10,
        without: Sequence[str] = (),
        weights: Mapping[str, float] | None = None,
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
        parsed = parse_query(query)
        return self._answer(lambda: self._within(parsed, video, k, without, weights or {}, radius, query_id))

    def _within(
        self, parsed: Query, video: str, k: int, without: Sequence[str], weights: Mapping[str, float], radius: float,
        query_id: str,
    ) -> Within:  # fmt: skip
        found = self.library.video(video)
        factors = self._factors(without, weights)
        vectors, scale = self._embed(parsed, factors)
        seconds = self._seconds(found, radius)
        lines = {row: line for line in reversed(matching_lines(self.library, parsed.words))
                 for row in self._seconds_of(line, found, seconds.spans)}  # fmt: skip
        curve = self._similarities(seconds.values, seconds.present, vectors, scale)
        curve += [LITERAL * lines[row].coverage if row in lines else 0.0 for row in range(len(curve))]
        allowed = np.ones(len(curve), bool)
        for phrases, wanted in ((parsed.phrases, True), (parsed.refused, False)):
            for phrase in phrases:
                said = {row for line in lines_with_phrase(self.library, phrase)
                        for row in self._seconds_of(line, found, seconds.spans)}  # fmt: skip
                allowed &= np.isin(np.arange(len(curve)), list(said)) == wanted
        read = bool(scale.any())
        background = self._unrelated_in(seconds, factors) if read else np.zeros(0)
        hits = []
        there = [each for each in peaks(np.where(allowed, curve, curve.min()), k)
                 if allowed[each[0]] and (read or each[0] in lines)]  # fmt: skip
        for rank, (peak, first, end) in enumerate(there, 1):
            above = int((background >= curve[peak]).sum())
            hits.append(
                Hit(
                    query_id, parsed.text, rank, found.id, printable(found.path) if found.path else None,
                    round(float(seconds.spans[first, 0]), 3), round(float(seconds.spans[end - 1, 1]), 3),
                    round(float(curve[peak]), 6), round(1 - (above + 1) / (len(background) + 1), 4) if read else None,
                    self._why(seconds.clips[peak], seconds.values[peak], seconds.present[peak], parsed, vectors, scale,
                              lines.get(peak)),
                )
            )  # fmt: skip
        return Within(found.id, parsed.text, seconds.spans, curve, tuple(hits))

    def _seconds(self, video: Video, radius: float) -> "_Seconds":
        reader = reader_for(self.model, self.library)
        check_tracks(self.library, reader, video)
        clips, spans = second_clips(video, reader, radius)
        embedding = embed_clips(self.model, reader, clips)
        return _Seconds(clips, spans, embedding.values.numpy(), embedding.present.numpy())

    @staticmethod
    def _seconds_of(line: Line, video: Video, spans: npt.NDArray[np.float64]) -> list[int]:
        if line.owner not in video.owners:
            return []
        return np.flatnonzero((spans[:, 0] < line.end_seconds) & (spans[:, 1] > line.start_seconds)).tolist()

    def _unrelated_in(self, seconds: "_Seconds", factors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The best score that each of the unrelated queries reaches in some seconds."""
        asked = (self._embed(parse_query(text), factors) for text in background_queries())
        return np.array([self._similarities(seconds.values, seconds.present, *each).max() for each in asked])

    def _factors(self, without: Sequence[str], weights: Mapping[str, float]) -> npt.NDArray[np.float32]:
        """A factor a slot.

        Raises:
            UsageError: an unknown modality, one both weighed and left out, or nothing left.
        """
        modality = self._modality
        known = set(MODALITIES) | set(modality) | set(self.index.slots)
        for name in (*without, *weights):
            if name not in known:
                raise UsageError(f"unknown modality or expert {name!r}; there are {', '.join(sorted(known))}")
        for name, factor in weights.items():
            if name in without:
                raise UsageError(f"{name!r} is both left out and weighed; choose one")
            if not (np.isfinite(factor) and factor >= 0):
                raise UsageError(f"the weight of {name!r} is {factor}; wanted a number of at least 0")
        factors = []
        for slot in self.index.slots:
            names = {slot, modality.get(slot, slot)}
            given = [weights[name] for name in names if name in weights]
            factors.append(0.0 if names & set(without) else float(np.prod(given)) if given else 1.0)
        if not any(factors):
            raise UsageError(f"nothing is left to search by: {self.model.system} has {', '.join(self.index.slots)}")
        return np.array(factors, np.float32)

    def _embed(self, query: Query, factors: npt.NDArray[np.float32]) -> tuple[Matrix, npt.NDArray[np.float32]]:
        """The query as weighted slots [slot, dim], and the weight of each slot for the mean of what is present."""
        texts = embed_texts(self.model, [term.text for term in query.terms])
        values, weights = texts.values.numpy(), texts.weights.numpy() * factors
        signed = np.array([term.weight for term in query.terms], np.float32)
        wanted = float(signed[signed > 0].sum())
        vectors = (values * weights[..., None] * signed[:, None, None]).sum(axis=0) / wanted
        scale = (weights * np.maximum(signed, 0)[:, None]).sum(axis=0) / wanted
        return vectors.astype(np.float32), scale.astype(np.float32)

    def _denominator(self, pattern: Sequence[bool], scale: npt.NDArray[np.float32]) -> float:
        return max(float(scale[list(pattern)].sum()), 1e-9) if self.model.renormalise else 1.0

    def _nearest(self, vectors: Matrix, scale: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
        (rows,) = nearest_rows(self.index, vectors[None], scale[None], count)
        return self._current.present_rows(rows)

    def _of_rows(
        self, rows: npt.NDArray[np.int64], vectors: Matrix, scale: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float64]:
        return self._similarities(self.index.values[rows], self.index.present[rows], vectors, scale)

    def _similarities(
        self,
        slots: npt.NDArray[np.floating],
        present: npt.NDArray[np.bool_],
        vectors: Matrix,
        scale: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.float64]:
        """Of clips, as slots [clip, slot, dim] of which some are present [clip, slot], to a query."""
        return similarities(slots, present, vectors, scale, renormalise=self.model.renormalise)

    def _score(
        self,
        query: Query,
        vectors: Matrix,
        scale: npt.NDArray[np.float32],
        count: int,
    ) -> _Scored:
        """Candidates from vectors and from full text, all scored alike."""
        lines = self._lines(query)
        if query.phrases:
            rows = self._rows_with(query.phrases)
        else:
            nearest = self._nearest(vectors, scale, count)
            literal = np.fromiter(lines, np.int64, len(lines))
            rows = np.unique(np.concatenate([nearest, self._current.present_rows(literal)]))
        if query.refused:
            rows = np.setdiff1d(rows, np.concatenate([self._rows_with([phrase]) for phrase in query.refused]))
        scores = self._of_rows(rows, vectors, scale)
        scores += [LITERAL * lines[int(row)].coverage if int(row) in lines else 0.0 for row in rows]
        order = np.lexsort((rows, -scores))
        return _Scored(rows[order], scores[order], lines)

    def _lines(self, query: Query) -> dict[int, Line]:
        """For each clip the best line that holds words of the query."""
        return lines_by_row(self.index, self._current.owners, matching_lines(self.library, query.words))

    def _rows_with(self, phrases: Sequence[str]) -> npt.NDArray[np.int64]:
        sets = [
            {
                row
                for line in lines_with_phrase(self.library, phrase)
                for row in rows_of_line(self.index, self._current.owners, line)
            }
            for phrase in phrases
        ]
        return self._current.present_rows(np.array(sorted(set.intersection(*sets)), np.int64))

    # Moments

    def _moments(self, scored: _Scored, k: int, group_by: str) -> list[list[int]]:
        """Places in `scored` of each moment's clips, the best clip first."""
        place = {int(row): index for index, row in enumerate(scored.rows)}
        taken: set[int] = set()
        videos: set[str] = set()
        moments: list[list[int]] = []
        for index, row in enumerate(scored.rows):
            clip = self.index.clips[row]
            if int(row) in taken or (group_by == "video" and clip.video in videos):
                continue
            moment = [index, *self._neighbours(scored, place, taken, index)]
            taken |= {int(scored.rows[i]) for i in moment}
            videos.add(clip.video)
            moments.append(moment)
            if len(moments) == k:
                break
        return moments

    def _neighbours(self, scored: _Scored, place: Mapping[int, int], taken: set[int], index: int) -> list[int]:
        row, floor = int(scored.rows[index]), _MERGE * scored.scores[index]
        clips, joined = self.index.clips, []
        first = last = clips[row]
        for step in (-1, 1):
            near = row + step
            while near in place and near not in taken and clips[near].video == first.video:
                start = min(first.start_seconds or 0.0, clips[near].start_seconds or 0.0)
                end = max(last.end_seconds or 0.0, clips[near].end_seconds or 0.0)
                if scored.scores[index] <= 0 or scored.scores[place[near]] < floor or end - start > _LONGEST_MOMENT:
                    break
                first, last = (clips[near], last) if step < 0 else (first, clips[near])
                joined.append(place[near])
                near += step
        return joined

    def _hit(
        self,
        query: Query,
        vectors: Matrix,
        scale: npt.NDArray[np.float32],
        scored: _Scored,
        moment: Sequence[int],
        rank: int,
        background: npt.NDArray[np.float64],
        query_id: str,
    ) -> Hit:
        clips = [self.index.clips[scored.rows[index]] for index in moment]
        video = self._current.videos[clips[0].video]
        score = float(scored.scores[moment[0]])
        row = int(scored.rows[moment[0]])
        confidence = None
        if len(background) >= _FEWEST_BACKGROUND:
            confidence = round(1 - (int((background >= score).sum()) + 1) / (len(background) + 1), 4)
        ends = [clip.end_seconds for clip in clips if clip.end_seconds is not None]
        return Hit(
            query_id=query_id,
            query=query.text,
            rank=rank,
            video=video.id,
            path=printable(video.path) if video.path else None,
            start=round(min(clip.start_seconds or 0.0 for clip in clips), 3),
            end=round(max(ends), 3) if ends else None,
            similarity=round(score, 6),
            confidence=confidence,
            why=self._why(
                self.index.clips[row],
                self.index.values[row],
                self.index.present[row],
                query,
                vectors,
                scale,
                scored.lines.get(row),
            ),
        )

    def _background_scores(self, factors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The best score that each query of a fixed, unrelated set reaches on this library."""
        if self.index.background is not None and (factors == 1).all():
            return self.index.background
        key = tuple(float(factor) for factor in factors)
        if key not in self._background:
            self._background[key] = background_scores(
                self.library, self.model, self.index, self._current.owners, factors
            )
        return self._background[key]

    # Reasons

    @property
    def _reader(self) -> TokenReader:
        if self._tracks is None:
            names = [name for name in (*self.index.slots, "object", "speech", "ocr") if name in self._modality]
            self._tracks = TokenReader(self.library, list(dict.fromkeys(names)))
        return self._tracks

    def _why(
        self,
        clip: Clip,
        values: npt.NDArray[np.floating],
        present: npt.NDArray[np.bool_],
        query: Query,
        vectors: Matrix,
        scale: npt.NDArray[np.float32],
        line: Line | None,
    ) -> tuple[Why, ...]:
        """What each modality gave, the most first; a line found word for word comes as a reason of its own."""
        total = self._denominator(present.tolist(), scale)
        given = (values.astype(np.float32) * vectors).sum(axis=1) / total
        sentence = sentence_encoder().encode([query.words])[0]
        reasons = [
            Why(slot, round(float(given[index]), 4), self._matched(clip, slot, sentence))
            for index, slot in enumerate(self.index.slots)
            if present[index] and scale[index] > 0
        ]
        if line is not None:
            reasons.append(Why(_SOURCES[line.kind], round(LITERAL * line.coverage, 4), line.text))
        return tuple(sorted(reasons, key=lambda why: -why.gave))

    def _matched(self, clip: Clip, slot: str, query: npt.NDArray[np.float32]) -> str:
        """The label or line of this slot that is nearest to the query."""
        if slot not in self._reader.dims or slot not in ("object", "speech", "ocr") or self._damaged(clip.video, slot):
            return ""
        values, spans = self._reader.steps(clip, slot)
        if not len(values):
            return ""
        if slot == "object":
            chances = values.mean(axis=0)
            best = np.argsort(-chances)[:5]
            nearest = best[int(np.argmax((label_vectors().numpy()[best] @ query) * chances[best]))]
            return imagenet_labels()[nearest].partition(",")[0]
        start, _ = spans[int(np.argmax(values @ query))]
        owners = self._current.videos[clip.video].owners
        texts = [t for owner in owners for expert, t in self.library.texts(owner) if expert == slot]
        return next((text.text for text in texts if text.start_seconds == start), "")

    def _damaged(self, video: str, expert: str) -> str | None:
        """What is wrong with a track, so that nothing is read out of it; said once."""
        key = (video, expert)
        if key not in self._damage:
            row = self._reader.row(video, expert)
            self._damage[key] = self.library.damage(row) if row is not None else None
            if self._damage[key]:
                _log.warning("%s: %s; its label or line is not shown", video, self._damage[key])
        return self._damage[key]

    def why_not(
        self, query: str, video: str, *, without: Sequence[str] = (), weights: Mapping[str, float] | None = None
    ) -> Miss:
        """Explain a miss: a video's rank among all videos, and for each modality what it had and what it gave."""
        parsed = parse_query(query)
        return self._answer(lambda: self._why_not(parsed, video, self._factors(without, weights or {})))

    def _why_not(self, parsed: Query, video: str, factors: npt.NDArray[np.float32]) -> Miss:
        found = self.library.video(video)
        vectors, scale = self._embed(parsed, factors)
        every = np.arange(len(self.index.clips))
        scores = self._of_rows(every, vectors, scale)
        for row, line in self._lines(parsed).items():
            scores[row] += LITERAL * line.coverage
        best: dict[str, int] = {}
        for row in self._current.present_rows(np.argsort(-scores, kind="stable")):
            best.setdefault(self.index.clips[row].video, int(row))
        ranking = list(best)
        allowed = (
            {self.index.clips[r].video for r in self._rows_with(parsed.phrases)} if parsed.phrases else set(ranking)
        )
        note = "" if found.id in allowed else f"none of its lines holds the phrase {' and '.join(parsed.phrases)!r}"
        own = best.get(found.id)
        return Miss(
            query=parsed.text,
            video=found.id,
            rank=ranking.index(found.id) + 1 if own is not None else None,
            videos=len(ranking),
            similarity=round(float(scores[own]), 6) if own is not None else None,
            best_similarity=round(float(scores[best[ranking[0]]]), 6) if ranking else None,
            modalities=tuple(self._had(found, own, vectors, scale)),
            note=note,
        )

    def _had(
        self, video: Video, row: int | None, vectors: Matrix, scale: npt.NDArray[np.float32]
    ) -> list[dict[str, Any]]:
        told = []
        for index, slot in enumerate(self.index.slots):
            track = self._reader.row(video.id, slot) if slot in self._reader.dims else None
            gave = 0.0
            if row is not None and self.index.present[row, index]:
                had = self._evidence(self.index.clips[row], slot)
                gave = float((self.index.values[row, index].astype(np.float32) * vectors[index]).sum())
            elif track is None:
                had = "never extracted"
            else:
                had = track.note or "nothing in this clip"
            weight = round(float(scale[index]), 4)
            told.append({"modality": slot, "had": had, "gave": round(gave, 4), "wanted_weight": weight})
        return told

    def _evidence(self, clip: Clip, slot: str) -> str:
        """What a slot of a clip says, for people."""
        damage = self._damaged(clip.video, slot) if slot in self._reader.dims else None
        if damage is not None:
            return damage
        if slot == "object":
            values, _ = self._reader.steps(clip, slot)
            best = np.argsort(-values.mean(axis=0))[:5]
            return ", ".join(imagenet_labels()[index].partition(",")[0] for index in best)
        owners = self._current.videos[clip.video].owners
        lines = [t.text for owner in owners for expert, t in self.library.texts(owner) if expert == slot]
        return " / ".join(lines)[:300] or "present"
