"""What is written on screen: a cheap text detector first, then OCR on at most three frames of every eight seconds,
and only where the picture changed.

A step is one frame's text: its sentence embedding, for as long as the same words stay on screen.
"""

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import ExpertUnavailable
from reelseek.experts.expert import Session, Text, Track, fingerprint
from reelseek.experts.opencv import require_opencv
from reelseek.experts.parts import pack_texts, unpack_texts
from reelseek.experts.sentence import SENTENCE_DIM, packaged_encoder, sentence_encoder, sentence_track
from reelseek.media.streams import FrameBatch, FrameStream, Stream

__all__ = ["looks_written", "ocr"]

_READER = "1.4.4"
# RapidOCR asks for the OpenCV build with windows, which writes over the one without and needs libGL. It runs with
# either, so the extra `ocr` brings what else it needs, and it comes without its own requirements.
_INSTALL = f"pip install 'reelseek[ocr]' && pip install --no-deps rapidocr-onnxruntime=={_READER}"
_STREAM = FrameStream(fps=1, short_side=480)
_CLIP_SECONDS = 8.0
_FRAMES_A_CLIP = 3
_CHANGED = 6.0  # mean difference of two 32 x 32 grey pictures, of 255
_SURE = 0.75
_SHORT = frozenset("a i am an as at be by do go he if in is it me my no of on or so to up us we".split())


@cache
def _reader() -> Any:
    from rapidocr_onnxruntime import RapidOCR

    return RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1, det_limit_side_len=480, det_limit_type="min")


