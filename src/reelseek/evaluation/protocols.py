"""What a published number means: which captions ask, what they are ranked among, and what counts as right.

The axes of a similarity matrix are named [text, video] everywhere, so that a direction cannot be swapped.
"""

from dataclasses import dataclass
from typing import Literal

from reelseek.evaluation.ranks import TieRule

__all__ = ["PROTOCOLS", "Protocol"]


@dataclass(frozen=True)
class Protocol:
    """One way of asking.

    Attributes:
        captions: `all` ask, each by itself; the `first` of each clip; all of a video as one `paragraph`, in order of
            time; or one segment drawn for each video (`random`), from a generator that is seeded anew for each.
        ties: equal scores share the mean of their places, or the right one stands first or last among them.
        identical: whether another video that carries the same words is wrong (`strict`) or not counted (`tolerant`).
        reverse: a video's rank of texts is its `best` caption's, or each caption is ranked alone (`each`) without the
            video's others.
        words: only so many first words of a caption; None takes all.
        frames: only so many frames of a clip's appearance, evenly spread (one is the middle one); None takes all.
        needs: only clips that have all of these modalities.
        split: the split it is made for; None leaves that to the caller.
        gallery: how many videos the published gallery has; another size is said beside the number.
    """

    name: str
    captions: Literal["all", "first", "paragraph", "random"] = "all"
    ties: TieRule = "mean"
    identical: Literal["strict", "tolerant"] = "strict"
    reverse: Literal["best", "each"] = "best"
    words: int | None = None
    frames: int | None = None
    needs: tuple[str, ...] = ()
    split: str | None = None
    gallery: int | None = None

    @property
    def says(self) -> str:
        """In words, to stand beside a number."""
        who = {
            "all": "every caption a query",
            "first": "the first caption of each clip a query",
            "paragraph": "all captions of a video one query",
            "random": "one segment of each video a query",
        }[self.captions]
        ties = {"mean": "take the mean rank", "optimistic": "are won", "pessimistic": "are lost"}[self.ties]
        more = "" if self.identical == "strict" else "; videos with the same words are not counted"
        cut = f"; the first {self.words} words" if self.words else ""
        frames = {None: "", 1: "; the middle frame"}.get(self.frames, f"; {self.frames} frames a clip")
        kind = {"paragraph": "video", "random": "segment so drawn"}.get(self.captions, "clip")
        clips = f"{kind} with {', '.join(self.needs)}" if self.needs else kind
        return f"{who}, every {clips} of the split a candidate; ties {ties}; no evidence is a miss{more}{cut}{frames}"


def _named(*protocols: Protocol) -> dict[str, Protocol]:
    return {protocol.name: protocol for protocol in protocols}


PROTOCOLS: dict[str, Protocol] = _named(
    Protocol("strict"),
    Protocol("tolerant", identical="tolerant"),
    Protocol("optimistic", ties="optimistic"),
    Protocol("pessimistic", ties="pessimistic"),
    Protocol("msrvtt-full", gallery=2990),
    Protocol("msrvtt-1k-a", captions="first", gallery=1000),
    Protocol("msrvtt-1k-b", captions="first", gallery=1000),
    Protocol("msrvtt-umi", captions="first", gallery=765, needs=("audio", "ocr", "speech", "scene")),
    Protocol("msvd", gallery=670),
    Protocol("lsmdc", captions="first", gallery=1000),
    Protocol("activitynet-paragraph", captions="paragraph", gallery=4917),
    Protocol("activitynet-segment", captions="random"),
    Protocol("didemo", captions="paragraph", gallery=1004),
    Protocol("youcook2", gallery=3350),
    Protocol("vatex"),
    Protocol("tgif"),
    Protocol("ssv2", captions="first"),
    Protocol("mdmmt", ties="pessimistic", identical="tolerant", reverse="each"),
    Protocol("clip-middle-frame", frames=1),
    Protocol("clip-2-frames", frames=2),
    Protocol("clip-4-frames", frames=4),
    Protocol("clip-16-frames", frames=16),
    Protocol("clip-10-words", words=10),
    Protocol("clip-20-words", words=20),
    Protocol("clip-70-words", words=70),
)
