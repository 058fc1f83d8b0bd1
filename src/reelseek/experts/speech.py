"""What is said: subtitles where there are any, else where somebody speaks, and the words if a recogniser is at hand.

A step is one line: its sentence embedding, where the encoder can read it. Where speech is only detected, the step is
the embedding of "someone is speaking", which is all that is known. A recogniser is a Whisper-like folder or hub name
(`speech@/models/whisper-tiny.en`), loaded by transformers.
"""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import ExpertUnavailable
from reelseek.experts.expert import Session, Text, Track, fingerprint
from reelseek.experts.hub import pretrained_folder, weights_hash
from reelseek.experts.sentence import SENTENCE_DIM, sentence_encoder, sentence_track
from reelseek.media.streams import SoundBatch, SoundStream, Stream, Subtitle, SubtitleStream
from reelseek.media.subtitles import SUBTITLES_VERSION

__all__ = ["DETECTED", "speech"]

DETECTED = "someone is speaking"
_RATE = 16_000
_PIECE_SECONDS = 600


@cache
def _detector() -> Any:
    from silero_vad import load_silero_vad

    return load_silero_vad(onnx=True)


@cache
def _recogniser(folder: str) -> tuple[Any, Any]:
    from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    return processor, AutoModelForSpeechSeq2Seq.from_pretrained(folder, local_files_only=True).eval()


def _detect(samples: npt.NDArray[np.int16]) -> list[tuple[float, float]]:
    """Spans in seconds in which somebody speaks."""
    import torch
    from silero_vad import get_speech_timestamps

    spans: list[tuple[float, float]] = []
    for begin in range(0, len(samples), _PIECE_SECONDS * _RATE):
        piece = torch.from_numpy(samples[begin : begin + _PIECE_SECONDS * _RATE].astype(np.float32) / 32768)
        for span in get_speech_timestamps(piece, _detector(), sampling_rate=_RATE):
            spans.append(((begin + span["start"]) / _RATE, (begin + span["end"]) / _RATE))
    return spans


class _SpeechSession:
    def __init__(self, recogniser: str | None) -> None:
        self._recogniser = recogniser
        self._lines: list[Subtitle] = []
        self._pieces: list[tuple[float, list[npt.NDArray[np.int16]]]] = []  # each with its start, between long holes
        self._end: float | None = None

    def feed(self, batch: SoundBatch | list[Subtitle]) -> None:
        if isinstance(batch, list):
            self._lines += batch
            self._pieces.clear()
        elif not self._lines:
            if self._end is None or not batch.goes_on_from(self._end):
                self._pieces.append((batch.start_seconds, []))
            self._end = batch.end_seconds
            self._pieces[-1][1].append((batch.samples * 32767).astype(np.int16))

    def close(self, end_seconds: float) -> Track:
        if self._lines:
            lines = [Text(s.text, s.start_seconds, s.end_seconds, "said") for s in self._lines]
            return sentence_track(lines, f"{self._lines[0].source} subtitles")
        if not self._pieces:
            return sentence_track([], "no sound and no subtitles")
        texts: list[Text] = []
        while self._pieces:
            begin, blocks = self._pieces.pop(0)
            samples = np.concatenate(blocks)
            texts += [self._words(samples, begin, start, end) for start, end in _detect(samples)]
        note = "recognised" if self._recogniser else "detected, not recognised (no recogniser was given)"
        return sentence_track(texts, note if texts else "nobody speaks")

    def _words(self, samples: npt.NDArray[np.int16], begin: float, start: float, end: float) -> Text:
        text = ""
        if self._recogniser is not None:
            processor, model = _recogniser(self._recogniser)
            text = _transcribe(processor, model, samples[int(start * _RATE) : int(end * _RATE)])
        kind = "said" if text else "label"
        return Text(text or DETECTED, begin + start, begin + end, kind)  # type: ignore[arg-type]


def _transcribe(processor: Any, model: Any, samples: npt.NDArray[np.int16]) -> str:
    import torch

    words: list[str] = []
    size = int(getattr(processor.feature_extractor, "n_samples", 30 * _RATE))  # it would cut off what is longer
    for begin in range(0, len(samples), size):
        piece = samples[begin : begin + size].astype(np.float32) / 32768
        inputs = processor(piece, sampling_rate=_RATE, return_tensors="pt")
        with torch.inference_mode():
            ids = model.generate(inputs.input_features.to(model.device), max_new_tokens=128, do_sample=False)
        words.append(processor.batch_decode(ids, skip_special_tokens=True)[0].strip())
    return " ".join(word for word in words if word)


class _Speech:
    name = "speech"
    modality = "speech"
    dim = SENTENCE_DIM
    streams: Sequence[Stream] = (SubtitleStream(), SoundStream(_RATE))

    def __init__(self, model: str | None) -> None:
        if find_spec("silero_vad") is None:
            raise ExpertUnavailable("speech needs silero-vad; install it with: pip install silero-vad")
        self._recogniser = None if model is None else str(pretrained_folder(model))
        self.fingerprint = fingerprint(
            "speech",
            text=sentence_encoder().fingerprint,
            subtitles=SUBTITLES_VERSION,
            detector=f"silero-vad {version('silero-vad')}",
            recogniser=weights_hash(pretrained_folder(model)) if model else None,
            dtype="float16",
        )

    def open(self) -> Session:
        return _SpeechSession(self._recogniser)


class _RecognisedSpeech(_Speech):
    """Speech with a recogniser, which can compute on another device."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._folder = str(pretrained_folder(model))

    def to(self, device: str) -> None:
        """Move the recogniser to a device."""
        _recogniser(self._folder)[1].to(device)


def speech(model: str | None = None) -> _Speech:
    """Sentence embeddings of what is said; `model` is a recogniser's folder or hub name."""
    return _Speech(None) if model is None else _RecognisedSpeech(model)
