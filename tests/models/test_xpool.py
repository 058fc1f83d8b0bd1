"""X-Pool against loops over texts, videos and frames, and what search and training rely on."""

import math

import pytest
import torch
from tests.models.worlds import DIMS, TEXTS, batch_of, small, tokens_of
from torch import Tensor

from reelseek.errors import ModelError
from reelseek.library.tokens import Steps
from reelseek.models import SYSTEMS
from reelseek.models.losses import LearnedTemperature, LossConfig, info_nce
from reelseek.models.systems.xpool import TextConditionedPool, XPool


def _random_pool(width: int, heads: int) -> TextConditionedPool:
    torch.manual_seed(3)
    pool = TextConditionedPool(width, heads, 0.0).double().eval()
    for parameter in pool.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return pool


def _norm(row: Tensor, layer: torch.nn.LayerNorm) -> Tensor:
    centred = row - row.mean()
    return layer.weight * centred / (centred.square().mean() + layer.eps).sqrt() + layer.bias


def _pooled_by_loops(pool: TextConditionedPool, text: Tensor, frames: list[Tensor]) -> Tensor:
    """One text and the frames of one video, head by head and frame by frame."""
    asks = pool.query.weight @ _norm(text, pool.norm_inputs) + pool.query.bias
    dim = len(text) // pool.heads
    parts = []
    for head in range(pool.heads):
        columns = slice(head * dim, (head + 1) * dim)
        logits, values = [], []
        for frame in frames:
            normed = _norm(frame, pool.norm_inputs)
            key = pool.key.weight @ normed + pool.key.bias
            logits.append((asks[columns] * key[columns]).sum() / math.sqrt(dim))
            values.append((pool.value.weight @ normed + pool.value.bias)[columns])
        total = sum(logit.exp() for logit in logits)
        parts.append(sum(logit.exp() / total * value for logit, value in zip(logits, values, strict=True)))
    read = _norm(pool.out.weight @ torch.cat(parts) + pool.out.bias, pool.norm_read)
    return _norm(read + pool.fc.weight @ read + pool.fc.bias, pool.norm_pooled)


@pytest.mark.parametrize("heads", [1, 2])
def test_the_pooling_is_that_of_the_paper_in_values_and_gradients(heads: int) -> None:
    pool = _random_pool(6, heads)
    texts = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    frames = torch.randn(4, 5, 6, dtype=torch.float64, requires_grad=True)
    present = torch.rand(4, 5) > 0.4
    present[:, 2] = True
    pooled = pool(texts, frames, present)
    loops = torch.stack(
        [
            torch.stack(
                [_pooled_by_loops(pool, text, list(rows[real])) for rows, real in zip(frames, present, strict=True)]
            )
            for text in texts
        ]
    )
    torch.testing.assert_close(pooled, loops)
    weights = torch.randn_like(pooled)
    leaves = [texts, frames, *pool.parameters()]
    gradients = torch.autograd.grad((pooled * weights).sum(), leaves)
    for one, two in zip(gradients, torch.autograd.grad((loops * weights).sum(), leaves), strict=True):
        torch.testing.assert_close(one, two)


def test_it_begins_as_the_identity_with_as_many_parameters_as_published() -> None:
    model = SYSTEMS["xpool"].build({"experts": {"clip": 512}, "text": {"dim": 512}})
    assert isinstance(model, XPool)
    assert sum(p.numel() for p in model.parameters()) == 5 * (512 * 512 + 512) + 3 * 2 * 512 + 1
    for linear in (model.pool.query, model.pool.key, model.pool.value, model.pool.out, model.pool.fc):
        assert torch.equal(linear.weight, torch.eye(512))
        assert not linear.bias.any()
    assert model.pool.dropout == 0.3
    assert float(model.state_dict()["score_loss.logit_scale"].exp()) == pytest.approx(100)
    wide = SYSTEMS["xpool"].build({"experts": {"clip": 512}})
    assert SYSTEMS["xpool"].parameters == sum(p.numel() for p in wide.parameters())


@torch.inference_mode()
def test_the_text_decides_which_frame_counts() -> None:
    """Two videos that share a frame and no mean: for a text near that frame they are nearly the same."""
    torch.manual_seed(0)
    pool = TextConditionedPool(32, 1, 0.0).eval()
    wanted, other, third = (6 * row for row in torch.nn.functional.normalize(torch.randn(3, 32), dim=-1))
    frames = torch.stack([torch.stack([wanted, other]), torch.stack([third, wanted])])
    pooled = torch.nn.functional.normalize(pool(wanted[None], frames, torch.ones(2, 2, dtype=torch.bool)), dim=-1)
    even = torch.nn.functional.normalize(pool.evenly(frames, torch.ones(2, 2, dtype=torch.bool)), dim=-1)
    assert float(pooled[0, 0] @ pooled[0, 1]) > 0.9 > 0.7 > float(even[0] @ even[1])


