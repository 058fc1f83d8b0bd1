"""The page of claims: what was decided, what cannot be decided here, and what waits, from records of trials."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelseek.experiments.experiment import NOT_CLAIMED, SATURATED, Claim, Experiment, Table
from reelseek.experiments.run import table_identity
from reelseek.experiments.trial import PILOT_SEEDS, SEED_CHOICES
from reelseek.studio.redundant_worlds import TEXT_GEOMETRIES

__all__ = ["WAITING", "ClaimRow", "claim_rows", "claims_page", "read_records"]

WAITING = "not yet run with this generator"
_ORDER = ("reproduced", "contradicted", "not decidable here", WAITING, NOT_CLAIMED)
Record = Mapping[str, Any]


@dataclass(frozen=True)
class ClaimRow:
    """A claim and what became of it.

    Attributes:
        record: of the trial of its table, and of the claim in it; None where it waits.
        verdict: one of the four, or that it waits.
    """

    experiment: Experiment
    table: Table
    claim: Claim
    verdict: str
    reason: str
    record: Record | None


def read_records(
    folder: Path, generator: str, experiments: Iterable[Experiment]
) -> tuple[dict[tuple[str, str], Record], int]:
    """Read the records of a folder by experiment and table; count and leave out those of other generators or arms.

    Args:
        experiments: whose tables' arms, as they are now, a record must have been made with.
    """
    tables = {(experiment.name, table.name): table for experiment in experiments for table in experiment.tables}
    records: dict[tuple[str, str], Record] = {}
    others = 0
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text("utf-8"))
        if not isinstance(record, dict) or not {"experiment", "table", "generator", "claims"} <= set(record):
            continue
        key = record["experiment"], record["table"]
        identity = table_identity(tables[key]) if key in tables else None
        if record["generator"] == generator and identity in (None, record.get("identity")):
            records[key] = record
        else:
            others += 1
    return records, others


def claim_rows(experiments: Iterable[Experiment], records: Mapping[tuple[str, str], Record]) -> list[ClaimRow]:
    """List every claim with its verdict; a claim whose statement was changed since its trial waits again."""
    rows = []
    for experiment in experiments:
        for table in experiment.tables:
            tried = {claim["says"]: claim for claim in records.get((experiment.name, table.name), {}).get("claims", ())}
            for claim in table.claims:
                record = tried.get(claim.says)
                verdict: str
                if claim.why:
                    verdict, reason = claim.untried, claim.why
                elif record is None:
                    verdict, reason = WAITING, ""
                else:
                    verdict, reason = record["verdict"], record["reason"]
                rows.append(ClaimRow(experiment, table, claim, verdict, reason, record))
    return rows


def claims_page(
    experiments: Sequence[Experiment], records: Mapping[tuple[str, str], Record], generator: str, command: str
) -> str:
    """Return the page as Markdown.

    Args:
        records: see `read_records`.
        command: what writes it again.
    """
    rows = claim_rows(experiments, records)
    lines = [
        "# What became of the papers' claims",
        "",
        f"This page is written by `{command}`; mend the command and not the page.",
        "",
        *_summary(rows),
        *_explain_trials(generator),
    ]
    for verdict in _ORDER:
        selected = [row for row in rows if row.verdict == verdict]
        if selected:
            lines += [f"## {verdict.capitalize()}", ""]
            lines += _waiting(selected) if verdict == WAITING else [line for row in selected for line in _claim(row)]
    lines += ["## Tables", ""]
    for experiment in experiments:
        for table in experiment.tables:
            record = records.get((experiment.name, table.name))
            if record is not None:
                lines += _table(experiment, table, record)
    return "\n".join(lines).rstrip() + "\n"


def _summary(rows: Sequence[ClaimRow]) -> list[str]:
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in _ORDER}
    decided = [row for row in rows if row.verdict in ("reproduced", "contradicted")]
    lines = [
        "## What can be decided",
        "",
        f"{len(rows)} claims: {', '.join(f'{count} {verdict}' for verdict, count in counts.items())}.",
        "",
    ]
    if decided:
        lines += [
            "| claim | table | verdict | the text's difference | smallest detectable | measured |",
            "| --- | --- | --- | --: | --: | --: |",
        ]
        for row in decided:
            assert row.record is not None
            pairs = row.record["comparisons"]
            lines.append(
                f"| {row.claim.says} | {row.experiment.name} {row.table.name} | {row.verdict} | "
                f"{_join_cells(_published(pair) for pair in pairs)} | "
                f"{_join_cells(_points(pair['detectable']) for pair in pairs)} | "
                f"{_join_cells(_points(pair['difference'], sign=True) for pair in pairs)} |"
            )
        lines.append("")
    return lines


def _explain_trials(generator: str) -> list[str]:
    geometries = "; ".join(
        f"`{name}`: mean cosine {g.mean:g}, spread {g.spread:g} ({g.source})" for name, g in TEXT_GEOMETRIES.items()
    )
    pilot, choices = ", ".join(map(str, PILOT_SEEDS)), ", ".join(map(str, SEED_CHOICES))
    return [
        "Differences are points: of a recall, or of a mean rank in per cent of the gallery, so that galleries of "
        "different sizes compare; of a time or a distance in per cent of what it is compared with. They are in favour "
        "of what is named first. Where a text prints no figure, eight points are looked for; two where it says that a "
        "thing does not help.",
        "",
        "How a claim is tried:",
        "",
        "1. Its words are in the text, quoted below with section and line (of the text as extracted, without pages; "
        "rows of tables in short); else it is *not claimed by the text*.",
        "2. The premises without which it says nothing are measured in the world: what a threshold prunes, which share "
        "of a batch weights leave, how well one modality predicts another. If one fails, nothing is trained.",
        f"3. A pilot (seeds {pilot}) gives the standard deviation of the paired difference. From it follows the "
        "smallest difference that a number of seeds tells with a power of 80 % (paired t test, two-sided, 5 % for all "
        f"comparisons of a claim together). The fewest of {choices} seeds that tell the text's difference are run; if "
        f"{max(SEED_CHOICES)} do not, the claim is *not decidable here*. The power is that of each comparison alone; a "
        "claim of k comparisons needs all of them, so where each has 80 %, all together have at most 80 and at least "
        "100 - 20 k %. The pilot's differences enter no verdict.",
        f"4. All arms train for the same {SATURATED['epochs']} epochs of their own examples, and choose among the same "
        "four rates (1e-4 to 6.4e-3) by the validation split of a world that no number comes from. Their steps differ "
        "where batches or training sets do, and are printed in the tables below; an arm that starts from another's "
        "model, or learns from pseudo-labels, has had other models' epochs before; the arm of `mmv deflation` has a "
        "training of its own. A claim is not decided if one of its arms is not saturated: if its validation score, a "
        "mean over the pilot's seeds, still rises by more than two points in the last quarter.",
        "5. *Reproduced*: every interval lies on the claimed side. *Contradicted*: one lies on the other side.",
        "",
        f"The worlds are those of the second generator ({generator}): modalities that tell much of the same, one that "
        "tells most, a few clips that resemble everything, orders and lengths that captions name, captions as "
        f"contextual vectors of a stated geometry ({geometries}). A world is no film: a verdict says how a method "
        "behaves where the truth is known. A test video is a copy of a training video with a stated chance, so that "
        "their share varies from world to world, and the length that a copy's caption may name is drawn anew, whatever "
        "the copied footage has.",
        "",
        "Our own aims for moments and captions are no claims of a text; their figures are in "
        "[moments](claims/moments.md).",
        "",
    ]  # fmt: skip


def _waiting(rows: Sequence[ClaimRow]) -> list[str]:
    return [
        "| claim | table | difference to be detected; in brackets where the text prints none |",
        "| --- | --- | --: |",
        *(
            f"| {row.claim.says} | {row.experiment.name} {row.table.name} | {_join_cells(_sought(row.claim))} |"
            for row in rows
        ),
        "",
    ]


def _sought(claim: Claim) -> list[str]:
    """What each comparison has to tell: the text's difference, else what is taken for it."""
    return [
        f"{100 * effect:.3g}" if pair.published is not None else f"({100 * effect:.3g})"
        for pair, effect in zip(claim.pairs, claim.effects, strict=True)
    ]


