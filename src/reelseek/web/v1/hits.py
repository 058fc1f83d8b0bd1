"""Hits as `/v1` answers them: opaque ids, addresses of pictures, and reasons in sentences."""

from dataclasses import replace
from urllib.parse import quote

from fastapi import Request

from reelseek.library.names import printable, shown_name
from reelseek.search import Hit
from reelseek.search.hit import Why
from reelseek.web.media import opaque_id
from reelseek.web.service import ServedLibrary
from reelseek.web.v1.schema import HitJSON, Reason

__all__ = ["STRIP_FRAMES", "hit_json", "reason_json", "shown", "video_address"]

_LONGEST_MATCH = 500
STRIP_FRAMES = 10
_SENTENCES = {
    "speech": ("heard: “{}”", "what is said fits"),
    "ocr": ("on screen: {}", "what is written on screen fits"),
    "audio": ("sounds like: {}", "it sounds like it"),
    "scene": ("looks like the place: {}", "the place fits"),
    "face": ("face: {}", "the faces fit"),
    "motion": ("moves like: {}", "it moves like it"),
    "name": ("named: {}", "its name fits"),
    "captions": ("described as: {}", "its caption fits"),
    "machine-written": ("described as: {}", "its description fits"),
}
_SEEN = ("looks like: {}", "it looks like it")


def shown(text: str) -> str:
    """A text as it can be written down; halves of surrogate pairs become escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def video_address(request: Request, served: ServedLibrary, video: str, part: str = "", **query: object) -> str:
    """The address of a video or a part of it, below the prefix under which the server is reached.

    Args:
        video: its opaque id.
    """
    service = request.app.state.service
    if len(service.libraries()) > 1:
        query["library"] = served.name
    text = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in query.items())
    return f"{request.scope.get('root_path', '')}/v1/videos/{video}{part}{'?' + text if text else ''}"


def hit_json(request: Request, served: ServedLibrary, hit: Hit, *, explain: bool) -> HitJSON:
    """A hit on the wire."""
    opaque = opaque_id(hit.video)
    end = hit.end if hit.end is not None else hit.start
    row = served.library.get(hit.video)  # None where it was removed since the search
    playable = row is not None and row.path is not None

    def address(part: str, **query: object) -> str:
        return video_address(request, served, opaque, part, **query)

    return HitJSON(
        moment=replace(hit, video=opaque).moment,
        video=opaque,
        name=printable(shown_name(hit.video, hit.path)),
        start=hit.start,
        end=hit.end,
        score=hit.similarity,
        confidence=hit.confidence,
        strength=hit.strength,
        rank=hit.rank,
        thumbnail=address("/thumbnail", at=f"{(hit.start + end) / 2:.2f}"),
        strip=address("/strip", start=hit.start, end=end, frames=STRIP_FRAMES) if playable else None,
        play=address("/media") if playable else None,
        why=[reason_json(served, why) for why in hit.why] if explain else [],
    )


def reason_json(served: ServedLibrary, why: Why) -> Reason:
    """A reason, with no more than the beginning of a long line."""
    text = shown(why.matched)
    matched = text if len(text) <= _LONGEST_MATCH else f"{text[:_LONGEST_MATCH]}…"
    modality = served.modality(why.modality)
    worded, wordless = _SENTENCES.get(why.modality, _SENTENCES.get(modality, _SEEN))
    return Reason(
        modality=why.modality, gave=why.gave, matched=matched, sentence=worded.format(matched) if matched else wordless
    )
