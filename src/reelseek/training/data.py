"""Which clips and captions a split holds, and how a training part is divided where no validation split is given."""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from reelseek.errors import UsageError, suggest
from reelseek.library.caption_sets import open_caption_features
from reelseek.library.records import Caption
from reelseek.library.source import FeatureSource
from reelseek.library.storage import Storage
from reelseek.library.tokens import Clip, TokenReader
from reelseek.overlap.clean import read_videos
from reelseek.overlap.ids import matching
from reelseek.training.recipe import DataRecipe, GroupRecipe
from reelseek.training.split import Split

__all__ = [
    "check_validation",
    "hidden_experts",
    "read_features",
    "read_split",
    "recipe_splits",
    "split_names",
    "together",
    "training_splits",
    "whole_split",
]

_log = logging.getLogger("reelseek")

_VALIDATION = ("val", "validation", "valid", "dev")


def split_names(library: FeatureSource) -> list[str]:
    """Names of the splits that captions or videos carry."""
    named = {name for name in library.splits() if name} | set(library.memberships())
    return sorted(named | {video.split for video in library.videos() if video.split})


def read_split(library: FeatureSource, name: str | None, *, uncaptioned: bool = False) -> Split:
    """A split by name; None takes every caption, `val1+val2` several splits as one.

    Args:
        uncaptioned: it may be one of videos without captions; None then takes every video.

    Raises:
        UsageError: no caption is in it; says which splits there are.
    """
    if name is not None and "+" in name and name not in (have := split_names(library)):
        parts = name.split("+")
        if all(part in have for part in parts):
            return together(library, parts, uncaptioned=uncaptioned)
    of_video = {video.id: video.split for video in library.videos()}
    members = library.memberships().get(name, []) if name is not None else []
    if members:
        captions, of_video = _of_members(library, name, members), dict.fromkeys(members, name)
    else:
        captions = [c for c in library.captions() if name is None or (c.split or of_video.get(c.video)) == name]
    if uncaptioned and name is None:
        of_video = dict.fromkeys(of_video, None)
    elif not captions and not (uncaptioned and name in of_video.values()):
        names = ", ".join(split_names(library)) or "none"
        if name is None:
            raise UsageError(f"{library.path} has no captions; add some with: reelseek add ... --captions TABLE")
        raise UsageError(
            f"{library.path} has no caption "
            f"in the split {name!r}{suggest(name, split_names(library))}; its splits are: {names}"
        )
    clips: dict[Clip, int] = {}
    for caption in captions:
        clips.setdefault(_clip(caption), len(clips))
    captioned = {clip.video for clip in clips}
    for video, split in sorted(of_video.items()):
        if (name is not None or uncaptioned) and split == name and video not in captioned:
            clips.setdefault(Clip(video), len(clips))
    return Split(name or "all", tuple(clips), tuple(c.text for c in captions), tuple(clips[_clip(c)] for c in captions))


def _of_members(library: FeatureSource, name: str | None, members: Sequence[str]) -> list[Caption]:
    """Captions of a split that is a list of videos: those made for it where there are any, else all of its videos'."""
    inside = set(members)
    every = [c for c in library.captions() if c.video in inside]
    return [c for c in every if c.split == name] or [c for c in every if c.split is None] or every


def read_features(split: Split, library: FeatureSource, name: str | None) -> tuple[Split, int]:
    """A split whose captions come as the features that were imported under a name, and how many have none.

    Captions without features are left out.

    Args:
        name: None leaves captions as they are.

    Raises:
        UsageError: the library has no caption features of this name, or none of the split's captions.
    """
    if name is None:
        return split, 0
    if not isinstance(library, Storage):
        raise UsageError(f"{library.path} is in memory, and its captions are as they were given; leave out @{name}")
    features = open_caption_features(library.path, name)
    clips = [split.clips[clip] for clip in split.clip_of_text]
    encoded = [
        features.read(Caption(clip.video, text, clip.start_seconds, clip.end_seconds))
        for text, clip in zip(split.texts, clips, strict=True)
    ]
    rows = [row for row, caption in enumerate(encoded) if caption is not None]
    missing = len(encoded) - len(rows)
    if not rows:
        raise UsageError(
            f"none of the {missing} captions of {split.name!r} has features {name!r}, whose {len(features)} captions "
            "are of other videos, or in other words; import those of this split: reelseek data import --help"
        )
    texts = tuple(caption for caption in encoded if caption is not None)
    return replace(split, texts=texts, clip_of_text=tuple(split.clip_of_text[row] for row in rows)), missing


