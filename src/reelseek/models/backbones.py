"""The deflation of video networks to networks for single images, and video networks as files."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from reelseek.errors import ModelError
from reelseek.experts.backbones import NETWORKS, S3DG, MaxPool, Shift, SpectrogramResNet50, TSMResNet50
from reelseek.models.weights import read_saved, write_saved

__all__ = [
    "S3DG",
    "Shift",
    "SpectrogramResNet50",
    "TSMResNet50",
    "deflate",
    "load_network",
    "relearn_norms",
    "save_network",
]


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
            if isinstance(child, nn.Conv3d) and child.kernel_size[0] > 1:
                setattr(module, name, _sum_over_time(child))
        if isinstance(module, Shift):
            module.on = False
        elif isinstance(module, MaxPool):
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


def save_network(
    network: S3DG | TSMResNet50 | SpectrogramResNet50,
    folder: Path,
    *,
    takes: Mapping[str, Any] | None = None,
    **sizes: Any,
) -> None:
    """Save a network and its constructor arguments (`scale`, `blocks`) as config.json and model.safetensors.

    Args:
        takes: the input that it was trained on, by which the experts `vision_net` and `audio_net` prepare theirs.

    Raises:
        ModelError: one of them cannot be written.
    """
    name = next(name for name, kind in NETWORKS.items() if type(network) is kind)
    config = {"format": 1, "network": name, "sizes": sizes, **({"takes": dict(takes)} if takes else {})}
    write_saved(folder, network.state_dict(), config)


def load_network(folder: Path) -> S3DG | TSMResNet50:
    """Load a video network that `save_network` wrote, in evaluation mode.

    Raises:
        ModelError: the folder holds no video network, or its files do not fit together.
    """
    try:
        config, weights = read_saved(folder)
        network = NETWORKS[config["network"]](**config["sizes"])
        network.load_state_dict(weights)
    except Exception as error:  # safetensors and torch have no common root for a damaged or foreign file
        raise ModelError(f"{folder} holds no video network (config.json, model.safetensors): {error!r}") from error
    if isinstance(network, SpectrogramResNet50):
        raise ModelError(f"{folder} holds a network for sound; name one for video, such as vision_net beside it")
    return network.eval()
