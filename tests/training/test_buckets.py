"""Shapes rounded up to a few: the same numbers, few shapes, no question to the device, and one graph for each shape."""

import copy
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.pretended_device import DEVICE, pretended_device
from tests.models.worlds import SMALL, TEXTS, batch_of, small
from torch import Tensor, nn

from reelseek.errors import ModelError, RecipeError
from reelseek.models import SYSTEMS, RetrievalModel
from reelseek.models.batch import Batch
from reelseek.models.blocks import mix
from reelseek.models.blocks.arrange import TokenSequence
from reelseek.models.blocks.mix import Attention, Transformer, bucketed, prepared_plans
from reelseek.models.blocks.plan import Plan, size_of_bucket
from reelseek.models.planning import AttentionPlanner, read_plans
from reelseek.models.text import TextConfig, TextEncoder
from reelseek.training import FeatureDataset, Recipe, loop, step, train
from reelseek.training.buckets import BucketedLayers
from reelseek.training.checkpoints import run_identity
from reelseek.training.recipe import recipe_from

ROOT = Path(__file__).parents[2]
KEPT: list[tuple[str, dict[str, object]]] = [("mmt", {"missing": "keep"}), ("mdmmt", {"missing": "keep"})]
TRAINED = [name for name in SMALL if SYSTEMS[name.partition("+")[0]].trained]
SHORT = ("mmt", "mdmmt", "eao", "crossclr", "mbt", "zorro", "token_fusion", "umi", "perceiver_io")
PLANNED = ("late_fusion", "mmt", "mdmmt", "mbt", "zorro", "token_fusion", "umi", "clip4clip")


def _attends(model: RetrievalModel) -> bool:
    return any(isinstance(module, Attention) for module in model.modules())


def _learning(name: str, more: dict[str, object]) -> tuple[RetrievalModel, Batch]:
    """A model in training without dropout, whose numbers depend on shapes; and a batch with nothing of one clip."""
    model = small(name, **more).train()
    for module in model.modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    if "dropout" in vars(model.config):
        model.config = replace(model.config, dropout=0.0)
    batch = batch_of(model)
    for steps in batch.tokens.values():
        steps.present[1] = False
    return model, batch


def _loss_and_gradients(model: RetrievalModel, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    torch.manual_seed(0)
    loss = torch.stack(list(model.loss(batch).values())).sum()
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("name", "more"), [(name, {}) for name in TRAINED] + KEPT)
def test_a_loss_and_its_gradients_are_those_without_buckets(name: str, more: dict[str, object]) -> None:
    model, batch = _learning(name, more)
    if not _attends(model):
        with pytest.raises(RecipeError, match=f"train.buckets pads what transformers compute, which {model.system} "):
            step.BatchStep(model, _recipe(buckets=2).train, torch.device("cpu"))
        return
    padded, layers = copy.deepcopy(model), BucketedLayers()
    expected, gradients = _loss_and_gradients(model, batch)
    with bucketed(2, layers):
        loss, others = _loss_and_gradients(padded, batch)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    assert others.keys() == gradients.keys()
    for parameter, gradient in gradients.items():
        torch.testing.assert_close(others[parameter], gradient, atol=1e-5, rtol=1e-3, msg=parameter)
    assert layers.record["padding_tokens"] > 0


def _random_sequence(rng: np.random.Generator, *, positions: bool) -> TokenSequence:
    """Two or three groups over shared columns, some videos without a token of a group or of any."""
    videos, columns = int(rng.integers(1, 7)), int(rng.integers(1, 12))
    values = torch.from_numpy(rng.normal(size=(videos, columns, 8)))
    views = [np.sort(rng.choice(columns, rng.integers(1, columns + 1), replace=False)) for _ in range(3)]
    source = torch.from_numpy(np.concatenate(views))
    group = torch.arange(3).repeat_interleave(torch.tensor([len(view) for view in views]))
    of_column = torch.from_numpy(rng.random((videos, columns)) < rng.choice([0.0, 0.4, 1.0], (videos, 1)))
    present = of_column[:, source]
    position = torch.arange(columns) if positions else None
    return TokenSequence(values, present, group, source, position)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), buckets=st.integers(1, 4), positions=st.booleans(), extra=st.booleans())