def check_validation(library: FeatureSource, learnt: Split, validation: Split) -> None:
    """Refuse a validation split on which the best epoch must not be selected.

    A test split is one that is called `test` in any case, perhaps behind the name of a dataset (`msrvtt/test`).

    Raises:
        UsageError: it shares videos with what is learnt from; or it is a test split by its name, by one of the names
            that `+` joins, or by its videos (all of a test split's, or none but those).
    """
    videos = {clip.video for clip in validation.clips}
    shared = {clip.video for clip in learnt.clips} & videos
    if shared:
        raise UsageError(
            f"{len(shared)} videos are in both {learnt.name!r} and {validation.name!r}, such as {min(shared)!r}; "
            "a validation split must not be trained on"
        )
    names = split_names(library)
    hint = "" if set(names) & set(_VALIDATION) else ", or leave out data.validation to set training videos aside"
    for name in dict.fromkeys([*validation.name.split("+"), *names]):
        if name.rpartition("/")[2].strip().casefold() != "test":
            continue
        tested = {clip.video for clip in read_split(library, name, uncaptioned=True).clips} if name in names else set()
        relation = _relation(validation.name, name, videos, tested)
        if relation:
            raise UsageError(
                f"the validation split {validation.name!r} {relation} the test split {name!r}; choosing on it would "
                f"make the test score worthless. Name another{hint}"
            )
        if videos & tested:
            _log.warning(
                "%d of the %d videos of the validation split %r are in the test split %r, whose score they flatter",
                len(videos & tested), len(videos), validation.name, name,
            )  # fmt: skip


def _relation(name: str, test: str, videos: set[str], tested: set[str]) -> str:
    """How a split and a test split overlap, as a verb; empty where neither holds the other."""
    if name == test or videos == tested:
        return "is"
    if test in name.split("+") or (tested and videos > tested):
        return "holds"
    return "lies within" if videos < tested else ""


def _clip(caption: Caption) -> Clip:
    return Clip(caption.video, caption.start_seconds, caption.end_seconds)


def together(library: FeatureSource, names: Sequence[str], *, uncaptioned: bool = False) -> Split:
    """Several splits as one; a clip that two of them hold is there once.

    Args:
        uncaptioned: see `read_split`.

    Raises:
        UsageError: a split is empty.
    """
    parts = [read_split(library, name, uncaptioned=uncaptioned) for name in names]
    clips = list(dict.fromkeys(clip for part in parts for clip in part.clips))
    place = {clip: index for index, clip in enumerate(clips)}
    captions = dict.fromkeys(
        (text, place[part.clips[clip]])
        for part in parts
        for text, clip in zip(part.texts, part.clip_of_text, strict=True)
    )
    return Split(
        "+".join(names), tuple(clips), tuple(text for text, _ in captions), tuple(clip for _, clip in captions)
    )


def training_splits(
    library: FeatureSource,
    train: str | Sequence[str],
    validation: str | None,
    fraction: float,
    *,
    uncaptioned: bool = False,
) -> tuple[Split, Split]:
    """The split to learn from and the one to choose the best epoch on, which share no video.

    Without a validation split, a fraction of the training videos is set aside, the same ones every time.

    Args:
        train: a split, or several that are learnt from together.
        uncaptioned: learn from clips without captions too.

    Raises:
        UsageError: a split is empty, or see `check_validation`.
    """
    names = split_names(library)
    validation = validation or next((name for name in _VALIDATION if name in names), None)
    if not isinstance(train, str):
        learnt = together(library, train, uncaptioned=uncaptioned)
    else:
        learnt = read_split(library, train if names else None, uncaptioned=uncaptioned)
    if validation is not None:
        validated = read_split(library, validation)
        check_validation(library, learnt, validated)
        return learnt, validated
    videos = sorted({clip.video for clip in learnt.clips}, key=lambda v: hashlib.sha256(v.encode()).digest())
    aside = set(videos[: max(1, round(len(videos) * fraction))])
    if len(aside) == len(videos):
        raise UsageError(f"{learnt.name!r} has {len(videos)} videos; training needs at least two")
    keep = [index for index, clip in enumerate(learnt.clips) if clip.video not in aside]
    rest = [index for index, clip in enumerate(learnt.clips) if clip.video in aside]
    return learnt.subset(keep, learnt.name), learnt.subset(
        rest, f"{round(fraction * 100)}% of {learnt.name}", learnt.name
    )


