"""Every system on a device that is not there: the host's numbers, and a host that does not wait."""

import copy
from dataclasses import replace

import pytest
import torch
from tests.models.pretended_device import DEVICE, OnDevice, pretended_device
from tests.models.worlds import SMALL, TEXTS, batch_of, small, tokens_of

from reelseek.errors import FeatureError
from reelseek.library.mask import Mask, upload
from reelseek.library.tokens import Steps
from reelseek.models import SYSTEMS, RetrievalModel
from reelseek.models.batch import Batch
from reelseek.models.text import TextConfig, TextEncoder
from reelseek.training.caching import cached_gradients

MOST = 2  # waits in a whole step
# What the contract's configurations leave out: every other treatment of absence, of long tracks and of padding.
MORE: dict[str, dict[str, object]] = {
    "mmt": {"missing": "keep", "longer": "published", "most_steps": 2},
    "mmt+linear": {"longer": "even", "most_steps": 3, "aggregate": "kept"},
    "mdmmt": {"missing": "keep", "most_steps": 2},
    "mee": {"missing": "keep", "count_padding": True},
    "ce": {"missing": "keep", "sequential": True, "with_self": False},
    "eao": {"released_audio": True, "missing": "mask"},
    "eao+mask": {"longer": "nearest", "most_steps": 2},
    "eao+single": {"longer": "max_pool", "most_steps": 2, "combinatorial": True},
    "coot": {"average": "released", "level": "video", "pooler": "max"},
    "crossclr": {"local": {"queue": 3, "positives": 2}, "level": "video"},
    "umi": {"most_steps": 2},
    "mbt": {"most_steps": 2, "bottlenecks": 0},
    "jpose": {},
}
CASES = [
    pytest.param(name, more, marks=pytest.mark.long if "+" in name or more else ())
    for name, more in [*((name, {}) for name in SMALL), *MORE.items()]
]
TRAINED = [case for case in CASES if SYSTEMS[str(case.values[0]).partition("+")[0]].trained]
LABELS = {"ids": lambda case: case if isinstance(case, str) else "+".join(map(str, case.values()))[:40]}


def _pair(name: str, more: dict[str, object]) -> tuple[RetrievalModel, RetrievalModel]:
    """A model, and the same to be moved; its frozen text side is warm, as after an epoch."""
    model = small(name, **more)
    model.encode_texts(TEXTS)
    return model, copy.deepcopy(model)


def _values(tensor: torch.Tensor) -> torch.Tensor:
    assert isinstance(tensor, OnDevice), "it is not on the device"
    return tensor.inner


def _learn(model: RetrievalModel, batch: Batch) -> torch.Tensor:
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss = torch.stack(list(model.loss(batch).values())).sum()
    loss.backward()
    optimizer.step()
    return loss.detach()


@pytest.fixture(autouse=True, scope="module")
def _frozen_text() -> None:
    """The frozen text side is copied to a device once a process; that is not a step's."""
    encoder = TextEncoder(TextConfig())
    encoder.words(TEXTS)  # transformers loads by way of PyTorch's own meta device
    with pretended_device(), torch.no_grad():
        encoder.to(DEVICE).words(TEXTS)


@pytest.mark.parametrize(("name", "more"), TRAINED, **LABELS)
def test_a_training_step_does_not_wait_and_gives_the_hosts_numbers(name: str, more: dict[str, object]) -> None:
    model, moved = _pair(name, more)
    batch = batch_of(model)
    wanted = _learn(model.train(), batch)
    with pretended_device() as watch:
        moved.to(DEVICE).train()
        there = batch.to(DEVICE)
        watch.waits.clear()
        found = _learn(moved, there)
        assert watch.count <= MOST, f"\n{watch}"
        torch.testing.assert_close(_values(found), wanted, atol=1e-5, rtol=1e-4)
        state = {
            key: value.inner if isinstance(value, OnDevice) else value for key, value in moved.state_dict().items()
        }
    for key, value in model.state_dict().items():
        torch.testing.assert_close(state[key], value, atol=2.1e-3, rtol=1e-3)  # Adam's first step is the sign alone


@pytest.mark.parametrize(("name", "more"), CASES, **LABELS)
def test_encoding_does_not_wait_and_gives_the_hosts_numbers(name: str, more: dict[str, object]) -> None:
    model, moved = _pair(name, more)
    tokens = tokens_of(model)
    with torch.no_grad():
        wanted = (model.encode_videos(tokens), model.encode_texts(TEXTS))
    with pretended_device() as watch, torch.no_grad():
        moved.to(DEVICE)
        there = {expert: steps.to(DEVICE) for expert, steps in tokens.items()}
        watch.waits.clear()
        found = (moved.encode_videos(there), moved.encode_texts(TEXTS))
        scores = moved.similarity(found[1], found[0])
        assert watch.count <= MOST, f"\n{watch}"
        torch.testing.assert_close(_values(scores), model.similarity(wanted[1], wanted[0]), atol=1e-5, rtol=1e-4)
        for one, two in zip(found, wanted, strict=True):
            torch.testing.assert_close(_values(one.values), two.values, atol=1e-5, rtol=1e-4)
            assert torch.equal(_values(one.present), two.present)


