"""What a library has of a published table: each row's recipe for it, what is missing, and what makes numbers differ."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelseek.errors import ExpertUnavailable, RecipeError, UsageError
from reelseek.evaluation.protocols import PROTOCOLS
from reelseek.experiments.reproduction.tables import PublishedTable, TableRow, TestSet
from reelseek.experts.hub import pretrained_folder
from reelseek.library import Library
from reelseek.library.caption_sets import caption_feature_sets
from reelseek.library.readers import ANNOTATIONS
from reelseek.library.tokens import TokenReader
from reelseek.models import SYSTEMS
from reelseek.models.text import named_features
from reelseek.training.data import read_split, split_names
from reelseek.training.measure import clips_with
from reelseek.training.recipe import Recipe, changed, read_settings, recipe_from
from reelseek.training.split import Split

__all__ = ["FEWEST_TEST_CLIPS", "FEWEST_TRAINING_CLIPS", "Plan", "RowPlan", "Substitutes", "plan_table"]

FEWEST_TRAINING_CLIPS = 100
FEWEST_TEST_CLIPS = 50  # below which one clip more or less at rank 1 moves R@1 by over two per cent
_WORD_VECTORS = (".txt", ".vec", ".bin")
_BY_EXPERT = {"vlad", "vlad_ghosts", "widths"}  # a model's settings by its experts' names


@dataclass(frozen=True)
class Substitutes:
    """What stands in for a table's data.

    Attributes:
        experts: names in the library by published experts.
        changes: of every recipe, `section.key=value`.
        start: folder of a model that rows start from, instead of the one that they train first.
    """

    train: str | None = None
    validation: str | None = None
    test: str | None = None
    experts: Mapping[str, str] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    start: str | None = None


@dataclass(frozen=True)
class RowPlan:
    """How a row is trained and measured in a library.

    Attributes:
        recipe: None where something is missing.
        start: the recipe of the model that is trained first; None where there is none, or it is at hand.
        tests: by the table's test sets, each with splits and experts of the library.
    """

    row: TableRow
    recipe: Recipe | None
    start: Recipe | None
    tests: dict[str, TestSet]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A table in a library.

    Attributes:
        missing: what some row lacks, and how to get it.
        differences: why numbers cannot be compared with the printed ones.
    """

    table: PublishedTable
    rows: list[RowPlan]
    missing: list[str]
    differences: list[str]


def plan_table(table: PublishedTable, library: Library, options: Substitutes, names: Sequence[str] = ()) -> Plan:
    """Lay a table out in a library.

    Args:
        names: only these rows.

    Raises:
        UsageError: no such row, or the library has too few clips for this table.
    """
    if unknown := sorted(set(names) - {row.name for row in table.rows}):
        raise UsageError(f"{table.name} has no row {unknown[0]!r}; it has {', '.join(row.name for row in table.rows)}")
    planner = _Planner(table, library, options)
    rows = [planner.plan(row) for row in table.trained if not names or row.name in names]
    missing = list(dict.fromkeys(problem for row in rows for problem in row.missing))
    planner.check_sizes([row for row in rows if not row.missing])
    return Plan(table, rows, missing, planner.differences())


