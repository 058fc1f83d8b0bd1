"""Factors of experts' weights that validation clips select: what they do, and what they leave alone."""

import pytest
import torch
from tests.models.worlds import small, tokens_of
from torch.nn import functional

from reelseek.models import RetrievalModel
from reelseek.models.blocks.expert_factors import FACTORS, TEMPERATURE, select_factors
from reelseek.models.embedding import Embedding, similarity
from reelseek.testing.inputs import TEXTS


def _mixture(clips: int, seed: int) -> tuple[Embedding, Embedding]:
    """Captions and their clips: the first slot tells clips apart, the second, which a third of them lack, does not."""
    rng = torch.Generator().manual_seed(seed)
    texts = functional.normalize(torch.randn(clips, 2, 16, generator=rng), dim=-1)
    videos = functional.normalize(torch.randn(clips, 2, 16, generator=rng), dim=-1)
    videos[:, 0] = functional.normalize(texts[:, 0] + 0.4 * videos[:, 0], dim=-1)
    present = torch.ones(clips, 2, dtype=torch.bool)
    present[:, 1] = torch.rand(clips, generator=rng) > 0.33
    return Embedding.even(texts), Embedding.even(videos, present)


def _loss(texts: Embedding, videos: Embedding, factors: torch.Tensor) -> float:
    factored = Embedding(texts.values, texts.present, texts.weights * factors)
    scores = similarity(factored, videos)
    return float(functional.cross_entropy(scores / TEMPERATURE, torch.arange(len(scores))))


def _hits(texts: Embedding, videos: Embedding, factors: torch.Tensor) -> float:
    scores = similarity(Embedding(texts.values, texts.present, texts.weights * factors), videos)
    return float((scores.argmax(1) == torch.arange(len(scores))).float().mean())


def test_an_expert_that_tells_nothing_counts_little_on_other_clips_too() -> None:
    factors = select_factors(*_mixture(40, seed=0), torch.arange(40))
    assert float(factors[0]) == 1.0
    assert float(factors[1]) <= 0.1
    others = _mixture(400, seed=1)
    assert _hits(*others, factors) > _hits(*others, torch.ones(2)) + 0.1


def test_no_other_factor_of_one_expert_does_better() -> None:
    texts, videos = _mixture(30, seed=2)
    factors = select_factors(texts, videos, torch.arange(30))
    best = _loss(texts, videos, factors)
    for slot in range(2):
        for factor in FACTORS:
            other = factors.clone()
            other[slot] = factor
            assert _loss(texts, videos, other) >= best - 2e-3


def _mmt(factors: list[float], **settings: object) -> tuple[RetrievalModel, torch.Tensor]:
    """A small MMT with these factors."""
    model = small("mmt", expert_factors=True, **settings)
    state: torch.Tensor = model.state_dict()["factors"]
    state.copy_(torch.tensor(factors))
    return model, state


def test_factors_weigh_captions_in_evaluation_and_leave_learning_alone() -> None:
    model, factors = _mmt([1.0, 1.0, 1.0])
    tokens, plain = tokens_of(model), small("mmt")
    with torch.no_grad():
        torch.testing.assert_close(model.encode_texts(TEXTS).weights, plain.encode_texts(TEXTS).weights)
        videos = model.encode_videos(tokens)
        state = model.calibrate(TEXTS, videos, torch.arange(len(TEXTS)) % len(videos))
        factors.copy_(torch.tensor([1.0, 0.02, 0.02]))
        weights = model.encode_texts(TEXTS).weights
        expected = plain.encode_texts(TEXTS).weights * factors
        torch.testing.assert_close(weights, expected / expected.sum(1, keepdim=True))
        model.train()
        torch.manual_seed(1)
        learning = model.encode_texts(TEXTS).weights
        plain.train()
        torch.manual_seed(1)
        torch.testing.assert_close(learning, plain.encode_texts(TEXTS).weights)
    assert list(state) == ["factors"]
    assert float(torch.as_tensor(state["factors"]).max()) == 1.0
    assert "factors" not in plain.state_dict()


@pytest.mark.parametrize("linear", [False, True])
def test_one_expert_alone_is_compared_whatever_its_factor(linear: bool) -> None:
    model, _ = _mmt([min(FACTORS)] * 3, linear=linear)
    tokens = {name: steps for name, steps in tokens_of(model).items() if name == "speech"}
    with torch.no_grad():
        scores = model.similarity(model.encode_texts(TEXTS), model.encode_videos(tokens))
    assert bool((scores.std(1) > 1e-4).all())
