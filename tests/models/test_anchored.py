"""The closed form beside a system: its parts against plain loops, and what validation chooses."""

from math import exp, log

import pytest
import torch
from tests.models.worlds import small, tokens_of
from torch.nn import functional

from reelseek.errors import ModelError
from reelseek.models import SYSTEMS, RetrievalModel
from reelseek.models.blocks.anchor import Anchor
from reelseek.models.losses import nce, soft_nce
from reelseek.models.systems.anchored import Anchored, mean_log_rank
from reelseek.testing.inputs import TEXTS, random_tokens

WORDS = ["cat", "dog", "car", "tree", "fish", "boat", "moon", "king"]
ANCHORED = ["anchored", *(pytest.param(name, marks=pytest.mark.long) for name in ("anchored+sum", "anchored+pairs"))]


def _fitted(name: str) -> tuple[RetrievalModel, list[str]]:
    """A small model, fitted to forty clips that show one or two of eight things, of which the caption names one."""
    model = small(name)
    tokens = random_tokens(model, videos=40)
    generator = torch.Generator().manual_seed(3)
    things = torch.randint(len(WORDS), (40,), generator=generator)
    for steps in tokens.values():
        steps.values[torch.arange(40), :, things] += 5
    texts = [f"a {WORDS[thing]} in a picture" for thing in things]
    model.fit_inputs(tokens, [[text] for text in texts])
    return model, texts


@pytest.mark.parametrize("name", ANCHORED)
def test_the_anchor_alone_is_its_closed_form_less_hubness(name: str) -> None:
    model, texts = _fitted(name)
    model.share.fill_(1)
    model.anchor.hubness.fill_(0.5)
    tokens = tokens_of(model)
    with torch.no_grad():
        scores = model.similarity(model.encode_texts(TEXTS), model.encode_videos(tokens))
        linear = model.anchor.linear
        predicted, present = linear(model.anchor._means(model.inputs.filled(tokens)))
        queries = linear.encode_text(model.text.pooled(TEXTS))
        bank = linear.encode_text(model.text.pooled(texts))
        rows = {tuple(row.tolist()) for row in functional.normalize(model.anchor.bank @ linear.trust, dim=-1)}
    assert bool(present.all())
    kept = [row for row in bank if any(torch.allclose(row, torch.tensor(other), atol=1e-5) for other in rows)]
    assert len(kept) >= int(model.anchor.captions)
    selected = functional.normalize(model.anchor.bank[: int(model.anchor.captions)] @ linear.trust, dim=-1)
    for row, query in enumerate(queries):
        for column, video in enumerate(predicted):
            terms = [exp(float(caption @ video) / 0.1) for caption in selected]
            expected = float(query @ video) - 0.5 * 0.1 * log(sum(terms) / len(terms))
            assert float(scores[row, column]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ANCHORED)
def test_without_a_share_for_the_anchor_clips_rank_as_in_the_system_alone(name: str) -> None:
    model, _ = _fitted(name)
    model.share.fill_(0)
    tokens = tokens_of(model)
    with torch.no_grad():
        scores = model.similarity(model.encode_texts(TEXTS), model.encode_videos(tokens))
        inner = model.inner
        alone = inner.similarity(inner.encode_texts(TEXTS), inner.encode_videos(tokens))
    torch.testing.assert_close(scores, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ANCHORED)
def test_what_validation_chooses_is_the_similarity_with_the_best_ranks(name: str) -> None:
    model, texts = _fitted(name)
    torch.nn.init.normal_(model.anchor.video_map)  # learnt badly, so that none of it is wanted
    with torch.no_grad():
        videos = model.encode_videos(tokens_of(model))
        owner = torch.tensor([0, 1, 2, 3, 0])
        queries = [*TEXTS, texts[0]]
        chosen = model.calibrate(queries, videos, owner)
        state = model.state_dict()
        for key, value in chosen.items():
            state[key].fill_(value)
        best = mean_log_rank(model.similarity(model.encode_texts(queries), videos), owner)
        pairs = model._pairs(model.encode_texts(queries), videos)
        for share, learnt, hubness in ((1.0, 0.0, 0.0), (1.0, 0.0, 1.0), (1.0, 1.0, 1.0)):
            state["anchor.linear.share"].fill_(share)
            state["anchor.learnt"].fill_(learnt)
            state["anchor.hubness"].fill_(hubness)
            similarity = model.similarity(model.encode_texts(queries), videos)
            assert best <= mean_log_rank(similarity, owner) + 1e-6
            state["anchor.linear.share"].fill_(0.5)
            state["anchor.learnt"].fill_(0.5)
            state["anchor.hubness"].fill_(1)
            pairs = model._pairs(model.encode_texts(queries), videos)
            torch.testing.assert_close(pairs.mixed(share, learnt, hubness), similarity, atol=1e-5, rtol=1e-4)
            mixed = pairs.mixed(0.3, learnt, hubness)
            state["anchor.linear.share"].fill_(0.3)
            state["anchor.learnt"].fill_(learnt)
            state["anchor.hubness"].fill_(hubness)
            again = model.similarity(model.encode_texts(queries), videos)
            torch.testing.assert_close(mixed, again, atol=1e-5, rtol=1e-4)