def _claim(row: ClaimRow) -> list[str]:
    claim = row.claim
    quote = f' "{claim.quote}"' if claim.quote else ""
    lines = [f"**{claim.says}.** {claim.source}.{quote}", ""]
    if row.reason and (row.record is None or row.record["reason"] or claim.why):
        lines += [f"{row.reason[0].upper()}{row.reason[1:]}.", ""]
    pairs = [] if row.record is None or claim.why else row.record["comparisons"]
    if row.record is not None and any(pair["difference"] is not None or pair["pilot"] for pair in pairs):
        lines += [
            f"Table `{row.table.name}` of `{row.experiment.name}`, {row.record['seeds'] or 'no'} seeds.",
            "",
            "| first | against | the text's | spread in the pilot | smallest detectable | measured | interval |",
            "| --- | --- | --: | --: | --: | --: | --: |",
            *(_comparison(pair) for pair in pairs),
            "",
        ]
    return lines


def _comparison(pair: Mapping[str, Any]) -> str:
    pilot = pair["pilot"] or {}
    detectable = pair["detectable"] if pair["detectable"] is not None else pilot.get("detectable")
    interval = "" if pair["low"] is None else f"[{100 * pair['low']:+.3g}, {100 * pair['high']:+.3g}]"
    return (
        f"| {pair['first']} | {pair['second']} | {_published(pair)} | {_points(pilot.get('deviation'))} | "
        f"{_points(detectable)} | {_points(pair['difference'], sign=True)} | {interval} |"
    )


