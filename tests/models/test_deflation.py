"""Video networks and their deflation to single images (MMV, section 3.3)."""

import pytest
import torch
from torch import nn

from reelseek.experts.backbones import space_to_depth
from reelseek.models.backbones import S3DG, Shift, TSMResNet50, deflate, norm_parameters, relearn_norms


def _statistics(network: nn.Module) -> nn.Module:
    """Random statistics and scales, so that normalisation matters."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def _networks() -> list[tuple[nn.Module, int]]:
    torch.manual_seed(0)
    return [(_statistics(S3DG(1 / 16)), 16), (_statistics(TSMResNet50(1 / 8, (1, 1, 1, 1))), 8)]


def test_published_sizes() -> None:
    with torch.device("meta"):
        s3d, tsm = S3DG(), TSMResNet50()
        assert s3d(torch.zeros(1, 3, 16, 64, 64)).shape == (1, 1024)
        assert tsm(torch.zeros(1, 3, 8, 64, 64)).shape == (1, 2048)
        assert TSMResNet50(2.0)(torch.zeros(1, 3, 8, 64, 64)).shape == (1, 4096)
    assert 23_000_000 < sum(p.numel() for p in tsm.parameters()) < 24_000_000  # ResNet-50 without its classifier
    assert 8_900_000 < sum(p.numel() for p in s3d.parameters()) < 9_800_000


def test_the_shift_moves_an_eighth_each_way_and_reorders_channels() -> None:
    shift, values = Shift(), torch.arange(2 * 16 * 4.0).reshape(2, 16, 4, 1, 1)
    out = shift(values)
    assert torch.equal(out[:, :2, :-1], values[:, -2:, 1:])
    assert torch.equal(out[:, 2:-2], values[:, 2:-2])
    assert torch.equal(out[:, -2:, 1:], values[:, :2, :-1])
    assert not out[:, :2, -1].any()
    assert not out[:, -2:, 0].any()
    shift.on = False
    still = shift(values)
    assert torch.equal(still, torch.cat([values[:, -2:], values[:, 2:-2], values[:, :2]], 1))
    assert not torch.equal(still, values)  # off is not the identity: the order of channels stays


@torch.inference_mode()
def test_inside_a_still_video_convolutions_agree_with_their_deflation() -> None:
    """Before anything looks at the whole clip, places away from its ends are those of the image, bit for bit enough."""
    network, frames = _networks()[0]
    image = torch.rand(2, 3, 32, 32)
    flat = deflate(network)
    video = network.stem(_depth(image, 64))[:, :, 1:, 1:, 1:]
    single = flat.network.stem(_depth(image, 2))[:, :, :, 1:, 1:]
    torch.testing.assert_close(video[:, :, 5:6], single, atol=1e-5, rtol=1e-5)
    assert (video[:, :, 0:1] - single).abs().max() < 1e-5  # the stem pads the start alone, which is cropped
    assert frames == 16


def _depth(image: torch.Tensor, frames: int) -> torch.Tensor:
    return space_to_depth(image[:, :, None].expand(-1, -1, frames, -1, -1))


@torch.inference_mode()
def test_far_from_the_ends_a_shifted_network_is_its_deflation() -> None:
    network = _networks()[1][0]
    image = torch.rand(2, 3, 32, 32)
    maps = network.maps(image[:, :, None].expand(-1, -1, 24, -1, -1))
    single = deflate(network).network.maps(image[:, :, None])
    torch.testing.assert_close(maps[:, :, 12:13], single, atol=1e-4, rtol=1e-4)
    assert (maps[:, :, :1] - single).abs().max() > 1e-3  # padding is seen at the ends


@pytest.mark.long
@pytest.mark.parametrize("which", [0, 1])
def test_learning_the_norms_again_brings_image_features_near_video_features(which: int) -> None:
    network, frames = _networks()[which]
    flat = deflate(network)
    generator = torch.Generator().manual_seed(2)
    held_out = torch.rand(8, 3, 32, 32, generator=generator)
    video = held_out[:, :, None].expand(-1, -1, frames, -1, -1)
    kept = {name: value.clone() for name, value in flat.state_dict().items()}

    def gap() -> float:
        with torch.inference_mode():
            return float((flat(held_out) - network(video)).abs().mean())

    before = gap()
    assert before > 1e-4
    losses = relearn_norms(
        flat, network, (torch.rand(8, 3, 32, 32, generator=generator) for _ in range(120)), frames=frames
    )
    assert len(losses) == 120
    assert gap() < 0.8 * before
    learnt = {id(p) for p in norm_parameters(flat)}
    for name, parameter in flat.named_parameters():
        if id(parameter) not in learnt:
            assert torch.equal(parameter, kept[name]), name
    assert any(not torch.equal(p, kept[n]) for n, p in flat.named_parameters() if id(p) in learnt)


def test_odd_sizes_are_refused_by_space_to_depth() -> None:
    with pytest.raises(ValueError, match="must be even; got 15"):
        _networks()[0][0](torch.zeros(1, 3, 15, 32, 32))