def recipe_splits(library: FeatureSource, recipe: DataRecipe) -> tuple[Split, Split]:
    """What a recipe learns from and chooses on, without the videos that it excludes.

    Raises:
        UsageError: as `training_splits`; or the list of what is excluded names none of these videos, or all.
    """
    names: str | list[str] = list(recipe.weights) if recipe.mixture else recipe.train
    _check_named(library, recipe)
    splits = training_splits(
        library, names, recipe.validation, recipe.validation_fraction, uncaptioned=recipe.uncaptioned
    )
    return _without_excluded(splits[0], recipe, splits), _without_excluded(splits[1], recipe, splits)


def _check_named(library: FeatureSource, recipe: DataRecipe) -> None:
    """Say which of a recipe's splits a library lacks, all at once, and how they come into it.

    Raises:
        UsageError: it lacks some.
    """
    existing = split_names(library)
    named = list(recipe.weights) if recipe.mixture else [recipe.train] if existing else []
    named += [recipe.validation] if recipe.validation is not None else []
    missing = [part for name in named if name not in existing for part in name.split("+") if part not in existing]
    if missing:
        setting = "validation" if missing == [recipe.validation] else "mixture" if recipe.mixture else "train"
        raise UsageError(
            f"{library.path} has no caption in the split{'s' * (len(missing) > 1)} "
            f"{', '.join(map(repr, missing))} of the recipe"
            f"{suggest(missing[0], existing)}; its splits are: {', '.join(existing) or 'none'}. Bring captions in "
            f"with: reelseek add {library.path} TABLE, or reelseek data import; or name other splits with --set "
            f"data.{setting}=..."
        )


def whole_split(library: FeatureSource, recipe: DataRecipe) -> Split:
    """All that a recipe may learn from, what was set aside for choosing too."""
    if recipe.mixture:
        split = together(library, list(recipe.weights), uncaptioned=recipe.uncaptioned)
    else:
        name = recipe.train if split_names(library) else None
        split = read_split(library, name, uncaptioned=recipe.uncaptioned)
    return _without_excluded(split, recipe, [split])


def _without_excluded(split: Split, recipe: DataRecipe, parts: Sequence[Split]) -> Split:
    if recipe.exclude is None:
        return split
    listed = read_videos(Path(recipe.exclude), "train")
    named, unknown = matching(listed, {clip.video for part in parts for clip in part.clips})
    gone = {video for videos in named.values() for video in videos}
    if listed and not gone:
        raise UsageError(
            f"{recipe.exclude} excludes {len(listed)} videos, such as {listed[0]!r}, and not one of them is in "
            f"{parts[0].name!r}, whose videos are such as {parts[0].clips[0].video!r}"
        )
    if unknown and split is parts[0]:
        _log.warning("%s names %d videos that are not learnt from anyway", recipe.exclude, len(unknown))
    keep = [place for place, clip in enumerate(split.clips) if clip.video not in gone]
    if not keep:
        raise UsageError(f"{recipe.exclude} excludes every video of {split.name!r}")
    return split if len(keep) == len(split.clips) else split.subset(keep, split.name, split.set_aside_from)


def hidden_experts(
    library: FeatureSource, videos: Iterable[str], groups: Sequence[GroupRecipe]
) -> dict[str, frozenset[str]]:
    """For each video the experts that its group may not see; empty without groups.

    Raises:
        UsageError: a group names an expert that the library has not.
    """
    if not groups:
        return {}
    named = dict.fromkeys(name for group in groups for name in (*group.experts, *group.when))
    reader, every = TokenReader(library, list(named)), set(library.experts())
    order = sorted(set(videos), key=lambda v: hashlib.sha256(v.encode()).digest())
    present = reader.present([Clip(video) for video in order])
    shared = [group for group in groups if not group.when]
    hidden, others = {}, 0
    for place, video in enumerate(order):
        group = next((g for g in groups if g.when and all(present[name][place] for name in g.when)), None)
        if group is None and shared:
            group = shared[others % len(shared)]
            others += 1
        if group is not None:
            hidden[video] = frozenset(every - set(group.experts))
    return hidden
