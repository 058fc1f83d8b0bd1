"""Every system on a real GPU: the host's numbers, no host waits, and losses that fall. Skipped where there is none.

Captions are random vectors that the host has ready, as after a frozen encoder, so that no weights are needed.
"""

import copy
import warnings
import zlib
from collections.abc import Iterator, Sequence

import pytest
import torch
from tests.models.worlds import SMALL, batch_of, small, tokens_of

from reelseek.library.tokens import Steps
from reelseek.models import SYSTEMS, RetrievalModel
from reelseek.models.batch import Batch
from reelseek.models.text import TextEncoder

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")]
NAMES = [name for name in SMALL if name != "concepts"]
TRAINED = [name for name in NAMES if SYSTEMS[name.partition("+")[0]].trained]
CUDA = torch.device("cuda", 0)


def _words(texts: Sequence[str], width: int) -> Steps:
    values = torch.zeros(len(texts), 9, width)
    present = torch.zeros(len(texts), 9, dtype=torch.bool)
    for row, text in enumerate(texts):
        count = min(9, len(text.split()))
        generator = torch.Generator().manual_seed(zlib.crc32(text.encode()))
        values[row, :count] = torch.randn(count, width, generator=generator)
        present[row, :count] = True
    return Steps(values, present, torch.zeros(len(texts), 9, 2))


@pytest.fixture(autouse=True)
def _host(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(TextEncoder, "words", lambda self, texts: _words(texts, self.width).to(self.where.device))
    monkeypatch.setattr(
        TextEncoder,
        "pooled",
        lambda self, texts: _words(texts, self.width).values.sum(1).to(self.where.device, non_blocking=True),
    )
    torch.set_float32_matmul_precision("highest")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    yield
    torch.cuda.set_sync_debug_mode("default")


def _loss(model: RetrievalModel, batch: Batch) -> torch.Tensor:
    return torch.stack([term.float() for term in model.loss(batch).values()]).sum()


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_the_hosts(name: str) -> None:
    model = small(name)
    tokens, texts = tokens_of(model), batch_of(model).texts
    with torch.inference_mode():
        wanted = model.similarity(model.encode_texts(texts), model.encode_videos(tokens))
        moved = copy.deepcopy(model).to(CUDA)
        videos = moved.encode_videos({expert: steps.to(CUDA) for expert, steps in tokens.items()})
        found = moved.similarity(moved.encode_texts(texts), videos)
    torch.testing.assert_close(found.cpu(), wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", TRAINED)
def test_losses_and_gradients_are_the_hosts(name: str) -> None:
    """Without dropout, whose numbers a GPU draws by itself."""
    model = small(name)
    if "dropout" in set(model.config.__dataclass_fields__):
        model = small(name, dropout=0.0)
    moved = copy.deepcopy(model).to(CUDA).train()
    batch = batch_of(model)
    wanted, found = _loss(model.train(), batch), _loss(moved, batch.to(CUDA))
    torch.testing.assert_close(found.cpu(), wanted, atol=1e-4, rtol=1e-3)
    wanted.backward()
    found.backward()
    others = dict(moved.named_parameters())
    # A bias before a batch normalisation has no gradient but rounding: distances are of the largest gradient too.
    overall = max(float(value.grad.abs().max()) for value in model.parameters() if value.grad is not None)
    for parameter, value in model.named_parameters():
        if value.grad is not None:
            gradient = others[parameter].grad
            assert gradient is not None, parameter
            scale = max(1e-6, float(value.grad.abs().max()))
            assert float((gradient.cpu() - value.grad).abs().max()) < 2e-2 * scale + 1e-3 * overall, parameter


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", TRAINED)
def test_a_step_makes_the_host_wait_at_most_twice_and_the_loss_smaller(name: str, precision: torch.dtype) -> None:
    model = small(name).to(CUDA).train()
    batch = batch_of(model).to(CUDA)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4, fused=True)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=precision is torch.bfloat16):
            loss = _loss(model, batch)
        loss.backward()
        optimizer.step()
        return loss.detach()

    losses = [step() for _ in range(2)]
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as waits:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        losses.append(step())
        torch.cuda.set_sync_debug_mode("default")
    told = [f"{each.filename}:{each.lineno} {each.message}" for each in waits if "synchronizing" in str(each.message)]
    assert len(told) <= 2, "\n".join(told)
    losses += [step() for _ in range(20)]
    assert min(map(float, losses[-5:])) < float(losses[0]) or float(losses[0]) < 1e-6
