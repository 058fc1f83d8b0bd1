"""One moment, then another in the same video: pairs of clips by the sum of their scores."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from reelseek.library.names import printable
from reelseek.search.gallery import Gallery
from reelseek.search.hit import Hit
from reelseek.search.moments import Page
from reelseek.search.question import Question
from reelseek.search.rank import Ranking, rank, score_rows
from reelseek.search.scoring import literal_scores
from reelseek.search.strength import strength_of

__all__ = ["following_hits"]

_MOST_CANDIDATES = 2**14  # of either question, of which the pairs are made
_TOLERANCE = 1e-3  # seconds that ends of clips may be rounded by
Rows = npt.NDArray[np.int64]
Pairs = tuple[Rows, Rows, npt.NDArray[np.float64]]
"""Rows of the first and of the second clip of each pair, and its score."""


def following_hits(gallery: Gallery, first: Question, second: Question, within: float, page: Page) -> list[Hit]:
    """Pairs of clips of one video: the second begins when the first has ended, at most `within` seconds later.

    A pair's score is the sum of both clips'. A clip is the first of one pair at most, and the second of one. Candidates
    of both questions are taken until no clip that is none of them could be in a better pair, up to 16,384 of each.
    """
    second = replace(second, query=replace(second.query, filter=second.query.filter & first.query.filter))
    first = replace(first, query=replace(first.query, filter=second.query.filter))
    selected, count = gallery.selected_for(first), 4 * page.end + 40
    most = min(_MOST_CANDIDATES, len(gallery.current.index) if selected is None else int(selected.sum()))
    questions = [(question, gallery.lines(question)) for question in (first, second)]
    while True:
        rankings = [
            rank(gallery.library, gallery.model, gallery.current, question, lines, count, gallery.exact, gallery.run,
                 selected)
            for question, lines in questions
        ]  # fmt: skip
        pairs = _best_pairs(gallery, (first, second), rankings, within, page)
        # Of fewer than were asked for some were hidden, so that the last score bounds nothing: all are looked at.
        unseen = sum(r.scores[count - 1] if len(r.scores) >= count else np.inf for r in rankings)
        if count >= most or (len(pairs[2]) >= page.end and pairs[2][page.end - 1] >= unseen):
            break
        count *= 4
    firsts, seconds, scores = pairs
    shown = slice(page.offset, page.end)
    return _hits(gallery, (first, second), rankings, (firsts[shown], seconds[shown], scores[shown]), page)


def _best_pairs(
    gallery: Gallery, questions: tuple[Question, Question], rankings: list[Ranking], within: float, page: Page
) -> Pairs:
    """The best pairs of which one clip is a candidate, the best first."""
    index, selected = gallery.current.index, gallery.selected_for(questions[0])
    followers = _windows(gallery, rankings[0].rows, within, 1)
    leaders = _windows(gallery, rankings[1].rows, within, -1)
    pairs = np.unique(np.concatenate([followers, leaders[:, ::-1]]), axis=0)
    allowed = [set(ranking.rows.tolist()) if q.query.phrases or q.query.refused else None
               for q, ranking in zip(questions, rankings, strict=True)]  # fmt: skip
    for side, required in enumerate(allowed):
        if required is not None:
            pairs = pairs[np.isin(pairs[:, side], list(required))]
    if selected is not None:
        pairs = pairs[selected[pairs].all(1)]
    pairs = pairs[np.isin(pairs, gallery.current.present_rows(np.unique(pairs))).all(1)]
    scores = np.zeros(len(pairs))
    for side, (question, ranking) in enumerate(zip(questions, rankings, strict=True)):
        rows, places = np.unique(pairs[:, side], return_inverse=True)
        of_rows = score_rows(gallery.model, index, question, rows, gallery.run)
        scores += (of_rows + literal_scores(ranking.lines, rows.tolist()))[places]
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -scores))
    pairs, scores = pairs[order], scores[order]
    apart = _apart(gallery, pairs, page)
    return pairs[apart, 0], pairs[apart, 1], scores[apart]


def _windows(gallery: Gallery, rows: Rows, within: float, step: int) -> Rows:
    """Some clips, each with those that follow it in its video (`step` 1) or that it follows (-1) [pair, 2]."""
    index = gallery.current.index
    videos, spans = index.spans(rows)
    pairs = [np.zeros((0, 2), np.int64)]
    active, near = np.arange(len(rows)), rows + step
    while len(active):
        inside = (near >= 0) & (near < len(index))
        active, near = active[inside], near[inside]
        others, times = index.spans(near)
        gap = times[:, 0] - spans[active, 1] if step > 0 else spans[active, 0] - times[:, 1]
        going_on = (others == videos[active]) & (gap <= within + _TOLERANCE)  # NaN is the whole video: nothing follows
        active, near, gap = active[going_on], near[going_on], gap[going_on]
        follows = gap >= -_TOLERANCE
        pairs.append(np.stack([rows[active[follows]], near[follows]], 1))
        near = near + step
    return np.concatenate(pairs)


def _apart(gallery: Gallery, pairs: Rows, page: Page) -> list[int]:
    """Places of the best pairs that share no clip on the same side, or no video."""
    videos = gallery.current.index.spans(pairs[:, 0])[0].tolist()
    firsts: set[int] = set()
    seconds: set[int] = set()
    shown: set[int] = set()
    places = []
    for place, (first, second) in enumerate(pairs.tolist()):
        if first in firsts or second in seconds or (page.group_by == "video" and videos[place] in shown):
            continue
        firsts.add(first)
        seconds.add(second)
        shown.add(videos[place])
        places.append(place)
        if len(places) == page.end:
            break
    return places


def _hits(
    gallery: Gallery, questions: tuple[Question, Question], rankings: list[Ranking], pairs: Pairs, page: Page
) -> list[Hit]:
    index = gallery.current.index
    reasons, sure, clips = [], [], []
    for question, ranking, rows in zip(questions, rankings, pairs[:2], strict=True):
        side, lines = [index.clips[row] for row in rows], [ranking.lines.get(row, ()) for row in rows.tolist()]
        embedding = index.embedding(rows)
        scores = question.scores(gallery.model, embedding) + literal_scores(ranking.lines, rows.tolist())
        clips.append(side)
        reasons.append(gallery.reasons(question, side, embedding, lines))
        sure.append(gallery.confidences(question, scores.tolist(), side, reasons[-1]))
    hits = []
    for number, (first, last) in enumerate(zip(*clips, strict=True)):
        video = gallery.current.video(first.video)
        both = [one for of_side in sure if (one := of_side[number]) is not None]
        confidence = min(both) if len(both) == len(sure) else None
        hits.append(
            Hit(
                query_id=page.query_id,
                query=f"{questions[0].query.text}, then {questions[1].query.text}",
                rank=page.offset + number + 1,
                video=video.id,
                path=printable(video.path) if video.path else None,
                start=round(first.start_seconds or 0.0, 3),
                end=None if last.end_seconds is None else round(last.end_seconds, 3),
                similarity=round(float(pairs[2][number]), 6),
                confidence=confidence,
                why=(*reasons[0][number], *reasons[1][number]),
                strength=strength_of(confidence),
            )
        )
    return hits
