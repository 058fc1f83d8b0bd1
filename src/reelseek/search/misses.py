"""Why a video is not higher: its rank, what it had of each modality and gave, and what leaves it out."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from reelseek.library.absent import absent_videos
from reelseek.library.filters import NO_FILTER, Condition, Filter
from reelseek.library.store import Library, Video
from reelseek.search.explain import contributions
from reelseek.search.gallery import Gallery
from reelseek.search.hit import Miss
from reelseek.search.question import Question
from reelseek.search.rank import Ranking, rank, rows_with_phrases

__all__ = ["explain_miss", "refusing_terms"]


def refusing_terms(library: Library, video: Video, conditions: Filter) -> list[str]:
    """The terms of a filter that leave a video out.

    Raises:
        QueryError: a term names what the library has nothing of.
    """

    def meets(condition: Condition) -> bool:
        return bool(library.catalog.selection.videos(Filter((condition,)), among=video.id))

    return [condition.text for condition in conditions.conditions if not meets(condition)]


def explain_miss(gallery: Gallery, question: Question, video: Video) -> Miss:
    """A video's rank among all videos, whatever a filter says; see `Searcher.why_not`."""
    index, query = gallery.current.index, question.query
    every = replace(question, query=replace(query, filter=NO_FILTER))
    ranking = rank(gallery.library, gallery.model, gallery.current, every, gallery.lines(every), None)
    numbers, _ = index.spans(ranking.rows)
    _, firsts = np.unique(numbers, return_index=True)  # of each video its best clip
    (places,) = np.isin(ranking.rows, index.rows_of(video.id)).nonzero()
    place = int(places[0]) if len(places) else None
    return Miss(
        query=query.text,
        video=video.id,
        rank=int((firsts <= place).sum()) if place is not None else None,
        videos=len(firsts),
        similarity=round(float(ranking.scores[place]), 6) if place is not None else None,
        best_similarity=round(float(ranking.scores[0]), 6) if len(firsts) else None,
        modalities=tuple(_modalities_of(gallery, question, video, ranking, place)),
        note="; ".join(_notes(gallery, question, video)),
    )


def _notes(gallery: Gallery, question: Question, video: Video) -> list[str]:
    query, notes = question.query, []
    if query.phrases:
        rows = rows_with_phrases(gallery.library, gallery.current, query.phrases)
        if not len(np.intersect1d(rows, gallery.current.index.rows_of(video.id))):
            notes.append(f"none of its lines holds the phrase {' and '.join(query.phrases)!r}")
    if terms := refusing_terms(gallery.library, video, query.filter):
        notes.append(f"it is left out by {' and '.join(terms)}")
    if video.id in absent_videos(gallery.library.catalog):
        notes.append("its file was gone when its folder was last added")
    return notes


def _modalities_of(
    gallery: Gallery, question: Question, video: Video, ranking: Ranking, place: int | None
) -> list[dict[str, Any]]:
    """What the best clip of a video has of each modality, and what it gave."""
    index, model, reader, evidence = gallery.current.index, gallery.model, gallery.reader, gallery.evidence
    gave: Mapping[str, float] = {}
    if place is not None:
        rows = ranking.rows[place : place + 1]
        clip = index.clips[int(rows[0])]
        (gave,) = contributions(model, evidence, question, [clip], index.embedding(rows))
    weights = {} if model.pairwise else dict(zip(index.slots, question.weights.tolist(), strict=True))
    names = [*(slot for slot in index.slots if slot in model.experts), *gave, *reader.dims]
    modalities = []
    for name in dict.fromkeys(names):
        track = reader.row(video.id, name) if name in reader.dims else None
        if name in gave:
            content = evidence.describe(clip, name) if name in reader.dims else "present"
        elif track is None:
            content = "never extracted"
        else:
            content = track.note or "nothing in this clip"
        weight = round(weights.get(name, 1.0), 4)
        modalities.append(
            {"modality": name, "had": content, "gave": round(gave.get(name, 0.0), 4), "wanted_weight": weight}
        )
    return modalities
