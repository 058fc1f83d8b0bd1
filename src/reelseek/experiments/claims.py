"""Every claim of the texts, tried table by table, cheapest first; each table's record is written when it ends."""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from reelseek.cluster import Cluster
from reelseek.errors import UsageError, suggest
from reelseek.experiments.claims_page import ClaimRow, claim_rows, claims_page, read_records
from reelseek.experiments.crossclr import CROSSCLR
from reelseek.experiments.eao import EAO
from reelseek.experiments.experiment import Experiment, Table
from reelseek.experiments.mdmmt import MDMMT
from reelseek.experiments.mmv import MMV
from reelseek.experiments.trial import SEED_CHOICES, Trial, as_plain, require_enough_seeds, try_table
from reelseek.experiments.umi import UMI
from reelseek.library.files import write_whole
from reelseek.studio.redundant_worlds import redundant_generator_hash

__all__ = ["TEXTS", "Outcome", "TrialOptions", "ordered_tables", "try_claims"]

TEXTS: tuple[Experiment, ...] = (UMI, EAO, CROSSCLR, MDMMT, MMV)
_CHEAPEST = (
    "mmv/deflation", "mmv/graphs", "umi/settings", "mdmmt/overlap", "eao/positions", "eao/backbones",
    "eao/disentangling", "mdmmt/experts", "mdmmt/pre-training", "mdmmt/domains", "eao/shape", "crossclr/weight-scale",
    "crossclr/pruning", "crossclr/queue", "crossclr/positives", "crossclr/experts", "umi/objective", "umi/systems",
    "umi/combinations",
)  # fmt: skip
_QUICK_TABLE, _QUICK_SEEDS = "mmv/graphs", 8
Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class TrialOptions:
    """What is tried.

    Args:
        tables: `PAPER/TABLE`; None takes all.
        seeds: exactly these are run, instead of as many as each claim needs.
        quick: one table, with eight seeds at most; MMV's graphs, if none is named.
        hours: no table is begun later, and after its pilot no training that would end later.
    """

    tables: Sequence[str] | None = None
    seeds: Sequence[int] | None = None
    quick: bool = False
    hours: float = 6.0

    @property
    def choices(self) -> tuple[int, ...]:
        """Numbers of seeds to choose from."""
        if self.seeds is not None:
            return (len(self.seeds),)
        return tuple(n for n in SEED_CHOICES if not self.quick or n <= _QUICK_SEEDS)

    def require_quick(self) -> None:
        """Refuse what a quick trial would have to leave out.

        Raises:
            UsageError: `quick` with several tables, or with more than eight seeds.
        """
        if not self.quick:
            return
        if len(self.tables or ()) > 1:
            raise UsageError(
                f"--quick tries one table, and {len(self.tables or ())} are named: {', '.join(self.tables or ())}; "
                "name one, or leave out --quick"
            )
        if len(self.seeds or ()) > _QUICK_SEEDS:
            raise UsageError(
                f"--quick takes {_QUICK_SEEDS} seeds at most, and {len(self.seeds or ())} are named; name fewer, or "
                "leave out --quick"
            )


@dataclass(frozen=True)
class Outcome:
    """What became of all claims.

    Attributes:
        left_out: tables that were not begun, or not ended, for lack of time.
    """

    claims: Sequence[ClaimRow]
    left_out: Sequence[str]

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        return [(row.claim.says, f"{row.experiment.name}/{row.table.name}", row.verdict) for row in self.claims]

    @property
    def counts(self) -> str:
        verdicts = [row.verdict for row in self.claims]
        return ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))

    def as_json(self) -> dict[str, Any]:
        """Return every claim with its verdict, its reason and its record."""
        names = ("says", "source", "quote", "table", "verdict", "reason", "record")
        return {
            "generator": redundant_generator_hash(),
            "left_out": list(self.left_out),
            "claims": [
                dict(zip(names, (row.claim.says, row.claim.source, row.claim.quote,
                                 f"{row.experiment.name}/{row.table.name}", row.verdict, row.reason, row.record),
                         strict=True))
                for row in self.claims
            ],
        }  # fmt: skip


