"""Every loss against a plain loop, in value and in gradient."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from reelseek.errors import ModelError
from reelseek.models.losses import (
    SCORE_LOSSES,
    CrossCLR,
    CrossCLRConfig,
    LossConfig,
    crossclr_published,
    cycle_consistency,
    half_cycle,
    info_nce,
    max_margin,
    mil_nce,
    mms,
    nce,
    prototype_alignment,
    pseudo_supervision,
    ranked_max_margin,
    regression,
    triplet,
    video_max_margin,
    within_video_max_margin,
)


def _same(loss: Callable[[Tensor], Tensor], loop: Callable[[Tensor], Tensor], scores: Tensor) -> None:
    scores = scores.clone().requires_grad_()
    found, wanted = loss(scores), loop(scores)
    torch.testing.assert_close(found, wanted, atol=1e-9, rtol=1e-9)
    (one,) = torch.autograd.grad(found, scores)
    (two,) = torch.autograd.grad(wanted, scores)
    torch.testing.assert_close(one, two, atol=1e-9, rtol=1e-9)


def _scores(rows: int = 5, columns: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


VALID = torch.ones(5, 5, dtype=torch.bool)
VALID[0, 1] = VALID[1, 0] = False


def _hinge(s: Tensor, margin: float, i: int, j: int) -> Tensor:
    return (margin - s[i, i] + s[i, j]).clamp(min=0) + (margin - s[j, j] + s[i, j]).clamp(min=0)


def test_max_margin() -> None:
    def loop(s: Tensor) -> Tensor:
        pairs = [(i, j) for i in range(5) for j in range(5) if i != j and VALID[i, j]]
        return sum(_hinge(s, 0.3, i, j) for i, j in pairs) / (2 * len(pairs))

    _same(lambda s: max_margin(s, margin=0.3, negatives=VALID), loop, _scores())

    def with_diagonal(s: Tensor) -> Tensor:
        return sum(_hinge(s, 0.3, i, j) for i in range(5) for j in range(5)) / 50

    _same(lambda s: max_margin(s, margin=0.3, diagonal=True), with_diagonal, _scores())

    def hardest(s: Tensor) -> Tensor:
        total = 0.0
        for i in range(5):
            others = [j for j in range(5) if j != i]
            total = total + max((0.3 - s[i, i] + s[i, j]).clamp(min=0) for j in others)
            total = total + max((0.3 - s[i, i] + s[j, i]).clamp(min=0) for j in others)
        return total / 10

    _same(lambda s: max_margin(s, margin=0.3, hardest=True), hardest, _scores())
    weights = _scores(seed=3).abs()

    def weighted(s: Tensor) -> Tensor:
        return sum(weights[i, j] * _hinge(s, 0.3, i, j) for i in range(5) for j in range(5) if i != j) / 40

    _same(lambda s: max_margin(s, margin=0.3, weights=weights), weighted, _scores())
    with pytest.raises(ValueError, match="square"):
        max_margin(torch.zeros(2, 3), margin=0.1)


def test_video_max_margin_asks_each_video_for_its_own_text() -> None:
    def loop(s: Tensor) -> Tensor:
        pairs = [(i, j) for i in range(5) for j in range(5) if i != j and VALID[i, j]]
        return sum((0.3 - s[j, j] + s[i, j]).clamp(min=0) for i, j in pairs) / len(pairs)

    _same(lambda s: video_max_margin(s, margin=0.3, negatives=VALID), loop, _scores())
    # The second video is nearer to the first text than to its own; no text is nearer to another video.
    scores = torch.tensor([[9.0, 5.0], [0.0, 4.0]])
    assert float(video_max_margin(scores, margin=0.0)) == 0.5
    assert float(video_max_margin(scores.T, margin=0.0)) == 0
    assert float(max_margin(scores, margin=0.0)) == 0.25
    with pytest.raises(ValueError, match="square"):
        video_max_margin(torch.zeros(2, 3), margin=0.1)


def test_moments_of_one_video_can_be_weighted_negatives() -> None:
    def loop(s: Tensor) -> Tensor:
        total = 0.0
        for i in range(5):
            for j in range(5):
                if i != j:
                    total = total + (1.0 if VALID[i, j] else 0.5) * _hinge(s, 0.1, i, j)
        return total / 40

    _same(lambda s: within_video_max_margin(s, margin=0.1, weight=0.5, negatives=VALID), loop, _scores())


def test_ranked_max_margin_weighs_worse_ranks_more() -> None:
    def loop(s: Tensor) -> Tensor:
        total = 0.0
        for i in range(5):
            row = max((0.2 - s[i, i] + s[i, j]).clamp(min=0) for j in range(5) if j != i)
            column = max((0.2 - s[i, i] + s[j, i]).clamp(min=0) for j in range(5) if j != i)
            rank_row = 1 + sum(bool(s[i, j] > s[i, i]) for j in range(5))
            rank_column = 1 + sum(bool(s[j, i] > s[i, i]) for j in range(5))
            total = total + (1 + 1 / (5 - rank_row + 1)) * row + (1 + 1 / (5 - rank_column + 1)) * column
        return total / 10

    _same(lambda s: ranked_max_margin(s, margin=0.2), loop, _scores())


def test_triplets_in_squared_distance() -> None:
    others = _scores(5, 4, seed=2)

    def loop(x: Tensor) -> Tensor:
        total = 0.0
        for i in range(5):
            for j in range(5):
                if i != j:
                    own, other = (x[i] - others[i]).square().sum(), (x[i] - others[j]).square().sum()
                    total = total + (0.7 + own - other).clamp(min=0)
        return total / 20

    _same(lambda x: triplet(x, others, margin=0.7), loop, _scores(5, 4))


def _cross_entropies(s: Tensor, counted: Tensor) -> Tensor:
    total = torch.zeros((), dtype=s.dtype)
    for i in range(len(s)):
        row = sum(s[i, j].exp() for j in range(len(s)) if i == j or counted[i, j])
        column = sum(s[j, i].exp() for j in range(len(s)) if i == j or counted[j, i])
        total = total - (s[i, i].exp() / row).log() - (s[i, i].exp() / column).log()
    return total / len(s)


def test_nce_info_nce_and_mms() -> None:
    _same(lambda s: nce(s, temperature=0.5, negatives=VALID), lambda s: _cross_entropies(s / 0.5, VALID), _scores())
    _same(lambda s: info_nce(s, temperature=0.5), lambda s: _cross_entropies(s / 0.5, torch.ones(5, 5)) / 2, _scores())

    def masked(s: Tensor) -> Tensor:
        return _cross_entropies(s - 0.1 * torch.eye(5, dtype=s.dtype), VALID)

    _same(lambda s: mms(s, margin=0.1, negatives=VALID), masked, _scores())
    assert float(nce(torch.full((4, 4), 900.0), temperature=0.01)) == pytest.approx(2 * math.log(4), rel=1e-5)


def test_mil_nce_of_several_candidates() -> None:
    owner = torch.tensor([0, 0, 1, 2, 2, 2])

    def loop(s: Tensor) -> Tensor:
        total = 0.0
        for v in range(3):
            own = [t for t in range(6) if owner[t] == v]
            positive = sum(s[t, v].exp() for t in own)
            row = sum(s[t, v].exp() for t in range(6))
            column = sum(s[t, w].exp() for t in own for w in range(3))
            total = total - (positive / (row + column)).log()
        return total / 3

    _same(lambda s: mil_nce(s, video_of_text=owner), loop, _scores(6, 3))
    negatives = torch.ones(6, 3, dtype=torch.bool)
    negatives[0, 1] = False

    def fewer(s: Tensor) -> Tensor:
        total = 0.0
        for v in range(3):
            own = [t for t in range(6) if owner[t] == v]
            positive = sum(s[t, v].exp() for t in own)
            row = sum(s[t, v].exp() for t in range(6) if negatives[t, v])
            column = sum(s[t, w].exp() for t in own for w in range(3) if negatives[t, w])
            total = total - (positive / (row + column)).log()
        return total / 3

    _same(lambda s: mil_nce(s, video_of_text=owner, negatives=negatives), fewer, _scores(6, 3))


def _crossclr_loop(
    x: Tensor, y: Tensor, given: tuple[Tensor, Tensor], how: CrossCLRConfig, queues: tuple | None = None, ids=None
) -> Tensor:
    """The paper's equation or its algorithm 1, term by term; queues are (embeddings, inputs, ids) of each modality."""
    unit = torch.nn.functional.normalize

    def within(logit: Tensor) -> Tensor:
        return (how.intra * logit).exp() if how.form == "algorithm" else how.intra * logit.exp()

    total = 0.0
    for a, b, inputs, queue in (
        (unit(x, dim=-1), unit(y, dim=-1), given[0], None if queues is None else queues[0]),
        (unit(y, dim=-1), unit(x, dim=-1), given[1], None if queues is None else queues[1]),
    ):
        n = len(a)
        if queue is None:
            connected = [sum(inputs[i] @ inputs[k] for k in range(n) if k != i) / (n - 1) for i in range(n)]
        else:
            connected = [sum(inputs[i] @ q for q in queue[1]) / len(queue[1]) for i in range(n)]
        top = max(connected)
        influential = [how.prune is not None and float(c / top) > how.prune for c in connected]
        weights = torch.stack([c / sum(connected) for c in connected])
        weights = (weights / how.sharpness).exp() / (weights / how.sharpness).exp().sum()
        if queue is not None:
            of_queue = [sum(q @ r for r in queue[1]) / len(queue[1]) for q in queue[1]]
            kept = [float(c / max(of_queue)) <= how.prune for c in of_queue]
        for i in range(n):
            own = (a[i] @ b[i] / how.temperature).exp()
            below = own
            for k in range(n):
                if k != i and not influential[k]:
                    below = below + (a[i] @ b[k] / how.temperature).exp()
            if queue is None:
                for k in range(n):
                    if k != i and not influential[k]:
                        below = below + within(a[i] @ a[k] / how.temperature)
            else:
                for k, row in enumerate(queue[0]):
                    if kept[k] and ids[i] != queue[2][k]:
                        below = below + within(a[i] @ row / how.temperature)
            above = own
            if how.positives:
                near = sorted(
                    (k for k in range(n) if k != i and influential[k]),
                    key=lambda k: -float(unit(inputs[i], dim=0) @ unit(inputs[k], dim=0)),
                )
                for k in near[: how.positives]:
                    above = above + how.positive_weight * (a[i] @ b[k] / how.temperature).exp()
            total = total - weights[i] * (above / below).log()
    return total / 2


