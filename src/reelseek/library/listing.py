"""What paths and addresses stand for: patterns, folders on disks and in stores, and the samples of tar shards."""

import glob
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from reelseek.errors import CollectionError, ReelseekError
from reelseek.library.folders import count_others, walk_folder
from reelseek.library.names import free_name, printable
from reelseek.media.address import Address, FilePath, member
from reelseek.media.notice import Notice
from reelseek.media.store import exists, is_folder, list_objects, match_objects, object_state
from reelseek.media.suffixes import MEDIA_SUFFIXES
from reelseek.media.tar import LONGEST_TEXT, Member, Shard, is_tar, is_text, member_states, read_shard, sample_key

__all__ = ["Listing", "Sample", "expand_paths", "is_listed", "read_folder", "read_samples", "unique_ids"]

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST_MATCHES = 1_000_000


@dataclass(frozen=True)
class Sample:
    """A video in a shard, with the texts of the members that share its key; `problems` are (member, reason)."""

    id: str
    path: Address
    texts: tuple[str, ...] = ()
    cells: dict[str, Any] = field(default_factory=dict)
    problems: tuple[tuple[str, str], ...] = ()


@dataclass
class Listing:
    """Videos of a folder or shard: files by their names in it, samples of shards, and what was passed over.

    Attributes:
        others: members of shards that are no video and belong to none, by what their names end in.
    """

    files: list[tuple[str, FilePath]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def note_others(self, place: str) -> None:
        """Say once for all shards which members were passed over."""
        if total := self.others.total():
            kinds = ", ".join(f"{count} {suffix}" for suffix, count in self.others.most_common(12))
            self.notices.append(Notice(place, f"{total} other member{'s' * (total > 1)} of tar shards: {kinds}"))


def expand_paths(paths: Sequence[FilePath]) -> list[FilePath]:
    """The paths that some names stand for: `shard-{000..009}.tar` for ten, `*` in an address for what matches.

    Raises:
        CollectionError: one does not exist, or its store cannot be read.
    """
    expanded: list[FilePath] = []
    for path in paths:
        try:
            expanded += _expand(path)
        except OSError as error:
            raise CollectionError(f"{printable(path)}: {error.strerror or error}") from error
    return expanded


def _expand(path: FilePath) -> list[FilePath]:
    if isinstance(path, Path) and os.path.lexists(path):
        return [path]
    braced = [_like(path, text) for text in _without_braces(str(path))]
    expanded: list[FilePath] = []
    for one in braced:
        if isinstance(one, Address) and glob.has_magic(one.text) and not _is_there(one):
            matches = match_objects(one)
            if not matches:
                raise CollectionError(f"{one}: no object in the store matches it")
            expanded += matches
        elif _is_there(one):
            expanded.append(one)
        else:
            raise CollectionError(f"{printable(one)}: no such file or folder")
    return expanded


def _is_there(path: FilePath) -> bool:
    return exists(path) if isinstance(path, Path) else is_listed(path)


def is_listed(address: Address) -> bool:
    """Whether an address names an object or a folder of its store.

    Raises:
        OSError: the store does not say.
    """
    try:
        object_state(address)
    except FileNotFoundError:
        return address.shard is None and is_folder(address)
    except IsADirectoryError:
        return True
    return True


def _like(path: FilePath, text: str) -> FilePath:
    return Address(text) if isinstance(path, Address) else Path(text)


def _without_braces(text: str) -> list[str]:
    """What a name with braces stands for, as in shells: `{000..009}` and `{a,b}`."""
    parts = _BRACES.split(text)
    choices = [[part] if number % 2 == 0 else _choices(part) for number, part in enumerate(parts)]
    count = 1
    for names in choices:
        count *= len(names)
    if count > _MOST_MATCHES:
        raise CollectionError(f"{text} stands for {count} names; at most {_MOST_MATCHES}")
    return ["".join(parts) for parts in product(*choices)]


def _choices(part: str) -> list[str]:
    if match := _RANGE.fullmatch(part):
        first, last = int(match[1]), int(match[2])
        if abs(last - first) >= _MOST_MATCHES:
            raise CollectionError(f"{{{part}}} stands for more than {_MOST_MATCHES} names")
        step = 1 if last >= first else -1
        return [str(number).zfill(len(match[1])) for number in range(first, last + step, step)]
    return part.split(",") if "," in part else ["{" + part + "}"]


def read_folder(folder: FilePath, suffixes: Collection[str] = MEDIA_SUFFIXES) -> Listing:
    """The videos below a folder in order of their path, with those in its shards.

    Raises:
        CollectionError: the store cannot be read.
    """
    listing = Listing()
    endings = frozenset((*suffixes, ".tar"))
    if isinstance(folder, Path):
        files, listing.notices = walk_folder(folder, endings)
        named: list[tuple[str, FilePath]] = [(printable(file.relative_to(folder)), file) for file in files]
    else:
        named = _objects(folder, endings, listing)
    without: list[str] = []
    for name, file in named:
        if not is_tar(file):
            listing.files.append((name, file))
            continue
        before = len(listing.samples)
        try:
            read_samples(file, listing, name)
        except (ReelseekError, OSError) as error:
            listing.notices.append(Notice(printable(file), f"the shard is left out: {error}", lost=True))
        else:
            if len(listing.samples) == before:
                without.append(name)
    if without:
        message = f"{len(without)} tar files without a video passed over: {', '.join(without[:5])}"
        listing.notices.append(Notice(printable(folder), message))
    listing.note_others(printable(folder))
    return listing


def _objects(folder: Address, suffixes: frozenset[str], listing: Listing) -> list[tuple[str, FilePath]]:
    try:
        objects = list_objects(folder)
    except OSError as error:
        raise CollectionError(f"{folder}: {error.strerror or error}") from error
    others: Counter[str] = Counter()
    hidden = 0
    named: list[tuple[str, FilePath]] = []
    for address in objects:
        name = address.text[len(folder.text.rstrip("/")) + 1 :]
        if any(part.startswith(".") for part in name.split("/")):
            hidden += 1
        elif address.suffix.lower() in suffixes:
            named.append((printable(name), address))
        else:
            count_others(others, address.name)
    if hidden:
        listing.notices.append(Notice(str(folder), f"{hidden} hidden object{'s' * (hidden > 1)} passed over"))
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(12))
        listing.notices.append(Notice(str(folder), f"{others.total()} other file{'s' * (others.total() > 1)}: {kinds}"))
    return named


