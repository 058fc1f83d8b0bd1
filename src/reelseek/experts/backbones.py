"""Video networks that MMV trains from pixels, and its network of sound.

S3D-G (Xie et al. 2018, as MIL-NCE releases it), TSM-ResNet50 v2 (Lin et al. 2019, as MMV releases it), and a ResNet50
v2 over log-mel spectrograms.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["NETWORKS", "S3DG", "MaxPool", "Shift", "SpectrogramResNet50", "TSMResNet50", "space_to_depth"]

Video = Float[Tensor, "_ _ _ _ _"]  # video channel frame height width


class _Conv(nn.Sequential):
    """A convolution over time and space with batch normalisation; `separable` convolves space, then time."""

    def __init__(
        self, before: int, width: int, kernel: tuple[int, int, int], *, stride: int = 1, separable: bool = False,
        padding: tuple[int, int, int] | None = None,
    ) -> None:  # fmt: skip
        time, height, wide = kernel
        pad = padding or (time // 2, height // 2, wide // 2)
        if separable:
            space = nn.Conv3d(before, width, (1, height, wide), (1, stride, stride), (0, pad[1], pad[2]), bias=False)
            over_time = nn.Conv3d(width, width, (time, 1, 1), (stride, 1, 1), (pad[0], 0, 0), bias=False)
            parts = [space, nn.BatchNorm3d(width), nn.ReLU(), over_time, nn.BatchNorm3d(width), nn.ReLU()]
        else:
            conv = nn.Conv3d(before, width, kernel, stride, pad, bias=False)
            parts = [conv, nn.BatchNorm3d(width), nn.ReLU()]
        super().__init__(*parts)


class _Gate(nn.Module):
    """Gates each channel by the sigmoid of a linear layer over the mean over time and space."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, values: Video) -> Video:
        return values * torch.sigmoid(self.fc(values.mean((2, 3, 4))))[:, :, None, None, None]