@pytest.mark.parametrize(("positives", "form"), [(0, "paper"), (2, "paper"), (0, "algorithm"), (2, "algorithm")])
def test_crossclr_is_the_papers_equation_or_algorithm(positives: int, form: str) -> None:
    how = CrossCLRConfig(temperature=0.3, intra=0.8, prune=0.7, sharpness=0.1, positives=positives, form=form)
    y, given = _scores(6, 4, seed=1), (_scores(6, 3, seed=2).abs(), _scores(6, 5, seed=3).abs())
    loss = CrossCLR(how, (4, 3, 5))
    _same(lambda x: loss(x, y, *given), lambda x: _crossclr_loop(x, y, given, how), _scores(6, 4))


@pytest.mark.parametrize("form", ["paper", "algorithm"])
def test_crossclr_with_a_queue_leaves_out_own_copies_now_and_from_before(form: str) -> None:
    how = CrossCLRConfig(temperature=0.3, intra=0.8, prune=0.9, sharpness=0.1, queue=10, form=form)
    loss = CrossCLR(how, (4, 3, 5)).double()
    y, given = _scores(4, 4, seed=1), (_scores(4, 3, seed=2).abs(), _scores(4, 5, seed=3).abs())
    earlier = [_scores(4, d, seed=s) for d, s in ((4, 7), (4, 8), (3, 9), (5, 10))]
    loss(earlier[0], earlier[1], earlier[2].abs(), earlier[3].abs(), torch.tensor([1, 50, 51, 52]))
    state = {name: value.clone() for name, value in loss.state_dict().items()}
    x, ids = _scores(4, 4), torch.tensor([0, 1, 2, 3])
    loss(x, y, *given, ids)
    filled = int(loss.state[1])
    assert filled == 8
    assert loss.ids[:8].tolist() == [1, 50, 51, 52, 0, 1, 2, 3]
    queues = tuple(
        (loss.get_buffer(q)[:filled].clone(), loss.get_buffer(i)[:filled].clone(), loss.ids[:filled].tolist())
        for q, i in (("queue_x", "input_x"), ("queue_y", "input_y"))
    )

    def run(values: Tensor) -> Tensor:
        loss.load_state_dict(state)
        return loss(values, y, *given, ids)

    _same(run, lambda v: _crossclr_loop(v, y, given, how, queues, ids.tolist()), x)
    loss.eval()
    before = loss.queue_x.clone()
    loss(x, y, *given, ids)
    assert torch.equal(before, loss.queue_x)


