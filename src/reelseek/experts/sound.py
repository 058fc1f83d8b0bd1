"""Sound by learned models: an audio classifier (AST-like, `sound@FOLDER`) or CLAP (`clap@FOLDER`).

A step lasts five seconds, at the model's own rate. A step of `sound` holds class probabilities, one of `clap` a unit
embedding in the space of its text tower. Where the model's feature extractor takes less than five seconds at once, a
step is the mean over equal parts of them: the extractor would cut off the rest.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from reelseek.errors import ExpertUnavailable
from reelseek.experts.encoder import Deferred, Encoder
from reelseek.experts.expert import Session, Text, Track, fingerprint, likeliest
from reelseek.experts.hub import labels_of, load_pretrained, pretrained_folder, weights_hash
from reelseek.media.streams import SoundBatch, SoundStream, Stream

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SoundWindows", "clap", "sound"]

_WINDOW_SECONDS = 5.0
_LABEL_AT_LEAST = 0.3
_MOST_WINDOWS = 64  # of a batch: each has a thousand tokens


@cache
def _extractor(folder: str) -> Any:
    from transformers import AutoFeatureExtractor

    with warnings.catch_warnings():  # AST was released with more bands than its spectrum has bins for
        warnings.filterwarnings("ignore", "At least one mel filter", UserWarning)
        return AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)


def _most_samples(extractor: Any) -> int | None:
    """How many samples an extractor takes at once; None where it takes any number."""
    for name in ("nb_max_samples", "n_samples"):  # CLAP, Whisper
        if getattr(extractor, name, None):
            return int(getattr(extractor, name))
    frames = getattr(extractor, "max_length", None)
    if frames and hasattr(extractor, "num_mel_bins"):  # AST: so many frames of 25 ms every 10 ms
        return int((frames - 1) * min(160, extractor.sampling_rate // 100) + 400)
    return None


class _Learned:
    modality = "audio"
    divisible = True

    def __init__(self, name: str, model: str | None, auto_class: str) -> None:
        if model is None:
            raise ExpertUnavailable(f"{name} needs a model: --experts {name}@FOLDER")
        from transformers import AutoConfig

        self.name, self._auto_class = name, auto_class
        self._folder = pretrained_folder(model)
        config = AutoConfig.from_pretrained(self._folder, local_files_only=True)
        self.dim = int(config.projection_dim if name == "clap" else config.num_labels)
        self._labels = [] if name == "clap" else labels_of(config)
        extractor = _extractor(str(self._folder))
        self._rate = int(extractor.sampling_rate)
        self._most = min(_most_samples(extractor) or _window_samples(self._rate), _window_samples(self._rate))
        self.streams: Sequence[Stream] = (SoundStream(self._rate),)
        self.fingerprint = fingerprint(
            name,
            weights=weights_hash(self._folder),
            window=_WINDOW_SECONDS,
            rate=self._rate,
            dtype="float16",
            **({"most": self._most} if self._most < _window_samples(self._rate) else {}),
        )
        self.encoder = Encoder(
            f"{name}@{model}",
            self.dim,
            load=self._model,
            prepare=self._prepare,
            forward=self._forward,
            most_rows=_MOST_WINDOWS,
        )

    def prepare(self) -> None:
        """Load the weights."""
        self._model()

    def to(self, device: str) -> None:
        """Move the model to a device."""
        self._model().to(device)

    def open(self) -> Session:
        return SoundWindows(self, self._rate, _WINDOW_SECONDS)

    def encode(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Compute one row [dim] for one window of samples."""
        return self.submit(samples)()[0]

    def submit(self, samples: npt.NDArray[np.float32]) -> Deferred:
        """Start the forward pass of one window of samples, which yields one row [1, dim]."""
        parts = np.array_split(samples, math.ceil(len(samples) / self._most))
        return partial(self._mean, [self.encoder.submit(part) for part in parts])

    def _mean(self, parts: Sequence[Deferred]) -> npt.NDArray[np.float32]:
        mean: npt.NDArray[np.float32] = np.mean([rows()[0] for rows in parts], axis=0)
        return (mean / np.linalg.norm(mean) if self.name == "clap" and len(parts) > 1 else mean)[None]

    def _model(self) -> Any:
        return load_pretrained(self._auto_class, str(self._folder))

    def _prepare(self, samples: npt.NDArray[np.float32]) -> "dict[str, Tensor]":
        extractor = _extractor(str(self._folder))
        return dict(extractor(samples, sampling_rate=self._rate, return_tensors="pt"))

    def _forward(self, model: Any, inputs: "dict[str, Tensor]") -> "Tensor":
        import torch

        if self.name == "clap":
            output = model.get_audio_features(**inputs)
            return torch.nn.functional.normalize(getattr(output, "pooler_output", output), dim=-1)
        logits: Tensor = model(**inputs).logits
        return logits.softmax(-1)

    def labels(self, values: npt.NDArray[np.floating]) -> list[tuple[str, float]]:
        """Name the likeliest classes over some steps; a joint space with text has no classes."""
        return likeliest(self._labels, values) if self._labels else []

    def describe(self, values: npt.NDArray[Any], spans: npt.NDArray[np.float64]) -> tuple[Text, ...]:
        """Labels a classifier is fairly sure of."""
        if self.name == "clap":
            return ()
        return tuple(
            Text(self._labels[int(row.argmax())], float(start), float(end), "label", float(row.max()))
            for row, (start, end) in zip(values, spans, strict=True)
            if row.max() >= _LABEL_AT_LEAST
        )


