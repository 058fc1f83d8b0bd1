"""What is said: subtitles where there are any, else where somebody speaks, and the words if a recogniser is at hand.

A step is one line: its sentence embedding, where the encoder can read it. Where speech is only detected, the step is
the embedding of "someone is speaking", which is all that is known. A recogniser is a Whisper-like folder or hub name
(`speech@/models/whisper-large-v3-turbo`), loaded by transformers. Where it tells the time of each word, a line is a
sentence with its own start and end; else it is a stretch of speech.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import ExpertUnavailable
from reelseek.experts.expert import Session, Text, Track, fingerprint
from reelseek.experts.hub import load_pretrained, pretrained_folder, weights_hash
from reelseek.experts.parts import pack_texts, unpack_texts
from reelseek.experts.sentence import SENTENCE_DIM, sentence_encoder, sentence_track
from reelseek.media.streams import SoundBatch, SoundStream, Stream, Subtitle, SubtitleStream
from reelseek.media.subtitles import SUBTITLES_VERSION

__all__ = ["DETECTED", "sentences", "speech"]

DETECTED = "someone is speaking"
_RATE = 16_000
_PIECE_SECONDS = 600
_RECOGNISER = "AutoModelForSpeechSeq2Seq"
_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？", "।", "؟")
_PAUSE, _LONGEST_LINE = 1.0, 12.0  # seconds


@cache
def _detector() -> Any:
    from silero_vad import load_silero_vad

    return load_silero_vad(onnx=True)


@cache
def _recogniser(folder: str) -> tuple[Any, Any]:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder, local_files_only=True), load_pretrained(_RECOGNISER, folder)


def _detect(samples: npt.NDArray[np.int16], begin: int) -> list[tuple[float, float]]:
    """Spans in seconds in which somebody speaks, of the ten minutes that begin with a sample."""
    import torch
    from silero_vad import get_speech_timestamps

    piece = torch.from_numpy(samples[begin : begin + _PIECE_SECONDS * _RATE].astype(np.float32) / 32768)
    spans = get_speech_timestamps(piece, _detector(), sampling_rate=_RATE)
    return [((begin + span["start"]) / _RATE, (begin + span["end"]) / _RATE) for span in spans]


class _SpeechSession:
    def __init__(self, recogniser: str | None) -> None:
        self._recogniser = recogniser
        self._lines: list[Subtitle] = []
        self._pieces: list[tuple[float, list[npt.NDArray[np.int16]]]] = []  # each with its start, between long holes
        self._end: float | None = None
        self._texts: list[Text] = []
        self._done = 0  # stretches of speech, of all pieces, that these texts are of
        self.keep_part: Callable[[], None] = lambda: None

    def save_part(self) -> dict[str, npt.NDArray[Any]]:
        """See `reelseek.experts.parts.Resumable`; sound is gathered anew, and what was made of it is taken up."""
        return {"texts": pack_texts(self._texts), "done": np.array(self._done)}

    def restore_parts(self, states: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
        """See `reelseek.experts.parts.Resumable`."""
        self._texts, self._done = unpack_texts(states[-1]["texts"]), int(states[-1]["done"])

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
        number = 0
        while self._pieces:
            begin, blocks = self._pieces.pop(0)
            samples = np.concatenate(blocks)
            for place in range(0, len(samples), _PIECE_SECONDS * _RATE):
                for start, end in _detect(samples, place):
                    number += 1
                    if number > self._done:
                        part = samples[int(start * _RATE) : int(end * _RATE)]
                        self._texts += self._lines_of(part, begin + start, begin + end)
                        self._done = number
                        self.keep_part()
        texts = self._texts
        note = "recognised" if self._recogniser else "detected, not recognised (no recogniser was given)"
        return sentence_track(texts, note if texts else "nobody speaks")

    def _lines_of(self, samples: npt.NDArray[np.int16], start: float, end: float) -> list[Text]:
        """What is said in one stretch of speech, by the seconds of the video."""
        lines: list[Text] = []
        if self._recogniser is not None:
            processor, model = _recogniser(self._recogniser)
            if _tells_word_times(processor, model):
                lines = sentences(_timed_words(processor, model, samples), start, end)
            elif text := _transcribe(processor, model, samples):
                lines = [Text(text, start, end, "said")]
        return lines or [Text(DETECTED, start, end, "label")]


def _pieces(processor: Any, samples: npt.NDArray[np.int16]) -> Iterator[tuple[float, npt.NDArray[np.float32]]]:
    """Cut samples into what a recogniser takes at once: second of each piece, and its samples in [-1, 1]."""
    size = int(getattr(processor.feature_extractor, "n_samples", 30 * _RATE))
    for begin in range(0, len(samples), size):
        yield begin / _RATE, samples[begin : begin + size].astype(np.float32) / np.float32(32768)


def _transcribe(processor: Any, model: Any, samples: npt.NDArray[np.int16]) -> str:
    import torch

    words: list[str] = []
    for _, piece in _pieces(processor, samples):
        inputs = processor(piece, sampling_rate=_RATE, return_tensors="pt")
        with torch.inference_mode():
            ids = model.generate(
                inputs.input_features.to(model.device), max_new_tokens=_most_tokens(model), do_sample=False
            )
        words.append(processor.batch_decode(ids, skip_special_tokens=True)[0].strip())
    return " ".join(word for word in words if word)


def _most_tokens(model: Any) -> int:
    """Tokens that a piece may take: the decoder's places, without those of the prompt."""
    return int(getattr(model.config, "max_target_positions", 132)) - 4