def test_the_queue_goes_round_and_a_sample_without_id_skips_its_fresh_copy() -> None:
    how = CrossCLRConfig(temperature=1.0, intra=1.0, prune=None, sharpness=None, queue=5)
    loss = CrossCLR(how, (4, 4, 4)).double()
    for seed in range(4):
        x = _scores(3, 4, seed=seed)
        value = loss(x, x, x, x)
        unit = torch.nn.functional.normalize(x, dim=-1)
        places = [(3 * seed + i) % 5 for i in range(3)]
        torch.testing.assert_close(loss.queue_x[places], unit)
        total = 0.0
        for i in range(3):
            others = [k for k in range(int(loss.state[1])) if k != places[i]]
            below = sum((unit[i] @ unit[k]).exp() for k in range(3)) + sum(
                (unit[i] @ loss.queue_x[k]).exp() for k in others
            )
            total += float(below.log() - 1) / 3
        assert float(value) == pytest.approx(total, abs=1e-9)


def test_crossclr_does_not_overflow_where_the_published_weights_do() -> None:
    how = CrossCLRConfig(sharpness=0.0035)
    given = torch.eye(6)[:, :4] + 0.01
    given[0] = 50.0
    value = CrossCLR(how, (4, 4, 4))(torch.randn(6, 4), torch.randn(6, 4), given, given)
    assert torch.isfinite(value)


