"""Inside one video: how near each second is to a question, and where that peaks."""

import numpy as np
import numpy.typing as npt
import torch

from reelseek.library.names import printable
from reelseek.library.store import Video
from reelseek.models.embed import embed_clips
from reelseek.moments.curves import check_tracks, peaks, second_clips
from reelseek.search.fulltext import Line, lines_with_phrase
from reelseek.search.gallery import Gallery, Seconds
from reelseek.search.hit import Hit, Within
from reelseek.search.moments import Page
from reelseek.search.query import Query
from reelseek.search.question import Question
from reelseek.search.scoring import add_line, literal_scores
from reelseek.search.strength import strength_of

__all__ = ["look_inside"]


def look_inside(gallery: Gallery, question: Question, video: Video, radius: float, page: Page) -> Within:
    """A score for every second of a video, and its peaks; see `Searcher.within`."""
    seconds = _seconds(gallery, video, radius)
    lines: dict[int, tuple[Line, ...]] = {}
    for line in gallery.lines(question):
        for row in seconds.rows_of(line, video).tolist():
            add_line(lines, row, line)
    curve = question.scores(gallery.model, seconds.embedding) + literal_scores(lines, range(len(seconds.clips)))
    allowed = _with_phrases(gallery, question.query, video, seconds)
    shown = [
        peak
        for peak in peaks(np.where(allowed, curve, curve.min()), page.k)
        if allowed[peak[0]] and (question.readable or peak[0] in lines)
    ]
    rows = np.array([row for row, _, _ in shown], np.int64)
    clips, best = [seconds.clips[row] for row in rows], seconds.embedding[torch.from_numpy(rows)]
    why = gallery.reasons(question, clips, best, [lines.get(row, ()) for row in rows.tolist()])
    confidences = gallery.confidences(question, curve[rows].tolist(), clips, why, seconds)
    path = printable(video.path) if video.path else None
    hits = [
        Hit(
            page.query_id, question.query.text, place + 1, video.id, path,
            round(float(seconds.spans[first, 0]), 3), round(float(seconds.spans[end - 1, 1]), 3),
            round(float(curve[row]), 6), confidences[place], why[place], strength_of(confidences[place]),
        )
        for place, (row, first, end) in enumerate(shown)
    ]  # fmt: skip
    return Within(video.id, question.query.text, seconds.spans, curve, tuple(hits))


def _seconds(gallery: Gallery, video: Video, radius: float) -> Seconds:
    check_tracks(gallery.library, gallery.reader, video)
    clips, spans = second_clips(video, gallery.reader, radius)
    return Seconds(clips, spans, embed_clips(gallery.model, gallery.reader, clips))


def _with_phrases(gallery: Gallery, query: Query, video: Video, seconds: Seconds) -> npt.NDArray[np.bool_]:
    """Seconds that have every phrase that must occur, and none that must not."""
    allowed = np.ones(len(seconds.clips), bool)
    for phrases, must_occur in ((query.phrases, True), (query.refused, False)):
        for phrase in phrases:
            spoken = np.zeros(len(allowed), bool)
            for line in lines_with_phrase(gallery.library, phrase):
                spoken[seconds.rows_of(line, video)] = True
            allowed &= spoken == must_occur
    return allowed