@pytest.mark.parametrize("name", ["mmt", "eao", "late_fusion", "coot", "umi", "mee", "dual_encoding"])
def test_clips_without_evidence_and_with_all_of_it_do_not_wait(name: str) -> None:
    """Whether nothing or everything is absent, no question is asked of the device."""
    model, moved = _pair(name, {})
    batch = batch_of(model)
    row = torch.tensor([True, True, False, True])
    tokens = dict(batch.tokens)
    less = {n: Steps(s.values, s.present & row[:, None], s.spans) for n, s in tokens.items()}
    more = {n: Steps(s.values, torch.ones_like(s.present), s.spans) for n, s in tokens.items()}
    for variant in (less, more):
        given = replace(batch, tokens=variant)
        wanted = torch.stack(list(copy.deepcopy(model).train().loss(given).values())).sum().detach()
        with pretended_device() as watch:
            moved.to(DEVICE).train()
            there = given.to(DEVICE)
            watch.waits.clear()
            torch.manual_seed(0)
            found = torch.stack(list(copy.deepcopy(moved).loss(there).values())).sum().detach()
            assert watch.count <= MOST, f"\n{watch}"
            if not any(isinstance(m, torch.nn.Dropout) or getattr(m, "dropout", 0) for m in moved.modules()):
                torch.testing.assert_close(_values(found), wanted, atol=1e-5, rtol=1e-4)


def test_a_batch_in_chunks_waits_no_more_than_whole() -> None:
    model, moved = _pair("mmt", {"dropout": 0.0})
    batch = batch_of(model)
    wanted = cached_gradients(model.train(), batch, 2)
    with pretended_device() as watch:
        moved.to(DEVICE).train()
        there = batch.to(DEVICE)
        watch.waits.clear()
        found = cached_gradients(moved, there, 2)
        assert watch.count <= MOST, f"\n{watch}"
        assert found == pytest.approx(wanted, abs=1e-5)


def test_steps_put_together_on_a_device_are_asked_once() -> None:
    """Nobody told the host: it asks, and the answer is the same."""
    model, moved = _pair("late_fusion", {})
    tokens = tokens_of(model)
    with torch.no_grad():
        wanted = model.encode_videos(tokens)
    with pretended_device() as watch, torch.no_grad():
        moved.to(DEVICE)
        parts = {n: [part.to(DEVICE) for part in (s.values, s.present, s.spans)] for n, s in tokens.items()}
        watch.waits.clear()
        found = moved.encode_videos({name: Steps(*each) for name, each in parts.items()})
        assert watch.count == len(tokens), f"\n{watch}"
        torch.testing.assert_close(_values(found.values), wanted.values, atol=1e-5, rtol=1e-4)


def test_there_and_back_a_batch_is_the_same() -> None:
    batch = batch_of(small("late_fusion"))
    with pretended_device():
        back = batch.to(DEVICE).to("cpu")
    assert torch.equal(back.video, batch.video)
    for name, steps in batch.tokens.items():
        assert torch.equal(back.tokens[name].present, steps.present)
        assert torch.equal(back.tokens[name].values, steps.values)
        assert torch.equal(back.tokens[name].spans, steps.spans)


def test_the_pretended_device_refuses_the_host_and_counts_its_waits() -> None:
    with pretended_device() as watch:
        values = torch.arange(6.0).view(2, 3).to(DEVICE, non_blocking=True)
        assert watch.count == 0
        for wait in (
            lambda: values[values > 2],
            lambda: (values > 2).nonzero(),
            lambda: torch.unique(values),
            lambda: values.masked_select(values > 2),
            lambda: bool((values > 2).any()),
            lambda: values.sum().item(),
            lambda: torch.equal(values, values),
            lambda: values.cpu(),
            lambda: torch.ones(3).to(DEVICE),
            lambda: torch.where(values > 2, values, torch.zeros(())),
            lambda: values[:, torch.tensor([0, 1])],
        ):
            before = watch.count
            wait()
            assert watch.count > before, wait
        before = watch.count
        assert torch.equal((values * 2 + torch.ones(())).inner, torch.arange(6.0).view(2, 3) * 2 + 1)
        values.masked_fill(values > 2, 0).sum(1).clamp(min=1)
        assert watch.count == before
        with pytest.raises(RuntimeError, match="same device"):
            values + torch.ones(3)


def test_a_mask_is_the_same_on_both_sides() -> None:
    one, two = torch.tensor([True, True, False]), torch.tensor([True, False, False])
    with pretended_device() as watch:
        masks = [Mask.on(DEVICE, each) for each in (one, two)]
        both, some = masks[0] & masks[1], masks[0] | masks[1]
        assert (both.count, some.count, both.all) == (1, 2, False)
        assert watch.count == 0
        assert torch.equal(both.rows.inner, torch.tensor([0]))
        assert torch.equal(some.tensor.inner, some.host)
        parts = upload([torch.tensor([[1, 2]]), torch.tensor([3])], DEVICE)
        assert [part.inner.tolist() for part in parts] == [[[1, 2]], [3]]
        assert watch.count == 0


def test_nan_is_refused_where_it_comes_in_and_not_asked_for_again() -> None:
    values, present = torch.full((1, 2, 1), torch.nan), torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(FeatureError, match="NaN"):
        Steps(values, present, torch.zeros(1, 2, 2))