def _pad_same(values: Video, kernel: Sequence[int], stride: Sequence[int], fill: float = 0.0) -> Video:
    """Pad to `ceil(size / stride)` places of a window, with more padding at the end (TensorFlow's SAME)."""
    pads: list[int] = []
    for size, width, step in reversed(list(zip(values.shape[2:], kernel, stride, strict=True))):
        total = max(0, (-(-size // step) - 1) * step + width - size)
        pads += [total // 2, total - total // 2]
    return functional.pad(values, pads, value=fill)


class _SameConv(nn.Conv3d):
    """A convolution without bias, padded as SAME."""

    def __init__(self, before: int, width: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__(before, width, kernel, stride, bias=False)

    def forward(self, values: Video) -> Video:
        padded = _pad_same(values, self.kernel_size, self.stride)
        return functional.conv3d(padded, self.weight, stride=self.stride)


class MaxPool(nn.Module):
    """Max pooling padded as SAME."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, values: Video) -> Video:
        return functional.max_pool3d(_pad_same(values, self.kernel, self.stride, -torch.inf), self.kernel, self.stride)


class _Inception(nn.Module):
    """Four parallel branches, each with its gate."""

    def __init__(self, before: int, widths: Sequence[int]) -> None:
        super().__init__()
        one, two_a, two, three_a, three, four = widths
        self.branches = nn.ModuleList(
            [
                _Conv(before, one, (1, 1, 1)),
                nn.Sequential(_Conv(before, two_a, (1, 1, 1)), _Conv(two_a, two, (3, 3, 3), separable=True)),
                nn.Sequential(_Conv(before, three_a, (1, 1, 1)), _Conv(three_a, three, (3, 3, 3), separable=True)),
                nn.Sequential(MaxPool((3, 3, 3), (1, 1, 1)), _Conv(before, four, (1, 1, 1))),
            ]
        )
        self.gates = nn.ModuleList(_Gate(width) for width in (one, two, three, four))
        self.width = one + two + three + four

    def forward(self, values: Video) -> Video:
        return torch.cat([gate(branch(values)) for branch, gate in zip(self.branches, self.gates, strict=True)], 1)


_S3D = (
    (64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64), None,
    (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128), None,
    (256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128),
)  # fmt: skip


class S3DG(nn.Module):
    """Videos in [0, 1] -> 1024 features, after space-to-depth of 2 x 2 x 2.

    Args:
        scale: factor of all widths; 1 is the published network.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()

        def wide(width: int) -> int:
            return max(1, round(width * scale))

        self.stem = _Conv(24, wide(64), (2, 4, 4), padding=(1, 2, 2))
        parts: list[nn.Module] = [
            MaxPool((1, 3, 3), (1, 2, 2)),
            _Conv(wide(64), wide(64), (1, 1, 1)),
            _Conv(wide(64), wide(192), (3, 3, 3), separable=True),
            _Gate(wide(192)),
            MaxPool((1, 3, 3), (1, 2, 2)),
        ]
        width, pools = wide(192), iter([MaxPool((3, 3, 3), (2, 2, 2)), MaxPool((2, 2, 2), (2, 2, 2))])
        for widths in _S3D:
            block: nn.Module = (
                next(pools) if widths is None else _Inception(width, [wide(channels) for channels in widths])
            )
            width = block.width if isinstance(block, _Inception) else width
            parts.append(block)
        self.blocks = nn.Sequential(*parts)
        self.width = width
        self.crop = 1  # time steps that the stem's padding adds at the start

    def maps(self, video: Video) -> Video:
        """Feature maps before the mean."""
        video = space_to_depth(video)
        return self.blocks(self.stem(video)[:, :, self.crop :, 1:, 1:])

    def forward(self, video: Video) -> Float[Tensor, "video dim"]:
        return self.maps(video).mean((2, 3, 4))


def space_to_depth(video: Tensor) -> Tensor:
    """[video, c, 2t, 2h, 2w] -> [video, 8c, t, h, w]."""
    videos, channels, frames, height, width = video.shape
    if frames % 2 or height % 2 or width % 2:
        raise ValueError(f"frames, height and width must be even; got {frames}, {height} and {width}")
    video = video.view(videos, channels, frames // 2, 2, height // 2, 2, width // 2, 2)
    return video.permute(0, 3, 5, 7, 1, 2, 4, 6).reshape(videos, 8 * channels, frames // 2, height // 2, width // 2)


class Shift(nn.Module):
    """Temporal shift: an eighth of the channels comes from the next frame, an eighth from the previous one.

    Zeros are shifted in at the ends. It reorders channels as MMV's does: the last come first. `on` False reorders and
    does not shift.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on = True

    def forward(self, values: Video) -> Video:
        part = values.shape[1] // 8
        first, middle, last = values[:, :part], values[:, part:-part], values[:, -part:]
        if self.on:
            last = functional.pad(last[:, :, 1:], (0, 0, 0, 0, 0, 1))
            first = functional.pad(first[:, :, :-1], (0, 0, 0, 0, 1, 0))
        return torch.cat([last, middle, first], 1)


class _Bottleneck(nn.Module):
    """ResNet v2: normalise and activate before each convolution; the residual branch shifts time."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        inner = width // 4
        self.norm0, self.norm1, self.norm2 = nn.BatchNorm3d(before), nn.BatchNorm3d(inner), nn.BatchNorm3d(inner)
        self.shift = Shift()
        self.conv0 = nn.Conv3d(before, inner, 1, bias=False)
        self.conv1 = _SameConv(inner, inner, (1, 3, 3), (1, stride, stride))
        self.conv2 = nn.Conv3d(inner, width, 1, bias=False)
        self.shortcut = (
            nn.Conv3d(before, width, 1, (1, stride, stride), bias=False) if stride > 1 or before != width else None
        )

    def forward(self, values: Video) -> Video:
        ready = self.norm0(values).relu()
        shortcut = values if self.shortcut is None else self.shortcut(ready)
        inner = self.conv0(self.shift(ready))
        inner = self.conv1(self.norm1(inner).relu())
        return shortcut + self.conv2(self.norm2(inner).relu())


class TSMResNet50(nn.Module):
    """Videos -> 2048 features.

    Args:
        scale: factor of all widths; 1 is the published network, 2 its wide variant.
        blocks: number of blocks of each stage.
        channels: of the input.
    """

    def __init__(self, scale: float = 1.0, blocks: Sequence[int] = (3, 4, 6, 3), *, channels: int = 3) -> None:
        super().__init__()
        width = 8 * max(1, round(8 * scale))
        self.stem = _SameConv(channels, width, (1, 7, 7), (1, 2, 2))
        self.pool = MaxPool((1, 3, 3), (1, 2, 2))
        parts: list[nn.Module] = []
        before, wide = width, 4 * width
        for stage, count in enumerate(blocks):
            for block in range(count):
                parts.append(_Bottleneck(before, wide, 2 if stage and not block else 1))
                before = wide
            wide *= 2
        self.blocks = nn.Sequential(*parts)
        self.norm = nn.BatchNorm3d(before)
        self.width = before

    def maps(self, video: Video) -> Video:
        """Feature maps before the mean."""
        return self.norm(self.blocks(self.pool(self.stem(video)))).relu()

    def forward(self, video: Video) -> Float[Tensor, "video dim"]:
        return self.maps(video).mean((2, 3, 4))


class SpectrogramResNet50(nn.Module):
    """Samples -> log-mel spectrogram -> ResNet50 v2 over time and bands -> mean, 2048 features.

    Args:
        scale, blocks: as of TSMResNet50, whose layers it has without any shift in time.
        bands: mel bands, up to half of the rate.
        rate: samples a second; windows are of 25 ms, one every 10 ms.

    Source: Alayrac et al. 2020, section 4.1: 80 bands and the ResNet50; windows and floor are ours.
    """

    taper: Tensor
    filters: Tensor

    def __init__(
        self, scale: float = 1.0, blocks: Sequence[int] = (3, 4, 6, 3), *, bands: int = 80, rate: int = 16_000
    ) -> None:
        super().__init__()
        from transformers.audio_utils import mel_filter_bank

        self.length, self.hop = rate // 40, rate // 100
        filters = mel_filter_bank(
            num_frequency_bins=self.length // 2 + 1, num_mel_filters=bands, min_frequency=0.0,
            max_frequency=rate / 2, sampling_rate=rate, mel_scale="htk",
        )  # fmt: skip
        self.register_buffer("taper", torch.hann_window(self.length), persistent=False)
        self.register_buffer("filters", torch.tensor(filters, dtype=torch.float32), persistent=False)
        self.resnet = TSMResNet50(scale, blocks, channels=1)
        for module in self.resnet.modules():
            if isinstance(module, Shift):
                module.on = False
        self.width = self.resnet.width

    def spectrogram(self, samples: Float[Tensor, "clip sample"]) -> Float[Tensor, "clip frame band"]:
        """The logarithm of the power in each band, in single precision whatever else is computed in."""
        with torch.autocast(samples.device.type, enabled=False):
            frames = samples.float().unfold(1, self.length, self.hop) * self.taper
            if not len(frames):  # which MKL's transform refuses
                return frames @ self.filters.new_zeros(self.length, self.filters.shape[1])
            power = torch.fft.rfft(frames).abs().square()
            return (power @ self.filters + 1e-6).log()

    def forward(self, samples: Float[Tensor, "clip sample"]) -> Float[Tensor, "clip dim"]:
        features: Tensor = self.resnet(self.spectrogram(samples)[:, None, None])
        return features


NETWORKS: dict[str, type[S3DG] | type[TSMResNet50] | type[SpectrogramResNet50]] = {
    "s3dg": S3DG, "tsm": TSMResNet50, "spectrogram": SpectrogramResNet50,
}  # fmt: skip
"""Networks by the name that their folders say."""
