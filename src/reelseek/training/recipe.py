"""Recipes: one TOML file a training run, or the name of one that comes with the package; a misspelt key is an error."""

import os
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, field_validator
from pydantic.dataclasses import dataclass

from reelseek.errors import CollectionError, RecipeError
from reelseek.library.texts import read_text
from reelseek.models.settings import STRICT, describe_problems, refuse_switch
from reelseek.training.pixels.recipe import PixelRecipe

__all__ = [
    "AnchorRecipe",
    "DataRecipe",
    "GroupRecipe",
    "PseudoRecipe",
    "Recipe",
    "TrainRecipe",
    "changed",
    "find_recipe",
    "packaged_recipes",
    "read_recipe",
    "read_settings",
    "read_toml",
    "recipe_from",
]

_PACKAGED = Path(__file__).parents[1] / "recipes"
_DEEPEST = 50  # tables and lists within one another
_SCHEDULE_OF = dict.fromkeys(("decay", "decay_every"), "exponential")
_SCHEDULE_OF |= dict.fromkeys(("plateau_factor", "plateau_patience", "cooldown"), "plateau")


@dataclass(frozen=True, config=STRICT)
class GroupRecipe:
    """Videos that are learnt from with some of their experts alone.

    Args:
        experts: what the model may see of them.
        when: a video belongs to the first group all of whose `when` experts it has; the groups that name none share
            the others evenly, by their ids.
    """

    experts: tuple[str, ...] = Field(min_length=1)
    when: tuple[str, ...] = ()


