"""Learned motion over windows of frames: a video classifier (VideoMAE-like) or X-CLIP (`video@/models/videomae`).

`video@FOLDER:fps=30,frames=32,crop=256` sets how frames are taken (MDMMT, appendix A), or one or two of the three.
Frames: eight a second, so that a window of 16 lasts two seconds (frames every 1/8 s, near the sampling VideoMAE was
trained with), prepared by the model's own image processor. A step is the mean of the last hidden layer. X-CLIP, which
was trained on few frames far apart, gets them so that a window lasts two seconds too; a step is the unit vector of the
window in its space of videos and texts.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import ExpertUnavailable
from reelseek.experts.encoder import Deferred, Encoder
from reelseek.experts.expert import Session, Track, fingerprint, spans_of_cells
from reelseek.experts.hub import load_pretrained, model_method, model_options, pretrained_folder, weights_hash
from reelseek.experts.preprocessing import Preprocessing
from reelseek.media.streams import FrameBatch, Stream

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FrameWindows", "video"]

_FPS = 8
_WINDOW_SECONDS = 2.0  # of X-CLIP


class _Video:
    name = "video"
    modality = "motion"
    divisible = True

    def __init__(self, model: str | None) -> None:
        if model is None:
            raise ExpertUnavailable("video needs a model: --experts video@FOLDER (such as VideoMAE or X-CLIP)")
        from transformers import AutoConfig

        name, options = model_options(model)
        if unknown := sorted(set(options) - {"fps", "frames", "crop"}):
            raise ExpertUnavailable(f"video takes fps, frames and crop behind a model, and no {unknown[0]}")
        if any(options.get(name, 1) % 1 for name in ("frames", "crop")):
            raise ExpertUnavailable(f"{model}: frames and crop are whole numbers")
        self._folder = pretrained_folder(name)
        side = int(options["crop"]) if "crop" in options else None
        self._preprocessing = Preprocessing(self._folder, side=side)
        config = AutoConfig.from_pretrained(self._folder, local_files_only=True)
        self._joint = config.model_type == "xclip"
        self._auto_class = "AutoModel" if self._joint else "AutoModelForVideoClassification"
        if self._joint:
            self.dim, self._frames = int(config.projection_dim), int(config.vision_config.num_frames)
        else:
            self.dim, self._frames = int(config.hidden_size), int(config.num_frames)
        # What the model is built with, where that is not what its folder says.
        self._settings: dict[str, int] = {}
        if "frames" in options and int(options["frames"]) != self._frames:
            self._frames = self._settings["num_frames"] = int(options["frames"])
        if side is not None and side != getattr(config, "image_size", side):
            self._settings["image_size"] = side
        if self._joint and self._settings:
            raise ExpertUnavailable(f"{model}: X-CLIP has weights for its own numbers of frames and pixels alone")
        fps = options.get("fps", self._frames / _WINDOW_SECONDS if self._joint else _FPS)
        fps = int(fps) if "fps" in options and fps.is_integer() else fps  # 8.0 is 8, in the fingerprint too
        self.streams: Sequence[Stream] = (self._preprocessing.stream(fps),)
        self.fingerprint = fingerprint(
            "video",
            weights=weights_hash(self._folder),
            preprocessing=self._preprocessing.settings,
            fps=fps,
            dtype="float16",
            **self._settings,
        )
        self.encoder = Encoder(
            f"video@{model}",
            self.dim,
            load=self._model,
            prepare=self._prepare,
            forward=self._forward,
            half=self._joint,
        )

    def prepare(self) -> None:
        """Load the weights."""
        self._model()

    def to(self, device: str) -> None:
        """Move the model to a device."""
        self._model().to(device)

    def _model(self) -> Any:
        return load_pretrained(self._auto_class, str(self._folder), **self._settings)

    def open(self) -> Session:
        return FrameWindows(self.encoder, self.frames)

    def _prepare(self, frames: Sequence[npt.NDArray[np.uint8]]) -> "dict[str, Tensor]":
        """Prepare one window of frames [height, width, 3] as a batch of one."""
        method = model_method(self._auto_class, self._folder, "get_video_features" if self._joint else "forward")
        inputs = self._preprocessing(frames, method)
        if inputs["pixel_values"].ndim == 4:  # the processor took the frames for pictures
            inputs["pixel_values"] = inputs["pixel_values"][None]
        return inputs

    def _forward(self, model: Any, inputs: "dict[str, Tensor]") -> "Tensor":
        import torch

        if self._joint:
            output = model.get_video_features(**inputs)
            return torch.nn.functional.normalize(getattr(output, "pooler_output", output), dim=-1)
        hidden: Tensor = model(**inputs, output_hidden_states=True).hidden_states[-1]
        return hidden.mean(dim=1)

    @property
    def frames(self) -> int:
        """Frames a window."""
        return self._frames


class FrameWindows:
    """A session that turns each so many frames into a row.

    Args:
        encoder: of windows of frames.
        frames: of a window; a last, short one holds its last frame.
    """

    follows_pictures = True  # of the window that a stretch begins in

    def __init__(self, encoder: Encoder, frames: int) -> None:
        self._encoder, self._frames = encoder, frames
        self._pixels: list[npt.NDArray[np.uint8]] = []
        self._seconds: list[float] = []
        self._rows: list[Deferred] = []
        self._starts: list[float] = []
        self._saved = 0

    def save_part(self) -> dict[str, npt.NDArray[Any]]:
        """See `reelseek.experts.parts.Resumable`."""
        new, self._saved = slice(self._saved, None), len(self._rows)
        rows = [np.zeros((0, self._encoder.width), np.float32), *(row() for row in self._rows[new])]
        return {
            "rows": np.concatenate(rows),
            "starts": np.array(self._starts[new]),
            "pixels": np.stack(self._pixels) if self._pixels else np.zeros(0, np.uint8),
            "seconds": np.array(self._seconds),
        }

    def restore_parts(self, states: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
        """See `reelseek.experts.parts.Resumable`."""
        rows = np.concatenate([state["rows"] for state in states])
        self._rows = [partial(rows.__getitem__, slice(place, place + 1)) for place in range(len(rows))]
        self._starts = [float(start) for state in states for start in state["starts"]]
        self._saved = len(self._rows)
        self._pixels = list(states[-1]["pixels"])
        self._seconds = states[-1]["seconds"].tolist()

    def follow(self, batch: FrameBatch) -> None:
        """See `reelseek.experts.parts.Divisible`."""
        self._pixels += list(batch.pixels)
        self._seconds += batch.cells.tolist()
        passed = len(self._pixels) // self._frames * self._frames
        del self._pixels[:passed], self._seconds[:passed]

    def feed(self, batch: FrameBatch) -> None:
        for pixels, seconds in zip(batch.pixels, batch.cells, strict=True):
            self._pixels.append(pixels)
            self._seconds.append(float(seconds))
            if len(self._pixels) == self._frames:
                self._encode()

    def _encode(self) -> None:
        missing = self._frames - len(self._pixels)
        frames = self._pixels + [self._pixels[-1]] * missing
        self._rows.append(self._encoder.submit(frames))
        self._starts.append(self._seconds[0])
        self._pixels, self._seconds = [], []

    def close(self, end_seconds: float) -> Track:
        if self._pixels and (not self._rows or len(self._pixels) >= self._frames // 2):
            self._encode()
        if not self._rows:
            return Track(np.zeros((0, self._encoder.width), np.float16), np.zeros((0, 2)), note="no pictures")
        values = np.concatenate([rows() for rows in self._rows]).astype(np.float16)
        return Track(values, spans_of_cells(np.array(self._starts), end_seconds))


def video(model: str | None = None) -> _Video:
    """Vectors of windows of frames by a video model, one step a window."""
    return _Video(model)