class _Planner:
    """Names of a table -> names of a library, and what was noticed on the way."""

    def __init__(self, table: PublishedTable, library: Library, options: Substitutes) -> None:
        self.table, self.library, self.options = table, library, options
        self.splits = split_names(library)
        self.modality = {name: str(entry["modality"]) for name, entry in library.experts().items()}
        self._notes: dict[str, None] = {}

    def plan(self, row: TableRow) -> RowPlan:
        """How a row is trained here, or what it lacks."""
        missing: list[str] = []
        experts = self._experts(row, missing)
        recipe = self._recipe(row, experts, missing)
        start = None
        if row.start is not None and self.options.start is None:
            first = TableRow(row.name, row.published, recipe=row.start, experts=row.experts, without=row.without)
            start = self._recipe(first, experts, missing)
        tests = {name: self._test(test, experts, missing) for name, test in self._tests_of(row).items()}
        for problem in self._lacking_text(recipe):
            missing.append(problem)
        return RowPlan(row, None if missing else recipe, start, tests, tuple(dict.fromkeys(missing)))

    def _tests_of(self, row: TableRow) -> dict[str, TestSet]:
        """The test sets that the row has printed numbers of; of a figure, all."""
        columns = self.table.parsed_columns
        printed = {column.test for place, column in enumerate(columns) if row.published[place] == row.published[place]}
        return {name: test for name, test in self.table.tests.items() if name in printed or not printed}

    # Experts

    def _experts(self, row: TableRow, missing: list[str]) -> dict[str, str]:
        """The library's expert for each published one that a row reads."""
        published_names = [name for name in row.experts or tuple(self.table.experts) if name not in row.without]
        stand_ins: dict[str, str] = {}
        for name in published_names:
            if name in self.options.experts:
                stand_ins[name] = self.options.experts[name]
                if stand_ins[name] not in self.modality:
                    have = ", ".join(self.modality) or "none"
                    raise UsageError(
                        f"--expert {name}={stand_ins[name]}: the library has no such expert; it has {have}"
                    )
            elif name in self.modality:
                stand_ins[name] = name
        for name in published_names:
            if name not in stand_ins:
                self._stand_in(name, stand_ins, missing)
        for local in dict.fromkeys(stand_ins.values()):
            published = [name for name in stand_ins if stand_ins[name] == local]
            if len(published) > 1:
                missing.append(f"an expert each for {' and '.join(published)} of row {row.name!r}: {local} is one")
        for name, local in stand_ins.items():
            if name != local:
                self._notes[f"{local} stands in for the expert {name}"] = None
        return stand_ins

    def _stand_in(self, name: str, stand_ins: dict[str, str], missing: list[str]) -> None:
        """An expert of the same modality where there is just one that no other published expert takes."""
        modality = self.table.experts.get(name)
        rivals = [
            local for local, kind in self.modality.items() if kind == modality and local not in stand_ins.values()
        ]
        if len(rivals) == 1 and modality is not None:
            stand_ins[name] = rivals[0]
            return
        remedy = f"reelseek features import {self.library.path} {name} FEATURES --modality {modality or 'MODALITY'}"
        if rivals:
            remedy = f"which of {', '.join(rivals)} stands in for it? --expert {name}={rivals[0]}"
        missing.append(f"the expert {name}: {remedy}")

    # Recipes

    def _recipe(self, row: TableRow, experts: Mapping[str, str], missing: list[str]) -> Recipe | None:
        settings = self._settings(row)
        changed(settings, row.set, section=True)
        data = settings.setdefault("data", {})
        if experts or self.table.experts:
            data["experts"] = list(dict.fromkeys(experts.values()))
        data["groups"] = [
            {key: [experts[name] for name in names if name in experts] for key, names in group.items()}
            for group in data.get("groups", [])
        ]
        if "validation_needs" in data:
            data["validation_needs"] = [experts[name] for name in data["validation_needs"] if name in experts]
        model = settings["model"]
        if row.apart:
            model["together"] = [[experts[name]] for name in row.experts or () if name in experts]
        for key in sorted(_BY_EXPERT & model.keys()):
            model[key] = {experts[name]: value for name, value in model[key].items() if name in experts}
        if "weights" in model:
            model["weights"] = {_renamed(term, experts): weight for term, weight in model["weights"].items()}
        self._set_splits(row, data, missing)
        changes = [
            change for change in self.options.changes if "pseudo" in settings or not change.startswith("pseudo.")
        ]
        changed(settings, changes, section=True)
        if row.start is not None and self.options.start is not None:
            settings.setdefault("train", {})["start"] = self.options.start
        try:
            return recipe_from(settings, f"{self.table.name}, {row.name}")
        except RecipeError:
            if missing:  # groups without experts, say, of which the missing ones are the reason
                return None
            raise

    @staticmethod
    def _settings(row: TableRow) -> dict[str, Any]:
        if row.recipe is None:
            assert row.system is not None
            return {"model": {"system": row.system}, "train": dict(SYSTEMS[row.system].schedule)}
        settings = read_settings(row.recipe)
        if row.system is not None:
            shared = {key: settings["model"][key] for key in ("loss", "text") if key in settings["model"]}
            settings["model"] = {"system": row.system, **shared}
            settings.pop("pseudo", None)
        return settings

    def _set_splits(self, row: TableRow, data: dict[str, Any], missing: list[str]) -> None:
        """Put the library's splits into a recipe's data."""
        if row.mixture is not None and "mixture" in data:
            data["mixture"] = {
                name: weight for name, weight in data["mixture"].items() if name.partition("/")[0] in row.mixture
            }
        if self.options.train is not None:
            data.pop("mixture", None)
            data["train"] = self._split("train", self.options.train, missing)
        elif "mixture" in data:
            data["mixture"] = {self._split("train", name, missing): w for name, w in data["mixture"].items()}
        else:
            data["train"] = self._split("train", data.get("train", "train"), missing)
        validation = self.options.validation or data.get("validation")
        if validation is not None:
            data["validation"] = self._split("validation", validation, missing)

    def _split(self, part: str, name: str, missing: list[str]) -> str:
        """The library's split of a published name: as it is, with its data set before it, or without."""
        published = name if getattr(self.options, part) else self.table.rename.get(name, name)
        for candidate in self._spellings(published):
            if all(split in self.splits for split in candidate.split("+")):
                if candidate != published:
                    self._notes[f"{candidate} is taken for {published}"] = None
                return candidate
        if getattr(self.options, part):
            have = ", ".join(self.splits) or "none"
            raise UsageError(f"--{part} {published}: the library has no such split; it has {have}")
        missing.append(
            f"the split {published} (import it: {self._import_command(published)}; or name another: --{part})"
        )
        return published

    def _import_command(self, split: str) -> str:
        """The command that brings a published split."""
        dataset = split.partition("/")[0]
        commands = [command for command in self.table.data if f" {dataset} " in f"{command} "]
        if not commands and dataset in ANNOTATIONS:
            commands = [f"reelseek data import {dataset} FILES --dataset {dataset}"]
        return [*commands, *self.table.data, "reelseek data import --help"][0]

    def _spellings(self, name: str) -> list[str]:
        """What a published split may be called: as it is, with its data set before it, or without one."""
        parts = name.split("+")
        here = [split.partition("/")[0] for split in self.splits if "/" in split]
        spellings = [name, *("+".join(f"{dataset}/{part}" for part in parts) for dataset in dict.fromkeys(here))]
        tests = [part for test in self.table.tests.values() for part in test.split.split("+")]
        if len({split.partition("/")[0] for split in (*self.table.splits, *tests)} & set(ANNOTATIONS)) == 1:
            bare = [part.partition("/") for part in parts]
            if all(dataset in ANNOTATIONS for dataset, _, _ in bare):
                spellings.append("+".join(rest for _, _, rest in bare))
        return spellings

    def _test(self, test: TestSet, experts: Mapping[str, str], missing: list[str]) -> TestSet:
        """A test set with the library's names."""
        split = self._split("test", self.options.test or test.split, missing)
        names = None if test.experts is None else tuple(experts[name] for name in test.experts if name in experts)
        return TestSet(split, test.protocol, test.gallery, names)

    def _lacking_text(self, recipe: Recipe | None) -> list[str]:
        """What a recipe's text encoder lacks on this machine or in this library."""
        encoder = "sentence" if recipe is None else recipe.model.get("text", {}).get("encoder", "sentence")
        if (name := named_features(encoder)) is not None:
            if name in [features.name for features in caption_feature_sets(self.library.path)]:
                return []
            make = f"reelseek data encode {self.library.path} --encoder FOLDER --name {name}"
            import_ = f"reelseek data import ce-text FILE --library {self.library.path} --name {name}"
            return [f"the caption features {name}: {make}, or {import_}"]
        if encoder.endswith(_WORD_VECTORS):
            if Path(encoder).is_file():
                return []
            return [f"the word vectors {encoder}: name a file with --set model.text.encoder=FILE, or sentence"]
        if encoder != "sentence":
            try:
                pretrained_folder(encoder)
            except ExpertUnavailable:
                pull = f"reelseek models pull {encoder}"
                return [f"the text encoder {encoder}: {pull}, or name another with --set model.text.encoder=sentence"]
        else:
            why = "captions are encoded by the packaged sentence encoder"
            self._notes[f"{why} (the paper: {self.table.text})" if self.table.text else why] = None
        return []

    # Sizes

    def check_sizes(self, rows: Sequence[RowPlan]) -> None:
        """Refuse too few clips, and note sizes that are not the paper's.

        Raises:
            UsageError: there are too few to learn from, or to rank.
        """
        for name in dict.fromkeys(name for row in rows if row.recipe for name in _training_splits(row.recipe)):
            self._check_training(name, next(row.recipe for row in rows if row.recipe).data.uncaptioned)
        for title, test in {(title, test): None for row in rows for title, test in row.tests.items()}:
            gallery = len(self._gallery(test).clips)
            if gallery < FEWEST_TEST_CLIPS:
                raise UsageError(
                    f"{self.table.name} ranks {test.gallery} clips; {test.split!r} has {gallery} under the protocol "
                    f"{test.protocol}, and fewer than {FEWEST_TEST_CLIPS} decide nothing"
                )
            if gallery != test.gallery:
                label = test.split if title == "test" else title
                self._notes[f"the gallery of {label} has {gallery} clips, the paper's {test.gallery}"] = None

    def _check_training(self, name: str, uncaptioned: bool) -> None:
        split = read_split(self.library, name, uncaptioned=uncaptioned)
        clips = len(split.clips) if uncaptioned else len(set(split.clip_of_text))
        if clips < FEWEST_TRAINING_CLIPS:
            raise UsageError(
                f"{self.table.name} cannot be learnt from the {clips} captioned clips of {name!r}; it takes "
                f"{FEWEST_TRAINING_CLIPS} or more. The paper has {self._published_size(name) or 'many'} videos"
            )
        videos, published = len({clip.video for clip in split.clips}), self._published_size(name)
        if published and videos != published:
            self._notes[f"{name} has {videos} videos, the paper's {published}"] = None
        elif self.options.train is not None:
            self._notes[f"{name} is learnt from instead of the paper's data"] = None

    def _published_size(self, name: str) -> int:
        sizes = {spelling: size for published, size in self.table.splits.items()
                 for spelling in self._spellings(published)}  # fmt: skip
        return sizes.get(name, 0)

    def _gallery(self, test: TestSet) -> Split:
        split, rule = read_split(self.library, test.split), PROTOCOLS[test.protocol]
        if rule.needs:
            split = clips_with(TokenReader(self.library), split, rule.needs)
        return split.under(rule)

    def differences(self) -> list[str]:
        """What makes numbers differ from the printed ones, beside chance."""
        changes = [f"recipes are changed by --set {change}" for change in self.options.changes]
        return [*self._notes, *changes]


def _training_splits(recipe: Recipe) -> list[str]:
    return list(recipe.data.weights) if recipe.data.mixture else [recipe.data.train]


def _renamed(term: str, experts: Mapping[str, str]) -> str:
    """A term of a loss, such as `text|video+audio`, with the library's experts."""
    return re.sub(r"[^|+]+", lambda match: experts.get(match[0], match[0]), term)
