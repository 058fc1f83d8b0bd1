"""Rates over epochs, gradients in chunks, accumulated gradients, precision and logs."""

import csv
from pathlib import Path

import pytest
import torch
from tests.models.worlds import batch_of, small
from tests.training.test_every_system import _recipe
from tests.training.test_training import world  # noqa: F401 - the fixture

from reelseek.errors import RecipeError
from reelseek.library import Library
from reelseek.models.model import Batch
from reelseek.models.systems.late_fusion import LateFusion
from reelseek.training import train
from reelseek.training.caching import cached_gradients
from reelseek.training.recipe import TrainRecipe
from reelseek.training.schedule import rate_factor


def test_rates_rise_and_fall_as_each_schedule_says() -> None:
    def rates(epochs: int, **how: object) -> list[float]:
        return [round(rate_factor(TrainRecipe(epochs=epochs, **how), e, []), 4) for e in range(1, epochs + 1)]  # type: ignore[arg-type]

    assert rates(4, decay=0.5) == [1, 0.5, 0.25, 0.125]
    assert rates(5, schedule="constant", warmup=2) == [0.3333, 0.6667, 1, 1, 1]
    assert rates(4, schedule="cosine") == [1, 0.8536, 0.5, 0.1464]
    assert rates(5, schedule="cosine", warmup=1)[:2] == [0.5, 1]
    how = TrainRecipe(schedule="plateau", plateau_patience=1, cooldown=2, plateau_factor=0.1)
    scores = [1.0, 2.0, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 3.0, 2.0]
    found = [rate_factor(how, e, scores[: e - 1]) for e in range(1, 12)]
    assert found == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])


def test_a_loss_that_is_no_function_of_embeddings_is_not_taken_in_chunks() -> None:
    class Joined(LateFusion):
        def terms(self, batch: Batch) -> dict[str, torch.Tensor]:
            return super().terms(batch)

    model = Joined(small("late_fusion").config)
    with pytest.raises(RecipeError, match="has a loss of its own"):
        cached_gradients(model, batch_of(model), 2)


_CHUNKED = ("mmt", "vse", "xpool", "late_fusion", "eao", "umi", "mmv", "zorro", "jpose", "w2vv", "avlnet")
_CHUNKED += ("coot", "crossclr", "mcn", "token_fusion", "jsfusion", "drl", "gram", "vast", "binding", "ssb")


@pytest.mark.parametrize(
    ("name", "chunk"), [*((name, 3) for name in _CHUNKED), ("mmt", 1), ("eao", 1), ("coot", 1), ("xpool", 100)]
)
def test_gradients_in_chunks_are_those_of_the_whole_batch(name: str, chunk: int) -> None:
    settings: dict[str, dict[str, object]] = {
        "mmt": {"dropout": 0.0},
        "xpool": {"dropout": 0.0, "loss": {"name": "info_nce", "settings": {"temperature": 1.0}}},
    }
    model = small(name, **settings.get(name, {}))  # evaluation mode: no batch statistics
    given = batch_of(model)
    loss = torch.stack(list(model.loss(given).values())).sum()
    loss.backward()
    wanted = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    assert cached_gradients(model, given, chunk) == pytest.approx(float(loss.detach()), rel=1e-5, abs=1e-6)
    for n, p in model.named_parameters():
        if n in wanted:
            scale = max(1e-2, float(wanted[n].abs().max()))
            torch.testing.assert_close(p.grad, wanted[n], atol=1e-4 * scale, rtol=1e-4)


def test_accumulated_chunked_and_half_precise_runs_learn_and_leave_a_log(world: Path, tmp_path: Path) -> None:  # noqa: F811
    ways: dict[str, dict[str, object]] = {
        "accumulated": {"accumulate": 2, "batch": 16},
        "chunked": {"chunk": 8, "caption": "first"},
        "half": {"precision": "bfloat16", "schedule": "cosine", "warmup": 1, "optimizer": "radam"},
        "plateau": {"schedule": "plateau", "plateau_patience": 0, "cooldown": 0, "optimizer": "sgd", "rate": 0.1},
    }
    with Library.open(world) as library:
        for name, how in ways.items():
            train(_recipe("mmt", epochs=3, **how), library, tmp_path / name)
            with (tmp_path / name / "log.csv").open() as file:
                rows = list(csv.DictReader(file))
            assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
            assert sum(row["best"] == "True" for row in rows) >= 1
            assert all(float(row["loss"]) < 1 for row in rows[1:])
