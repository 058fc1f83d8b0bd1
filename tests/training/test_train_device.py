"""A run is the same wherever and by however many it is read: on the host, on a pretended device, on a GPU."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file
from tests.models.pretended_device import DEVICE, pretended_device

from reelseek.errors import RecipeError, UsageError
from reelseek.library import Library, add
from reelseek.library.arrays import import_features
from reelseek.models import load_model
from reelseek.models.device import device_of
from reelseek.training import Recipe, evaluate, train
from reelseek.training.log import Epoch

WORDS = ["cat", "dog", "car", "tree", "boat", "house"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 videos of two imported experts, a file of word vectors for captions; no weights are needed."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(len(WORDS), 8)).astype(np.float32)
    rows = ["video,caption,split"]
    for name in ("see", "hear"):
        (folder / name).mkdir()
    for index in range(60):
        one, two = rng.choice(len(WORDS), 2, replace=False)
        rows.append(f"v{index},{WORDS[one]} and {WORDS[two]},{'train' if index < 40 else 'test'}")
        for name, what in (("see", one), ("hear", two)):
            if not (name == "hear" and index % 5 == 0):
                values = directions[what] + 0.3 * rng.normal(size=(int(rng.integers(1, 5)), 8))
                np.save(folder / name / f"v{index}.npy", values.astype(np.float32))
    (folder / "rows.csv").write_text("\n".join(rows) + "\n")
    vectors = [f"{word} " + " ".join(f"{x:.4f}" for x in rng.normal(size=12)) for word in [*WORDS, "and"]]
    (folder / "words.vec").write_text("\n".join(vectors) + "\n")
    with Library.open(folder / "lib", create=True) as library:
        add(library, [folder / "rows.csv"], media=False)
        import_features(library, "see", [folder / "see"], modality="appearance")
        import_features(library, "hear", [folder / "hear"], modality="audio")
    return folder


def _recipe(world: Path, **how: object) -> Recipe:
    model = {"system": "mmt", "width": 16, "depth": 1, "heads": 2, "inner": 16, "dropout": 0.0}
    settings = {"epochs": 3, "batch": 16, "rate": 3e-3, "drop": 0.2, "average": 0.5, "device": "cpu", **how}
    return TypeAdapter(Recipe).validate_python(
        {"model": {**model, "text": {"encoder": str(world / "words.vec")}}, "train": settings}
    )


class _Stop(Exception):
    pass


def _stop(line: Epoch, *_: object) -> None:
    if line.epoch == 1:
        raise _Stop


def _state(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "state.safetensors")


def test_any_number_of_readers_gives_the_same_bits(world: Path, tmp_path: Path) -> None:
    with Library.open(world / "lib") as library:
        for workers in (0, 1, 3):
            train(_recipe(world, workers=workers), library, tmp_path / str(workers))
    wanted = _state(tmp_path / "0")
    for workers in ("1", "3"):
        found = _state(tmp_path / workers)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_run_goes_on_with_other_readers_and_refuses_another_rate(world: Path, tmp_path: Path) -> None:
    with Library.open(world / "lib") as library:
        train(_recipe(world), library, tmp_path / "whole")
        with pytest.raises(_Stop):
            train(_recipe(world), library, tmp_path / "m", report=_stop)
        with pytest.raises(RecipeError, match="another recipe"):
            train(_recipe(world, rate=1e-3), library, tmp_path / "m")
        train(_recipe(world, workers=2, device="auto"), library, tmp_path / "m", device="cpu")
    wanted, found = _state(tmp_path / "whole"), _state(tmp_path / "m")
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_device_that_is_not_here_is_refused_before_anything_is_written(world: Path, tmp_path: Path) -> None:
    with Library.open(world / "lib") as library:
        for recipe, device in ((_recipe(world, device="cuda:77"), None), (_recipe(world), "cuda:77")):
            with pytest.raises(UsageError, match="cuda:77"):
                train(recipe, library, tmp_path / "m", device=device)
        model = train(_recipe(world, epochs=1), library, tmp_path / "n")
        with pytest.raises(UsageError, match="gpu"):
            evaluate(model, library, device="gpu")
    assert not (tmp_path / "m").exists()


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")  # which this one's are not
@pytest.mark.parametrize("buckets", [0, 2])
def test_an_epoch_on_a_device_that_is_pretended_waits_a_few_times_alone(
    buckets: int, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun on the host, gone on with on the device: the same numbers, and one wait for all losses of an epoch."""
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)  # which a mode of PyTorch's dispatcher does not go with
    from reelseek.training import loop

    waits: list[int] = []
    learn = loop.Trainer.train_epoch
    # Adam would walk by its whole rate where a gradient is rounding alone, as before a batch normalisation.
    recipe = _recipe(world, optimizer="sgd", rate=0.05, buckets=buckets)
    with Library.open(world / "lib") as library:
        train(recipe, library, tmp_path / "whole")
        with pytest.raises(_Stop):
            train(recipe, library, tmp_path / "m", report=_stop)
        with pretended_device() as watch:

            def counted(self: loop.Trainer) -> float:
                before = watch.count
                loss = learn(self)
                waits.append(watch.count - before)
                return loss

            monkeypatch.setattr(loop.Trainer, "train_epoch", counted)
            model = train(recipe, library, tmp_path / "m", device=DEVICE)
            assert device_of(model) == DEVICE
    assert waits == [1, 1]
    wanted, found = _state(tmp_path / "whole"), _state(tmp_path / "m")
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], atol=1e-5, rtol=1e-4)
    assert torch.equal(
        load_model(tmp_path / "m").state_dict()["expert.weight"], model.cpu().state_dict()["expert.weight"]
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_begun_on_the_host_goes_on_on_a_gpu_and_back(world: Path, tmp_path: Path, precision: str) -> None:
    recipe = _recipe(world, epochs=12, precision=precision, workers=2)
    losses: list[float] = []

    def listen(line: Epoch, *_: object) -> None:
        losses.append(line.loss)
        if line.epoch in (1, 4):
            raise _Stop

    with Library.open(world / "lib") as library:
        torch.cuda.reset_peak_memory_stats()
        for device in ("cpu", "cuda"):
            with pytest.raises(_Stop):
                train(recipe, library, tmp_path / "m", device=device, report=listen)
        assert torch.cuda.max_memory_allocated() < 2**30
        train(recipe, library, tmp_path / "m", device="cpu", report=listen)
        alone = replace(recipe, train=replace(recipe.train, epochs=12))
        model = train(alone, library, tmp_path / "n", device="cuda")
        there, here = evaluate(model, library), evaluate(load_model(tmp_path / "n"), library)
        np.testing.assert_allclose(there.scores, here.scores, atol=2e-3)
    assert losses[-1] < losses[1]