def _tells_word_times(processor: Any, model: Any) -> bool:
    """Whether the model names the attention heads that follow its sound, and its tokenizer groups tokens to words."""
    heads = getattr(model.generation_config, "alignment_heads", None)
    return bool(heads) and hasattr(processor.tokenizer, "_decode_asr")


def _timed_words(processor: Any, model: Any, samples: npt.NDArray[np.int16]) -> list[tuple[str, float, float]]:
    """Words with their start and end, in seconds from the first sample; written as the recogniser writes them."""
    from transformers import AutomaticSpeechRecognitionPipeline

    recognise = AutomaticSpeechRecognitionPipeline(
        model=model, tokenizer=processor.tokenizer, feature_extractor=processor.feature_extractor, device=model.device
    )
    words: list[tuple[str, float, float]] = []
    for second, piece in _pieces(processor, samples):
        with warnings.catch_warnings():  # transformers' own, of pieces with a word or none
            warnings.simplefilter("ignore", UserWarning)
            answer = recognise({"raw": piece, "sampling_rate": _RATE}, return_timestamps="word")
        last = len(piece) / _RATE
        for word in answer["chunks"]:
            start, end = (last if time is None else min(float(time), last) for time in word["timestamp"])
            words.append((word["text"], second + start, second + max(start, end)))
    return words


def sentences(words: Sequence[tuple[str, float, float]], start_seconds: float, end_seconds: float) -> list[Text]:
    """Join timed words to lines that end with a sentence, before a pause of a second, or after twelve seconds.

    Args:
        words: text with its blanks, start and end in seconds from `start_seconds`.
        end_seconds: no line lasts longer.

    >>> [line.text for line in sentences([(" Go.", 0.0, 0.4), (" Now", 0.5, 0.8), (" run!", 0.8, 1.0)], 3.0, 5.0)]
    ['Go.', 'Now run!']
    """
    lines: list[list[tuple[str, float, float]]] = []
    for word in words:
        line = lines[-1] if lines else []
        ended = bool(line) and line[-1][0].rstrip().endswith(_SENTENCE_ENDS)
        if not line or ended or word[1] - line[-1][2] >= _PAUSE or word[2] - line[0][1] > _LONGEST_LINE:
            lines.append([word])
        else:
            line.append(word)
    texts = []
    for line in lines:
        text = "".join(word for word, _, _ in line).strip()
        start, end = (min(start_seconds + second, end_seconds) for second in (line[0][1], line[-1][2]))
        if text:
            texts.append(Text(text, start, max(start, end), "said"))
    return texts


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
            **({"lines": "sentences by word times"} if model else {}),
        )

    def prepare(self) -> None:
        """Load the weights of the recogniser, if there is one."""
        if self._recogniser is not None:
            _recogniser(self._recogniser)

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
