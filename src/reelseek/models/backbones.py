"""Video networks that MMV trains from pixels, and their deflation to networks for single images.

S3D-G (Xie et al. 2018, as MIL-NCE releases it) and TSM-ResNet50 v2 (Lin et al. 2019, as MMV releases it).
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from reelseek.errors import ModelError
from reelseek.models.weights import read_saved, write_saved

__all__ = ["S3DG", "TSMResNet50", "deflate", "load_network", "relearn_norms", "save_network"]

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


class _MaxPool(nn.Module):
    """Max pooling padded to `ceil(size / stride)` places, with more padding at the end (TensorFlow's SAME)."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, values: Video) -> Video:
        pads: list[int] = []
        for size, kernel, stride in reversed(list(zip(values.shape[2:], self.kernel, self.stride, strict=True))):
            total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            pads += [total // 2, total - total // 2]
        # Inputs come from a ReLU, so that padding with zeros changes no maximum.
        return functional.max_pool3d(functional.pad(values, pads), self.kernel, self.stride)


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
                nn.Sequential(_MaxPool((3, 3, 3), (1, 1, 1)), _Conv(before, four, (1, 1, 1))),
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
            _MaxPool((1, 3, 3), (1, 2, 2)),
            _Conv(wide(64), wide(64), (1, 1, 1)),
            _Conv(wide(64), wide(192), (3, 3, 3), separable=True),
            _Gate(wide(192)),
            _MaxPool((1, 3, 3), (1, 2, 2)),
        ]
        width, pools = wide(192), iter([_MaxPool((3, 3, 3), (2, 2, 2)), _MaxPool((2, 2, 2), (2, 2, 2))])
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
        video = _space_to_depth(video)
        return self.blocks(self.stem(video)[:, :, self.crop :, 1:, 1:])

    def forward(self, video: Video) -> Float[Tensor, "video dim"]:
        return self.maps(video).mean((2, 3, 4))


def _space_to_depth(video: Tensor) -> Tensor:
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
        self.conv1 = nn.Conv3d(inner, inner, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
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
    """

    def __init__(self, scale: float = 1.0, blocks: Sequence[int] = (3, 4, 6, 3)) -> None:
        super().__init__()
        width = 8 * max(1, round(8 * scale))
        self.stem = nn.Conv3d(3, width, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False)
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
        values = functional.max_pool3d(self.stem(video), (1, 3, 3), (1, 2, 2), (0, 1, 1))
        return self.norm(self.blocks(values)).relu()

    def forward(self, video: Video) -> Float[Tensor, "video dim"]:
        return self.maps(video).mean((2, 3, 4))


class _Deflated(nn.Module):
    """A video network applied to images [image, channel, height, width]."""

    def __init__(self, network: nn.Module, frames: int) -> None:
        super().__init__()
        self.network, self.frames = network, frames

    def forward(self, images: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image dim"]:
        return self.network(images[:, :, None].expand(-1, -1, self.frames, -1, -1))


def deflate(network: S3DG | TSMResNet50) -> nn.Module:
    """Make the network for single images: kernels summed over time, no shift, no pooling over time.

    On a still video its features are those of the video network except near the ends, where the video network sees
    padding; `relearn_norms` corrects for that.

    Source: Alayrac et al. 2020, section 3.3.
    """
    flat = deepcopy(network)
    for module in flat.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.Conv3d):
                setattr(module, name, _sum_over_time(child))
        if isinstance(module, Shift):
            module.on = False
        elif isinstance(module, _MaxPool):
            module.kernel, module.stride = (1, *module.kernel[1:]), (1, *module.stride[1:])
    if isinstance(flat, S3DG):
        # Two equal frames make one time step after space-to-depth; the summed stem does not pad time.
        flat.crop = 0
        return _Deflated(flat, 2)
    return _Deflated(flat, 1)


def _sum_over_time(conv: nn.Conv3d) -> nn.Conv3d:
    _, high, wide = conv.kernel_size
    stride, pad = (1, conv.stride[1], conv.stride[2]), (0, int(conv.padding[1]), int(conv.padding[2]))
    flat = nn.Conv3d(conv.in_channels, conv.out_channels, (1, high, wide), stride, pad, bias=False)
    with torch.no_grad():
        flat.weight.copy_(conv.weight.sum(2, keepdim=True))
    return flat


def norm_parameters(network: nn.Module) -> Iterator[nn.Parameter]:
    """Iterate over the scales and shifts of every batch normalisation."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            yield from module.parameters()


def relearn_norms(
    flat: nn.Module,
    network: nn.Module,
    batches: Iterator[Float[Tensor, "image channel height width"]],
    *,
    frames: int,
    rate: float = 1e-3,
) -> list[float]:
    """Train the normalisations of a deflated network to reproduce the video network's features of a repeated image.

    The loss is the L1 distance of the two; all other parameters are frozen.

    Args:
        batches: images; one optimiser step per batch.
        frames: number of repetitions of an image for the video network.

    Returns:
        the loss of every step.

    Source: Alayrac et al. 2020, section 3.3.
    """
    flat.eval()
    network.eval()
    flat.requires_grad_(False)
    parameters = list(norm_parameters(flat))
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(parameters, lr=rate)
    losses = []
    for images in batches:
        with torch.no_grad():
            target = network(images[:, :, None].expand(-1, -1, frames, -1, -1))
        loss = functional.l1_loss(flat(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def save_network(network: S3DG | TSMResNet50, folder: Path, **sizes: Any) -> None:
    """Save a network and its constructor arguments (`scale`, `blocks`) as config.json and model.safetensors.

    Raises:
        ModelError: one of them cannot be written.
    """
    name = "s3dg" if isinstance(network, S3DG) else "tsm"
    write_saved(folder, network.state_dict(), {"format": 1, "network": name, "sizes": sizes})


def load_network(folder: Path) -> S3DG | TSMResNet50:
    """Load a network that `save_network` wrote, in evaluation mode.

    Raises:
        ModelError: the folder holds no video network, or its files do not fit together.
    """
    try:
        config, weights = read_saved(folder)
        network: S3DG | TSMResNet50 = {"s3dg": S3DG, "tsm": TSMResNet50}[config["network"]](**config["sizes"])
        network.load_state_dict(weights)
    except Exception as error:  # safetensors and torch have no common root for a damaged or foreign file
        raise ModelError(f"{folder} holds no video network (config.json, model.safetensors): {error!r}") from error
    return network.eval()
