"""Attention is planned by whoever reads a batch: the same plans, so that a step makes none of its own."""

import copy
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models.worlds import batch_of, small

from reelseek.experts.expert import Track
from reelseek.library import Library
from reelseek.library.token_loader import TokenRequest, read_tokens
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models.batch import Batch
from reelseek.models.blocks import mix
from reelseek.models.blocks.mix import prepared_plans
from reelseek.models.model import RetrievalModel
from reelseek.models.planning import AttentionPlanner, read_plans
from reelseek.training.batches import BatchReader
from reelseek.training.recipe import TrainRecipe
from reelseek.training.sampler import BatchPlan
from reelseek.training.split import Split
from reelseek.training.step import BatchStep

PLANNED = ("late_fusion", "mmt", "mmt+linear", "mdmmt", "mbt", "zorro", "token_fusion", "umi", "clip4clip")


@pytest.fixture
def no_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mix, "_make_plan", lambda *_: pytest.fail("the step plans attention itself"))


def _gradients(model: RetrievalModel, batch: Batch) -> list[torch.Tensor]:
    model.zero_grad()
    torch.manual_seed(0)
    sum(model.loss(batch).values()).backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", PLANNED)
def test_a_loss_needs_no_plan_of_its_own_and_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a clip has no evidence, which a loss leaves out."""
    model = small(name).train()
    batch = batch_of(model)
    for steps in batch.tokens.values():
        steps.present[1] = False
    plain = _gradients(model, batch)
    planner = copy.deepcopy(AttentionPlanner(model))
    plans = read_plans(planner(batch.tokens))
    assert plans
    monkeypatch.setattr(mix, "_make_plan", lambda *_: pytest.fail("the step plans attention itself"))
    with prepared_plans(plans):
        assert all(map(torch.equal, _gradients(model, batch), plain))


def test_a_plan_of_other_clips_is_not_taken() -> None:
    model = small("mmt").train()
    batch = batch_of(model)
    plans = read_plans(AttentionPlanner(model)(batch.tokens))
    next(iter(batch.tokens.values())).present[0, 0] ^= True
    batch = Batch(batch.tokens, batch.texts, batch.video)
    plain = _gradients(model, batch)
    with prepared_plans(plans):
        assert all(map(torch.equal, _gradients(model, batch), plain))


def test_a_system_that_cannot_be_run_without_values_plans_for_itself() -> None:
    model = small("mmt").train()
    batch = batch_of(model)

    class Asking(torch.nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return values + float(values.sum())

    model.norm = Asking()
    planner = AttentionPlanner(model)
    model.unpicklable = lambda: None
    assert planner(batch.tokens) == AttentionPlanner(model)(batch.tokens) == b""


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    rng = np.random.default_rng(0)
    with Library.open(tmp_path / "lib", create=True) as library:
        with library.writing(), library.saving():
            for video in range(12):
                library.db.execute("INSERT INTO videos(id) VALUES (?)", (f"v{video}",))
                for expert, dim in (("audio", 40), ("object", 1000)):
                    steps = int(rng.integers(0, 6)) if video != 3 else 0
                    spans = np.stack([np.arange(steps), np.arange(steps) + 1.0], 1)
                    track = Track(rng.normal(size=(steps, dim)).astype(np.float32), spans)
                    library.put_track(f"id:v{video}", expert, f"{expert}:test", expert, track)
        yield library


@pytest.mark.long
def test_batches_come_with_their_plans_whatever_is_dropped(library: Library, no_plans: None) -> None:
    """Workers drop experts as well, since what is dropped is not planned for."""
    clips = tuple(Clip(f"v{video}") for video in range(12))
    split = Split("train", clips, tuple("abcdefghijkl"), tuple(range(12)))
    rng = np.random.default_rng(1)
    plans = [
        BatchPlan(rows, [(clips[row], split.texts[row]) for row in rows], {}, rng.random((6, 2)))
        for rows in (rng.permutation(12)[:6] for _ in range(3))
    ]
    reader, config = TokenReader(library, ["audio", "object"]), TrainRecipe(workers=1, drop=0.4)
    model = small("mmt", experts=reader.dims).train()
    step = BatchStep(model, config, torch.device("cpu"))
    source = BatchReader(
        reader, split, config, library=library, pseudo_labels=None, pin=False, planner=AttentionPlanner(model)
    )
    with closing(source):
        for batch, plan in zip(source.read_all(plans), plans, strict=True):
            remaining = plan.drop_scores >= config.drop
            expected = read_tokens(reader, TokenRequest([clip for clip, _ in plan.examples], {}, remaining))
            full = read_tokens(reader, TokenRequest([clip for clip, _ in plan.examples], {}))
            assert any((full[name].present != expected[name].present).any() for name in full)
            for name, steps in expected.items():
                assert torch.equal(batch.tokens[name].present, steps.present)
            assert bool(step.backward(batch, 1).isfinite())
