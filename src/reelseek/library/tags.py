"""Putting tags on videos and on moments of them, and taking them off."""

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace

from reelseek.errors import UsageError
from reelseek.library.filters import TYPED
from reelseek.library.records import Tag
from reelseek.library.storage import Storage
from reelseek.library.texts import is_unicode
from reelseek.library.words import fold

__all__ = ["LONGEST_TAG", "add_tags", "clean_tag", "remove_tags", "set_moment_tags"]

LONGEST_TAG = 60
_MOST_TAGS = 1000  # of one video and its moments
_JOINERS = "\u200c\u200d"  # which Persian words and emoji hold
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def clean_tag(text: str) -> str:
    """A tag as it is stored: one line, with single blanks.

    >>> clean_tag("  summer   holiday ")
    'summer holiday'

    Raises:
        UsageError: it is empty or too long, or holds quotes or signs that nobody sees.
    """
    if len(text) > 10 * LONGEST_TAG or not is_unicode(text):
        raise UsageError(f"a tag has at most {LONGEST_TAG} letters of Unicode; choose a shorter one")
    tag = unicodedata.normalize("NFKC", text).translate(TYPED).strip(" ")  # as a filter is read
    hidden = [sign for sign in tag if unicodedata.category(sign) in _HIDDEN and sign not in _JOINERS]
    if hidden:
        raise UsageError(f"the tag {tag!a} holds {hidden[0]!a}, which no line of text shows; leave it out")
    tag = " ".join(tag.split())
    if not any(unicodedata.category(sign)[0] in "LNPS" for sign in tag) or not fold(tag):
        raise UsageError(f"the tag {text!a} has no letter; write a word")
    if len(tag) > LONGEST_TAG:
        raise UsageError(f"the tag {tag[:20]!r}... has {len(tag)} letters; at most {LONGEST_TAG} are stored")
    if '"' in tag or "," in tag:
        raise UsageError(f"the tag {tag!r} holds a quote or a comma, which part tags from each other; leave it out")
    return tag


def add_tags(storage: Storage, tags: Iterable[Tag]) -> int:
    """Put tags on videos and moments, all or none; see `Library.add_tags`.

    It takes rows of one table in one short transaction, and so waits for no `add` that writes for hours.
    """
    cleaned = [_checked(tag) for tag in tags]
    with storage.write_errors(), storage.catalog.transaction():
        storage.catalog.begin()
        return _add(storage, cleaned)


def _add(storage: Storage, tags: Sequence[Tag]) -> int:
    _check_videos(storage, tags)
    added = sum(storage.catalog.tags.add(tag) for tag in tags)
    for video in {tag.video for tag in tags}:
        if storage.catalog.tags.count(video) > _MOST_TAGS:
            raise UsageError(f"{video!r} and its moments would have more than {_MOST_TAGS} tags; remove some first")
    return added


def remove_tags(storage: Storage, tags: Iterable[Tag]) -> int:
    """Take tags off videos and moments; see `Library.remove_tags`."""
    cleaned = [_checked(tag) for tag in tags]
    with storage.write_errors(), storage.catalog.transaction():
        storage.catalog.begin()
        _check_videos(storage, cleaned)
        return sum(storage.catalog.tags.remove(tag) for tag in cleaned)


def set_moment_tags(storage: Storage, video: str, start: float, end: float, texts: Iterable[str]) -> None:
    """Let a moment have these tags and no others; see `add_tags`."""
    tags = [_checked(Tag(video, text, start, end)) for text in texts]
    names = {fold(tag.text) for tag in tags}
    with storage.write_errors(), storage.catalog.transaction():
        storage.catalog.begin()
        for text in storage.catalog.tags.of_moment(video, start, end):
            if fold(text) not in names:
                storage.catalog.tags.remove(Tag(video, text, start, end))
        _add(storage, tags)


def _checked(tag: Tag) -> Tag:
    start, end = tag.start_seconds, tag.end_seconds
    if (start is None) != (end is None):
        raise UsageError("a moment has a start and an end; name both, or none for the whole video")
    if start is not None and end is not None and not (math.isfinite(end) and 0 <= start < end):
        raise UsageError(f"a moment ends after it starts, at 0 s or later; this one is {start:g} to {end:g} s")
    return replace(tag, text=clean_tag(tag.text))


def _check_videos(storage: Storage, tags: Iterable[Tag]) -> None:
    videos = dict.fromkeys(tag.video for tag in tags)
    existing = storage.catalog.videos.existing(videos)
    missing = [video for video in videos if video not in existing]
    if missing:
        raise UsageError(f"{storage.path} has no video {missing[0]!r}; list them with: reelseek info --videos")
