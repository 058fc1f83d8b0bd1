"""Reads fixtures, computes the outputs of the recorded system, and compares them."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from reelseek.errors import UsageError
from reelseek.parity import losses, mixtures, scores, spaces, timing
from reelseek.parity.fixture import Fixture, Outputs

__all__ = ["SYSTEMS", "Difference", "check", "find_fixtures", "read_fixture"]

SYSTEMS: dict[str, Callable[[Fixture], Outputs]] = {
    "ce": mixtures.ce,
    "coot": spaces.coot,
    "coot_losses": losses.coot_losses,
    "crossclr": losses.crossclr,
    "crossclr_queue": losses.crossclr_queue,
    "eao": spaces.eao,
    "eao_audio": spaces.eao_audio,
    "max_margin": losses.max_margins,
    "mdmmt": mixtures.mdmmt,
    "mee": mixtures.mee,
    "metrics": scores.metrics,
    "milnce": losses.milnce,
    "mms": losses.mms_losses,
    "mmt": mixtures.mmt,
    "nce": losses.nce_losses,
    "umi": spaces.umi,
    "viterbi": timing.viterbi,
}


@dataclass(frozen=True)
class Difference:
    """The comparison of one output. `worst` is infinite where shapes differ, or nothing was computed."""

    system: str
    output: str
    worst: float
    ok: bool
    note: str = ""

    def __str__(self) -> str:
        return f"{self.system} {self.output} {self.worst:.3g} {'ok' if self.ok else 'FAIL'}"


def find_fixtures(folders: Sequence[Path]) -> list[Path]:
    """List the folders that are fixtures, and for any other folder the fixtures directly within it.

    Raises:
        UsageError: a folder holds no fixture.
    """
    fixtures: list[Path] = []
    for folder in folders:
        matches = (
            [folder] if (folder / "config.json").is_file() else sorted(p.parent for p in folder.glob("*/config.json"))
        )
        if not matches:
            raise UsageError(f"{folder} holds no fixture: neither it nor a folder in it has config.json")
        fixtures += matches
    return fixtures


def read_fixture(folder: Path) -> Fixture:
    """Read one fixture.

    Raises:
        UsageError: its files are absent or damaged.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        inputs, outputs = load_file(folder / "inputs.safetensors"), load_file(folder / "outputs.safetensors")
        weights = folder / "weights.safetensors"
        return Fixture(folder, config, inputs, load_file(weights) if weights.is_file() else {}, outputs)
    except (OSError, ValueError, SafetensorError) as error:
        raise UsageError(f"{folder} cannot be read as a fixture: {error}") from error


@torch.no_grad()
def check(fixture: Fixture) -> Iterator[Difference]:
    """Compare every recorded output of a fixture with ours."""
    name = system = str(fixture.config.get("system"))
    if system not in SYSTEMS:
        yield Difference(name, "*", float("inf"), False, f"no system is called {system!r} here")
        return
    tolerance = fixture.config.get("tolerance", {})
    exact = 1e-9 if system == "metrics" else None
    try:
        computed = SYSTEMS[system](fixture)
    except Exception as error:  # a failing fixture is reported, and the others still run
        yield Difference(name, "*", float("inf"), False, f"{type(error).__name__}: {error}")
        return
    for output, expected in sorted(fixture.outputs.items()):
        ours = computed.get(output)
        if ours is None:
            yield Difference(name, output, float("inf"), False, "not computed")
            continue
        yield _compare(
            name, output, ours, expected, exact or float(tolerance.get("atol", 1e-5)),
            exact or float(tolerance.get("rtol", 1e-5)),
        )  # fmt: skip


def _compare(name: str, output: str, ours: Tensor, expected: Tensor, atol: float, rtol: float) -> Difference:
    if ours.shape != expected.shape:
        return Difference(
            name, output, float("inf"), False, f"shape {list(ours.shape)}, recorded {list(expected.shape)}"
        )
    discrete = not expected.is_floating_point()
    computed, recorded = ours.double(), expected.double()
    difference = (computed - recorded).abs()
    # Equal infinities have no difference, nor has NaN where NaN was recorded.
    equal = (computed == recorded) | (computed.isnan() & recorded.isnan())
    difference = torch.where(equal, torch.zeros((), dtype=difference.dtype), difference)
    worst = float(difference.max()) if difference.numel() else 0.0
    ok = bool((difference == 0).all()) if discrete else bool((difference <= atol + rtol * recorded.abs()).all())
    return Difference(name, output, worst, ok)
