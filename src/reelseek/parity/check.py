"""Reading fixtures, comparing, and which function answers for which recorded system."""

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
from reelseek.parity.fixture import Fixture, Found

__all__ = ["SYSTEMS", "Difference", "check", "find_fixtures", "read_fixture"]

SYSTEMS: dict[str, Callable[[Fixture], Found]] = {
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
    """One output compared. `worst` is infinite where shapes or kinds differ, or nothing was computed."""

    system: str
    output: str
    worst: float
    ok: bool
    note: str = ""

    def __str__(self) -> str:
        return f"{self.system} {self.output} {self.worst:.3g} {'ok' if self.ok else 'FAIL'}"


def find_fixtures(folders: Sequence[Path]) -> list[Path]:
    """Each folder that is a fixture, and those directly within a folder that is not.

    Raises:
        UsageError: a folder holds none.
    """
    found: list[Path] = []
    for folder in folders:
        inside = (
            [folder] if (folder / "config.json").is_file() else sorted(p.parent for p in folder.glob("*/config.json"))
        )
        if not inside:
            raise UsageError(f"{folder} holds no fixture: no config.json in it or in a folder of it")
        found += inside
    return found


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
        found = SYSTEMS[system](fixture)
    except Exception as error:  # whatever a foreign fixture runs into is its result, and the others still count
        yield Difference(name, "*", float("inf"), False, f"{type(error).__name__}: {error}")
        return
    for output, wanted in sorted(fixture.outputs.items()):
        ours = found.get(output)
        if ours is None:
            yield Difference(name, output, float("inf"), False, "not computed")
            continue
        yield _compare(
            name, output, ours, wanted, exact or float(tolerance.get("atol", 1e-5)),
            exact or float(tolerance.get("rtol", 1e-5)),
        )  # fmt: skip


def _compare(name: str, output: str, ours: Tensor, wanted: Tensor, atol: float, rtol: float) -> Difference:
    if ours.shape != wanted.shape:
        return Difference(name, output, float("inf"), False, f"shape {list(ours.shape)}, wanted {list(wanted.shape)}")
    discrete = not wanted.is_floating_point()
    one, two = ours.double(), wanted.double()
    gap = (one - two).abs()
    same = (one == two) | (one.isnan() & two.isnan())  # infinities and what was recorded as not a number
    gap = torch.where(same, torch.zeros((), dtype=gap.dtype), gap)
    worst = float(gap.max()) if gap.numel() else 0.0
    ok = bool((gap == 0).all()) if discrete else bool((gap <= atol + rtol * two.abs()).all())
    return Difference(name, output, worst, ok)
