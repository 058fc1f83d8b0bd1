"""The section `[pixels]` of a recipe: networks that learn with the system, and what they are fed."""

from typing import Any, Literal

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from reelseek.models.settings import STRICT, refuse_switch

__all__ = ["PixelRecipe"]

_SHORTEST_SOUND = 0.025  # seconds of one spectrum


@dataclass(frozen=True, config=STRICT)
class PixelRecipe:
    """Learn networks of frames and sound along with the system, from the files of the library's videos.

    Args:
        network: of frames: `s3dg` (S3D-G) or `tsm` (TSM-ResNet50).
        scale: factor of its widths.
        blocks: of each stage of `tsm`; None takes ResNet50's 3, 4, 6 and 3.
        frames, fps: of a window: how many frames, and how many of them a second. A window is drawn from a clip anew
            in every epoch; validation takes its middle.
        resize: the longest that a frame's shorter side is before cropping; a random one from `crop` on (scale
            jittering).
        crop: side of the squares that the network sees.
        flip: mirror every other window.
        colour: strength of random brightness, contrast, saturation and hue; 0 leaves colours as they are.
        sound: learn a network of sound too, a ResNet50 over log-mel spectrograms. Videos without sound are learnt from
            by sight alone.
        audio_scale, audio_blocks: as `scale` and `blocks`.
        bands: mel bands.
        rate: samples a second.
    """

    network: Literal["s3dg", "tsm"] = "s3dg"
    scale: float = Field(default=1.0, gt=0, le=4)
    blocks: tuple[int, int, int, int] | None = None
    frames: int = Field(default=32, ge=2, le=512)
    fps: float = Field(default=10.0, gt=0, le=120)
    resize: int = Field(default=224, ge=32)
    crop: int = Field(default=200, ge=32)
    flip: bool = True
    colour: float = Field(default=1.0, ge=0, le=2)
    sound: bool = True
    audio_scale: float = Field(default=1.0, gt=0, le=4)
    audio_blocks: tuple[int, int, int, int] | None = None
    bands: int = Field(default=80, ge=8, le=256)
    rate: int = Field(default=16_000, ge=8_000, le=48_000)
    _numbers = field_validator("*", mode="before")(refuse_switch)

    def __post_init__(self) -> None:
        if self.resize < self.crop:
            raise ValueError(f"resize {self.resize} is below crop {self.crop}")
        if self.network == "s3dg" and (self.frames % 2 or self.crop % 2):
            raise ValueError(f"s3dg takes frames and crop that are even; they are {self.frames} and {self.crop}")
        if self.network == "s3dg" and self.blocks is not None:
            raise ValueError("blocks are of the network tsm; leave them out")
        if self.rate % 200:
            raise ValueError(f"rate {self.rate} has no whole number of samples in 5 ms; take 16000, 44000 or 48000")
        if self.sound and self.seconds < _SHORTEST_SOUND:
            raise ValueError(
                f"a window of {self.seconds:.3f} s is too short for sound; take more frames, a lower fps, or "
                "sound = false"
            )

    @property
    def seconds(self) -> float:
        """How long a window lasts."""
        return self.frames / self.fps

    @property
    def vision_sizes(self) -> dict[str, Any]:
        """What the network of frames is made with."""
        return {"scale": self.scale, **({"blocks": list(self.blocks)} if self.blocks else {})}

    @property
    def audio_sizes(self) -> dict[str, Any]:
        """What the network of sound is made with."""
        blocks = {"blocks": list(self.audio_blocks)} if self.audio_blocks else {}
        return {"scale": self.audio_scale, **blocks, "bands": self.bands, "rate": self.rate}

    @property
    def takes(self) -> dict[str, dict[str, Any]]:
        """What each network is fed, by its expert."""
        vision = {"frames": self.frames, "fps": self.fps, "resize": self.resize, "crop": self.crop}
        audio = {"rate": self.rate, "seconds": int(100 * self.seconds + 1e-6) / 100}
        return {"vision_net": vision, **({"audio_net": audio} if self.sound else {})}