def read_samples(path: FilePath, listing: Listing, name: str) -> None:
    """The videos in a shard, each with the texts beside it.

    Args:
        name: of the shard, before the ids.

    Raises:
        CollectionError: it is no tar that can be read.
        OSError: it cannot be opened.
    """
    shard, states = read_shard(path), member_states(path)
    texts: dict[str, list[Member]] = {}
    for one in shard.members:
        if one.text is not None:
            texts.setdefault(sample_key(one.name), []).append(one)
    videos = [one for one in shard.members if os.path.splitext(one.name)[1].lower() in MEDIA_SUFFIXES]
    for video in videos:
        address = Address(member(path, video.name).text, states[video.name])
        listing.samples.append(
            _sample(
                f"{name}/{printable(video.name.removeprefix('./'))}", address, texts.get(sample_key(video.name), ())
            )
        )
    _count_other_members(shard.members, {sample_key(video.name) for video in videos}, listing)
    listing.notices += [Notice(printable(path), message, lost=True) for message in _losses(shard)]


def _losses(shard: Shard) -> Iterator[str]:
    """What of a shard cannot be read."""
    if shard.problem:
        yield f"damaged: {shard.problem}; what could be read was, and what follows is lost"
    if shard.left_out:
        yield f"{shard.left_out} symbolic links and sparse files in it are left out; pack the files themselves"
    if shard.replaced:
        members = f"{shard.replaced} member{'s' * (shard.replaced > 1)}"
        yield f"{members} left out, since later ones have the same names; give each its own name"
    if long := [one.name for one in shard.members if one.text is None and is_text(one.name)]:
        most = f"{LONGEST_TEXT / 2**20:.0f} MiB"
        texts = f"{len(long)} text{'s' * (len(long) > 1)}"
        yield f"{texts} longer than {most} not read, such as {printable(long[0])}"


def _count_other_members(members: Iterable[Member], keys: Collection[str], listing: Listing) -> None:
    """Count members that are no video, unless they stand beside one.

    Args:
        keys: of the shard's videos.
    """
    for one in members:
        suffix = os.path.splitext(one.name)[1].lower()
        if suffix in MEDIA_SUFFIXES or (is_text(one.name) and sample_key(one.name) in keys):
            continue
        if is_text(one.name):
            listing.others[printable(suffix)] += 1
        else:
            count_others(listing.others, one.name.rpartition("/")[2])


def _sample(identifier: str, address: Address, members: Sequence[Member]) -> Sample:
    texts: list[str] = []
    cells: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    for one in members:
        assert one.text is not None
        if not one.name.lower().endswith(".json"):
            texts.append(one.text)
            continue
        try:
            loaded = json.loads(one.text)
        except (ValueError, RecursionError) as error:
            problems.append((one.name, f"no JSON: {error}"))
            continue
        if isinstance(loaded, dict):
            cells |= {str(key).strip().lower(): value for key, value in loaded.items()}
        else:
            problems.append((one.name, "its JSON is no object; wanted one with a caption"))
    return Sample(identifier, address, tuple(texts), cells, tuple(problems))


def unique_ids(samples: Sequence[Sample]) -> Iterator[tuple[str, Sample]]:
    """An id for each sample, no two samples the same one."""
    paths: dict[str, Address] = {}
    for sample in samples:
        name = free_name(sample.id, sample.path, lambda name, path=sample.path: paths.get(name, path) == path)  # type: ignore[misc]
        paths[name] = sample.path
        yield name, sample
