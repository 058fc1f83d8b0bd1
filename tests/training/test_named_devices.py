"""Placing steps, captions and experiments compute where a device is named, with the host's results."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models.pretended_device import DEVICE, pretended_device
from tests.models.worlds import DIMS, small
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.errors import UsageError
from reelseek.experiments.experiment import Arm, Column, Experiment, Table
from reelseek.experiments.run import run_experiment
from reelseek.library import Library, add
from reelseek.library.arrays import import_features
from reelseek.models import device as devices
from reelseek.models.captioner import Captioner
from reelseek.models.device import device_of, load_on_device
from reelseek.moments import localize, segment
from reelseek.training.captions import CaptionRecipe, train_captions
from reelseek.training.describe import caption

STEPS = ["sift the flour", "whisk the eggs", "bake the cake"]


@pytest.fixture(autouse=True)
def _no_inference_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pretended device's tensors lack it."""
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)
    monkeypatch.setattr(Captioner, "write", torch.no_grad()(Captioner.write.__wrapped__))


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve videos of eight seconds with random features, each with two captions."""
    folder, rng = tmp_path_factory.mktemp("devices"), np.random.default_rng(0)
    rows = ["video,caption,start,end,split"]
    for name, dim in DIMS.items():
        (folder / name).mkdir()
        for number in range(12):
            np.save(folder / name / f"v{number}.npy", rng.normal(size=(8, dim)).astype(np.float32))
    for number in range(12):
        split = "train" if number < 8 else "val"
        rows += [f"v{number},a {word} runs,{4 * i},{4 * i + 4},{split}" for i, word in enumerate(("cat", "dog"))]
    (folder / "rows.csv").write_text("\n".join(rows) + "\n")
    with Library.open(folder / "lib", create=True) as library:
        add(library, [folder / "rows.csv"], media=False)
        for name, modality in (("object", "object"), ("speech", "speech"), ("ocr", "ocr")):
            import_features(library, name, [folder / name], modality=modality, fps=1.0)
    return folder / "lib"


def test_steps_are_placed_and_videos_segmented_as_on_the_host(lib: Path) -> None:
    with Library.open(lib) as library:
        expected = localize(library, "v3", STEPS, model=small("late_fusion"), missing=True)
        parts = segment(library, "v3", STEPS, model=small("late_fusion"), background=True)
        with pretended_device():
            model = small("late_fusion")
            moved = localize(library, "v3", STEPS, model=model, missing=True, device=DEVICE)
            assert device_of(model) == DEVICE
            assert segment(library, "v3", STEPS, model=model, background=True).parts == parts.parts
    assert [step.start for step in moved.steps] == [step.start for step in expected.steps]
    np.testing.assert_allclose(moved.curves.similarity, expected.curves.similarity, atol=1e-5)


@pytest.mark.long
def test_a_captioner_learns_and_writes_on_the_device(lib: Path) -> None:
    recipe = CaptionRecipe(width=16, heads=2, layers=1, inner=16, epochs=2, updates=1, dropout=0.0)
    with Library.open(lib) as library:
        options = {"experts": ["object"], "device": "cpu"}
        losses: list[list[float]] = [[], []]
        writer, record = train_captions(library, recipe, **options, report=lambda *at: losses[0].append(at[2]))
        expected = caption(library, ["v9", "v10"], model=writer, index=False)
        with pretended_device():
            options["device"] = DEVICE
            moved, again = train_captions(library, recipe, **options, report=lambda *at: losses[1].append(at[2]))
            assert device_of(moved.captioner) == DEVICE
            assert caption(library, ["v9", "v10"], model=writer, index=False, device=DEVICE) == expected
            assert device_of(writer.captioner) == DEVICE
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert again["epoch"] == record["epoch"]


def test_a_loaded_model_stays_unless_a_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small("mmt").to("meta")
    assert device_of(load_on_device(model)) == torch.device("meta")
    assert device_of(load_on_device(small("mmt"), torch.device("meta"))) == torch.device("meta")
    monkeypatch.setattr(devices, "resolve_device", lambda name: torch.device("meta"))
    assert device_of(load_on_device("concepts")) == torch.device("meta")


@pytest.mark.parametrize(
    "command",
    [
        ["localize", "v3", "--steps", "STEPS"],
        ["segment", "v3", "--transcript", "STEPS"],
        ["caption", "v3"],
        ["captioner", "train", "--out", "OUT"],
        ["captioner", "evaluate", "x", "--library"],
        ["experiment", "umi", "--out", "OUT"],
        ["overlap", "scan", "--test", "train", "--train", "val", "--out", "OUT"],
        ["overlap", "curve", "--test", "train", "--train", "val", "--out", "OUT"],
        ["add", "--experts", "plain"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_device_that_is_not_here_is_refused_before_anything_is_written(
    command: list[str], lib: Path, tmp_path: Path
) -> None:
    (tmp_path / "steps.txt").write_text("\n".join(STEPS))
    out = tmp_path / "out"
    words = [{"STEPS": str(tmp_path / "steps.txt"), "OUT": str(out)}.get(word, word) for word in command]
    if command[0] != "experiment":
        place = {"captioner": 2, "overlap": 2}.get(command[0], 1)
        words.insert(len(words) if words[-1] == "--library" else place, str(lib))
    if command[0] == "add":
        words.insert(2, str(lib.parent / "rows.csv"))
    with pytest.raises(UsageError, match="cuda:77"):
        CliRunner().invoke(app, [*words, "--device", "cuda:77"], catch_exceptions=False)
    assert not out.exists()


def _named_device(folder: Path, seed: int) -> dict[str, dict[str, object]]:
    """An arm whose only value is the device that its process computes on."""
    folder.mkdir(parents=True, exist_ok=True)
    return {"all": {"device": os.environ["REELSEEK_DEVICE"]}}


@pytest.mark.long
def test_every_process_of_an_experiment_has_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELSEEK_DEVICE", "cpu")
    arm = Arm("where", measure=_named_device)
    experiment = Experiment("e", "A paper", (Table("t", "A table", (arm,), (Column("R@5", "recall_at_5"),), ()),))
    results = run_experiment(experiment, tmp_path, [1], device=torch.device("cuda", 1), workers=1)
    assert results[arm.key][0]["views"]["all"]["device"] == "cuda:1"
    assert os.environ["REELSEEK_DEVICE"] == "cpu"
