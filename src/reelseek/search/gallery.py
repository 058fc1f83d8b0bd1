"""What a question is asked of: the clips of a library embedded from some experts, or the seconds of one video."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from reelseek.errors import QueryError
from reelseek.library.absent import absent_videos
from reelseek.library.filters import Filter
from reelseek.library.store import Library, Video
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models.embed import embed_texts, reader_for, similarity_matrix
from reelseek.models.embedding import Embedding
from reelseek.models.model import RetrievalModel
from reelseek.search.current import CurrentIndex
from reelseek.search.exact import ExactGallery
from reelseek.search.examples import Example, Examples, Moment
from reelseek.search.explain import Evidence, contributions, explains_by_slot, reasons
from reelseek.search.fulltext import ABOUT, SOURCES, Line, lines_with_words, words_of
from reelseek.search.hit import Why
from reelseek.search.likeness import Likeness, embed_example
from reelseek.search.names import Names
from reelseek.search.nearest import Run, run_here
from reelseek.search.question import Question, Selection, weigh
from reelseek.search.scoring import background_scores, candidate_rows
from reelseek.search.strength import FEWEST_CAPTIONS, MOST_CAPTIONS, belief_in_labels, share_above

__all__ = ["Gallery", "Seconds"]

_MOST_SELECTIONS = 8  # filters whose rows are remembered
_CANDIDATES = 40  # clips that a caption of the library is compared with
_LABELLER, _LABELS = "object", 1000  # the expert whose classes are ImageNet's
_EXPLAINED = 10  # hits whose modalities are told where that takes embedding them again
_MOST_EXAMPLES = 32  # whose embeddings are


@dataclass
class Gallery:
    """The clips of a library, embedded from some experts.

    Args:
        names: of the library's videos, and their captions.
        exact_on: score every clip there instead of searching nearest neighbours.
        run: reads the segments for a search.
    """

    library: Library
    model: RetrievalModel
    current: CurrentIndex
    names: Names
    exact_on: torch.device | None = None
    run: Run = run_here

    def __post_init__(self) -> None:
        self._backgrounds: dict[bytes, npt.NDArray[np.float64]] = {}
        self._selections: dict[Filter, _Members] = {}
        self._absent: tuple[frozenset[str], npt.NDArray[np.int64]] = frozenset(), np.zeros(0, np.int64)
        self._wrong: dict[bytes, npt.NDArray[np.float64]] = {}
        self._likenesses: dict[tuple[object, ...], Likeness] = {}

    @cached_property
    def reader(self) -> TokenReader:
        experts = [name for name in self.current.index.experts if name in self.library.experts()]
        return reader_for(self.model, self.library, experts)

    @cached_property
    def exact(self) -> ExactGallery | None:
        """Raises UsageError where the clips do not fit into the device's memory."""
        if self.exact_on is None:
            return None
        index = self.current.index
        return ExactGallery(self.model, index, self.current.present_rows(index.live_rows()), self.exact_on)

    @cached_property
    def evidence(self) -> Evidence:
        return Evidence(self.library, self.reader, lambda video: self.current.video(video).owners)

    def lines(self, question: Question) -> list[Line]:
        """What is said, written, named or captioned with words of a question, best first of each."""
        query, factors = question.query, question.selection.line_factors
        kinds = [kind for kind in ABOUT if factors.get(kind, 1.0)]
        words = words_of(self.library, query.words, self.names.other_terms if kinds else lambda *_: [])
        members = self._members(query.filter)
        without = [kind for kind in SOURCES if not factors.get(kind, 1.0)]
        lines = lines_with_words(self.library, words, None if members is None else members.owners, without=without)
        if kinds and words:
            lines += self.names.lines(words, kinds=kinds, videos=None if members is None else members.ids)
        return [replace(line, coverage=line.coverage * factors.get(line.kind, 1.0)) for line in lines]

    def reasons(
        self, question: Question, clips: Sequence[Clip], embedding: Embedding, lines: Sequence[Sequence[Line]]
    ) -> list[tuple[Why, ...]]:
        """Of each clip; beyond the first ten only the lines where reasons take embedding clips again."""
        self.reader.prepare(clip.video for clip in clips)
        count = len(clips) if explains_by_slot(self.model) else _EXPLAINED
        explained = contributions(self.model, self.evidence, question, clips[:count], embedding[:count])
        explained += [{}] * (len(clips) - len(explained))
        return [
            reasons(self.evidence, question, clip, gave, of_clip)
            for gave, clip, of_clip in zip(explained, clips, lines, strict=True)
        ]

    def _members(self, conditions: Filter) -> "_Members | None":
        """The videos that meet a filter; None without one. The last filters' are remembered.

        Raises:
            QueryError: a term names what the library has nothing of.
        """
        if not conditions:
            return None
        if conditions not in self._selections:
            index, members = self.current.index, self.library.catalog.selection.members(conditions)
            rows = np.zeros(len(index), bool)
            for base, segment, videos in index.lookup_numbers(np.array([number for number, _, _ in members], np.int64)):
                rows[base + segment.rows_of(videos[videos >= 0])] = True
            ids = {identifier for _, identifier, _ in members}
            owners = {f"id:{identifier}" for identifier in ids} | {content for _, _, content in members if content}
            while len(self._selections) >= _MOST_SELECTIONS:
                del self._selections[next(iter(self._selections))]
            self._selections[conditions] = _Members(rows, ids, owners)
        return self._selections[conditions]

    def selected_for(self, question: Question) -> npt.NDArray[np.bool_] | None:
        """Rows that can be hits [row], None for all: not those of the moments that are examples of what is looked for,
        nor of videos whose files were gone when their folder was last added.

        Raises:
            QueryError: a term of the filter names what the library has nothing of.
        """
        members, index = self._members(question.query.filter), self.current.index
        selected = None if members is None else members.rows
        clips = [example.clip for example in question.examples if example.clip is not None and example.weight > 0]
        absent = self._absent_rows()
        if not clips and not len(absent):
            return selected
        starts = np.array([clip.start_seconds or 0.0 for clip in clips])
        ends = np.array([np.inf if clip.end_seconds is None else clip.end_seconds for clip in clips])
        _, rows = index.rows_during([clip.video for clip in clips], starts, ends)
        rest = np.ones(len(index), bool) if selected is None else selected.copy()
        rest[rows] = False
        rest[absent] = False
        return rest

    def _absent_rows(self) -> npt.NDArray[np.int64]:
        videos, index = absent_videos(self.library.catalog), self.current.index
        if videos != self._absent[0]:
            rows = [index.rows_of(video) for video in sorted(videos)]
            self._absent = videos, np.concatenate([np.zeros(0, np.int64), *rows])
        return self._absent[1]

    def likenesses(self, examples: Examples) -> list[Likeness]:
        """Examples as embeddings, like the clips that they are compared with; those of the last are remembered."""
        return [
            self._likeness(example, takes_away=takes_away)
            for group, takes_away in ((examples.like, False), (examples.unlike, True))
            for example in group
        ]

    def _likeness(self, example: Example, *, takes_away: bool) -> Likeness:
        key: tuple[object, ...] = (example, takes_away, _file_stamp(example))
        if key not in self._likenesses:
            while len(self._likenesses) >= _MOST_EXAMPLES:
                del self._likenesses[next(iter(self._likenesses))]
            self._likenesses[key] = embed_example(self.library, self.model, self.reader, example, takes_away=takes_away)
        return self._likenesses[key]

    def confidences(
        self,
        question: Question,
        scores: Sequence[float],
        clips: Sequence[Clip],
        why: Sequence[Sequence[Why]],
        seconds: "Seconds | None" = None,
    ) -> list[float | None]:
        """How sure each of some hits is; None where nothing is known of what unrelated questions reach.

        Args:
            clips, why: of the hits.
            seconds: of the video that they are in; None where they are of the library.
        """
        if question.examples or not question.readable:
            return [None for _ in scores]
        background = self.background(question.selection) if seconds is None else self._background_in(question, seconds)
        if seconds is None:
            background = np.concatenate([background, self._wrong_scores(question.selection)])
        believed = [self._belief(question, clip, reasons) for clip, reasons in zip(clips, why, strict=True)]
        sure = 1 - share_above(scores, background)
        # What labels add can be doubted, and takes nothing from what speaks for a clip without them.
        without = 1 - share_above([score - gave for score, (_, gave) in zip(scores, believed, strict=True)], background)
        return [
            round(float(max(with_labels * belief, rest)), 4)
            for with_labels, rest, (belief, _) in zip(sure, without, believed, strict=True)
        ]

    def _belief(self, question: Question, clip: Clip, why: Sequence[Why]) -> tuple[float, float]:
        """How sure experts are of what speaks for a clip, and what of its score they may be wrong in: its labels."""
        in_favour = {reason.modality: reason.gave for reason in why if reason.gave > 0}
        if not self.model.embeds_sentences or not in_favour.get(_LABELLER):
            return 1.0, 0.0
        if self.reader.dims.get(_LABELLER) != _LABELS or self.evidence.damage(clip.video, _LABELLER):
            return 1.0, 0.0
        believed = belief_in_labels(question.query.words, self.reader.steps(clip, _LABELLER)[0])
        share = in_favour[_LABELLER] / sum(in_favour.values())
        return 1 - share * (1 - believed), in_favour[_LABELLER]

    def _wrong_scores(self, selection: Selection) -> npt.NDArray[np.float64]:
        """For some captions of the library the best score of a clip of another video; none where it has few."""
        captions = self.names.some_captions(MOST_CAPTIONS)
        if len(captions) < FEWEST_CAPTIONS:
            return np.zeros(0)
        key = selection.factors.tobytes()
        if key not in self._wrong:
            index = self.current.index
            texts = weigh(embed_texts(self.model, [text for _, text in captions]), selection)
            mix = np.eye(len(captions), dtype=np.float32)
            candidates = candidate_rows(self.model, index, texts, mix, _CANDIDATES)
            best = []
            for number, (video, _) in enumerate(captions):
                rows = np.setdiff1d(self.current.present_rows(candidates[number]), index.rows_of(video))
                if len(rows):
                    scores = similarity_matrix(self.model, texts[number : number + 1], index.embedding(rows))
                    best.append(float(scores.max()))
            self._wrong[key] = np.array(best)
        return self._wrong[key]

    def _background_in(self, question: Question, seconds: "Seconds") -> npt.NDArray[np.float64]:
        """The best score that each of the unrelated queries reaches in some seconds."""
        texts = weigh(self.current.index.unrelated, question.selection)
        best: npt.NDArray[np.float64] = similarity_matrix(self.model, texts, seconds.embedding).amax(1).double().numpy()
        return best

    def background(self, selection: Selection) -> npt.NDArray[np.float64]:
        """The best score that each query of a fixed, unrelated set reaches on this library."""
        index = self.current.index
        if selection.even:
            return index.background
        key = selection.factors.tobytes()
        if key not in self._backgrounds:
            texts = weigh(index.unrelated, selection)
            self._backgrounds[key] = background_scores(self.library, self.model, index, self.current.owners, texts)
        return self._backgrounds[key]


@dataclass(frozen=True)
class _Members:
    """The videos that meet a filter: rows of their clips [row], ids, and owners of their tracks and texts."""

    rows: npt.NDArray[np.bool_]
    ids: Collection[str]
    owners: Collection[str]


def _file_stamp(example: Example) -> tuple[int, ...]:
    """What tells one file of an example from the next at its path; empty of a moment."""
    if isinstance(example, Moment):
        return ()
    try:
        status = os.stat(example.path)
    except (OSError, ValueError) as error:
        raise QueryError(f"the example {example.path} cannot be read: {error}") from error
    return status.st_ino, status.st_mtime_ns, status.st_size


@dataclass(frozen=True)
class Seconds:
    """Embedded seconds of one video, and the spans of each [second, 2]."""

    clips: Sequence[Clip]
    spans: npt.NDArray[np.float64]
    embedding: Embedding

    def rows_of(self, line: Line, video: Video) -> npt.NDArray[np.int64]:
        """Seconds during which a line is said or shown."""
        if line.owner not in video.owners:
            return np.zeros(0, np.int64)
        return np.flatnonzero((self.spans[:, 0] < line.end_seconds) & (self.spans[:, 1] > line.start_seconds))