def test_any_mask_gives_what_packing_gives(seed: int, buckets: int, positions: bool, extra: bool) -> None:
    """Views of shared columns, groups that read one another, tokens that nobody reads, videos without any."""
    rng = np.random.default_rng(seed)
    sequence = _random_sequence(rng, positions=positions)
    relation = torch.from_numpy(rng.random((3, 3)) < 0.5) | torch.eye(3, dtype=torch.bool)
    also = ~sequence.present & torch.from_numpy(rng.random(sequence.present.shape) < 0.3) if extra else None
    torch.manual_seed(seed)
    layers = Transformer(2, 8, 2, 8, order="pre").double().train()
    results = []
    for count in (0, buckets):
        values = sequence.values.clone().requires_grad_()
        with bucketed(count):
            output = layers(replace(sequence, values=values), relation, also)
        output.square().sum().backward()
        results.append((output.detach(), values.grad))
    torch.testing.assert_close(results[1], results[0])


@settings(max_examples=100, deadline=None)
@given(count=st.integers(1, 5000), buckets=st.integers(1, 16))
def test_sizes_are_few_and_not_far(count: int, buckets: int) -> None:
    size = size_of_bucket(count, buckets)
    assert size >= count
    assert size % 8 == 0
    assert size - count < max(8, count / buckets + 8)
    power = 1 << (count - 1).bit_length() if count > 1 else 1
    between = {size_of_bucket(other, buckets) for other in range(power // 2 + 1, power + 1)}
    assert len(between) <= buckets
    assert size_of_bucket(size, buckets) == size


@pytest.fixture(scope="module")
def frozen_text() -> None:
    """The frozen text side is copied to a device once a process; that is not a step's."""
    encoder = TextEncoder(TextConfig())
    encoder.words(TEXTS)
    with pretended_device(), torch.no_grad():
        encoder.to(DEVICE).words(TEXTS)


@pytest.mark.usefixtures("frozen_text")
@pytest.mark.parametrize(
    "name",
    [
        name if name in SHORT else pytest.param(name, marks=pytest.mark.long)
        for name in TRAINED
        if _attends(small(name))
    ],
)
def test_a_step_on_a_device_waits_no_more_than_without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With plans that came with the batch: of systems that can be planned for, the step makes none."""
    model = small(name).train()
    model.encode_texts(TEXTS)
    batch = batch_of(model)
    plans = read_plans(AttentionPlanner(model, buckets=2)(batch.tokens))
    assert all(plan.padding is not None for plan in plans.values())
    if name in PLANNED:
        assert plans
        monkeypatch.setattr(mix, "_make_plan", lambda *_: pytest.fail("the step plans attention itself"))
    with pretended_device() as watch:
        moved = copy.deepcopy(model).to(DEVICE).train()
        there = replace(batch, plans=plans).to(DEVICE)
        watch.waits.clear()
        with bucketed(2), prepared_plans(there.plans):
            torch.stack(list(moved.loss(there).values())).sum().backward()
        assert watch.count <= 2, f"\n{watch}"


CLIPS, BATCH, LONGEST = 90, 16, 20


def _data() -> FeatureDataset:
    """70 clips to learn from and 20 to validate on, of tracks of any length; one expert is often absent."""
    rng = np.random.default_rng(0)
    tracks: dict[str, list[Any]] = {
        name: [rng.normal(size=(int(rng.integers(1, LONGEST + 1)), 8)).astype(np.float32) for _ in range(CLIPS)]
        for name in ("see", "hear")
    }
    for clip in range(0, CLIPS, 3):
        tracks["hear"][clip] = None
    captions = rng.normal(size=(CLIPS, 12)).astype(np.float32)
    return FeatureDataset(tracks, captions=captions, splits=["train"] * 70 + ["val"] * 20)


@pytest.fixture(scope="module")
def data() -> FeatureDataset:
    return _data()


def _recipe(**changes: Any) -> Recipe:
    model = {"system": "mmt", "width": 16, "depth": 1, "heads": 2, "inner": 16, "dropout": 0.0}
    config = {"epochs": 3, "batch": BATCH, "rate": 3e-3, "device": "cpu"} | changes
    return recipe_from({"model": model, "data": {"validation": "val"}, "train": config}, "test")


def _losses(folder: Path) -> list[float]:
    return [float(line.split(",")[1]) for line in (folder / "log.csv").read_text().splitlines()[2:]]


def test_a_run_has_few_shapes_and_says_what_they_cost(
    data: FeatureDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Four full batches an epoch and one of six clips: sizes of 16 and 8 clips, and of at most 43 tokens."""
    shapes: set[tuple[int, ...]] = set()
    run = mix.run_layers

    def counted(layers: Sequence[nn.Module], rows: Tensor, plan: Plan) -> Tensor:
        if layers[0].training:
            shapes.add(plan.shape)
        return run(layers, rows, plan)

    monkeypatch.setattr(mix, "run_layers", counted)
    train(_recipe(), data, tmp_path / "packed")
    packed = len(shapes)
    with caplog.at_level(logging.INFO, "reelseek"):
        model = train(_recipe(buckets=2), data, tmp_path / "padded")
    assert _losses(tmp_path / "padded") == pytest.approx(_losses(tmp_path / "packed"), abs=1e-5)
    record = model.record["buckets"]
    tokens = {size_of_bucket(count, 2) for count in range(1, 2 * (LONGEST + 1) + 2)}
    assert record["shapes"] <= 2 * len(tokens) < packed == 15
    assert record["shapes"] <= 4
    assert json.loads((tmp_path / "padded" / "config.json").read_text())["buckets"] == record
    assert "buckets" not in json.loads((tmp_path / "packed" / "config.json").read_text())
    said = [message for message in caplog.messages if "of padding" in message]
    assert len(said) == 3
    total = f"{record['tokens']:,} tokens in {record['shapes']} shapes, and {record['padding_tokens']:,} of padding"
    assert said[-1].startswith(f"epoch 3: since this process began, transformers computed {total} (")


def test_a_run_without_buckets_resumes_as_before_and_with_them_is_another() -> None:
    plain, padded = (run_identity(_recipe(**changes), (), {}) for changes in ({}, {"buckets": 2}))
    assert "buckets" not in plain
    assert plain != padded
    with pytest.raises(RecipeError, match="buckets"):
        _recipe(buckets=-1)


def test_a_layer_that_breaks_is_named_beside_compiled_code(
    data: FeatureDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch has hooks in the layers, into which compiled code does not look."""
    build, compiled_steps = loop.build_model, []

    def broken_model(*arguments: Any) -> RetrievalModel:
        model: RetrievalModel = build(*arguments)
        dict(model.named_parameters())["mix.layers.0.feed.fc1.weight"].register_hook(lambda gradient: gradient / 0)
        return model

    def compiler(run: Any, **options: Any) -> Any:
        assert (options["fullgraph"], options["dynamic"]) == (True, False)

        def compiled(layers: nn.ModuleList, rows: Tensor, plan: Plan) -> Tensor:
            assert not any(module._forward_hooks for module in layers.modules()), "a hook that would not be called"
            compiled_steps.append(plan.shape)
            result: Tensor = run(layers, rows, plan)
            return result

        return compiled

    monkeypatch.setattr(loop, "build_model", broken_model)
    monkeypatch.setattr(torch, "compile", compiler)
    with pytest.raises(ModelError, match=r"batch 2 .* is mix.layers.0.feed.fc1 .Linear, its weights are broken"):
        train(_recipe(optimizer="sgd", compile=True, buckets=2), data, tmp_path / "m")
    assert len(compiled_steps) > 5


@pytest.mark.parametrize("share", [1, 2])
def test_gradients_leave_the_memory_of_a_graph_before_it_is_replayed(
    share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where more are added to them, before a step of the optimizer."""
    monkeypatch.setattr(step.BatchStep, "_replays_graphs", True)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: None)
    model = small("mmt").train()
    written: dict[int, int] = {}
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(lambda p: written.update({id(p): p.grad.data_ptr()}))
    step.BatchStep(model, _recipe(buckets=2).train, torch.device("cpu")).backward(batch_of(model), share)
    moved = [p.grad.data_ptr() != written[id(p)] for p in model.parameters() if id(p) in written]
    assert moved
    assert all(moved) if share == 2 else not any(moved)


def _run(*arguments: str) -> None:
    process = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=3000, check=False, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-4000:]


COMPILED = """
import copy, sys, torch
from pathlib import Path
from tests.models.worlds import small
from tests.training.test_buckets import _learning, _recipe, _data, _losses
from torch._dynamo.utils import counters
from reelseek.models.batch import Batch
from reelseek.training import step, train

graphs = []
step._BACKEND = lambda graph, inputs: graphs.append(1) or graph.forward
for name in sys.argv[2:]:
    torch._dynamo.reset(), counters.clear(), graphs.clear()
    model, batch = _learning(name, {})
    batches = [batch, batch.rows(torch.tensor([0, 2, 3])), batch, batch.rows(torch.tensor([3, 0])), batch]
    config = _recipe(compile=True, buckets=2).train
    compiled = step.BatchStep(copy.deepcopy(model), config, torch.device("cpu"))
    plain = step.BatchStep(model, _recipe().train, torch.device("cpu"))
    for each in batches:
        losses = []
        for one in (plain, compiled):
            torch.manual_seed(0)
            losses.append(one.backward(each, 1))
        torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-5)
    for one, two in zip(compiled.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, atol=1e-4, rtol=1e-3)
    assert not counters["graph_break"], counters["graph_break"]
    assert 1 <= len(graphs) <= compiled.layers.record["shapes"], (name, len(graphs), compiled.layers.record)
    assert counters["stats"]["unique_graphs"] == len(graphs)

if len(sys.argv) > 3:
    torch._dynamo.reset(), counters.clear(), graphs.clear()
    model = train(_recipe(compile=True, buckets=1), _data(), Path(sys.argv[1]) / "compiled")
    assert not counters["graph_break"]
    assert len(graphs) <= model.record["buckets"]["shapes"], (len(graphs), model.record)
    train(_recipe(), _data(), Path(sys.argv[1]) / "plain")
    for one, two in zip(*(_losses(Path(sys.argv[1]) / name) for name in ("compiled", "plain")), strict=True):
        assert abs(one - two) < 1e-4, (one, two)
"""


@pytest.mark.long
@pytest.mark.parametrize("names", [("mmt",), ("mdmmt", "eao", "crossclr", "mbt", "umi", "coot")])
def test_layers_are_compiled_once_for_each_shape(names: tuple[str, ...], tmp_path: Path) -> None:
    """In a process without the checks of shapes that tests have, which cannot be traced."""
    _run("-c", COMPILED, str(tmp_path), *names)


GRAPHS = """
import copy, sys, torch
from tests.training.test_buckets import _learning, _recipe
from reelseek.training import step

device = torch.device("cuda")
for name in sys.argv[1:]:
    model, batch = _learning(name, {})
    model.to(device)
    batches = [batch, batch.rows(torch.tensor([0, 2, 3])), batch, batch.rows(torch.tensor([3, 0])), batch, batch]
    steps = [
        step.BatchStep(copy.deepcopy(model), _recipe(**more).train, device)
        for more in ({}, {"buckets": 2, "compile": "reduce-overhead"})
    ]
    for _ in range(3):
        for one in steps:
            one.model.zero_grad()
        for each in batches:  # gradients are added up over all of them
            losses = []
            for one in steps:
                torch.manual_seed(0)
                losses.append(one.backward(each, len(batches)))
            torch.testing.assert_close(*losses, atol=1e-3, rtol=1e-3)
        for one, two in zip(*(one.model.parameters() for one in steps), strict=True):
            if one.grad is not None:
                torch.testing.assert_close(two.grad, one.grad, atol=1e-3, rtol=1e-2)
counters = torch._dynamo.utils.counters
assert counters["stats"]["unique_graphs"]
assert counters["inductor"]["cudagraph_skips"] == 0, dict(counters["inductor"])  # computed without one
"""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
@pytest.mark.parametrize("name", ["mmt", "mdmmt", "eao", "crossclr", "mbt"])
def test_replayed_graphs_learn_what_packed_rows_learn(name: str) -> None:
    _run("-c", GRAPHS, name)