def _window_samples(rate: int) -> int:
    return int(_WINDOW_SECONDS * rate)


class SoundEncoder(Protocol):
    """What turns windows of sound into rows."""

    @property
    def dim(self) -> int: ...
    def submit(self, samples: npt.NDArray[np.float32]) -> Deferred: ...
    def describe(self, values: npt.NDArray[Any], spans: npt.NDArray[np.float64]) -> tuple[Text, ...]: ...


class SoundWindows:
    """A session that turns each so many seconds of sound into a row.

    Args:
        rate: samples a second.
        seconds: of a window; the last one may be shorter.
    """

    follows_pictures = False

    def __init__(self, expert: SoundEncoder, rate: int, seconds: float) -> None:
        self._expert, self._rate, self._size = expert, rate, round(seconds * rate)
        self._rest = np.zeros(0, np.float32)
        self._next = 0.0
        self._end: float | None = None
        self._rows: list[Deferred] = []
        self._spans: list[tuple[float, float]] = []
        self._windows = 0  # so far, those before its stretch included
        self._saved = 0

    def save_part(self) -> dict[str, npt.NDArray[Any]]:
        """See `reelseek.experts.parts.Resumable`."""
        new, self._saved = slice(self._saved, None), len(self._rows)
        return {
            "rows": np.concatenate([np.zeros((0, self._expert.dim), np.float32), *(row() for row in self._rows[new])]),
            "spans": np.array(self._spans[new]).reshape(-1, 2),
            "rest": self._rest,
            "place": np.array([self._next, np.nan if self._end is None else self._end, self._windows]),
        }

    def restore_parts(self, states: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
        """See `reelseek.experts.parts.Resumable`."""
        rows = np.concatenate([state["rows"] for state in states])
        self._rows = [partial(rows.__getitem__, slice(place, place + 1)) for place in range(len(rows))]
        self._spans = [(start, end) for state in states for start, end in state["spans"].tolist()]
        self._saved = len(self._rows)
        self._rest = states[-1]["rest"]
        self._next, end, windows = states[-1]["place"].tolist()
        self._windows = int(windows)
        self._end = None if math.isnan(end) else end

    def follow(self, batch: SoundBatch) -> None:
        """See `reelseek.experts.parts.Divisible`; windows that end before the stretch are counted, and no more."""
        self._take(batch, self._pass_over)

    def feed(self, batch: SoundBatch) -> None:
        self._take(batch, self._encode)

    def _take(self, batch: SoundBatch, use: Callable[[npt.NDArray[np.float32]], None]) -> None:
        if self._end is None or not batch.goes_on_from(self._end):  # the first, or after a long hole
            self._use_rest(use)
            self._next = batch.start_seconds
        self._end = batch.end_seconds
        self._rest = np.concatenate([self._rest, batch.samples])
        while len(self._rest) >= self._size:
            use(self._rest[: self._size])
            self._rest = self._rest[self._size :]

    def _encode(self, samples: npt.NDArray[np.float32]) -> None:
        seconds = len(samples) / self._rate
        self._rows.append(self._expert.submit(samples))
        self._spans.append((self._next, self._next + seconds))
        self._pass_over(samples)

    def _pass_over(self, samples: npt.NDArray[np.float32]) -> None:
        self._next += len(samples) / self._rate
        self._windows += 1

    def _use_rest(self, use: Callable[[npt.NDArray[np.float32]], None]) -> None:
        """A last, short window, if it is long enough to tell anything."""
        if len(self._rest) >= self._rate // 2 or (len(self._rest) >= 400 and not self._windows):
            use(self._rest)
        self._rest = np.zeros(0, np.float32)

    def close(self, end_seconds: float) -> Track:
        self._use_rest(self._encode)
        if not self._rows:
            return Track(np.zeros((0, self._expert.dim), np.float16), np.zeros((0, 2)), note="no sound")
        values = np.concatenate([rows() for rows in self._rows]).astype(np.float16)
        spans = np.array(self._spans)
        return Track(values, spans, self._expert.describe(values, spans))


def sound(model: str | None = None) -> _Learned:
    """Class probabilities of an audio classifier, one step every five seconds."""
    return _Learned("sound", model, "AutoModelForAudioClassification")


def clap(model: str | None = None) -> _Learned:
    """Unit audio embeddings of CLAP, one step every five seconds."""
    return _Learned("clap", model, "AutoModel")
