"""Blocks over plain tensors: what is absent changes nothing, and wrong shapes are one error."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from reelseek.blocks import FusionTransformer, GatedUnit, NetVLAD, QueryPool, masked_max, masked_mean
from reelseek.losses import CombinatorialLoss

DIMS = {"text": 6, "video": 8, "audio": 5}


@pytest.fixture
def steps() -> tuple[Tensor, Tensor]:
    """Three items of five steps with holes; the last item has none."""
    generator = torch.Generator().manual_seed(0)
    present = torch.rand(3, 5, generator=generator) > 0.4
    present[:, 0] = True
    present[2] = False
    return torch.randn(3, 5, 8, generator=generator), present


def _pools() -> list[Callable[[Tensor, Tensor], Tensor]]:
    torch.manual_seed(0)
    return [masked_mean, masked_max, NetVLAD(8, 3, ghosts=1).eval(), QueryPool(8, heads=2).eval()]


@pytest.mark.parametrize("index", range(4))
def test_what_is_absent_changes_no_output_and_no_gradient(index: int, steps: tuple[Tensor, Tensor]) -> None:
    pool, (values, present) = _pools()[index], steps
    gradients = []
    for filling in (0.0, torch.nan, 1e30):
        rows = torch.where(present[..., None], values, filling).requires_grad_()
        pooled = pool(rows, present)
        assert torch.equal(pooled, pool(values, present))
        gradients.append(torch.autograd.grad(pooled.sum(), rows)[0])
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)
    assert not gradients[0][~present].any()


@pytest.mark.parametrize("index", range(4))
def test_padding_and_order_of_steps_change_nothing(index: int, steps: tuple[Tensor, Tensor]) -> None:
    pool, (values, present) = _pools()[index], steps
    padded = pool(torch.cat([values, values], 1), torch.cat([present, torch.zeros_like(present)], 1))
    order = torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(padded, pool(values, present))
    torch.testing.assert_close(pool(values[:, order], present[:, order]), pool(values, present))


def test_pools_against_loops(steps: tuple[Tensor, Tensor]) -> None:
    values, present = steps
    for item in range(2):
        rows = values[item][present[item]]
        torch.testing.assert_close(masked_mean(values, present)[item], rows.mean(0))
        torch.testing.assert_close(masked_max(values, present)[item], rows.amax(0))
    assert not masked_mean(values, present)[2].any()
    assert masked_mean(values).shape == (3, 8)
    vlad = NetVLAD(8, 3).eval()
    pooled = vlad(values, present)
    assert pooled.shape == (3, vlad.width)
    torch.testing.assert_close(pooled.norm(dim=1), torch.tensor([1.0, 1.0, 0.0]))


def test_a_gated_unit_against_its_equation() -> None:
    unit = GatedUnit(4, 3, batch_norm=False)
    values = torch.randn(2, 4)
    linear = values @ unit.fc.weight.T + unit.fc.bias
    gated = linear / (1 + torch.exp(-(linear @ unit.gate.weight.T + unit.gate.bias)))
    torch.testing.assert_close(unit(values), gated / gated.norm(dim=1, keepdim=True))


def _fusion(**dims: int) -> tuple[FusionTransformer, dict[str, Tensor], dict[str, Tensor]]:
    torch.manual_seed(0)
    fusion = FusionTransformer(dims or DIMS, width=16, embedding=12, heads=2).eval()
    values = {name: torch.randn(4, 3 + index, dim) for index, (name, dim) in enumerate((dims or DIMS).items())}
    present = {name: torch.rand(rows.shape[:2]) > 0.2 for name, rows in values.items()}
    for mask in present.values():
        mask[:, 0] = True
    return fusion, values, present


def test_fusion_embeds_every_view() -> None:
    fusion, values, present = _fusion()
    views = fusion(values, present)
    assert list(views) == ["text", "video", "audio", "text+video", "text+audio", "video+audio", "text+video+audio"]
    for rows in views.values():
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(4))
    for name in ("text", "video+audio"):  # a view knows nothing of the others
        (alone,) = fusion(values, present, views=[name]).values()
        torch.testing.assert_close(alone, views[name])
    assert torch.isfinite(CombinatorialLoss()(views))
    assert list(fusion(values, views=[("video", "audio")])) == ["video+audio"]
    assert {name.split(".")[2] for name, _ in fusion.fusion.named_parameters(prefix="x")} >= set(DIMS)


def test_an_absent_modality_changes_nothing() -> None:
    fusion, values, present = _fusion()
    present["audio"][1:3] = False
    views = fusion(values, present)
    spoilt = {name: torch.where(present[name][..., None], rows, torch.nan) for name, rows in values.items()}
    for name, rows in fusion(spoilt, present).items():
        assert torch.equal(rows, views[name]), name
    torch.testing.assert_close(views["video+audio"][1:3], views["video"][1:3])
    assert not views["audio"][1:3].any()
    without = fusion({name: values[name] for name in ("text", "video")}, {n: present[n] for n in ("text", "video")})
    torch.testing.assert_close(without["text+video"], views["text+video"])


def test_fusion_without_text_has_no_weights_for_it() -> None:
    fusion, values, _ = _fusion(video=8, audio=5)
    assert not [name for name, _ in fusion.named_parameters() if "text" in name]
    loss = torch.stack([rows[:, 0].sum() for rows in fusion(values).values()]).sum()
    loss.backward()
    assert all(parameter.grad is not None for parameter in fusion.parameters())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: masked_mean(torch.zeros(2, 3)), r"\[item, step, dim\]"),
        (lambda: masked_max(torch.zeros(2, 3, 4).long()), "floating-point"),
        (lambda: NetVLAD(8, 2)(torch.zeros(2, 3, 4)), r"\[item, step, 8\]"),
        (lambda: QueryPool(8, 2)(torch.zeros(2, 3, 8), torch.ones(2, 4) > 0), r"torch.bool \[2, 3\]"),
        (lambda: QueryPool(8, 2)(torch.zeros(2, 3, 8), torch.ones(2, 3)), "present is torch.float32"),
        (lambda: QueryPool(9, 2), "cannot be divided"),
        (lambda: GatedUnit(4, 3)(torch.zeros(2, 5)), r"give \[..., 4\]"),
        (lambda: FusionTransformer({"text": 4}, width=8, embedding=8), "beside text"),
        (lambda: _fusion()[0]({"smell": torch.zeros(1, 1, 1)}), "'smell' is no modality"),
        (lambda: _fusion()[0]({}), "give steps of all"),
        (lambda: _fusion()[0]({"video": torch.zeros(1, 2, 7)}), r"video: .*\[item, step, 8\]"),
        (lambda: _fusion()[0]({"video": torch.zeros(1, 2, 8), "audio": torch.zeros(2, 2, 5)}), "numbers of items"),
        (lambda: _fusion()[0]({"video": torch.zeros(1, 2, 8)}, views=["video+audio"]), "is no view"),
    ],
)
def test_wrong_shapes_are_one_error(call: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
