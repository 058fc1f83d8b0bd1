"""A step that cannot be taken says why and what to change; a compiled step is the same step."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.worlds import batch_of, small
from torch import nn

from reelseek.errors import ModelError, RecipeError, UsageError
from reelseek.models import device as devices
from reelseek.models.model import RetrievalModel
from reelseek.training import FeatureDataset, Recipe, loop, step, train
from reelseek.training.recipe import recipe_from


def _data() -> FeatureDataset:
    """40 clips to learn from and 8 to validate on, of one expert; captions are vectors."""
    rng = np.random.default_rng(0)
    return FeatureDataset(
        {"see": rng.normal(size=(48, 3, 8)).astype(np.float32)},
        captions=rng.normal(size=(48, 12)).astype(np.float32),
        splits=["train"] * 40 + ["val"] * 8,
    )


@pytest.fixture(scope="module")
def data() -> FeatureDataset:
    return _data()


def _recipe(**changes: Any) -> Recipe:
    model = {"system": "mmt", "width": 16, "depth": 1, "heads": 2, "inner": 16, "dropout": 0.0}
    settings = {"epochs": 2, "batch": 16, "rate": 3e-3, "device": "cpu", "validation": "val"} | changes
    validation = settings.pop("validation")
    return recipe_from({"model": model, "data": {"validation": validation}, "train": settings}, "test")


def _losses(folder: Path) -> list[str]:
    return [line.split(",")[1] for line in (folder / "log.csv").read_text().splitlines()[2:]]


COMPILED = """
import sys, torch
from pathlib import Path
from reelseek.errors import RecipeError
from reelseek.training import step
from tests.training.test_step import _data, _recipe, train

folder, calls, compiler = Path(sys.argv[1]), [], torch.compile
torch.compile = lambda model, backend: calls.append(backend) or compiler(model, backend=backend)
step._BACKEND = "eager"  # traced as ever, and not handed to a compiler
plain = train(_recipe(), _data(), folder / "plain")
compiled = train(_recipe(compile=True), _data(), folder / "compiled")
assert calls == ["eager"], calls
assert compiled.state_dict().keys() == plain.state_dict().keys()

def broken(graph, inputs):
    raise RuntimeError("no compiler is here")

step._BACKEND = broken
torch._dynamo.reset()
try:
    train(_recipe(compile=True), _data(), folder / "m")
except RecipeError as error:
    print(error)