def _table(experiment: Experiment, table: Table, record: Record) -> list[str]:
    lines = [
        f"### {experiment.name} {table.name}: {table.title}",
        "",
        f"{experiment.paper}. `{record['command']}`, {record['machine']}.",
        "",
    ]
    if record["premises"]:
        lines += [
            "| premise | value | wanted | |",
            "| --- | --: | --- | --- |",
            *(
                f"| {p['says']} | {p['value']:.3g} | {p['wanted']} | {'holds' if p['holds'] else '**fails**'} |"
                for p in record["premises"]
            ),
            "",
        ]
    if record["arms"]:
        titles = list(record["arms"][0]["columns"])
        lines += [
            f"| | {' | '.join(titles)} | rate | steps | seeds |",
            f"| --- | {' | '.join('--:' for _ in titles)} | --: | --: | --: |",
            *(_arm(arm, titles) for arm in record["arms"]),
            "",
            f"Mean ± standard deviation over seeds; recalls are fractions. {table.note}".strip(),
            "",
            *_at_border(table, record),
        ]
    return lines


def _at_border(table: Table, record: Record) -> list[str]:
    """Which arms selected the largest or the smallest of the rates that were tried."""
    tried = {arm.name: arm.rates for arm in table.arms if len(arm.rates) > 1}
    selected = {arm["name"]: arm["rate"] for arm in record["arms"] if arm["name"] in tried}
    sentences = [
        f"The {word} rate that was tried was selected for {', '.join(names)}: one beyond it might do better."
        for word, border in (("largest", max), ("smallest", min))
        if (names := [name for name, rate in selected.items() if rate == border(tried[name])])
    ]
    return [" ".join(sentences), ""] if sentences else []


def _arm(arm: Mapping[str, Any], titles: Sequence[str]) -> str:
    cells = [f"{arm['columns'][t]['mean']:.3g} ± {arm['columns'][t]['deviation']:.2g}" for t in titles]
    return f"| {arm['name']} | {' | '.join(cells)} | {arm['rate']:g} | {arm['steps'] or ''} | {arm['seeds']} |"


def _published(pair: Mapping[str, Any]) -> str:
    return "no figure" if pair["published"] is None else f"{pair['published']:+.3g}"


def _points(number: float | None, *, sign: bool = False) -> str:
    if number is None:
        return ""
    return f"{100 * number:+.3g}" if sign else f"{100 * number:.3g}"


def _join_cells(cells: Iterable[str]) -> str:
    """Cells of several comparisons in one.

    >>> _join_cells(["+1", "+2"])
    '+1; +2'
    """
    return "; ".join(cells)