def looks_written(pixels: npt.NDArray[np.uint8]) -> bool:
    """Whether a picture could hold a line of text: rows of dense, short, strong edges of the height of letters.

    Meant to be cheap and to miss little; what it lets through, OCR judges.
    """
    import cv2

    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    edges = cv2.morphologyEx(gray, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    strong = (edges > 60).astype(np.uint8)
    lines = cv2.morphologyEx(strong, cv2.MORPH_CLOSE, np.ones((1, 15), np.uint8))
    count, _, boxes, _ = cv2.connectedComponentsWithStats(lines, connectivity=4)
    for x, y, width, height, _ in boxes[1:count]:
        if not (7 <= height <= gray.shape[0] // 3 and width >= 1.5 * height and width >= 20):
            continue
        inside = strong[y : y + height, x : x + width]
        changes = np.abs(np.diff(inside.astype(np.int8), axis=1)).sum(axis=1).max()
        if 0.12 < inside.mean() < 0.95 and changes >= 6:
            return True
    return False


class _OcrSession:
    follows_pictures = True  # which pictures are read depends on those before

    def __init__(self) -> None:
        self._readings: list[Text] = []  # of the pictures that changed, also those on which nothing is written
        self._saved = 0
        self._compared: npt.NDArray[np.float32] | None = None
        self._clip = -1
        self._read_in_clip = 0

    def save_part(self) -> dict[str, npt.NDArray[Any]]:
        """See `reelseek.experts.parts.Resumable`."""
        new, self._saved = self._readings[self._saved :], len(self._readings)
        return {
            "readings": pack_texts(new),
            "picture": np.zeros((0, 0), np.float32) if self._compared is None else self._compared,
            "place": np.array([self._clip, self._read_in_clip]),
        }

    def restore_parts(self, states: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
        """See `reelseek.experts.parts.Resumable`."""
        last = states[-1]
        self._readings = [reading for state in states for reading in unpack_texts(state["readings"])]
        self._saved = len(self._readings)
        self._compared = last["picture"] if last["picture"].size else None
        self._clip, self._read_in_clip = last["place"].tolist()

    def follow(self, batch: FrameBatch) -> None:
        """See `reelseek.experts.parts.Divisible`; which pictures are read costs little beside reading them."""
        for pixels, seconds in zip(batch.pixels, batch.cells, strict=True):
            self._selects(pixels, float(seconds))

    def feed(self, batch: FrameBatch) -> None:
        for pixels, seconds in zip(batch.pixels, batch.cells.tolist(), strict=True):
            selected = self._selects(pixels, seconds)
            if selected is not None:
                text, score = _read(pixels) if selected else ("", 0.0)
                self._readings.append(Text(text, seconds, seconds, "written", score))

    def _selects(self, pixels: npt.NDArray[np.uint8], seconds: float) -> bool | None:
        """Whether a picture is to be read; None where it stands for no change, or was one of too many."""
        import cv2

        clip = int(seconds // _CLIP_SECONDS)
        if clip != self._clip:
            self._clip, self._read_in_clip = clip, 0
        small = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
        small = small.astype(np.float32)
        changed = self._compared is None or float(np.abs(small - self._compared).mean()) > _CHANGED
        if not changed or self._read_in_clip >= _FRAMES_A_CLIP:
            return None
        self._compared = small
        if not looks_written(pixels):
            return False
        self._read_in_clip += 1
        return True

    def close(self, end_seconds: float) -> Track:
        texts = _lines(self._readings, end_seconds)
        if not texts:
            return Track(np.zeros((0, SENTENCE_DIM), np.float16), np.zeros((0, 2)), note="nothing is written")
        return sentence_track(texts)


def _lines(readings: Sequence[Text], end_seconds: float) -> list[Text]:
    """Texts, each from where it is first read to where something else is."""
    texts: list[Text] = []
    is_shown = False  # the last text is still on screen
    for reading in readings:
        if is_shown:
            texts[-1] = replace(texts[-1], end_seconds=reading.start_seconds)
        last = texts[-1].text if is_shown else ""
        if reading.text and difflib.SequenceMatcher(None, reading.text.lower(), last.lower()).ratio() > 0.85:
            continue
        is_shown = bool(reading.text)
        if is_shown:
            texts.append(reading)
    if is_shown:
        texts[-1] = replace(texts[-1], end_seconds=max(end_seconds, texts[-1].start_seconds))
    return texts


@cache
def _vocabulary() -> dict[str, float]:
    """Whole words of the packaged encoder's vocabulary, which is in order of frequency, with the cost of each."""
    names = (packaged_encoder().folder / "vocab.txt").read_text("utf-8").split("\n")
    words = [(word, rank) for rank, word in enumerate(names) if word.isalpha() and (len(word) > 2 or word in _SHORT)]
    return {word: math.log(rank + 2) + 2 for word, rank in words}


def _spaced(text: str) -> str:
    """Words apart again: the reader runs English words together (`BREAKINGNEWS`). Likeliest split by vocabulary."""
    return " ".join(_split(word) for word in text.split())


def _split(word: str) -> str:
    lower, costs = word.lower(), _vocabulary()
    if len(word) < 6 or len(word) > 60 or not lower.isascii() or not lower.isalpha() or lower in costs:
        return word
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(lower) + 1):
        ways = [(best[start][0] + costs[lower[start:end]], start) for start in range(end) if lower[start:end] in costs]
        best.append(min(ways, default=(math.inf, 0)))
    if math.isinf(best[-1][0]):
        return word
    pieces, end = [], len(word)
    while end:
        start = best[end][1]
        pieces.append(word[start:end])
        end = start
    return " ".join(reversed(pieces))


def _read(pixels: npt.NDArray[np.uint8]) -> tuple[str, float]:
    """Lines of text from top to bottom in one string, and the least score among them."""
    lines, _ = _reader()(np.ascontiguousarray(pixels[..., ::-1]), use_cls=False)
    words = [
        (min(y for _, y in box), " ".join(text.split()), float(score))
        for box, text, score in lines or []
        if float(score) >= _SURE and (re.search(r"[^\W\d_]{3}", text) or len(re.sub(r"\D", "", text)) >= 3)
    ]
    words.sort(key=lambda line: line[0])
    return " ".join(_spaced(text) for _, text, _ in words), min((score for *_, score in words), default=0.0)


def _require_reader() -> None:
    try:
        installed = version("rapidocr-onnxruntime")
    except PackageNotFoundError:
        raise ExpertUnavailable(f"ocr needs RapidOCR; install it with: {_INSTALL}") from None
    if installed != _READER:
        raise ExpertUnavailable(f"ocr reads with RapidOCR {_READER}, and {installed} is installed: {_INSTALL}")
    require_opencv("ocr")


class _Ocr:
    name = "ocr"
    modality = "ocr"
    divisible = True
    dim = SENTENCE_DIM
    streams: Sequence[Stream] = (_STREAM,)

    def __init__(self) -> None:
        _require_reader()
        self.fingerprint = fingerprint(
            "ocr",
            reader=f"rapidocr-onnxruntime {_READER}",
            text=sentence_encoder().fingerprint,
            stream=_STREAM,
            policy=[_CLIP_SECONDS, _FRAMES_A_CLIP, _CHANGED, _SURE, "spaced by vocabulary", "read by the encoder"],
            dtype="float16",
        )

    def open(self) -> Session:
        return _OcrSession()


def ocr(model: str | None = None) -> _Ocr:
    """Sentence embeddings of what is written on screen."""
    return _Ocr()
