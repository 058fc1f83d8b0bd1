"""Rates over epochs, gradients in chunks, accumulated gradients, precision and logs."""

import csv
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.models.worlds import batch_of, small
from tests.training.test_every_system import _recipe
from tests.training.test_training import world  # noqa: F401 - the fixture

from reelseek.errors import RecipeError
from reelseek.library import Library
from reelseek.models import load_model
from reelseek.models.batch import Batch
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


def test_rates_follow_steps_and_fall_in_stairs_as_released_systems_have_them() -> None:
    by_step = TrainRecipe(epochs=5, schedule="cosine", warmup=0.5, rate_per="step")
    found = [rate_factor(by_step, epoch, [], part) for epoch, part in ((1, 0), (1, 0.25), (1, 0.5), (3, 0.75), (5, 1))]
    assert found == pytest.approx([0, 0.5, 1, 0.5, 0])
    stairs = TrainRecipe(decay=0.5, decay_every=2)
    assert [rate_factor(stairs, epoch, []) for epoch in range(1, 6)] == [1, 1, 0.5, 0.5, 0.25]
    whole = TrainRecipe(epochs=4, schedule="cosine", rate_per="step")
    each = TrainRecipe(epochs=4, schedule="cosine")
    assert [rate_factor(whole, e, []) for e in range(1, 5)] == [rate_factor(each, e, []) for e in range(1, 5)]


def test_a_step_takes_the_rate_of_its_place_and_gradients_no_longer_than_asked(
    world: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates: list[float] = []
    norms: list[float] = []
    step = torch.optim.SGD.step

    def watched(self: torch.optim.SGD, *rest: object) -> object:
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))
        rates.append(self.param_groups[0]["lr"])
        return step(self, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    how = {"optimizer": "sgd", "rate": 1.0, "schedule": "constant", "epochs": 2, "batch": 18}
    with Library.open(world) as library:
        train(_recipe("late_fusion", **how, rate_per="step", warmup=1), library, tmp_path / "m")
        unclipped = norms[:4]
        norms.clear()
        train(_recipe("late_fusion", **how, clip_norm=1e-3), library, tmp_path / "n")
    assert rates[:8] == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1, 1, 1])
    assert min(unclipped) > 2e-3
    assert max(norms) == pytest.approx(1e-3, rel=1e-3)


def test_the_last_epoch_is_taken_whatever_validation_says(world: Path, tmp_path: Path) -> None:  # noqa: F811
    how = {"optimizer": "sgd", "rate": 10.0, "epochs": 3, "schedule": "constant"}
    with Library.open(world) as library:
        for keep in ("best", "last"):
            train(_recipe("late_fusion", **how, keep=keep), library, tmp_path / keep)
    with (tmp_path / "last" / "log.csv").open() as file:
        best = [row["best"] for row in csv.DictReader(file)]
    assert best[-1] == "False"
    state, last, chosen = (
        load_file(tmp_path / name)
        for name in ("last/state.safetensors", "last/best.safetensors", "best/best.safetensors")
    )
    assert all(state[f"model.{name}"].equal(value) for name, value in last.items())
    assert not all(chosen[name].equal(value) for name, value in last.items())
    card = (tmp_path / "last" / "README.md").read_text()
    assert "- last epoch 3 by" in card
    assert load_model(tmp_path / "last").record["validation"]["epoch"] == 3


def test_statistics_of_a_model_that_training_starts_from_stay_as_they_are(world: Path, tmp_path: Path) -> None:  # noqa: F811
    def statistics(folder: str) -> dict[str, torch.Tensor]:
        state = load_file(tmp_path / folder / "state.safetensors")
        return {name: value for name, value in state.items() if name.endswith(("running_mean", "running_var"))}

    with Library.open(world) as library:
        train(_recipe("jpose"), library, tmp_path / "first")
        start = {"start": str(tmp_path / "first"), "keep": "last"}
        train(_recipe("jpose", **start, freeze_norms=True), library, tmp_path / "frozen")
        train(_recipe("jpose", **start), library, tmp_path / "moved")
        with pytest.raises(RecipeError, match=r"name it with --set train\.start=FOLDER"):
            train(_recipe("jpose", freeze_norms=True), library, tmp_path / "no")
        with pytest.raises(RecipeError, match="late_fusion has no batch normalisation here"):
            train(_recipe("late_fusion", **start, freeze_norms=True), library, tmp_path / "none")
        with pytest.raises(RecipeError, match="the text side of umi is frozen"):
            train(_recipe("umi", text_rate=1e-3), library, tmp_path / "frozen text")
    first, frozen, moved = (statistics(folder) for folder in ("first", "frozen", "moved"))
    assert first
    assert all(frozen[name].equal(first[name]) for name in first)
    assert not any(moved[name].equal(first[name]) for name in first)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup": 0.5}, "ends within an epoch"),
        ({"rate_per": "step", "schedule": "plateau"}, "plateaus are seen once an epoch"),
        ({"keep": "last", "patience": 3}, "leave one of them out"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainRecipe(**settings)  # type: ignore[arg-type]


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
