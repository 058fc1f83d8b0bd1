"""What a model's own image processor does to pictures: resize, crop, rescale, normalise, as transformers reads it.

The processor is the one of Pillow wherever a model has one, so that vectors do not depend on whether torchvision is
installed. Pictures come to it as decoded; only those with a short side above 1080 pixels are made smaller before.
"""

from collections.abc import Callable, Iterable
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.errors import ExpertUnavailable
from reelseek.experts.quiet import quiet_transformers
from reelseek.media.streams import FrameStream

__all__ = ["Preprocessing"]

_LARGEST = 1080  # pixels of the short side: a batch of 16 pictures of 1920 x 1080 is 100 MB
_UNBOUNDED = 2**16
_SIDES = ("height", "width", "shortest_edge", "max_height", "max_width")


class Preprocessing:
    """The image processor of a model's folder.

    Args:
        folder: holds preprocessor_config.json, or processor_config.json.
        side: resize the shorter side to so many pixels and crop a square of it, instead of the processor's own sizes.
        has_longest_edge: the processor refuses a shortest edge alone; without a longest edge there is no limit to it.

    Attributes:
        settings: the processor's class and every setting of it, for fingerprints.

    Raises:
        ExpertUnavailable: the folder does not say how pictures are prepared, or this machine lacks what that takes.
    """

    def __init__(self, folder: Path, *, side: int | None = None, has_longest_edge: bool = False) -> None:
        square = {} if side is None else {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
        self._processor = _load(folder, **square)
        size = self._size()
        if has_longest_edge and "shortest_edge" in size and "longest_edge" not in size:
            self._processor = _load(folder, size={**size, "longest_edge": 2**31})
        settings: dict[str, Any] = self._processor.to_dict()
        self.settings = {"processor": type(self._processor).__name__, **settings}

    def stream(self, fps: float) -> FrameStream:
        """Frames as decoded: whatever the processor does to them, it does itself."""
        if not getattr(self._processor, "do_resize", True):
            return FrameStream(fps, _UNBOUNDED)
        return FrameStream(fps, max([_LARGEST, *(int(self._size().get(side) or 0) for side in _SIDES)]))

    def __call__(self, frames: Iterable[npt.NDArray[np.uint8]], function: Callable[..., Any]) -> dict[str, Any]:
        """Prepare RGB frames [height, width, 3], which may differ in size.

        Args:
            function: the model's method that takes them; of what the processor yields it gets what it has names for.

        Returns:
            float32 `pixel_values` [frame, 3, height, width] ([1, frame, 3, height, width] of processors of videos),
            and such tensors as masks.
        """
        from PIL import Image

        prepared = self._processor([Image.fromarray(frame) for frame in frames], return_tensors="pt")
        inputs = {name: tensor for name, tensor in prepared.items() if name in signature(function).parameters}
        return {**inputs, "pixel_values": prepared["pixel_values"].float()}

    def _size(self) -> dict[str, Any]:
        size: Any = getattr(self._processor, "size", None)
        return dict(size) if hasattr(size, "__iter__") else {}


def _load(folder: Path, **changes: Any) -> Any:
    from transformers import AutoImageProcessor

    quiet_transformers()
    try:
        # `backend` is what version 5 of transformers goes by, `use_fast` what version 4 did.
        return AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, backend="pil", use_fast=False, **changes
        )
    except ImportError as error:
        raise ExpertUnavailable(f"the image processor of {folder} cannot run here: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExpertUnavailable(
            f"{folder} does not say how pictures are prepared, and preprocessing is never guessed; it needs the "
            f"preprocessor_config.json of its model: {error}"
        ) from error