def test_published_crossclr_multiplies_the_logit_and_keeps_itself_as_logit_zero() -> None:
    def loop(x: Tensor) -> Tensor:
        unit = torch.nn.functional.normalize
        total = 0.0
        for a, b in ((unit(x, dim=-1), unit(other, dim=-1)), (unit(other, dim=-1), unit(x, dim=-1))):
            for i in range(5):
                below = sum((a[i] @ b[k] / 0.2).exp() for k in range(5)) + 1
                below = below + sum((0.8 * (a[i] @ a[k]) / 0.2).exp() for k in range(5) if k != i)
                total = total + below.log() - a[i] @ b[i] / 0.2
        return total / 10

    other = _scores(seed=4)
    _same(lambda x: crossclr_published(x, other, temperature=0.2, intra=0.8), loop, _scores())


def test_cycle_consistency() -> None:
    sentences = torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    clips = torch.randn(3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    counts = [(4, 3), (2, 5), (1, 1)]
    clips_there = torch.arange(4)[None] < torch.tensor([c for c, _ in counts])[:, None]
    sentences_there = torch.arange(5)[None] < torch.tensor([s for _, s in counts])[:, None]

    def nearest(item: Tensor, others: list[Tensor]) -> Tensor:
        return torch.stack([-(item - other).square().mean() for other in others]).softmax(0)

    def loop(values: Tensor, half: bool) -> Tensor:
        total = 0.0
        for video, (c, s) in enumerate(counts):
            inner = 0.0
            for i in range(c):
                shares = nearest(values[video, i], list(sentences[video, :s]))
                if half:
                    index = sum(k * shares[k] for k in range(s))
                else:
                    there = sum(shares[k] * sentences[video, k] for k in range(s))
                    back = nearest(there, list(values[video, :c]))
                    index = sum(k * back[k] for k in range(c))
                inner = inner + (index - i) ** 2
            total = total + inner / c
        return total / 3

    given = (clips_there, sentences, sentences_there)
    _same(lambda v: cycle_consistency(v, *given), lambda v: loop(v, False), clips)
    _same(lambda v: half_cycle(v, *given), lambda v: loop(v, True), clips)


def test_alignment_pseudo_labels_and_regression() -> None:
    prototypes, labels = _scores(4, 3, seed=1), torch.tensor([0, 3, 3, 1, 2])

    def near(x: Tensor) -> Tensor:
        return sum(min((x[i] - p).square().sum() for p in prototypes) for i in range(5)) / 5

    def labelled(x: Tensor) -> Tensor:
        return sum((x[i] - prototypes[labels[i]]).square().sum() for i in range(5)) / 5

    _same(lambda x: prototype_alignment(x, prototypes), near, _scores(5, 3))
    _same(lambda x: prototype_alignment(x, prototypes, labels=labels), labelled, _scores(5, 3))
    assert float(prototype_alignment(torch.zeros(0, 3), torch.ones(2, 3))) == 0
    pseudo = _scores(5, 4, seed=2).softmax(1)

    def divergence(x: Tensor) -> Tensor:
        total = 0.0
        for i in range(5):
            p = x[i].exp() / x[i].exp().sum()
            total = total + sum(pseudo[i, k] * (pseudo[i, k].log() - p[k].log()) for k in range(4))
        return total / 5

    _same(lambda x: pseudo_supervision(x, pseudo), divergence, _scores(5, 4))
    target = _scores(5, 3, seed=5)
    _same(
        lambda x: regression(x, target),
        lambda x: sum((x[i, k] - target[i, k]) ** 2 for i in range(5) for k in range(3)) / 15,
        _scores(5, 3),
    )


@pytest.mark.parametrize("name", sorted(set(SCORE_LOSSES) - {"video_max_margin"}))  # which has one side choose
def test_losses_of_scores_treat_both_sides_alike(name: str) -> None:
    settings = {"max_margin": {"margin": 0.2}, "ranked_max_margin": {"margin": 0.2}, "nce": {"temperature": 0.1}}
    given = settings.get(
        name, {"info_nce": {"temperature": 0.1}, "within_video_max_margin": {"margin": 0.2}}.get(name, {})
    )
    loss = LossConfig(name, given).build()
    scores, negatives = _scores(seed=8), VALID
    assert float(loss(scores, negatives=negatives)) == pytest.approx(
        float(loss(scores.T, negatives=negatives.T)), abs=1e-9
    )
    with pytest.raises(ModelError, match="no setting 'colour'"):
        LossConfig(name, {"colour": 1.0}).build()
