"""Blocks against plain forms: packed attention against a dense mask, pools against loops."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from reelseek.errors import UsageError
from reelseek.library.tokens import Steps
from reelseek.models.blocks.arrange import (
    TokenSequence,
    align_experts,
    concat_groups,
    everything,
    exactly,
    expand_views,
    max_pool_steps,
    may_attend,
    own,
    pack_left,
    reads,
    subsample,
)
from reelseek.models.blocks.audio import AudioCNN
from reelseek.models.blocks.mix import Transformer, UnbiasedLayerNorm
from reelseek.models.blocks.pool import BiGRU, ConvMax, NetVLAD, QueryPool, WeightedPool, masked_max, masked_mean
from reelseek.models.blocks.project import GatedUnit, Inputs, RowNorm, apply_to_present, per_expert
from reelseek.models.blocks.readers import READERS


def _steps(videos: int = 4, steps: int = 6, dim: int = 8, seed: int = 0) -> Steps:
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(videos, steps, generator=generator) > 0.4
    present[:, 0] = True
    starts = torch.arange(steps).float()[None, :, None].expand(videos, steps, 2)
    return Steps(torch.randn(videos, steps, dim, generator=generator), present, starts + torch.tensor([0.0, 1.0]))


def _dense(net: Transformer, row: TokenSequence, relation: torch.Tensor, also: torch.Tensor | None) -> torch.Tensor:
    """The same transformer over every place, with a mask of all pairs."""
    mask = may_attend(row, relation)
    values = row.tokens
    for layer in net.layers:
        ready = layer.norm1(values) if layer.order == "pre" else values
        heads, dim = layer.attention.heads, layer.attention.head_dim
        q, k, v = (x.unflatten(2, (heads, dim)).transpose(1, 2) for x in layer.attention.qkv(ready).chunk(3, 2))
        scores = (q @ k.transpose(2, 3) / dim**0.5).masked_fill(~mask[:, None], -1e30)
        read = layer.attention.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        values = layer.add(values, read)
    computed = row.present if also is None else row.present | also
    return torch.where(computed[..., None], values, torch.zeros(()))


@pytest.mark.parametrize("order", ["pre", "post"])
@pytest.mark.parametrize("relation", [everything, own, lambda n: reads(n, n - 1)])
def test_packed_attention_equals_a_dense_mask(order: str, relation: object) -> None:
    torch.manual_seed(0)
    parts = [_steps(seed=seed, steps=3 + seed) for seed in range(3)]
    row = concat_groups([(s.values, s.present) for s in parts])
    net = Transformer(2, 8, 2, 12, order=order).eval()
    wanted = _dense(net, row, relation(3), None)  # type: ignore[operator]
    torch.testing.assert_close(net(row, relation(3)), wanted, atol=1e-5, rtol=0)  # type: ignore[operator]


def test_views_share_the_first_layer_and_equal_separate_passes_with_their_gradients() -> None:
    torch.manual_seed(0)
    parts = [(s.values, s.present) for s in (_steps(seed=1), _steps(seed=2, steps=4), _steps(seed=3, steps=2))]
    net = Transformer(2, 8, 2, 12, order="pre").double()
    parts = [(values.double().requires_grad_(), there) for values, there in parts]
    chosen = [[0], [1], [2], [0, 1], [0, 2], [1, 2]]
    seen = expand_views(concat_groups(parts), chosen)
    together = net(seen, own(6))
    target = torch.randn_like(together)
    gradients = torch.autograd.grad((together * target).sum(), [*net.parameters(), *(v for v, _ in parts)])
    total = 0.0
    for index, view in enumerate(chosen):
        alone = net(concat_groups([parts[g] for g in view]), everything(len(view)))
        columns = seen.group == index
        torch.testing.assert_close(together[:, columns], alone, atol=1e-12, rtol=0)
        total = total + (alone * target[:, columns]).sum()
    for one, two in zip(
        gradients, torch.autograd.grad(total, [*net.parameters(), *(v for v, _ in parts)]), strict=True
    ):
        torch.testing.assert_close(one, two, atol=1e-9, rtol=1e-9)


def test_tokens_that_are_computed_though_absent_are_read_by_nobody() -> None:
    torch.manual_seed(0)
    steps = _steps()
    row = concat_groups([(steps.values, steps.present)])
    net = Transformer(2, 8, 2, 12, order="post").eval()
    also = torch.ones_like(steps.present)
    out = net(row, everything(1), also)
    torch.testing.assert_close(out, _dense(net, row, everything(1), also), atol=1e-5, rtol=0)
    torch.testing.assert_close(out[steps.present], net(row, everything(1))[steps.present], atol=1e-6, rtol=0)


def test_a_row_of_nothing_comes_out_as_zeros() -> None:
    net = Transformer(2, 8, 2, 12, order="pre").eval()
    values, nothing = torch.randn(2, 3, 8), torch.zeros(2, 3, dtype=torch.bool)
    assert not net(concat_groups([(values, nothing)]), everything(1)).any()
    some = nothing.clone()
    some[0] = True
    out = net(concat_groups([(values, some)]), everything(1))
    assert torch.isfinite(out).all()
    assert not out[1].any()


def test_rotary_positions_depend_on_distance_alone() -> None:
    torch.manual_seed(0)
    net = Transformer(1, 8, 2, 12, order="pre").eval()
    steps = _steps()
    group = torch.zeros(6, dtype=torch.long)

    def mixed(place: torch.Tensor | None) -> torch.Tensor:
        return net(TokenSequence(steps.values, steps.present, group, position=place), everything(1))

    one, moved = mixed(torch.arange(6)), mixed(torch.arange(6) + 11)
    torch.testing.assert_close(one, moved, atol=1e-5, rtol=0)
    assert (one - mixed(None)).abs().max() > 1e-3
    torch.testing.assert_close(mixed(torch.zeros(6, dtype=torch.long)), mixed(None), atol=1e-6, rtol=0)


def test_thinning() -> None:
    steps = _steps(videos=3, steps=20, dim=2)
    for how in ("even", "first", "nearest", "published"):
        short = subsample(steps, 4, how)
        assert short.present.sum(1).tolist() == [min(4, int(n)) for n in steps.present.sum(1)]
        for video in range(3):
            rows = steps.values[video][steps.present[video]].tolist()
            places = [rows.index(row) for row in short.values[video][short.present[video]].tolist()]
            assert places == sorted(places)
            if how == "first":
                assert places == list(range(len(places)))
            if how == "nearest" and len(rows) > 4:
                assert places == [i * len(rows) // 4 for i in range(4)]
            if how == "published" and len(rows) > 4:
                assert places == sorted(np.random.RandomState(0).choice(len(rows), 4, replace=False).tolist())
    assert subsample(steps, 100) is steps


def test_a_number_of_places_that_is_the_same_for_all() -> None:
    steps = _steps(videos=3, steps=20, dim=2)
    for places in (1, 4, 20, 33):
        fixed, thinned = exactly(steps, places), subsample(steps, places)
        assert fixed.values.shape == (3, places, 2)
        assert fixed.spans.shape == (3, places, 2)
        assert fixed.step_mask.local
        for video in range(3):
            count = min(places, int(steps.present[video].sum()))
            assert fixed.present[video].tolist() == [place < count for place in range(places)]
            wanted = thinned.values[video][thinned.present[video]]
            assert torch.equal(fixed.values[video, :count], wanted)


def test_pooling_of_long_tracks_takes_maxima_over_runs() -> None:
    values = torch.arange(10.0)[None, :, None].repeat(2, 1, 1)
    present = torch.ones(2, 10, dtype=torch.bool)
    present[1, 3:] = False
    spans = torch.stack([torch.arange(10.0), torch.arange(10.0) + 1], -1).repeat(2, 1, 1)
    short = max_pool_steps(Steps(values, present, spans), 4)
    assert short.values[0, :, 0].tolist() == [1, 3, 5, 7]  # five runs of two, the nearest four of them
    assert short.values[1][short.present[1]][:, 0].tolist() == [0, 1, 2]
    assert short.spans[0, 0].tolist() == [0, 2]


def test_experts_side_by_side_are_aligned_in_time() -> None:
    def at(times: list[float], base: float) -> Steps:
        spans = torch.tensor([[[t, t + 1] for t in times]], dtype=torch.float32)
        return Steps(
            base + torch.tensor(times, dtype=torch.float32)[None, :, None],
            torch.ones(1, len(times), dtype=torch.bool),
            spans,
        )

    both = align_experts({"a": at([0, 1, 2, 3], 0), "b": at([0.2, 2.6], 100)}, ["a", "b"])
    assert both.values[0].tolist() == [[0, pytest.approx(100.2)], [1, pytest.approx(100.2)], [2, pytest.approx(102.6)],
                                       [3, pytest.approx(102.6)]]  # fmt: skip
    nothing = Steps(torch.full((1, 2, 1), torch.nan), torch.zeros(1, 2, dtype=torch.bool), torch.zeros(1, 2, 2))
    assert align_experts({"a": at([0, 1], 5), "b": nothing}, ["b", "a"]).values[0].tolist() == [[0, 5], [0, 6]]


def test_pools_equal_loops() -> None:
    steps = _steps()
    for video in range(4):
        rows = steps.values[video][steps.present[video]]
        torch.testing.assert_close(masked_max(steps.values, steps.present)[video], rows.amax(0))
        torch.testing.assert_close(masked_mean(steps.values, steps.present)[video], rows.mean(0))
    nothing = torch.zeros_like(steps.present)
    assert not masked_max(steps.values, nothing).any()
    assert not masked_mean(steps.values, nothing).any()


def test_netvlad_equals_a_loop_and_padding_counts_only_when_asked() -> None:
    torch.manual_seed(0)
    net = NetVLAD(8, 3, ghosts=2).eval()
    steps = _steps()
    found = net(steps)
    for video in range(4):
        sums = torch.zeros(8, 3)
        for row in steps.values[video][steps.present[video]]:
            shares = net.norm((row @ net.clusters)[None])[0].softmax(0)
            for cluster in range(3):
                sums[:, cluster] += shares[cluster] * (row - net.centres[:, cluster])
        sums = functional.normalize(sums, dim=0).flatten()
        torch.testing.assert_close(found[video], functional.normalize(sums, dim=0), atol=1e-5, rtol=0)
    counting = NetVLAD(8, 3, ghosts=2, count_padding=True).eval()
    counting.load_state_dict(net.state_dict())
    assert (counting(steps) - found).abs().max() > 1e-3


def test_attention_aware_pooling_equals_a_loop() -> None:
    torch.manual_seed(0)
    pool = WeightedPool(8, 12, 2)
    for parameter in pool.parameters():
        nn.init.normal_(parameter)
    steps = _steps()
    found = pool(steps.values, steps.present)
    for video in range(4):
        rows = steps.values[video][steps.present[video]]
        out = []
        for head in range(2):
            inner = functional.gelu(rows @ pool.weight1[head] + pool.bias1[head])
            out.append(inner @ pool.weight2[head] + pool.bias2[head])
        shares = torch.cat(out, 1).softmax(0)
        torch.testing.assert_close(found[video], (shares * rows).sum(0), atol=1e-5, rtol=0)
    assert not pool(steps.values, torch.zeros_like(steps.present)).any()


def test_recurrent_and_convolutional_readers_see_present_steps_alone() -> None:
    torch.manual_seed(0)
    steps = pack_left(_steps())
    gru, conv = BiGRU(8, 5, both=False), ConvMax(8, 4)
    for video in range(4):
        rows = steps.values[video][steps.present[video]][None]
        torch.testing.assert_close(gru.last(steps)[video], gru.gru(rows)[0][0, -1], atol=1e-6, rtol=0)
        wanted = torch.cat([c(rows.transpose(1, 2)).relu().amax(2) for c in conv.convs], 1)[0]
        torch.testing.assert_close(conv(steps.clean, steps.present)[video], wanted, atol=1e-6, rtol=0)
    for make in READERS.values():
        reader = make(8, 8).eval()
        assert reader(steps).shape == (4, reader.width)


def test_a_query_pool_reads_what_is_there() -> None:
    torch.manual_seed(0)
    pool, steps = QueryPool(8, 2), _steps()
    found = pool(steps.values, steps.present)
    for video in range(4):
        rows = steps.values[video][steps.present[video]][None]
        alone = pool(rows, torch.ones(rows.shape[:2], dtype=torch.bool))
        torch.testing.assert_close(found[video], alone[0], atol=1e-6, rtol=0)


def test_the_audio_network_does_not_hear_padding() -> None:
    torch.manual_seed(0)
    net = AudioCNN(40, (8, 8, 12), (2, 1)).eval()
    assert net.stride == 4
    frames = _steps(videos=3, steps=20, dim=40)
    frames = Steps(frames.values, torch.arange(20)[None] < torch.tensor([20, 9, 0])[:, None], frames.spans)
    whole = net(frames)
    assert whole.present.sum(1).tolist() == [5, 3, 0]
    alone = net(Steps(frames.values[1:2, :9], frames.present[1:2, :9], frames.spans[1:2, :9]))
    torch.testing.assert_close(whole.values[1:2, :3], alone.values, atol=1e-5, rtol=0)
    assert whole.spans[1, 2].tolist() == [8, 9]
    assert not whole.values[~whole.present].any()
    with pytest.raises(ValueError, match="one width more"):
        AudioCNN(40, (8, 8), (2, 1))


def test_gated_unit_and_its_statistics_leave_absent_rows_out() -> None:
    torch.manual_seed(0)
    unit, values = GatedUnit(6, 4).train(), torch.randn(8, 6)
    present = torch.tensor([1, 1, 0, 1, 0, 1, 1, 1], dtype=torch.bool)
    spoiled = torch.where(present[:, None], values, torch.full((), 1e6))
    out = apply_to_present(unit, spoiled, present)
    assert not out[~present].any()
    assert float(unit.norm.running_mean.abs().max()) < 10
    unit.eval()
    gate = torch.sigmoid(unit.norm(unit.gate(unit.fc(values))))
    torch.testing.assert_close(unit(values), functional.normalize(unit.fc(values) * gate, dim=-1))
    single = RowNorm(4).train()
    assert torch.equal(single(torch.ones(1, 4)), single.eval()(torch.ones(1, 4)))


def test_inputs_are_standardised_once_fitted() -> None:
    inputs = Inputs({"a": 8})
    steps = _steps(videos=200)
    raw = Steps(steps.values * 5 + 3, steps.present, steps.spans)
    assert torch.equal(inputs({"a": raw})["a"].values[raw.present], raw.values[raw.present])
    inputs.fit({"a": raw})
    done = inputs({"a": raw})["a"].values[raw.present]
    assert done.mean(0).abs().max() < 1e-4
    assert (done.std(0) - 1 / 1.1).abs().max() < 0.05


def test_the_norm_of_coot_is_its_own() -> None:
    norm, rows = UnbiasedLayerNorm(5), torch.randn(3, 5)
    wanted = (rows - rows.mean(1, keepdim=True)) / (rows.std(1, keepdim=True) + 1e-6)
    torch.testing.assert_close(norm(rows), wanted)
    constant = torch.ones(2, 5, requires_grad=True)
    norm(constant).sum().backward()
    assert torch.isfinite(constant.grad).all()


def test_names_that_differ_in_dots_alone_do_not_share_a_module() -> None:
    assert list(per_expert({"i3d.i3d.0": nn.Identity(), "i3d": nn.Identity()})) == ["i3d__i3d__0", "i3d"]
    with pytest.raises(UsageError, match=r"'i3d\.0' and 'i3d__0' cannot be in one model"):
        per_expert({"i3d.0": nn.Identity(), "i3d__0": nn.Identity()})