@dataclass(frozen=True, config=STRICT)
class DataRecipe:
    """Which captions to learn from.

    Args:
        train: the split to learn from, unless there is a mixture.
        mixture: weights of several splits. An example is a split drawn by weight, then one of its clips, then one of
            that clip's captions, so that a dataset counts for its weight and not for its size (MDMMT, section 4.3).
        without: splits of the mixture that are left out this time.
        examples: how many make an epoch: drawn from the whole mixture, and with some left out as much less as they
            weigh; without a mixture clips in turn, each again when all were taken (MMT: 1,000 batches of 32). None
            takes each clip once, of a mixture on average.
        validation: None takes a split named so, else a part of the training videos.
        exclude: file that lists videos which are neither learnt from nor chosen on, such as the `removed.csv` or the
            `.lst` of an overlap review: one a line, or a table's column `train` or `video`, with or without endings.
        window_seconds: learn from windows of so many seconds instead of clips, as from narrated videos (HowTo100M, EAO:
            8): a caption and its nearest neighbours in time, until they span a window, and the window drawn among them.
        uncaptioned: learn from clips without captions too, for systems whose loss compares sight with sound (EAO, MMV);
            with `window_seconds` the window is drawn first, and has no words where nothing is said.
        groups: make the training and validation videos incomplete, so that a model can be asked later with
            combinations of experts that it never saw together (UMI; the rule of its MSR-VTT reproduction is
            recipes/umi-msrvtt.toml).
        validation_needs: choose the best epoch on those validation clips alone that have all of these experts.
    """

    train: str = "train"
    mixture: dict[str, float] | None = None
    without: tuple[str, ...] = ()
    examples: int | None = Field(default=None, ge=2)
    validation: str | None = None
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    experts: tuple[str, ...] | None = Field(default=None, min_length=1)
    exclude: str | None = Field(default=None, min_length=1)
    window_seconds: float | None = Field(default=None, gt=0)
    uncaptioned: bool = False
    groups: tuple[GroupRecipe, ...] = ()
    validation_needs: tuple[str, ...] = ()
    _numbers = field_validator("*", mode="before")(refuse_switch)

    def __post_init__(self) -> None:
        for name in ("experts", "without", "validation_needs"):
            values = getattr(self, name) or ()
            if repeated := [value for value in values if values.count(value) > 1]:
                raise ValueError(f"{name} names {repeated[0]!r} {values.count(repeated[0])} times")
        conditions = [sorted(group.when) for group in self.groups if group.when]
        if repeated := [when for when in conditions if conditions.count(when) > 1]:
            raise ValueError(f"groups: two are for videos with {', '.join(repeated[0])}, and the second gets none")
        if self.mixture is not None and (not self.mixture or min(self.mixture.values()) <= 0):
            raise ValueError("mixture wants a weight above zero for each split")
        unknown = sorted(set(self.without) - set(self.mixture or {}))
        if self.mixture and not self.weights:
            raise ValueError("without leaves nothing of the mixture")
        if unknown:
            raise ValueError(f"without names {unknown[0]!r}, which is not in the mixture")

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the splits that are learnt from."""
        return {name: weight for name, weight in (self.mixture or {}).items() if name not in self.without}

    @property
    def examples_per_epoch(self) -> int | None:
        """Examples an epoch: those of the whole mixture, times the share of its weight that is left."""
        if self.examples is None or self.mixture is None:
            return self.examples
        return max(2, round(self.examples * sum(self.weights.values()) / sum(self.mixture.values())))


@dataclass(frozen=True, config=STRICT)
class TrainRecipe:
    """How to learn.

    Args:
        start: folder of a model to go on from (pre-train, then fine-tune): every parameter of the same name and shape
            is taken over; experts and layers that it does not have begin anew.
        momentum: SGD's, or the first beta of the others.
        second_beta, epsilon: of Adam, AdamW and RAdam; SGD has none. None leaves PyTorch's.
        schedule: `exponential` multiplies the rate by `decay` every `decay_every` epochs, `cosine` brings it to zero at
            the last, `plateau` multiplies it by `plateau_factor` after `plateau_patience` epochs without a better one
            and then waits `cooldown` epochs, `constant` leaves it.
        warmup: epochs over which the rate rises to its full height first; a part of one with `rate_per` = "step".
        rate_per: the rate follows its schedule from one `epoch` to the next, or at every `step` of the optimizer.
        clip_norm: the largest norm of a step's gradients together; larger ones are scaled down to it. None clips none.
        freeze_norms: batch normalisation keeps the statistics of the model that `start` names (EAO's fine-tuning).
        average: rate of a moving average of weights, 0 for none.
        drop: chance that an expert of a training video is left out, so that the model learns to do without.
        accumulate: batches whose gradients are added before a step; each has negatives of its own.
        chunk: embed a batch in chunks of so many clips and compare all of it (gradient caching), so that large
            contrastive batches fit; for systems whose loss is over their similarities alone.
        precision: `bfloat16` computes in it under autocast; weights stay as they are.
        compile: compile the forward pass (torch.compile), which takes a minute or more before the first step; not with
            `chunk`. A name is a mode of PyTorch's: `reduce-overhead` and `max-autotune` replay CUDA graphs on a GPU,
            one for every shape that a batch has; `reduce-overhead` is refused on other devices, where it does nothing.
        buckets: round the clips and tokens that a transformer computes up to so many sizes between a power of two and
            the next, 8 being the least; what is added is masked. Batches then share a few shapes, and `compile`
            compiles the layers alone, once for each shape: `reduce-overhead` records one CUDA graph for it. 0 computes
            what is present, and nothing else.
        device: `auto` learns on an accelerator where there is one; `cpu`, `cuda`, `cuda:N` or `mps`.
        workers: processes that read batches of a library ahead of the step (threads for features in memory); the order
            and the numbers are the same for any number.
        caption: a `random` caption of a clip each epoch, or always the `first`.
        narrations: captions that stand for a clip together, of which one may be right (MIL-NCE): its own, those nearest
            in time after it or before; None takes one.
        batch_of: `batch` counts clips, or videos, which come with all of their clips (COOT and CrossCLR: 64 videos).
        clips_per_video: fill a batch with so many clips, drawn each epoch, of each of its videos (EAO: 10 of 224); by
            default clips come one by one, all of them in an epoch.
        text_dropout: in a text encoder that is trained, instead of its own (MDMMT: .2 in BERT).
        negatives: captions are compared with clips of other `videos`, or with all other `clips`, of the same video too.
        gather: under several processes, compare with the clips of all of them; without it, as MDMMT was trained, each
            process has its own negatives.
        keep: the `best` epoch by `metric` on validation clips, or the `last` one, as MMT and EAO were trained.
    """

    seed: int = Field(default=0, ge=0)
    start: str | None = Field(default=None, min_length=1)
    epochs: int = Field(default=50, ge=1)
    batch: int = Field(default=64, ge=2)
    optimizer: Literal["adam", "adamw", "radam", "sgd"] = "adamw"
    rate: float = Field(default=5e-5, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    second_beta: float | None = Field(default=None, ge=0, lt=1)
    epsilon: float | None = Field(default=None, gt=0)
    text_rate: float | None = Field(default=None, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["exponential", "cosine", "plateau", "constant"] = "exponential"
    decay: float = Field(default=0.95, gt=0, le=1)
    decay_every: int = Field(default=1, ge=1)
    warmup: int | float = Field(default=0, ge=0)
    rate_per: Literal["epoch", "step"] = "epoch"
    clip_norm: float | None = Field(default=None, gt=0)
    freeze_norms: bool = False
    plateau_factor: float = Field(default=0.1, gt=0, lt=1)
    plateau_patience: int = Field(default=6, ge=0)
    cooldown: int = Field(default=4, ge=0)
    average: float = Field(default=0.0, ge=0, lt=1)
    drop: float = Field(default=0.0, ge=0, lt=1)
    accumulate: int = Field(default=1, ge=1)
    chunk: int | None = Field(default=None, ge=1)
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool | Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = False
    buckets: int = Field(default=0, ge=0, le=16)
    device: str = Field(default="auto", min_length=1)
    workers: int = Field(default=0, ge=0, le=64)
    caption: Literal["random", "first"] = "random"
    narrations: int | None = Field(default=None, ge=2)
    batch_of: Literal["clips", "videos"] = "clips"
    clips_per_video: int | None = Field(default=None, ge=1)
    text_dropout: float | None = Field(default=None, ge=0, lt=1)
    negatives: Literal["videos", "clips"] = "videos"
    gather: bool = True
    patience: int | None = Field(default=None, ge=1)
    metric: Literal["geometric_mean", "recall_at_1", "recall_at_5", "recall_at_10", "mean_rank"] = "mean_rank"
    keep: Literal["best", "last"] = "best"
    _numbers = field_validator("*", mode="before")(refuse_switch)

    def __post_init__(self) -> None:
        if self.rate_per == "epoch" and self.warmup != int(self.warmup):
            raise ValueError(f'warmup = {self.warmup} ends within an epoch; set rate_per = "step", or a whole number')
        if self.rate_per == "step" and self.schedule == "plateau":
            raise ValueError('rate_per = "step": plateaus are seen once an epoch; take another schedule')
        if self.keep == "last" and self.patience is not None:
            raise ValueError('keep = "last" takes all epochs, and patience stops before; leave one of them out')
        if self.compile and self.chunk is not None:
            raise ValueError("compile takes a batch as a whole, and chunk in pieces; leave one of them out")
        if self.decay == 1 and self.decay_every != 1:
            raise ValueError(
                f"decay = 1 leaves the rate as it is, and decay_every = {self.decay_every} changes nothing"
            )
        if self.optimizer == "sgd":
            for name in ("second_beta", "epsilon"):
                if getattr(self, name) is not None:
                    raise ValueError(f"the optimizer sgd has no {name}; leave it out, or take another optimizer")


@dataclass(frozen=True, config=STRICT)
class PseudoRecipe:
    """UMI's first stage: `epochs` of a model for each modality alone, of which the `last` ones are averaged."""

    epochs: int = Field(default=50, ge=1)
    last: int = Field(default=20, ge=1)
    _numbers = field_validator("*", mode="before")(refuse_switch)

    def __post_init__(self) -> None:
        if self.last > self.epochs:
            raise ValueError(f"the last {self.last} of {self.epochs} epochs cannot be averaged")


@dataclass(frozen=True, config=STRICT)
class AnchorRecipe:
    """Train the system beside a closed form, as few clips need it: the system `anchored` around `model`.

    Args:
        bank, temperature, dropout: see `AnchoredConfig`.
    """

    bank: int = Field(default=2048, ge=1)
    temperature: float = Field(default=0.1, gt=0)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    _numbers = field_validator("*", mode="before")(refuse_switch)


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """A whole recipe. `model` holds `system` and its settings; `pseudo` asks for UMI's first stage, `anchor` for the
    closed form beside the system, `pixels` for networks under it that learn along."""

    model: dict[str, Any]
    data: DataRecipe = Field(default_factory=DataRecipe)
    train: TrainRecipe = Field(default_factory=TrainRecipe)
    pseudo: PseudoRecipe | None = None
    anchor: AnchorRecipe | None = None
    pixels: PixelRecipe | None = None

    def __post_init__(self) -> None:
        text = self.model.get("text", {})
        if not isinstance(text, Mapping) or not isinstance(text.get("encoder", ""), str):
            raise ValueError(f'model.text is {text!r}; it is a table, such as {{ encoder = "sentence" }}')
        if self.pixels is not None:
            self._refuse_features()
        if self.train.narrations and self.data.window_seconds:
            raise ValueError("train.narrations: data.window_seconds joins the narrations of a window; leave one out")
        for name, value in (("clips_per_video", self.train.clips_per_video), ("batch_of", self.train.batch_of)):
            if value in (None, "clips"):
                continue
            if self.data.mixture:
                raise ValueError(f"train.{name}: a mixture draws one clip of a video at a time; leave one of them out")
            if self.data.examples is not None:
                raise ValueError(f"train.{name}: data.examples counts clips one by one; leave one of them out")

    def _refuse_features(self) -> None:
        """What says which features are read has no meaning where none are."""
        settings = {
            "pseudo": self.pseudo, "anchor": self.anchor, "data.experts": self.data.experts,
            "data.groups": self.data.groups, "data.validation_needs": self.data.validation_needs,
            "model.experts": self.model.get("experts"),
            # What is fitted before the first step, selected after an epoch, or refused for want of an expert.
            "model.linear": self.model.get("linear"), "model.expert_factors": self.model.get("expert_factors"),
            "model.missing": self.model.get("missing") == "refuse",
        }  # fmt: skip
        for name, value in settings.items():
            if value:
                raise ValueError(f"pixels: {name} is about features, and pixels reads files; leave one of them out")

    def settings(self) -> dict[str, Any]:
        """All settings as nested dicts; `pixels` only where a recipe has it, as before there was such a section."""
        return {name: value for name, value in asdict(self).items() if name != "pixels" or value is not None}


def read_recipe(recipe: str | os.PathLike[str] | Mapping[str, Any], changes: Sequence[str] = ()) -> Recipe:
    """Read a TOML recipe, or the same as nested dicts, and apply `section.key=value` changes.

    Args:
        recipe: a file, the name of a packaged recipe such as `mmt`, or sections of settings.

    >>> read_recipe({"model": {"system": "mmt"}}, ["train.epochs=3"]).train.epochs
    3

    Raises:
        RecipeError: it cannot be read, or a key or value is wrong; says which.
    """
    if isinstance(recipe, Mapping):
        return recipe_from(changed(deepcopy(dict(recipe)), changes, section=True), "the recipe")
    return recipe_from(read_settings(recipe, changes), str(recipe))


def read_settings(path: str | os.PathLike[str], changes: Sequence[str] = ()) -> dict[str, Any]:
    """What a recipe says, section by section, as it stands.

    Raises:
        RecipeError: it cannot be read.
    """
    return changed(read_toml(find_recipe(path)), changes, section=True)


def packaged_recipes() -> list[str]:
    """List the names of the recipes, and of the ranges for `tune`, that come with the package."""
    return sorted(file.relative_to(_PACKAGED).with_suffix("").as_posix() for file in _PACKAGED.rglob("*.toml"))


def find_recipe(recipe: str | os.PathLike[str]) -> Path:
    """Return the file of a recipe: its path, or that of the packaged recipe of this name.

    >>> find_recipe("mmt").name
    'mmt.toml'

    Raises:
        RecipeError: there is neither; names the packaged recipe that was probably meant.
    """
    path, name = Path(recipe), os.fspath(recipe)
    if path.is_file():
        return path
    packaged = packaged_recipes()
    if name in packaged:
        return _PACKAGED / f"{name}.toml"
    if path.exists():
        return path  # whose reader says what is wrong with it
    meant = path.with_suffix("").as_posix().removeprefix("recipes/")
    near = get_close_matches(meant, packaged, n=1)
    suggestion = f"did you mean {near[0]}, which is packaged?" if near else f"packaged are {', '.join(packaged)}"
    raise RecipeError(f"{name} is neither a file nor the name of a packaged recipe; {suggestion}")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        RecipeError: it cannot be read.
    """
    try:
        return _parse_toml(read_text(path))
    except CollectionError as error:
        raise RecipeError(str(error)) from error
    except ValueError as error:
        raise RecipeError(f"{path} is not TOML: {error}") from error


def _parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML within its own limits, which Python's reader does not keep.

    Raises:
        ValueError: it is not TOML, is nested more than 50 deep, or has a whole number of more than 64 bits.
    """
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        if isinstance(error, tomllib.TOMLDecodeError) or "digits" not in str(error):
            raise
        raise ValueError("a number in it has thousands of digits") from None
    values: list[Any] = [table]
    for _ in range(_DEEPEST):
        inner = [value.values() if isinstance(value, dict) else value for value in values]
        values = [value for group in inner for value in group if isinstance(value, dict | list | int)]
        if any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in values):
            raise ValueError("a whole number in it has more than 64 bits")
        values = [value for value in values if isinstance(value, dict | list)]
        if not values:
            return table
    raise ValueError(f"it is nested more than {_DEEPEST} deep")


