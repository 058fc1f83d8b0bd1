"""Published tables as data: rows are a recipe and the numbers that a paper prints beside it."""

import math
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from reelseek.errors import UsageError

__all__ = ["PublishedTable", "TableColumn", "TableRow", "TestSet", "find_table", "published_tables"]

_STRICT = ConfigDict(extra="forbid")
_METRICS = {
    "R@1": "recall_at_1", "R@5": "recall_at_5", "R@10": "recall_at_10", "MdR": "median_rank", "MnR": "mean_rank",
}  # fmt: skip


@dataclass(frozen=True, config=_STRICT)
class TestSet:
    """What a column is measured on.

    Attributes:
        experts: only these of the published experts; None takes all.
        gallery: how many clips the paper ranks.
    """

    __test__ = False  # no class of tests

    split: str
    protocol: str
    gallery: int
    experts: tuple[str, ...] | None = None


@dataclass(frozen=True)
class TableColumn:
    """A number of a table: a metric of one test set, from text to video, from video to text, or the mean of both."""

    title: str
    test: str
    direction: Literal["t2v", "v2t", "both"]
    metric: str

    @property
    def is_recall(self) -> bool:
        """Whether it is a share, printed in per cent."""
        return self.metric.startswith("recall")


@dataclass(frozen=True, config=_STRICT)
class TableRow:
    """One row.

    Attributes:
        published: what is printed, in the order of the columns; NaN where nothing is.
        spread: the deviation that is printed beside it.
        recipe: how it is trained; with `system`, only its data and training are taken.
        system: another system at its own sizes.
        set: changes of the recipe.
        experts, without: the published experts that it reads, or does not read.
        apart: train each expert apart and put the embeddings side by side (COOT and CrossCLR).
        mixture: the parts of the recipe's mixture that it learns from.
        start: a recipe that is trained first, on what it names.
        chance: the row of a random order, which is computed.
        x: its place on the curve of a figure.
        why: why it is not trained here.
        note: what its reader should know.
    """

    name: str
    published: tuple[float, ...]
    spread: tuple[float, ...] = ()
    recipe: str | None = None
    system: str | None = None
    set: tuple[str, ...] = ()
    experts: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()
    apart: bool = False
    mixture: tuple[str, ...] | None = None
    start: str | None = None
    chance: bool = False
    x: float | None = None
    why: str = ""
    note: str = ""

    @property
    def is_trained(self) -> bool:
        """Whether it is learnt here."""
        return self.recipe is not None or self.system is not None

    def number(self, place: int) -> float:
        """The published number of a column; NaN where there is none."""
        return self.published[place]

    def deviation(self, place: int) -> float:
        """The published deviation of a column; NaN where there is none."""
        return self.spread[place] if self.spread else math.nan


@dataclass(frozen=True, config=_STRICT)
class PublishedTable:
    """A table of a paper.

    Attributes:
        place: where it is printed.
        experts: published experts, each with the modality of those that may stand in for it.
        splits: how many videos the splits have that are learnt from or chosen on; 0 where nobody says.
        rename: the splits that recipes name, as this table has them.
        data: commands that bring its data into a library.
        text: what the paper encodes captions by, where its recipes cannot name it.
        like: another table, whose settings it has where it names none.
        curve: it is a figure, over a setting of this name.
    """

    name: str
    title: str
    paper: str
    place: str
    tests: dict[str, TestSet]
    columns: tuple[str, ...] = Field(min_length=1)
    rows: tuple[TableRow, ...] = Field(min_length=1)
    experts: dict[str, str] = Field(default_factory=dict)
    splits: dict[str, int] = Field(default_factory=dict)
    rename: dict[str, str] = Field(default_factory=dict)
    data: tuple[str, ...] = ()
    text: str = ""
    like: str | None = None
    curve: str | None = None

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.published) != len(self.columns) or len(row.spread) not in (0, len(self.columns)):
                raise ValueError(f"{self.name}, {row.name}: wanted {len(self.columns)} published numbers")
            if row.is_trained + row.chance + bool(row.why) != 1:
                raise ValueError(f"{self.name}, {row.name}: it is trained, or chance, or why it is not")
        for column in self.parsed_columns:
            if column.test not in self.tests:
                raise ValueError(f"{self.name}: the column {column.title!r} is of no test set")

    @property
    def parsed_columns(self) -> list[TableColumn]:
        """What each column's title says: `[TEST SET] t2v|v2t|both METRIC`."""
        columns = []
        for title in self.columns:
            *test, direction, metric = title.split(" ")
            columns.append(TableColumn(title, " ".join(test) or "test", direction, _METRICS[metric]))  # type: ignore[arg-type]
        return columns

    @property
    def trained(self) -> list[TableRow]:
        """The rows that are learnt here."""
        return [row for row in self.rows if row.is_trained]

    @property
    def all_experts(self) -> list[str]:
        """The published experts that the table or any of its rows reads."""
        return list(dict.fromkeys([*self.experts, *(name for row in self.rows for name in row.experts or ())]))


@cache
def published_tables() -> dict[str, PublishedTable]:
    """Every table, by its name."""
    raw: dict[str, dict[str, Any]] = {}
    for path in sorted(Path(__file__).parent.glob("*.toml")):
        raw |= tomllib.loads(path.read_text("utf-8"))
    tables = {}
    for name, settings in raw.items():
        base = (
            {key: value for key, value in raw[settings["like"]].items() if key != "rows"} if "like" in settings else {}
        )
        tables[name] = TypeAdapter(PublishedTable).validate_python({**base, **settings, "name": name})
    return tables


def find_table(name: str) -> PublishedTable:
    """A table by its name.

    Raises:
        UsageError: there is none of this name.
    """
    tables = published_tables()
    if name not in tables:
        raise UsageError(f"no table is called {name!r}; there are {', '.join(tables)}")
    return tables[name]