def test_learning_begins_at_the_closed_form() -> None:
    model, _ = _fitted("anchored")
    means = model.anchor._means(model.inputs.filled(tokens_of(model)))
    closed, _ = model.anchor.linear(means)
    torch.testing.assert_close(model.anchor.learnt_videos(means), closed, atol=1e-5, rtol=1e-4)
    features = model.text.pooled(TEXTS)
    torch.testing.assert_close(model.anchor.learnt_texts(features), model.anchor.linear.encode_text(features))


def test_features_are_read_to_the_power_that_predicts_left_out_clips_better() -> None:
    """Roots where captions say what the features are squares of, the features themselves where they say those."""
    from reelseek.library.tokens import Steps

    generator = torch.Generator().manual_seed(0)
    roots = torch.randn(200, 12, generator=generator)
    values = roots.sign() * roots.square()
    for power, captions in ((0.5, roots), (1.0, values)):
        anchor = Anchor({"x": 12}, 12, bank=4, temperature=0.1, dropout=0.0)
        steps = {"x": Steps(values[:, None], torch.ones(200, 1, dtype=torch.bool), torch.zeros(200, 1, 2))}
        anchor.fit(steps, captions + captions.std() * torch.randn(200, 12, generator=generator), torch.arange(200))
        assert float(anchor.power) == power


def test_soft_targets_by_plain_loops_and_hard_ones_as_a_limit() -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(5, 5, generator=generator)
    captions = functional.normalize(torch.randn(5, 7, generator=generator), dim=-1)
    negatives = torch.ones(5, 5, dtype=torch.bool)
    negatives[0, 1] = negatives[1, 0] = False
    total = 0.0
    for side in (scores, scores.T):
        for i in range(5):
            columns = [j for j in range(5) if i == j or bool(negatives[i, j])]
            weights = {j: exp(float(captions[i] @ captions[j]) / 0.05) for j in columns}
            below = sum(exp(float(side[i, j]) / 0.2) for j in columns)
            for j in columns:
                total -= weights[j] / sum(weights.values()) * (float(side[i, j]) / 0.2 - log(below)) / 5
    loss = soft_nce(scores, captions, temperature=0.2, negatives=negatives)
    assert float(loss) == pytest.approx(total, rel=1e-4)
    sharp = soft_nce(scores, captions, temperature=0.2, sharpness=1e-3, negatives=negatives)
    torch.testing.assert_close(sharp, nce(scores, temperature=0.2, negatives=negatives))


@pytest.mark.parametrize("inner", [{"system": "concepts"}, {"system": "anchored"}, {"system": "nothing"}, {}])
def test_what_cannot_be_anchored_is_refused(inner: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=r"inner.system is .*; systems that can be anchored are: late_fusion"):
        SYSTEMS["anchored"].build({"experts": {"object": 4}, "inner": inner})


def test_factors_of_experts_that_would_stay_at_one_are_refused() -> None:
    mmt = {"system": "mmt", "width": 16, "heads": 2, "depth": 1, "inner": 16}
    for system in ("mmt", "mdmmt"):
        inner = {**mmt, "system": system, "expert_factors": True}
        with pytest.raises(ModelError, match=f"the factors of {system} are not selected beside an anchor"):
            SYSTEMS["anchored"].build({"experts": {"object": 4}, "inner": inner})
    SYSTEMS["anchored"].build({"experts": {"object": 4}, "inner": {**mmt, "expert_factors": False}})


def test_what_the_system_inside_leaves_to_validation_is_chosen_too() -> None:
    inner = {"system": "mmt", "width": 16, "heads": 2, "depth": 1, "inner": 16, "linear": True}
    model = small("anchored", inner=inner)
    assert isinstance(model, Anchored)
    (name,) = model.choices()
    assert model.choices()[name] == model.inner.choices()["linear.share"]
    model.share.fill_(0)
    tokens = tokens_of(model)
    for share in model.choices()[name]:
        model.state_dict()[name].fill_(share)
        with torch.no_grad():
            whole = model.similarity(model.encode_texts(TEXTS), model.encode_videos(tokens))
            alone = model.inner.similarity(model.inner.encode_texts(TEXTS), model.inner.encode_videos(tokens))
        torch.testing.assert_close(whole, alone)
    assert float(model.inner.linear.share) == 1.0


@pytest.mark.parametrize("name", ANCHORED)
def test_fitted_again_the_closed_form_sees_more_clips_and_what_was_learnt_stays(name: str) -> None:
    model, _ = _fitted(name)
    torch.nn.init.normal_(model.anchor.video_map)
    before = {key: value.clone() for key, value in model.anchor.state_dict().items()}
    tokens = random_tokens(model, videos=24)
    model.refit(tokens, [[f"a {WORDS[row % 8]}"] for row in range(24)])
    after = model.anchor.state_dict()
    for kept in ("video_map", "text_map", "power", "shift", "scale", "learnt", "hubness", "linear.share"):
        assert torch.equal(after[kept], before[kept]), kept
    assert not torch.equal(after["linear.matrix"], before["linear.matrix"])
    assert not torch.equal(after["bank"], before["bank"])