"""


@pytest.mark.long
def test_a_compiled_step_is_the_same_step_and_a_failure_is_said_once(tmp_path: Path) -> None:
    """In a process without the checks of shapes that tests have, which cannot be traced."""
    process = subprocess.run(
        [sys.executable, "-c", COMPILED, str(tmp_path)], capture_output=True, text=True, timeout=600, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert "train.compile: mmt cannot be compiled on cpu (" in process.stdout
    assert "no compiler is here" in process.stdout
    assert process.stdout.rstrip().endswith("; leave it off")
    compiled, plain = ([float(loss) for loss in _losses(tmp_path / name)] for name in ("compiled", "plain"))
    assert compiled == pytest.approx(plain, abs=1e-4)


def test_a_recipe_compiles_a_batch_as_a_whole() -> None:
    with pytest.raises(RecipeError, match="compile takes a batch as a whole"):
        _recipe(compile=True, chunk=4)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs", True])
def test_the_mode_of_a_recipe_is_pytorchs(mode: str | bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda model, **options: calls.append(options.get("mode")) or model)
    recipe = recipe_from({"model": {"system": "mmt"}, "train": {"compile": mode}}, "test").train
    step.BatchStep(small("mmt"), recipe, torch.device("cuda" if mode == "reduce-overhead" else "cpu"))
    assert calls == [None if mode is True else mode]


def test_a_mode_that_does_nothing_on_a_device_or_is_none_is_refused(data: FeatureDataset, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"reduce-overhead.* CUDA graphs, which cpu has not; set it to true"):
        train(_recipe(compile="reduce-overhead"), data, tmp_path / "m")
    with pytest.raises(RecipeError, match=r"compile.*reduce-overhead"):
        _recipe(compile="fast")


def _limit(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """A model that runs out of memory above so many clips."""
    kind = type(small("mmt"))
    encode = kind.encode_videos

    def limited(model: Any, tokens: Any) -> Any:
        if model.training and len(next(iter(tokens.values())).values) > most:
            raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB")
        return encode(model, tokens)

    monkeypatch.setattr(kind, "encode_videos", limited)


@pytest.mark.parametrize(
    ("changes", "most", "message"),
    [
        (
            {},
            5,
            r"train.batch is 16, which does not fit into the memory of cpu; 4 does: set train.batch to 4 at most, ",
        ),
        pytest.param(
            {"chunk": 8}, 3, r"train.chunk is 8, .* 2 does: set train.chunk to 2 at most$", marks=pytest.mark.long
        ),
        pytest.param(
            {}, 1, r"train.batch is 16, .* and no smaller one does; take a smaller model", marks=pytest.mark.long
        ),
    ],
)
def test_a_batch_that_does_not_fit_names_one_that_does(
    changes: dict[str, int], most: int, message: str, data: FeatureDataset, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    _limit(monkeypatch, most)
    with pytest.raises(RecipeError, match=message):
        train(_recipe(**changes), data, tmp_path / "m")


def test_the_need_of_a_gpu_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a batch takes 2 GiB, and 5 GiB are free: nine tenths of that would hold more than the batch that failed."""

    class Used(step._Peak):
        bytes, free = 2 * 2**30, 5 * 2**30

    def measured(device: torch.device) -> Any:
        @step.contextmanager
        def peak() -> Iterator[step._Peak]:
            yield Used()

        return peak()

    model = small("mmt")
    monkeypatch.setattr(step, "_peak", measured)
    taken = step.BatchStep(model, _recipe().train, torch.device("cpu"))
    monkeypatch.setattr(step.BatchStep, "_backward", lambda *_, **__: torch.zeros(()))
    batch = batch_of(model)
    count = len(batch.texts)
    assert f"{count // 2} does, whose step takes 2 GiB: set train.batch to {count - 1} at most" in (
        taken._too_little_memory(batch)
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_loss_that_is_not_finite_names_the_batch_and_the_layer(
    precision: str, data: FeatureDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = loop.build_model

    def broken_model(*arguments: Any) -> RetrievalModel:
        model: RetrievalModel = build(*arguments)
        layer = next(module for module in model.modules() if isinstance(module, nn.Linear))
        # the third batch of each epoch has the eight clips that are left
        layer.register_forward_hook(
            lambda module, inputs, output: output * torch.inf if module.training and len(inputs[0]) == 8 else None
        )
        return model

    monkeypatch.setattr(loop, "build_model", broken_model)
    with pytest.raises(ModelError) as caught:
        train(_recipe(precision=precision), data, tmp_path / "m")
    message = str(caught.value)
    assert message.startswith("epoch 1, batch 3 (captions ")
    assert "the loss is nan; the first layer whose output is not finite is " in message
    assert "(Linear). Train with a lower train.rate" in message
    assert ('train.precision = "float32"' in message) == (precision == "bfloat16")


def test_weights_that_a_step_broke_are_named(
    data: FeatureDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = loop.build_model

    def broken_model(*arguments: Any) -> RetrievalModel:
        model: RetrievalModel = build(*arguments)
        dict(model.named_parameters())["mix.layers.0.feed.fc1.weight"].register_hook(lambda gradient: gradient / 0)
        return model

    monkeypatch.setattr(loop, "build_model", broken_model)
    with pytest.raises(
        ModelError, match=r"epoch 1, batch 2 .* is mix.layers.0.feed.fc1 .Linear, its weights are broken"
    ):
        train(_recipe(optimizer="sgd"), data, tmp_path / "m")


def test_a_device_without_bfloat16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small("mmt")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(step, "describe", lambda device: f"{device}: an old card")
    with pytest.raises(RecipeError, match='cuda:0: an old card cannot compute in bfloat16; set it to "float32"'):
        step.BatchStep(model, _recipe(precision="bfloat16").train, torch.device("cuda:0"))


def test_the_peak_of_a_gpu_is_recorded_and_a_host_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 123)
    assert devices.peak_memory(torch.device("cuda:0")) == {"peak_memory_bytes": 123}
    assert devices.peak_memory(torch.device("cpu")) == {}


def test_a_recipe_that_names_no_device_takes_that_of_the_environment(
    data: FeatureDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELSEEK_DEVICE", "cuda:77")
    with pytest.raises(UsageError, match="REELSEEK_DEVICE is 'cuda:77'"):
        train(_recipe(device="auto"), data, tmp_path / "m")
    train(_recipe(device="cpu", epochs=1), data, tmp_path / "n")
