"""Faces, opt-in: 128 numbers a face, by dlib's detector and its face network.

Never among the default experts. `reelseek remove LIBRARY --expert face` erases every trace of it.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import ExpertUnavailable
from reelseek.experts.expert import Session, Track, fingerprint, hash_files
from reelseek.media.streams import FrameBatch, FrameStream, Stream

__all__ = ["face"]

_STREAM = FrameStream(fps=1, short_side=360)
_DIM = 128
_MOST_FACES = 8


def _weights() -> tuple[Path, Path]:
    spec = find_spec("face_recognition_models")
    if (find_spec("dlib") is None and find_spec("_dlib_pybind11") is None) or spec is None or spec.origin is None:
        raise ExpertUnavailable("face needs dlib and its models; install them with: pip install 'reelseek[face]'")
    folder = Path(spec.origin).parent / "models"
    return folder / "shape_predictor_5_face_landmarks.dat", folder / "dlib_face_recognition_resnet_model_v1.dat"


@cache
def _networks() -> tuple[Any, Any, Any]:
    import dlib

    landmarks, network = _weights()
    return (
        dlib.get_frontal_face_detector(),
        dlib.shape_predictor(str(landmarks)),
        dlib.face_recognition_model_v1(str(network)),
    )


class _FaceSession:
    follows_pictures = False

    def __init__(self) -> None:
        self._rows: list[npt.NDArray[np.float32]] = []
        self._spans: list[tuple[float, float]] = []
        self._saved = 0

    def save_part(self) -> dict[str, npt.NDArray[Any]]:
        """See `reelseek.experts.parts.Resumable`."""
        new, self._saved = slice(self._saved, None), len(self._rows)
        rows, spans = np.array(self._rows[new], np.float32), np.array(self._spans[new], np.float64)
        return {"rows": rows.reshape(-1, _DIM), "spans": spans.reshape(-1, 2)}

    def restore_parts(self, states: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
        """See `reelseek.experts.parts.Resumable`."""
        self._rows = [row for state in states for row in state["rows"]]
        self._spans = [(start, end) for state in states for start, end in state["spans"].tolist()]
        self._saved = len(self._rows)

    def follow(self, batch: FrameBatch) -> None:
        """See `reelseek.experts.parts.Divisible`; no face depends on frames before it."""

    def feed(self, batch: FrameBatch) -> None:
        detector, landmarks, network = _networks()
        for pixels, seconds in zip(batch.pixels, batch.cells, strict=True):
            boxes = sorted(detector(pixels, 0), key=lambda box: -box.area())[:_MOST_FACES]
            for box in boxes:
                row = network.compute_face_descriptor(pixels, landmarks(pixels, box))
                self._rows.append(np.array(row, np.float32))
                self._spans.append((float(seconds), float(seconds) + 1 / _STREAM.fps))

    def close(self, end_seconds: float) -> Track:
        if not self._rows:
            return Track(np.zeros((0, _DIM), np.float16), np.zeros((0, 2)), note="no face was found")
        return Track(np.stack(self._rows).astype(np.float16), np.array(self._spans))


class _Face:
    name = "face"
    modality = "face"
    divisible = True
    dim = _DIM
    streams: Sequence[Stream] = (_STREAM,)

    def __init__(self) -> None:
        self.fingerprint = fingerprint("face", weights=hash_files(_weights()), stream=_STREAM, dtype="float16")

    def open(self) -> Session:
        return _FaceSession()


def face(model: str | None = None) -> _Face:
    """128 numbers a face, one step a face and second."""
    return _Face()
