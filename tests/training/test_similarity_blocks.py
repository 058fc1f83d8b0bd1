"""Systems whose similarity has parameters: gradients in chunks, and the memory that training and evaluation take."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from tests.models.worlds import batch_of
from torch import Tensor, nn
from torch.nn import functional

from reelseek.errors import UsageError
from reelseek.models import embed
from reelseek.models.embedding import Embedding
from reelseek.models.learned import LearnedModel, SystemConfig
from reelseek.models.losses import LossConfig
from reelseek.training import evaluate, measure
from reelseek.training.caching import blockwise_similarity, cached_gradients
from reelseek.training.dataset import FeatureDataset

DIM = 12


class Pairwise(LearnedModel):
    """Text and video meet in a layer of their own; the loss has a parameter too."""

    system = "pairwise"

    def __init__(self, dim: int = DIM) -> None:
        super().__init__(
            SystemConfig(
                experts={"speech": 384, "ocr": 384}, loss=LossConfig(name="info_nce", settings={"temperature": 0.1})
            )
        )
        self.project = nn.Linear(384, dim)
        self.read_text = nn.Linear(self.text.width, dim)
        self.weigh = nn.Linear(dim, dim)
        self.judge = nn.Linear(dim, 1, bias=False)
        self.rows: list[int] = []
        plain, self.scale = self.score_loss, nn.Parameter(torch.tensor(1.5))
        self.score_loss = lambda scores, negatives: plain(scores * self.scale, negatives=negatives)

    def encode(self, steps: object) -> Embedding:
        parts = [steps[name] for name in ("speech", "ocr")]  # type: ignore[index]
        values = torch.stack([self.project(part.clean.sum(1)) for part in parts], 1)
        return Embedding.even(values, torch.stack([part.present.any(1) for part in parts], 1))

    def encode_texts(self, texts: object) -> Embedding:
        return Embedding.even(self.read_text(self.text.pooled(texts))[:, None])  # type: ignore[arg-type]

    def similarity(self, texts: Embedding, videos: Embedding) -> Tensor:
        self.rows.append(len(texts))
        slots = functional.softmax(torch.einsum("td,vsd->tvs", self.weigh(texts.values[:, 0]), videos.values), dim=-1)
        pairs = torch.einsum("tvs,vsd->tvd", slots * videos.present, videos.values)
        return self.judge((pairs * texts.values).relu())[..., 0]


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return gradients


@pytest.mark.parametrize("share", [1, 2])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_parameters_inside_similarity_and_loss_get_the_gradient_of_the_whole_batch(chunk: int, share: int) -> None:
    torch.manual_seed(0)
    model = Pairwise().eval()
    assert model.pairwise
    batch = batch_of(model)
    loss = torch.stack(list(model.loss(batch).values())).sum()
    (loss / share).backward()
    expected = _gradients(model)
    assert {"weigh.weight", "judge.weight", "scale", "project.weight", "read_text.weight"} <= set(expected)
    model.rows.clear()
    assert cached_gradients(model, batch, chunk, share) == pytest.approx(float(loss.detach()), abs=1e-6)
    gradients = _gradients(model)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert expected[name].abs().max() > 0, name
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-3)
    assert max(model.rows) <= chunk  # never more texts at once


@contextmanager
def _bytes_kept() -> Iterator[list[int]]:
    """Bytes of every tensor that a graph keeps for its backward pass."""
    sizes: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes


def test_a_pairwise_similarity_keeps_no_activations_of_pairs() -> None:
    model = Pairwise().eval()
    texts, videos = (Embedding.even(torch.randn(64, slots, DIM, requires_grad=True)) for slots in (1, 2))
    with _bytes_kept() as whole:
        expected = model.similarity(texts, videos)
    model.rows.clear()
    with _bytes_kept() as blocks:
        scores = blockwise_similarity(model, texts, videos, 4)
    torch.testing.assert_close(scores, expected)
    assert model.rows == [4] * 16
    pairs = 64 * 64 * DIM * 4
    assert sum(whole) > 2 * pairs
    assert sum(blocks) < pairs / 4


_EVALUATION = """
import resource
import numpy as np, torch
from tests.training.test_similarity_blocks import Pairwise
from reelseek.models.embedding import Embedding
from reelseek.training import evaluate
from reelseek.training.dataset import FeatureDataset

class Wide(Pairwise):
    def encode_texts(self, texts):
        return Embedding.even(torch.stack([torch.full((1, 512), float(text)) for text in texts]) / 1000)

rng = np.random.default_rng(0)
features = {name: rng.normal(size=(1000, 384)).astype(np.float32) for name in ("speech", "ocr")}
data = FeatureDataset(features, captions=[f"{number}" for number in range(1000)])
small = FeatureDataset({name: values[:4] for name, values in features.items()}, captions=list("1234"))
torch.manual_seed(0)
model = Wide(512)
evaluate(model, small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
measured = evaluate(model, data)
print(measured.scores.shape == (1000, 1000), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.long
def test_evaluating_a_thousand_by_a_thousand_takes_less_than_a_gigabyte() -> None:
    """All pairs at once would be two gigabytes of 512 numbers each, three times over."""
    ran = subprocess.run([sys.executable, "-c", _EVALUATION], capture_output=True, text=True, timeout=900, check=False)
    assert ran.returncode == 0, ran.stderr
    whole, megabytes = ran.stdout.split()
    assert whole == "True"
    assert int(megabytes) < 1000


@pytest.mark.parametrize("protocol", ["strict", "mdmmt"])
def test_a_split_of_too_many_pairs_is_measured_the_same_in_blocks(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    features = {name: rng.normal(size=(40, 384)).astype(np.float32) for name in ("speech", "ocr")}
    words = [[f"a man does thing {number // 3}", f"somebody does {number}"] for number in range(40)]
    data = FeatureDataset(features, captions=words)
    torch.manual_seed(0)
    model = Pairwise()
    monkeypatch.setattr(embed, "_BLOCK_FLOATS", 20_000)
    whole = evaluate(model, data, protocol=protocol)
    monkeypatch.setattr(measure, "_MOST_SCORES", 0)
    blocks = evaluate(model, data, protocol=protocol)
    assert blocks.as_json() == whole.as_json()
    assert blocks.ranks.tolist() == whole.ranks.tolist()
    assert blocks.scores.size == 0
    with pytest.raises(UsageError, match="80 captions by 40 clips are ranked in blocks"):
        blocks.all_scores()
    assert whole.all_scores() is whole.scores