def recipe_from(settings: Mapping[str, Any], where: str) -> Recipe:
    """A recipe from plain settings.

    Args:
        where: whose they are, for the error.

    Raises:
        RecipeError: a key or value is wrong, or nothing would read it; says which.
    """
    try:
        recipe = TypeAdapter(Recipe).validate_python(settings)
    except ValidationError as error:
        raise RecipeError(f"{where}: {describe_problems(error, Recipe)}") from error
    for name in settings.get("train", {}):
        if _SCHEDULE_OF.get(name, recipe.train.schedule) != recipe.train.schedule:
            raise RecipeError(
                f"{where}: train.{name} is a setting of the schedule {_SCHEDULE_OF[name]!r}, and train.schedule is "
                f"{recipe.train.schedule!r}, which does not read it; leave one of them out"
            )
    if problem := _without_effect(recipe, settings.get("data", {})):
        raise RecipeError(f"{where}: {problem}")
    return recipe


def _without_effect(recipe: Recipe, data: Mapping[str, Any]) -> str:
    """What of a recipe would change nothing in training; '' where all counts.

    Args:
        data: the section as it was written, without defaults.
    """
    train = recipe.train
    if "train" in data and recipe.data.mixture:
        return "data.train: data.mixture says what is learnt from; leave one of them out"
    if "validation_fraction" in data and recipe.data.validation:
        return "data.validation_fraction: data.validation names the split to choose on; leave one of them out"
    if train.batch_of == "clips" and (train.clips_per_video or 1) > train.batch:
        return f"train.clips_per_video = {train.clips_per_video} is above train.batch = {train.batch}; set it lower"
    if train.batch_of == "clips" and (train.chunk or 0) > train.batch:
        return f"train.chunk = {train.chunk} is above train.batch = {train.batch} and saves nothing; set it lower"
    return ""


def changed(table: dict[str, Any], changes: Sequence[str], *, section: bool = False) -> dict[str, Any]:
    """Put each `key.other=value` into nested tables, in place; a value that is not TOML is a string.

    Args:
        section: a key alone is not enough.

    Raises:
        RecipeError: says what was given and what is wanted.
    """
    for change in changes:
        name, equals, value = change.partition("=")
        keys = name.strip().split(".")
        if len(keys) > _DEEPEST:
            raise RecipeError(f"--set {change[:60]!r}...: a place {len(keys)} deep; at most {_DEEPEST}")
        if not equals or not all(keys) or (section and len(keys) < 2):
            form = "section.key=value, such as train.epochs=10" if section else "key=value, such as heads=8"
            raise RecipeError(f"--set {change!r}: wanted {form}")
        inner = table
        for key in keys[:-1]:
            inner = inner.setdefault(key, {})
            if not isinstance(inner, dict):
                raise RecipeError(f"--set {change!r}: {key} is a value, not a section")
        try:
            inner[keys[-1]] = _parse_toml(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            inner[keys[-1]] = value
        except ValueError as error:
            raise RecipeError(f"--set {change[:60]!r}: {error}") from error
    return table