@torch.inference_mode()
def test_the_order_of_frames_changes_nothing_and_a_single_one_is_its_own_coarse_embedding() -> None:
    model = small("xpool")
    assert isinstance(model, XPool)
    torch.nn.init.normal_(model.pool.value.weight, std=0.3)
    tokens, texts = tokens_of(model, steps=4), model.encode_texts(TEXTS)
    turned = {name: Steps(s.values.flip(1), s.present.flip(1), s.spans.flip(1)) for name, s in tokens.items()}
    scores = model.similarity(texts, model.encode_videos(tokens))
    torch.testing.assert_close(scores, model.similarity(texts, model.encode_videos(turned)))
    single = {name: Steps(s.values[:, :1], s.present[:, :1] | True, s.spans[:, :1]) for name, s in tokens.items()}
    videos = model.encode_videos({"speech": single["speech"]})
    coarse = model.coarse_texts(texts).flat @ model.coarse_videos(videos).flat.T
    torch.testing.assert_close(coarse, model.similarity(texts, videos), atol=1e-6, rtol=0)


@torch.inference_mode()
def test_slots_are_as_many_for_every_batch_and_long_tracks_are_thinned_evenly() -> None:
    model = small("xpool")
    for steps in (1, 2, 4, 9):
        videos = model.encode_videos(tokens_of(model, steps=max(2, steps)))
        assert videos.values.shape == (4, 4 * len(DIMS), 32)
    long = Steps(torch.rand(1, 9, 384), torch.ones(1, 9, dtype=torch.bool), torch.rand(1, 9, 2))
    some = Steps(*(part[:, [0, 3, 5, 8]] for part in (long.values, long.present, long.spans)))
    torch.testing.assert_close(
        model.encode_videos({"ocr": long}).values, model.encode_videos({"ocr": some}).values, atol=1e-6, rtol=0
    )


def test_features_of_the_common_width_are_taken_as_they_are() -> None:
    model = small("xpool+heads")  # 384 wide, as the sentence encoder's vectors are
    tokens = {name: Steps(5 + s.values, s.present, s.spans) for name, s in tokens_of(model).items()}
    model.fit_inputs(tokens, [list(TEXTS)])
    with torch.inference_mode():
        videos = model.encode_videos({"speech": tokens["speech"]})
    slots = videos.values[:, 8:13]  # after eight of `object`
    frames = torch.sort(tokens["speech"].clean.flatten()).values
    torch.testing.assert_close(torch.sort(slots.flatten()).values, frames)
    assert model.inputs.shift_object.abs().min() > 4  # type: ignore[operator, union-attr]


def test_the_temperature_is_learned_and_the_scale_stays_at_most_100() -> None:
    loss = LearnedTemperature(LossConfig("info_nce", {"temperature": 0.01})).train()
    scores = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    torch.testing.assert_close(loss(scores), info_nce(scores, temperature=0.01))
    with torch.no_grad():
        loss.logit_scale.fill_(6.0)
    optimizer = torch.optim.SGD(loss.parameters(), lr=10.0)
    loss(-scores).backward()  # wrong pairs are nearer: a lower scale hurts less
    assert float(loss.logit_scale.detach().exp()) == pytest.approx(100)
    optimizer.step()
    assert float(loss.logit_scale.detach().exp()) < 50
    for wrong, message in (
        (0.001, r"learned temperature begins at 0\.01 or above"),
        (float("nan"), "temperature.*should be a finite number"),
        (float("inf"), "temperature.*should be a finite number"),
    ):
        with pytest.raises(ModelError, match=message):
            small("xpool", loss={"name": "info_nce", "settings": {"temperature": wrong}})
    margin = small("xpool", loss={"name": "max_margin", "settings": {"margin": 0.2}})
    assert "score_loss.logit_scale" not in margin.state_dict()
    assert list(margin.loss(batch_of(margin))) == ["max_margin"]


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match="cannot be divided among 3 heads"):
        small("xpool", heads=3)
    with pytest.raises(ModelError, match="candidates"):
        small("xpool", candidates=0)
    assert small("xpool+heads").candidates == 3
    assert small("xpool").candidates is None
