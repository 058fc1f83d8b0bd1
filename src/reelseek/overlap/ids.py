"""Videos of two sets that are the same by what they are called, or byte for byte.

A clip's name tells the video it was cut from in most datasets: MSVD and VATEX write a YouTube id and two times,
ActivityNet `v_` and the id, LSMDC the film. Source: Dzabraev et al. 2021, section 2.1, whose first stage this is.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reelseek.library.names import Names, bare_parts

__all__ = ["Shared", "matching", "shared_by_name", "source_id"]

_ID = r"(?P<id>[A-Za-z0-9_-]{11})"
_RULES = (
    re.compile(rf"^{_ID}_\d+(\.\d+)?_\d+(\.\d+)?$"),  # MSVD, VATEX, Kinetics: id_start_end
    re.compile(rf"^v_{_ID}(_\d+)?$"),  # ActivityNet
    re.compile(r"^(?P<id>\d{4}_[A-Za-z0-9_'&!-]+?)_\d\d\.\d\d\.\d\d\.\d+-\d\d\.\d\d\.\d\d\.\d+$"),  # LSMDC: the film
)


@dataclass(frozen=True)
class Shared:
    """Two videos and why they are the same: `id`, `source` or `bytes`."""

    test: str
    train: str
    why: str


def source_id(video: str) -> str | None:
    """Return the video or film that a clip was cut from, where its name tells it.

    >>> source_id("msvd/-4wsuPCjDBc_5_15.avi"), source_id("1004_Juno_00.00.32.801-00.00.50.747")
    ('-4wsuPCjDBc', '1004_Juno')
    """
    name = bare_parts(video)[-1]
    for rule in _RULES:
        match = rule.match(name)
        if match:
            return match["id"]
    return None


def shared_by_name(
    test: Iterable[str], train: Iterable[str], content: Mapping[str, str], ids: Mapping[str, str] | None = None
) -> list[Shared]:
    """List the pairs of two sets that are the same video, each once, for the strongest reason.

    A set compared with itself pairs every two videos once, the earlier one as `test`.

    Args:
        content: hashes of the files of those videos whose bytes are available.
        ids: sources of videos, where their names do not tell them.
    """
    sources = ids or {}
    first, second = list(dict.fromkeys(test)), list(dict.fromkeys(train))
    keys = (
        ("id", {video: video for video in (*first, *second)}),
        ("bytes", {video: content[video] for video in (*first, *second) if content.get(video)}),
        (
            "source",
            {video: source for video in (*first, *second) if (source := sources.get(video) or source_id(video))},
        ),
    )
    shared: dict[tuple[str, str], Shared] = {}
    order = {video: place for place, video in enumerate(first)} if set(first) == set(second) else {}
    for why, key in keys:
        by_key: dict[str, list[str]] = {}
        for video in second:
            if video in key:
                by_key.setdefault(key[video], []).append(video)
        for video in first:
            for other in by_key.get(key.get(video, ""), ()):
                if not order or order[video] < order[other]:
                    shared.setdefault((video, other), Shared(video, other, why))
    return list(shared.values())


def matching(listed: Iterable[str], videos: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Match each line of a list to the videos that it names; and return the lines that name none.

    A line names the video of exactly that name; else what `Names.nearest` says.

    >>> matching(["v1.mp4", "b/v2"], ["v1", "a/v2", "b/v2.avi"])
    ({'v1.mp4': ['v1'], 'b/v2': ['b/v2.avi']}, [])
    """
    names = Names((video, video, None) for video in dict.fromkeys(videos))
    matches: dict[str, list[str]] = {}
    unknown = []
    for line in dict.fromkeys(listed):
        if not line.strip():
            continue
        name = line if line in names else line.strip()
        if videos_of_name := names.nearest(name):
            matches[line] = list(videos_of_name)
        else:
            unknown.append(name)
    return matches, unknown
