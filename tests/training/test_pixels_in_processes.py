"""Networks that learn from pixels in two processes: what one would learn, and what happens where one of them fails."""

import csv
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.training.launch import run_two, start_two
from tests.training.shared_pixels import CASES, gradients_of
from tests.training.test_pixels import TINY, toml

from reelseek.library import Library, add
from reelseek.models import load_model
from reelseek.training import read_recipe, train

# Adam's first step is the sign of a gradient, which rounding turns around where it is small; and a temperature of 0.07
# multiplies what is rounded by 14 before an exponential.
SMOOTH: dict[str, Any] = {
    **TINY,
    "model": {**TINY["model"], "temperature": 1.0},
    "train": {"optimizer": "sgd", "rate": 1e-3, "epochs": 3, "batch": 6, "metric": "mean_rank", "workers": 2},
}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gradients that two processes had together."""
    out = tmp_path_factory.mktemp("together")
    ended = run_two(["-m", "tests.training.shared_pixels", out])
    assert [status for status, _, _ in ended] == [0, 0], ended
    return out


@pytest.mark.parametrize(
    "case", [name if name != "tsm" else pytest.param(name, marks=pytest.mark.long) for name in CASES]
)
def test_two_processes_have_the_gradients_of_one(case: str, together: Path) -> None:
    """Of both networks, whose batch statistics are of the whole batch, and of the heads."""
    alone, shared = gradients_of(case), load_file(together / case)
    assert alone.keys() == shared.keys()
    for network in ("vision_net", "audio_net"):
        assert any(value.abs().max() > 1e-6 for name, value in alone.items() if name.startswith(f"networks.{network}"))
    largest = max(float(value.abs().max()) for name, value in alone.items() if not name.startswith("remembered"))
    for name, value in alone.items():
        # Sums of double precision in another order; vectors of words are of single precision, rounded by their batch.
        if value.numel():
            assert float((shared[name] - value).abs().max()) <= 1e-8 * largest, name


def _train(recipe: dict[str, Any], library: Path, out: Path, *changes: str) -> None:
    with Library.open(library) as opened:
        train(read_recipe(recipe, changes), opened, out, device="cpu")


def _command(recipe: dict[str, Any], library: Path, out: Path, *changes: str) -> list[str]:
    """What `torchrun` would start."""
    file = out.with_suffix(".toml")
    file.write_text(toml(recipe))
    options = [part for change in changes for part in ("--set", change)]
    return [
        "-m",
        "reelseek",
        "train",
        str(file),
        "--library",
        str(library),
        "--out",
        str(out),
        "--device",
        "cpu",
        *options,
    ]


@pytest.fixture(scope="module")
def pair(library_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that nothing disturbed."""
    out = tmp_path_factory.mktemp("pair") / "two"
    ended = run_two(_command(SMOOTH, library_path, out))
    assert [status for status, _, _ in ended] == [0, 0], ended
    assert [output for _, output, _ in ended] == [f"{out}\n", ""]
    assert "".join(errors for _, _, errors in ended).count("epoch   1") == 1
    return out


def _losses(folder: Path) -> list[float]:
    with (folder / "log.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)][1:]


def _check_same(one: Path, two: Path) -> None:
    """The same but for rounding: of single precision, in sums of another order, over a few steps.

    Batch normalisation of a few values multiplies it; gradients are compared in double precision above.
    """
    assert _losses(two) == pytest.approx(_losses(one), rel=1e-4)
    alone, shared = load_file(one / "state.safetensors"), load_file(two / "state.safetensors")
    assert alone.keys() == shared.keys()
    for name, value in alone.items():
        if name.startswith("model.") and value.dtype.is_floating_point:
            allowed = 1e-3 * max(1.0, float(value.abs().max()))
            assert float((shared[name] - value).abs().max()) < allowed, name
    learnt = load_file(one / "best.safetensors")
    assert learnt.keys() == load_file(two / "best.safetensors").keys()


@pytest.mark.long
def test_two_processes_learn_what_one_learns(pair: Path, library_path: Path, tmp_path: Path) -> None:
    """From the same windows, however many processes decode them."""
    _train(SMOOTH, library_path, tmp_path / "one", "train.workers=0")
    _check_same(tmp_path / "one", pair)
    for network in ("vision_net", "audio_net"):
        assert load_file(pair / network / "model.safetensors").keys()


@pytest.mark.long
def test_two_processes_learn_in_chunks(library_path: Path, tmp_path: Path) -> None:
    """Shares of three and two clips are a chunk each, and so is a batch of five in one process."""
    changes = ("train.epochs=1", "train.workers=1")
    ended = run_two(_command(SMOOTH, library_path, tmp_path / "two", *changes, "train.chunk=3"))
    assert [status for status, _, _ in ended] == [0, 0], ended
    _train(SMOOTH, library_path, tmp_path / "one", *changes, "train.chunk=6")
    _check_same(tmp_path / "one", tmp_path / "two")


@pytest.mark.long
def test_a_killed_run_of_two_processes_goes_on(pair: Path, library_path: Path, tmp_path: Path) -> None:
    """One is killed; the other ends by itself, and both end later as if nothing had been."""
    command, log = _command(SMOOTH, library_path, tmp_path / "two"), tmp_path / "two" / "log.csv"
    first, second = start_two(command)
    deadline = time.monotonic() + 600
    while not (
        log.is_file() and len(log.read_text().splitlines()) > 2 and (log.parent / "state.safetensors").is_file()
    ):
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    second.kill()
    second.communicate(timeout=60)
    errors = first.communicate(timeout=120)[1]
    assert first.returncode not in (0, None), errors
    assert "waited for another process, which has ended" in errors.splitlines()[-1]
    assert not (tmp_path / "two" / "model.safetensors").exists()
    ended = run_two(command)
    assert [status for status, _, _ in ended] == [0, 0], ended
    resumed, whole = (load_file(folder / "state.safetensors") for folder in (tmp_path / "two", pair))
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


@pytest.mark.long
@pytest.mark.parametrize("batch", [6, 2])  # in batches of two, the damaged film is all that its process has
def test_a_film_that_one_process_cannot_decode_is_said_as_by_one(batch: int, archive: Path, tmp_path: Path) -> None:
    films = shutil.copytree(archive, tmp_path / "films")
    with Library.open(tmp_path / "library", create=True) as library:
        assert not add(library, [films], captions=films / "captions.csv", workers=2).failed
        name = next(video for video in library.videos() if video.split == "train").id
    (films / name).write_bytes(b"no film" * 1000)
    changes = ("train.epochs=1", f"train.batch={batch}")
    ended = run_two(_command(SMOOTH, tmp_path / "library", tmp_path / "two", *changes))
    assert ended[0][0] == 1, ended
    assert ended[1][0] == 0, ended
    assert "".join(errors for _, _, errors in ended).count(f"{name} cannot be decoded") == 1, ended
    _train(SMOOTH, tmp_path / "library", tmp_path / "one", *changes)
    one, two = (load_model(tmp_path / folder).record for folder in ("one", "two"))
    assert list(one["unreadable_videos"]) == [name]
    assert two["unreadable_videos"] == one["unreadable_videos"]
    assert two["warnings"] == one["warnings"]
    # Normalised over two clips, weights round apart; gradients of such a share are compared above.
    assert _losses(tmp_path / "two") == pytest.approx(_losses(tmp_path / "one"), rel=1e-3)
