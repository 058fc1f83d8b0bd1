"""Caption features of other projects on their way into a library, each matched to a caption."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from reelseek.errors import CollectionError, UsageError
from reelseek.library.caption_sets import CAPTIONS_AT_ONCE, CaptionFeatureSet, Rows, begin_caption_features
from reelseek.library.imports import check_expert_name
from reelseek.library.names import name_some
from reelseek.library.readers.caption_vectors import CAPTION_FEATURES, VideoCaptions, read_caption_words
from reelseek.library.readers.containers import seconds_for
from reelseek.library.records import Caption
from reelseek.library.store import Library
from reelseek.library.words import tokens
from reelseek.media.guard import stream

__all__ = ["CaptionReport", "import_caption_features"]


@dataclass
class CaptionReport:
    """What an import of caption features did.

    Attributes:
        captions: that have vectors now.
        videos: whose captions they are.
        empty: captions without a vector, as where none of their words is in a list of word vectors.
        unmatched: videos of the files that the library does not have.
        failed: videos whose captions do not fit, and files that cannot be used (name, why).
    """

    captions: int = 0
    videos: int = 0
    empty: int = 0
    unmatched: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def import_caption_features(
    library: Library,
    kind: str,
    paths: Sequence[Path],
    name: str,
    *,
    captions: Path | None = None,
    dataset: str | None = None,
    progress: Callable[[str, int, int, str], None] | None = None,
) -> CaptionReport:
    """Add vectors of the library's captions from other projects' files, under a name.

    A file has the vectors of a video's captions in an order. With `captions`, which holds their words in that order,
    they are matched by their words; without, by their number: all captions of the video, or those of one split.

    Args:
        kind: one of CAPTION_FEATURES.
        name: what recipes call them, `model.text.encoder = "features@NAME"`.
        dataset: what stands before the library's ids of these videos.

    Raises:
        UsageError: no such format, a bad name, or the library has captions of this name in another width.
        CollectionError: no file of the format is there, or none can be read.
    """
    check_expert_name(name)
    words = None if captions is None else read_caption_words(captions)
    report = CaptionReport()
    writer = _Writer(library, name, kind, report)
    with library.writing():
        lookup = library.names()
        for count, video in enumerate(_read(kind, paths, report.failed), 1):
            ids = [f"{dataset}/{video.video}", video.video] if dataset else [video.video]
            ids += [old.removeprefix("v_") for old in ids if old.startswith("v_")]
            rows = next((videos for label in ids if (videos := lookup.matches(label))), ())
            if not rows:
                report.unmatched.append(video.video)
            elif len(rows) > 1:
                report.failed.append((video.video, f"it could be {name_some([row.id for row in rows])}"))
            else:
                writer.add(video, library.catalog.captions.of_video(rows[0].id), words)
            if progress:
                progress("importing", count, 0, video.video)
        writer.flush()
    return report


def _read(kind: str, paths: Sequence[Path], failed: list[tuple[str, str]]) -> Iterator[VideoCaptions]:
    """Videos of all files; what cannot be read is collected, unless it is the only one."""
    if kind not in CAPTION_FEATURES:
        raise UsageError(f"no caption features are called {kind!r}; there are {', '.join(CAPTION_FEATURES)}")
    endings = CAPTION_FEATURES[kind][1]
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    files = [file for file in files if file.suffix in endings or file in paths]
    if not files:
        raise CollectionError(f"{', '.join(map(str, paths))}: no {' or '.join(endings)} file in it")
    for file, result in stream(partial(_read_file, kind), files, seconds=seconds_for):
        if isinstance(result, VideoCaptions):
            yield result
        elif len(files) == 1:
            raise CollectionError(f"{file} cannot be read as {kind}: {result}") from result
        else:
            failed.append((str(file), str(result)))


def _read_file(kind: str, file: Path) -> Iterator[VideoCaptions]:
    try:
        yield from CAPTION_FEATURES[kind][0](file)
    except (OSError, ValueError, LookupError, EOFError, TypeError, AttributeError, OverflowError) as error:
        raise CollectionError(f"{type(error).__name__}: {error}") from error


class _Writer:
    """Matches the captions of one video after the other, and writes them together."""

    def __init__(self, library: Library, name: str, kind: str, report: CaptionReport) -> None:
        self._library, self._name, self._kind, self._report = library, name, kind, report
        self._set: CaptionFeatureSet | None = None
        self._waiting: dict[Caption, Rows] = {}

    def add(self, video: VideoCaptions, captions: Sequence[Caption], words: Mapping[str, Sequence[str]] | None) -> None:
        report = self._report
        problem = video.problem
        matches: dict[Caption, Rows] = {}
        if not problem:
            matches, problem = _match(video, captions, None if words is None else words.get(video.video, ()))
        widths = {rows.shape[1] for rows in matches.values() if len(rows)}
        if self._set is not None and (other := widths - {self._set.width}):
            matches, problem = {}, f"its vectors are {other.pop()} wide, and those before {self._set.width}"
        elif len(widths) > 1:
            matches, problem = {}, f"its vectors have the widths {', '.join(map(str, sorted(widths)))}"
        if problem:
            report.failed.append((video.video, problem))
        if not matches:
            return
        if self._set is None and widths:
            self._set = begin_caption_features(self._library.path, self._name, widths.pop(), self._kind)
        filled = {caption: rows for caption, rows in matches.items() if len(rows)}
        report.empty += len(matches) - len(filled)
        report.captions += len(filled)
        report.videos += bool(filled)
        self._waiting.update(filled)
        if len(self._waiting) >= CAPTIONS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        if self._set is not None:
            self._set.add(self._waiting)
        self._waiting.clear()


def _match(
    video: VideoCaptions, captions: Sequence[Caption], words: Sequence[str] | None
) -> tuple[dict[Caption, Rows], str]:
    """The vectors of each caption that has some, and why others have none."""
    if not captions:
        return {}, "it has no captions in the library; import those first"
    if words is not None:
        return _match_words(video, captions, words)
    by_split: dict[str | None, list[Caption]] = defaultdict(list)
    for caption in captions:
        by_split[caption.split].append(caption)
    groups = [group for group in (captions, *by_split.values()) if len(group) == len(video.captions)]
    distinct = list({tuple(map(_bare, group)) for group in groups})
    if len(distinct) == 1:
        return dict(zip(distinct[0], video.captions, strict=True)), ""
    counts = " and ".join(f"{len(group)} of {split}" if split else str(len(group)) for split, group in by_split.items())
    why = f"{len(video.captions)} captions in the file, and {counts} in the library"
    return {}, f"{why}; name the words that the vectors are of with --captions"


def _match_words(
    video: VideoCaptions, captions: Sequence[Caption], words: Sequence[str]
) -> tuple[dict[Caption, Rows], str]:
    """As `_match`, by the words of each vector."""
    if len(words) != len(video.captions):
        return {}, f"{len(video.captions)} captions in the file, and the words of {len(words)}"
    vectors = {tuple(tokens(text)): rows for text, rows in zip(words, video.captions, strict=True)}
    matches = {_bare(caption): vectors[key] for caption in captions if (key := tuple(tokens(caption.text))) in vectors}
    missing = len({_bare(caption) for caption in captions}) - len(matches)
    return matches, f"{missing} of its captions have no vectors: their words are not in the file" if missing else ""


def _bare(caption: Caption) -> Caption:
    """A caption without its split, which says nothing of its vectors."""
    return Caption(caption.video, caption.text, caption.start_seconds, caption.end_seconds)
