"""The best moments of a question: clips are ranked, and neighbours that are nearly as good make one moment."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reelseek.library.names import printable
from reelseek.search.gallery import Gallery
from reelseek.search.hit import Hit
from reelseek.search.question import Question
from reelseek.search.rank import Ranking, extend, merge_moments, rank, score_rows
from reelseek.search.scoring import literal_scores
from reelseek.search.strength import strength_of

__all__ = ["Page", "best_hits"]


@dataclass(frozen=True)
class Page:
    """Which hits of a list are given.

    Args:
        k: how many.
        offset: how many of the best are stepped over.
        group_by: `moment`, or `video` for the best moment of each.
        query_id: what they carry.
    """

    k: int
    offset: int = 0
    group_by: str = "moment"
    query_id: str = "1"

    @property
    def end(self) -> int:
        """How many hits the list has up to the last that is given."""
        return self.offset + self.k


def best_hits(gallery: Gallery, question: Question, page: Page) -> list[Hit]:
    """The hits of one page."""
    ranking, moments = _rank_moments(gallery, question, page)
    moments = moments[page.offset :]
    index = gallery.current.index
    best = ranking.rows[[moment[0] for moment in moments]].astype(np.int64)
    clips, lines = [index.clips[row] for row in best], [ranking.lines.get(row, ()) for row in best.tolist()]
    why = gallery.reasons(question, clips, index.embedding(best), lines)
    confidences = gallery.confidences(question, ranking.scores[[moment[0] for moment in moments]].tolist(), clips, why)
    hits = []
    for number, moment in enumerate(moments):
        spans = [index.clips[ranking.rows[at]] for at in moment]
        video = gallery.current.video(spans[0].video)
        ends = [clip.end_seconds for clip in spans if clip.end_seconds is not None]
        hits.append(
            Hit(
                query_id=page.query_id,
                query=question.query.text,
                rank=page.offset + number + 1,
                video=video.id,
                path=printable(video.path) if video.path else None,
                start=round(min(clip.start_seconds or 0.0 for clip in spans), 3),
                end=round(max(ends), 3) if ends else None,
                similarity=round(float(ranking.scores[moment[0]]), 6),
                confidence=confidences[number],
                why=why[number],
                strength=strength_of(confidences[number]),
            )
        )
    return hits


def _rank_moments(gallery: Gallery, question: Question, page: Page) -> tuple[Ranking, list[list[int]]]:
    """Clips by their scores, and the places of each moment's clips among them, the best clip first."""
    index, selected, lines = gallery.current.index, gallery.selected_for(question), gallery.lines(question)
    count, most = 4 * page.end + 40, len(index) if selected is None else int(selected.sum())
    while True:
        ranking = rank(
            gallery.library, gallery.model, gallery.current, question, lines, count, gallery.exact, gallery.run,
            selected,
        )  # fmt: skip
        moments = merge_moments(index, ranking, page.end, page.group_by)
        if len(moments) >= page.end or count >= most or question.query.phrases:
            break
        count *= 4
    while len(rows := _neighbours(gallery, question, ranking, moments, selected)):
        ranking = extend(ranking, rows, _scores(gallery, question, ranking, rows))
        moments = merge_moments(index, ranking, page.end, page.group_by)
    return ranking, moments


def _scores(
    gallery: Gallery, question: Question, ranking: Ranking, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    scores = score_rows(gallery.model, gallery.current.index, question, rows, gallery.run)
    return scores + literal_scores(ranking.lines, rows.tolist())


def _neighbours(
    gallery: Gallery,
    question: Question,
    ranking: Ranking,
    moments: Sequence[Sequence[int]],
    selected: npt.NDArray[np.bool_] | None,
) -> npt.NDArray[np.int64]:
    """Clips beside moments that are no candidates, so that a moment is as long however many candidates there are."""
    if question.query.phrases or question.query.refused or not moments:
        return np.zeros(0, np.int64)
    index = gallery.current.index
    bounds = [(rows.min(), rows.max()) for rows in (ranking.rows[moment] for moment in moments)]
    firsts, lasts = np.array(bounds, np.int64).T
    beside, inside = np.concatenate([firsts - 1, lasts + 1]), np.concatenate([firsts, lasts])
    valid = (beside >= 0) & (beside < len(index)) & ~np.isin(beside, ranking.rows)
    beside, inside = beside[valid], inside[valid]
    if selected is not None:
        beside, inside = beside[selected[beside]], inside[selected[beside]]
    same_video = index.spans(beside)[0] == index.spans(inside)[0]
    return gallery.current.present_rows(np.unique(beside[same_video]))