def ordered_tables() -> dict[str, tuple[Experiment, Table]]:
    """Return every table by its name PAPER/TABLE, cheapest first."""
    tables = {f"{paper.name}/{table.name}": (paper, table) for paper in TEXTS for table in paper.tables}
    return {name: tables[name] for name in sorted(tables, key=_CHEAPEST.index)}


def try_claims(
    options: TrialOptions,
    out: Path,
    page: Path,
    *,
    workers: int | None = None,
    device: str | torch.device | None = None,
    cluster: Cluster | None = None,
    progress: Progress = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Try claims, and write the page of all claims anew after every table.

    Args:
        out: folder of models and runs; a stopped trial goes on.
        page: its records lie beside it, in a folder of its name; those of other tables stay.

    Raises:
        UsageError: there is no such table, or too few seeds for any claim.
    """
    tables = ordered_tables()
    options.require_quick()
    names = list(options.tables or ([_QUICK_TABLE] if options.quick else tables))
    for name in names:
        if name not in tables:
            raise UsageError(f"there is no table {name!r}{suggest(name, tables)}; there are {', '.join(tables)}")
    if options.seeds is not None:
        require_enough_seeds(options.seeds)
    records, generator = page.parent / page.stem, redundant_generator_hash()
    begun, left_out = time.monotonic(), []
    for name in names:
        earlier = read_records(records, generator, TEXTS)[0].get((tables[name][0].name, tables[name][1].name))
        trial = try_table(
            *tables[name], out, choices=options.choices, seeds=options.seeds or range(1, max(SEED_CHOICES) + 1),
            earlier=_deviations(earlier), workers=workers, device=device, cluster=cluster, progress=progress, say=say,
            deadline=begun + 3600 * options.hours,
        )  # fmt: skip
        left_out += [name] if trial.left_out else []
        if earlier is not None and _says_more(earlier, trial):
            say(f"{name}: nothing was trained; what an earlier trial recorded stays")
            continue
        plain = as_plain(trial, {"generator": generator, "command": _command(options, name), "machine": _machine()})
        if _figures(plain) != _figures(earlier):  # the same figures stay those of the machine that trained them
            records.mkdir(parents=True, exist_ok=True)
            write_whole(records / f"{name.replace('/', '-')}.json", json.dumps(plain, indent=1) + "\n")
        _write_page(page, records, generator, say)
    return Outcome(claim_rows(TEXTS, _write_page(page, records, generator, say)), left_out)


def _deviations(record: Mapping[str, Any] | None) -> dict[str, list[float]]:
    """Standard deviations that the pilot of a recorded trial found, by what a claim says."""
    claims = [] if record is None else record["claims"]
    return {
        claim["says"]: [pair["pilot"]["deviation"] for pair in claim["comparisons"]]
        for claim in claims
        if claim["comparisons"] and all(pair["pilot"] for pair in claim["comparisons"])
    }


def _says_more(earlier: Mapping[str, Any], trial: Trial) -> bool:
    """Whether an earlier record holds trained arms, or refusals of a pilot, that this trial did not come to."""
    if trial.results:
        return False
    missed = {claim.says for claim in trial.table.claims} - {judged.claim.says for judged in trial.judged}
    return bool(earlier["arms"]) or any(claim["says"] in missed for claim in earlier["claims"])


def _figures(record: Mapping[str, Any] | None) -> str:
    """A record without the machine and how busy it was, as text."""
    return json.dumps({name: field for name, field in (record or {}).items() if name != "machine"}, sort_keys=True)


def _write_page(page: Path, records: Path, generator: str, say: Callable[[str], None]) -> Any:
    present, others = read_records(records, generator, TEXTS)
    if others:
        say(f"{records} holds {others} records of other generators or of arms since changed, which are left out")
    page.parent.mkdir(parents=True, exist_ok=True)
    write_whole(page, claims_page(TEXTS, present, generator, f"reelseek experiment claims --page {page}"))
    return present


def _command(options: TrialOptions, name: str) -> str:
    more = [" --quick"] if options.quick else []
    more += [f" --seeds {','.join(map(str, options.seeds))}"] if options.seeds is not None else []
    return f"reelseek experiment claims --tables {name}{''.join(more)}"


def _machine() -> str:
    """The machine in words, and how busy it was, which times depend on."""
    load = f", load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else ""
    return f"{platform.machine()}, torch {torch.__version__}{load}"
