"""Captions encoded in the context of their paragraph, as the text features of COOT and CrossCLR were.

The captions of a video, in the order of time, are one text for a BERT-like network: `[CLS] first [SEP] second [SEP]`.
Each caption's vectors are those of its own tokens, which tell what comes before and after the caption.

Source: Ging et al. 2020 (COOT), the released `precompute_text.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch

from reelseek.errors import UsageError
from reelseek.experts.clip import is_sigmoid
from reelseek.experts.hub import weights_hash
from reelseek.library.caption_sets import CaptionFeatureSet, Rows, begin_caption_features, caption_feature_sets
from reelseek.library.imports import check_expert_name
from reelseek.library.records import Caption
from reelseek.library.store import Library
from reelseek.models.text_networks import count_positions, encoder_folder, is_clip, load_encoder, run_encoder

__all__ = ["ParagraphReport", "encode_paragraphs", "shorten", "tokenize_paragraph"]

_LEAST = 5  # tokens that a sentence keeps where its paragraph is too long, as in the released code
_BATCH = 16  # paragraphs that the network reads together
_WINDOW = 1024  # captions whose paragraphs are sorted by length and written together
Tokens = list[int]


@dataclass
class ParagraphReport:
    """What `encode_paragraphs` did.

    Attributes:
        captions: that were encoded now.
        videos: whose captions they are.
        existing: captions that had these vectors before.
        alone: encoded captions without a span, each of which is a paragraph of its own.
        empty: captions that are blank or full stops alone, which have no vectors.
        shared: captions of several splits, whose vectors are of their paragraph in the first of them.
        cut: tokens that were left out of paragraphs longer than the network reads.
        failed: videos with a paragraph that cannot be shortened to fit (name, why).
    """

    captions: int = 0
    videos: int = 0
    existing: int = 0
    alone: int = 0
    empty: int = 0
    shared: int = 0
    cut: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Paragraph:
    """Captions in their order; `new` are those whose vectors are of no earlier paragraph."""

    captions: tuple[Caption, ...]
    new: frozenset[Caption]
    sentences: list[Tokens] = field(default_factory=list)

    @property
    def length(self) -> int:
        return sum(map(len, self.sentences))


def tokenize_paragraph(texts: Sequence[str], tokenizer: Any) -> list[Tokens]:
    """Tokenize the sentences of a paragraph, each with its separator; the first begins with the token of the paragraph.

    The last full stop of a sentence is left out, and one inside becomes a separator.

    Source: Ging et al. 2020, released code (`BERT_PAPER`).
    """
    sentences: list[Tokens] = []
    for text in texts:
        plain = " ".join(text.split())
        plain = plain[:-1] if plain.endswith(".") and not plain.endswith("..") else plain
        pieces = [tokenizer(piece)["input_ids"] for piece in plain.split(". ") if piece.strip()]
        sentences.append([token for piece in pieces for token in piece[1:]])
        if len(sentences) == 1 and pieces:
            sentences[0].insert(0, pieces[0][0])
    return sentences


def shorten(sentences: Sequence[Tokens], limit: int) -> list[Tokens]:
    """Shorten the last sentences first, none to less than five tokens, until `limit` tokens are left.

    A shortened sentence keeps its separator. The result is longer than `limit` if that is impossible.

    >>> shorten([[101, 7, 8, 102], [1, 2, 3, 4, 5, 6, 7, 102]], 10)
    [[101, 7, 8, 102], [1, 2, 3, 4, 5, 102]]
    """
    shortened = [list(sentence) for sentence in sentences]
    for place in reversed(range(len(shortened))):
        excess = sum(map(len, shortened)) - limit
        if excess <= 0:
            break
        sentence = shortened[place]
        length = max(min(_LEAST, len(sentence)), len(sentence) - excess)
        shortened[place] = [*sentence[: length - 1], sentence[-1]]
    return shortened


def encode_paragraphs(
    library: Library,
    encoder: str,
    name: str,
    *,
    layers: int = 2,
    device: torch.device | None = None,
    progress: Callable[[str, int, int, str], None] | None = None,
) -> ParagraphReport:
    """Encode the library's captions, all of a video and a split at once, and keep them as caption features.

    Captions without a span are no sentences of a paragraph, and are encoded alone. A stopped run goes on where it was;
    a video with a new caption is encoded again as a whole.

    Args:
        encoder: `sentence` (packaged), or a folder or pulled hub name of a BERT-like model.
        name: what recipes call them, `model.text.encoder = "features@NAME"`.
        layers: the last so many layers of each token are put side by side (COOT: 2).

    Raises:
        UsageError: the encoder is not BERT-like or has fewer layers, the library has no captions, or it has other
            caption features of this name.
        ExpertUnavailable: the encoder is not on this machine.
    """
    check_expert_name(name)
    network = _Network(encoder, layers, device or torch.device("cpu"))
    report = ParagraphReport()
    total = sum(library.catalog.captions.count_by_split().values())
    if not total:
        raise UsageError(f"{library.path} has no captions; import some first: reelseek data import --help")
    with library.writing():
        target = _open_set(library, name, network)
        done = 0
        for window in _windows(_paragraphs(library, report)):
            waiting = [paragraph for paragraph in window if _is_missing(paragraph, target)]
            report.existing += sum(len(p.new) for p in window) - sum(len(p.new) for p in waiting)
            target.add(network.encode(waiting, report))
            done += sum(len(paragraph.captions) for paragraph in window)
            if progress:
                progress("encoding", min(done, total), total, window[-1].captions[0].video)
    return report


def _open_set(library: Library, name: str, network: "_Network") -> CaptionFeatureSet:
    for existing in caption_feature_sets(library.path):
        if existing.name == name and existing.format != network.description:
            raise UsageError(
                f"the caption features {name!r} are {existing.format}, and these {network.description}; choose another "
                f"--name or erase those: reelseek features remove {library.path} {name}"
            )
    return begin_caption_features(library.path, name, network.width, network.description)


def _paragraphs(library: Library, report: ParagraphReport) -> Iterator[_Paragraph]:
    """The paragraphs of every video, not tokenized yet; a caption is in one of them."""
    for _, captions in groupby(library.catalog.captions.pages(), key=lambda caption: caption.video):
        by_split: dict[str | None, list[Caption]] = {}
        for caption in captions:
            by_split.setdefault(caption.split, []).append(caption)
        seen: frozenset[Caption] = frozenset()
        paragraphs: set[tuple[Caption, ...]] = set()
        for sentences in by_split.values():
            bare = tuple(dict.fromkeys(replace(caption, split=None) for caption in sentences))
            words = [caption for caption in bare if caption.text.replace(".", "").strip()]
            report.empty += len(bare) - len(words)
            for paragraph in _divide(words):
                if paragraph in paragraphs:
                    continue  # the same captions in another split
                paragraphs.add(paragraph)
                new = frozenset(paragraph) - seen
                report.shared += len(paragraph) - len(new)
                seen |= new
                yield _Paragraph(paragraph, new)


def _divide(captions: Iterable[Caption]) -> Iterator[tuple[Caption, ...]]:
    """One paragraph of the captions with a span, in the order of time, and one of each without."""
    timed = [caption for caption in captions if caption.start_seconds is not None]
    if timed:
        yield tuple(sorted(timed, key=lambda caption: (caption.start_seconds or 0, caption.end_seconds or 0)))
    yield from ((caption,) for caption in captions if caption.start_seconds is None)


def _windows(paragraphs: Iterator[_Paragraph]) -> Iterator[list[_Paragraph]]:
    window: list[_Paragraph] = []
    for paragraph in paragraphs:
        window.append(paragraph)
        if sum(len(p.captions) for p in window) >= _WINDOW:
            yield window
            window = []
    if window:
        yield window


def _is_missing(paragraph: _Paragraph, target: CaptionFeatureSet) -> bool:
    return any(target.read(caption) is None for caption in paragraph.new)


class _Network:
    """A BERT-like network that reads paragraphs."""

    def __init__(self, encoder: str, layers: int, device: torch.device) -> None:
        self._tokenizer, self._model = load_encoder(encoder, device.type, device.index)
        config = self._model.config
        kind = getattr(config, "model_type", "unknown")
        if is_clip(self._model) or is_sigmoid(config) or len(self._tokenizer("")["input_ids"]) != 2:
            raise UsageError(f"{encoder} ({kind}) does not begin and separate sentences; name a BERT-like --encoder")
        if layers > config.num_hidden_layers:
            raise UsageError(f"{encoder} has {config.num_hidden_layers} layers; --layers {layers} asks for more")
        self._layers, self._device, self._limit = layers, device, count_positions(self._model)
        self.width = int(config.hidden_size) * layers
        weights = weights_hash(encoder_folder(encoder))[:12]
        self.description = f"paragraphs read by {kind} {weights}, last {layers} of its layers"

    def encode(self, paragraphs: Sequence[_Paragraph], report: ParagraphReport) -> dict[Caption, Rows]:
        """The vectors [token, width] of each caption of the paragraphs that can be read."""
        fitting = [fitted for paragraph in paragraphs if (fitted := self._fit(paragraph, report))]
        fitting.sort(key=lambda paragraph: paragraph.length)
        vectors: dict[Caption, Rows] = {}
        for start in range(0, len(fitting), _BATCH):
            batch = fitting[start : start + _BATCH]
            for paragraph, rows in zip(batch, self._run(batch), strict=True):
                ends = np.cumsum([len(sentence) for sentence in paragraph.sentences])[:-1]
                for caption, values in zip(paragraph.captions, np.split(rows, ends), strict=True):
                    if caption in paragraph.new:
                        vectors[caption] = values
        report.captions += len(vectors)
        report.videos += len({caption.video for caption in vectors})
        report.alone += sum(caption.start_seconds is None for caption in vectors)
        return vectors

    def _fit(self, paragraph: _Paragraph, report: ParagraphReport) -> _Paragraph | None:
        """The paragraph with its tokens, shortened to what the network reads; None if that is impossible."""
        texts = [caption.text for caption in paragraph.captions]
        whole = replace(paragraph, sentences=tokenize_paragraph(texts, self._tokenizer))
        fitted = replace(paragraph, sentences=shorten(whole.sentences, self._limit))
        if fitted.length > self._limit:
            why = f"{len(texts)} captions of {_LEAST} tokens at least are more than the {self._limit} tokens it reads"
            report.failed.append((paragraph.captions[0].video, why))
            return None
        report.cut += whole.length - fitted.length
        return fitted

    def _run(self, batch: Sequence[_Paragraph]) -> list[Rows]:
        """Vectors [token, width] of each paragraph."""
        ids = torch.zeros(len(batch), max(paragraph.length for paragraph in batch), dtype=torch.long)
        present = torch.zeros_like(ids, dtype=torch.bool)
        for row, paragraph in enumerate(batch):
            tokens = torch.tensor([token for sentence in paragraph.sentences for token in sentence])
            ids[row, : len(tokens)], present[row, : len(tokens)] = tokens, True
        with torch.no_grad():
            hidden, _ = run_encoder(
                self._model, ids.to(self._device), present.to(self._device),
                sentence=False, summary=False, layers=self._layers,
            )  # fmt: skip
        values = hidden.float().cpu().numpy()
        return [values[row, : paragraph.length] for row, paragraph in enumerate(batch)]
