"""What reviewers do with the pairs of a scan, whichever page asks: the queue, verdicts, undoing, and who agrees."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Literal

from reelseek.errors import ReelseekError
from reelseek.library import Library, Video
from reelseek.media.store import file_numbers, is_file
from reelseek.overlap.reviewing import judge_below
from reelseek.overlap.verdicts import SAME, BulkVerdict, Opinion, Review, Verdict
from reelseek.web.media import opaque_id

__all__ = ["Address", "Drop", "Keep", "ReviewDesk", "View"]

Keep = Callable[[int, str], Sequence[int]]
Drop = Callable[[Sequence[int], str], None]
Address = Callable[[str, str], str]
"""The address of a part (`media`, `strip`) of a video of an opaque id."""
View = Literal["looked-at", "mine", "disagreements"]
_MOST_OPINIONS = 50  # of one pair that are shown
_MOST_AGREEMENTS = 200


class ReviewDesk:
    """The pairs of one scan as JSON for a page, and what reviewers say of them.

    Args:
        library: whose videos they are; None where there is nothing to play.
        title: what is compared, in words.
        video: the video of a name.
        keep: adds the frames of a pair to the bank of screensavers and returns their numbers.
        drop: removes them again.
    """

    def __init__(
        self,
        review: Review,
        library: Library | None,
        *,
        title: str,
        video: Callable[[str], Video | None],
        keep: Keep = lambda place, who: (),
        drop: Drop = lambda numbers, who: None,
    ) -> None:
        self.review, self.title = review, title
        self._library, self._video, self._keep, self._drop = library, video, keep, drop
        self._lock = threading.Lock()
        self._sides: dict[str, dict[str, Any]] = {}

    def summary(self) -> dict[str, Any]:
        """What is reviewed, how far it is, and how many pairs each reviewer has judged."""
        states, keys = self.review.counts(), set(self.review.keys)
        judged = {
            (opinion.who, opinion.key)
            for opinion in self.review.verdicts.opinions()
            if opinion.verdict != "looked-at" and opinion.key in keys
        }
        pairs = Counter(who for who, _ in judged)
        return {
            "title": self.title, "opinions": self.review.judges_per_pair, "counts": states, "same": list(SAME),
            "reviewers": dict(sorted(pairs.items())),
        }  # fmt: skip

    def agreement(self) -> dict[str, Any]:
        """How far every two reviewers agree, and how many more there are."""
        rows = self.review.verdicts.agreement()
        more = max(0, len(rows) - _MOST_AGREEMENTS)
        return {"data": [asdict(row) for row in rows[:_MOST_AGREEMENTS]], "more": more}

    # Pairs

    def queue(self, who: str, count: int, after: int, address: Address) -> dict[str, Any]:
        """The next pairs to judge, leased to this reviewer."""
        places = self.review.queue(who, count, after)
        return {"data": [self.card(place, who, address) for place in places], "counts": self.review.counts()}

    def listing(self, view: View, who: str, count: int, after: int, address: Address) -> dict[str, Any]:
        """Pairs to look at again."""
        places = [place for place in self.review.places(view, who) if place > after]
        open_ = view == "disagreements"
        page = [self.card(place, who, address, open_=open_) for place in places[:count]]
        return {"data": page, "more": max(0, len(places) - count), "counts": self.review.counts()}

    # Verdicts

    def record(
        self, places: Sequence[int], verdict: Verdict, who: str, address: Address, *, settles: bool = False
    ) -> dict[str, Any]:
        """Record an opinion on some pairs.

        Raises:
            UsageError: one of them is none to be judged by this reviewer now; none is recorded.
            CollectionError: the disk is full; those before are recorded.
        """
        self.review.check_can_judge(places, who, settles=settles)
        for place in places:
            bank = self._keep(place, who) if verdict == "screensaver" else ()
            try:
                self.review.record(place, verdict, who, settles=settles, bank=bank)
            except ReelseekError:
                self._drop(bank, who)
                raise
        return {"data": [self.card(place, who, address) for place in places], "counts": self.review.counts()}

    def undo(self, who: str, address: Address) -> dict[str, Any]:
        """Take back this reviewer's last verdict."""
        undone = self.review.verdicts.undo(who)
        if undone is None:
            return {"place": None, "verdict": None, "card": None, "counts": self.review.counts()}
        self._drop(undone.bank, who)
        place = self.review.place_of(undone.key)
        card = None if place is None else self.card(place, who, address)
        return {"place": place, "verdict": undone.verdict, "card": card, "counts": self.review.counts()}

    def judge_below(self, below: float, verdict: BulkVerdict, who: str) -> dict[str, Any]:
        """Say the same of every pair below a score that nobody has judged."""
        review = self.review
        judged, lower = judge_below(review.pairs, review.keys, review.verdicts, below=below, verdict=verdict, who=who)
        return {"judged": judged, "before": lower - judged, "counts": review.counts()}

    # The JSON of a pair

    def card(self, place: int, who: str, address: Address, *, open_: bool = False) -> dict[str, Any]:
        """A pair for a reviewer.

        Args:
            open_: includes the others' opinions although this reviewer has yet to settle the pair.
        """
        pair = self.review.pairs[place]
        opinions = self.review.verdicts.opinions_on(self.review.keys[place])
        visible = opinions if open_ else self.review.visible_opinions(place, who)
        mine = [opinion.verdict for opinion in opinions if opinion.who == who]
        return {
            "place": place, "score": pair.score, "sound": pair.sound, "window": pair.window,
            "test": {**self._side(pair.test, address), "start": pair.test_start},
            "train": {**self._side(pair.train, address), "start": pair.train_start},
            "mine": mine[-1] if mine else None, "said": [_opinion_json(o) for o in visible[-_MOST_OPINIONS:]],
            "opinions": len(visible),
        }  # fmt: skip

    def _side(self, name: str, address: Address) -> dict[str, Any]:
        if name not in self._sides:
            with self._lock:
                self._sides[name] = self._facts(name)
        facts = self._sides[name]
        opaque = facts["video"]
        if opaque is None:
            return {**facts, "play": None, "strip": None}
        return {**facts, "play": address(opaque, "media"), "strip": address(opaque, "strip")}

    def _facts(self, name: str) -> dict[str, Any]:
        video = self._video(name)
        if video is None or self._library is None or video.path is None or not is_file(video.path):
            return {"name": name, "video": None, "duration": None, "width": None, "height": None, "bytes": None}
        info = self._library.media_info(video.content or "")
        return {
            "name": name, "video": opaque_id(video.id), "duration": video.duration,
            "width": info.get("width"), "height": info.get("height"), "bytes": max(0, file_numbers(video.path)[0]),
        }  # fmt: skip


def _opinion_json(opinion: Opinion) -> dict[str, Any]:
    return {"who": opinion.who, "verdict": opinion.verdict, "time": opinion.time, "settles": opinion.settles}
