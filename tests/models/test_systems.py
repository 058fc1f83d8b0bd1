"""What single systems claim beside the contract; similarity and the ridge slot against plain forms."""

import pytest
import torch
from tests.models.worlds import small

from reelseek.library.tokens import Steps
from reelseek.models import Embedding
from reelseek.models.blocks.linear import PENALTIES, ridge
from reelseek.models.model import similarity


def test_similarity_equals_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    texts = Embedding(torch.randn(3, 2, 4, generator=generator), torch.ones(3, 2, dtype=torch.bool), torch.rand(3, 2))
    present = torch.tensor([[True, False], [True, True], [False, False]])
    videos = Embedding(torch.randn(3, 2, 4, generator=generator), present, torch.ones(3, 2))
    for renormalise in (True, False):
        scores = similarity(texts, videos, renormalise=renormalise)
        for t in range(3):
            for v in range(3):
                weights = [float(texts.weights[t, s]) * bool(present[v, s]) for s in range(2)]
                total = sum(w * float(texts.values[t, s] @ videos.values[v, s]) for s, w in enumerate(weights))
                if renormalise:
                    total = total / sum(weights) if sum(weights) else 0.0
                assert float(scores[t, v]) == pytest.approx(total, abs=1e-5)


@torch.inference_mode()
def test_concepts_put_labels_near_the_words_for_them() -> None:
    model = small("concepts")
    values = torch.zeros(2, 1, 1000)
    values[0, 0, 281] = values[1, 0, 504] = 1.0  # tabby, coffee mug
    steps = Steps(values, torch.ones(2, 1, dtype=torch.bool), torch.zeros(2, 1, 2))
    scores = model.similarity(
        model.encode_texts(["a cat on a chair", "a cup of coffee"]), model.encode_videos({"object": steps})
    )
    assert scores.argmax(1).tolist() == [0, 1]


def test_ridge_equals_its_normal_equations_and_ignores_what_is_absent() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 7, generator=generator)
    targets = inputs @ torch.randn(7, 3, generator=generator) + torch.randn(60, 3, generator=generator)
    found = ridge(inputs, targets)
    scale = torch.linalg.svdvals(inputs).square().mean()
    ways = [torch.linalg.solve(inputs.T @ inputs + p * scale * torch.eye(7), inputs.T @ targets) for p in PENALTIES]
    assert min(float((found - way).abs().max()) for way in ways) < 1e-4
    ranks = []
    for penalty in PENALTIES:  # leave one out by hand: fit without each row, rank its own target by its prediction
        alone = []
        for row in range(60):
            keep = [i for i in range(60) if i != row]
            x, y = inputs[keep].double(), targets[keep].double()
            matrix = torch.linalg.solve(x.T @ x + penalty * scale * torch.eye(7).double(), x.T @ y)
            alone.append(inputs[row].double() @ matrix)
        unit = torch.nn.functional.normalize
        scores = unit(targets.double(), dim=-1) @ unit(torch.stack(alone), dim=-1).T
        ranks.append(float((scores > scores.diagonal()[:, None]).sum(1).double().mean()))
    best = min(range(len(PENALTIES)), key=ranks.__getitem__)
    torch.testing.assert_close(found, ways[best], atol=1e-4, rtol=1e-3)
