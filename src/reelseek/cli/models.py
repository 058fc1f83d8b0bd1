"""`reelseek models`."""

import sys
from dataclasses import asdict, fields
from inspect import cleandoc
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelseek.cli.outputs import folder_option
from reelseek.cli.show import print_json, print_table, say

if TYPE_CHECKING:
    from reelseek.experts.presets import Member

__all__ = ["SYSTEM_LISTING", "app", "list_systems", "megabytes"]

SYSTEM_LISTING = Path(__file__).parents[1] / "models" / "systems" / "listing.json"
"""What `list_systems` says without packages of others; `benchmarks/packaged/system_listing.py` writes it."""

app = typer.Typer(help="Systems, and models of a hub.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list", epilog="Example: reelseek models list --json")
def list_(json: Annotated[bool, typer.Option("--json", help="One JSON line a system.")] = False) -> None:
    """The systems that can be trained or used as they are."""
    offered, absent = _listed() or list_systems()
    if json:
        for description in offered.values():
            print_json(description)
        for name, reason in absent.items():
            nothing = dict.fromkeys(offered["mmt"])
            print_json({**nothing, "system": name, "offered": False, "trained": False, "why": reason})
        return
    rows = [
        (
            name,
            "trained" if row["trained"] else "as it is",
            f"{row['parameters']:,}" if row["trained"] else "",
            f"{row['package']}: {row['paper']}" if "package" in row else row["paper"],
        )
        for name, row in offered.items()
    ]
    print_table(["system", "use", "parameters", "paper"], rows)
    for name, reason in absent.items():
        print(f"not offered: {name}: {' '.join(reason.split())}")


def list_systems() -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Describe the systems that can be used here, by name, and say why others cannot."""
    from reelseek.errors import ModelError
    from reelseek.models import SYSTEMS
    from reelseek.models.systems import NOT_OFFERED

    absent = NOT_OFFERED | SYSTEMS.faults()
    offered = {}
    for name in SYSTEMS:
        try:
            offered[name] = _description(name)
        except ModelError as error:  # a plug-in that loads and cannot be built
            absent[name] = str(error)
    return offered, absent


def _listed() -> tuple[dict[str, dict[str, Any]], dict[str, str]] | None:
    """What `list_systems` says of Reelseek's own systems, without the seconds that importing them takes.

    None where there are others: of installed packages, or of a script that has imported the registry.
    """
    from reelseek.plugins import find_plugins

    if "reelseek.models.systems" in sys.modules:
        return None
    listing = loads(SYSTEM_LISTING.read_text("utf-8"))
    plugins = find_plugins("reelseek.systems", listing["offered"])
    return None if plugins.usable or plugins.faults else (listing["offered"], listing["absent"])


def _description(name: str) -> dict[str, Any]:
    """What `models list --json` prints of a system."""
    from reelseek.models import SYSTEMS

    system, package = SYSTEMS[name], SYSTEMS.package(name)
    return {
        "system": name,
        "offered": True,
        "trained": system.trained,
        "paper": system.paper,
        "composition": system.composition,
        "missing": system.missing,
        "parameters": system.parameters,
        "parameters_for": dict(system.experts) if system.trained else {},
        "schedule": dict(system.schedule),
        **({"package": package} if package else {}),
    }


@app.command(epilog="Example: reelseek models show eao --recipe > my-eao.toml")
def show(
    system: Annotated[str, typer.Argument(help="A system, as `models list` names it.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    recipe: Annotated[bool, typer.Option("--recipe", help="A TOML recipe with every setting, to train from.")] = False,
) -> None:
    """What a system is made of, what it does without a modality, and every setting with its default."""
    from reelseek.errors import UsageError, suggest
    from reelseek.models import SYSTEMS
    from reelseek.models.systems import NOT_OFFERED

    if system in NOT_OFFERED:
        raise UsageError(f"{system} is not offered: {NOT_OFFERED[system]}")
    if system not in SYSTEMS:
        raise UsageError(f"no system is called {system!r}{suggest(system, SYSTEMS)}; there are {', '.join(SYSTEMS)}")
    if recipe:
        print(_recipe(system), end="")
        return
    description = _description(system) | {"settings": _settings(system)}
    if json:
        print_json(description)
        return
    for name, label in (
        ("package", "package"), ("paper", "paper"), ("composition", "made of"), ("missing", "without a modality")
    ):  # fmt: skip
        if description.get(name):
            print(f"{label}: {description[name]}")
    if description["trained"]:
        widths = ", ".join(f"{name} {width}" for name, width in description["parameters_for"].items())
        print(f"parameters: {description['parameters']:,} ({widths})")
    print_table(["setting", "default"], list(description["settings"].items()))
    print(cleandoc(SYSTEMS[system].config.__doc__ or ""))


def _settings(name: str) -> dict[str, Any]:
    """Defaults of every setting but the experts, which a library decides."""
    from dataclasses import MISSING

    from pydantic import TypeAdapter

    from reelseek.models import SYSTEMS

    system = SYSTEMS[name]
    values: dict[str, Any] = dict(system.defaults)
    required = {f.name for f in fields(system.config) if f.default is MISSING and f.default_factory is MISSING}
    if "experts" in required or system.trained:
        values["experts"] = dict(system.experts)
    if name == "clip_mean":
        values |= {"text": {"encoder": "a CLIP folder"}}
    config = TypeAdapter(system.config).validate_python(values)
    settings: dict[str, Any] = _without_none(asdict(config))
    settings.pop("experts", None)
    return settings


def _without_none(value: Any) -> Any:
    """Nested settings without None, which TOML cannot hold and which is a default anyway."""
    if not isinstance(value, dict):
        return value
    return {key: _without_none(part) for key, part in value.items() if part is not None}


def _recipe(name: str) -> str:
    import tomli_w

    from reelseek.errors import UsageError
    from reelseek.models import SYSTEMS
    from reelseek.training.recipe import read_settings

    system = SYSTEMS[name]
    if not system.trained:
        raise UsageError(f"{name} is used as it is, and has no recipe")
    recipe: dict[str, Any] = {"model": {"system": name, **_settings(name)}, "train": dict(system.schedule)}
    comments = [system.paper, system.composition]
    if system.published:
        published = read_settings(system.published)
        text = published["model"].pop("text", {})
        published["train"].pop("text_dropout", None)  # of a text encoder that this machine may not have
        recipe = {**published, "model": {**recipe["model"], **published["model"], "system": name}}
        comments.append(f"Published settings: {system.published}; train them with `reelseek train {system.published}`")
        if "encoder" in text:
            comments.append(f"There model.text.encoder is {text['encoder']!r}; here it is the packaged one.")
    return "".join(f"# {line}\n" for line in comments) + "\n" + tomli_w.dumps(recipe)


@app.command(
    epilog="Example: reelseek models convert HowTo100M_audio_video_text_model.pth --format eao --out eao.model"
)
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint that another project released.")],
    format: Annotated[
        str,
        typer.Option(
            help="Whose: mmt, mdmmt, ce, mee, eao, coot, umi, avlnet, ht, e2e, mmv, drl, clip4clip or gram; clip: the "
            "CLIP towers of one, as a folder."
        ),
    ],
    out: Annotated[Path, folder_option("the model")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="What its tensors do not tell: key=value, such as heads=8.")
    ] = None,
) -> None:
    """Turn a released checkpoint into a model; nothing in it is run, and only tensors are read.

    Tensors that have no place in it are counted on standard error; the exit status is 1 if its outputs depend on them.
    """
    from functools import partial

    from reelseek.media.guard import guarded
    from reelseek.models.checkpoints.convert import convert_file
    from reelseek.training.recipe import changed

    settings = changed({}, set_ or ())
    size = checkpoint.stat().st_size if checkpoint.is_file() else 0
    left_out = guarded(partial(convert_file, checkpoint, format, settings), out, seconds=300 + size / 5e6)
    print(out)
    for part in left_out:
        say(str(part))
    if (out / "vision_net").is_dir():
        say(f"make the features that it reads with: reelseek add LIBRARY VIDEOS --experts vision_net@{out}/vision_net")
    if any(part.missed for part in left_out):
        raise typer.Exit(1)


@app.command(epilog="Example: reelseek models pull --preset standard")
def pull(
    model: Annotated[str | None, typer.Argument(help="Name of a model on the hub.")] = None,
    preset: Annotated[str | None, typer.Option(help="offline, standard or best: all models of a preset.")] = None,
) -> None:
    """Fetch models of the hub once; experts then load them by name, offline. Interrupted, it goes on where it was."""
    from reelseek.errors import UsageError
    from reelseek.experts.hub import pull as pull_model

    if (model is None) == (preset is None):
        raise UsageError("name one model of the hub, or a preset with --preset")
    if model is not None:
        print(pull_model(model))
        return
    raise typer.Exit(_pull_preset(str(preset)))


def _pull_preset(name: str) -> int:
    """Fetch what is not there of a preset, one model after the other; returns the exit status."""
    from reelseek.errors import ExpertUnavailable
    from reelseek.experts.hub import pretrained_folder
    from reelseek.experts.hub import pull as pull_model
    from reelseek.experts.presets import find_preset, missing_models

    preset = find_preset(name)
    missing = missing_models(preset)
    absent = {member.model for member in missing}
    rows = [
        (member.expert, member.licence, megabytes(member), "to fetch" if member.model in absent else "here")
        for member in preset.members
    ]
    print_table(["expert", "licence", "MB", "state"], rows)
    say(f"{len(missing)} of {len(preset.models)} models to fetch, {sum(member.megabytes for member in missing):,} MB")
    failed = []
    for number, member in enumerate(missing, 1):
        say(f"{number} of {len(missing)}: {member.model} ({member.licence}, {member.megabytes:,} MB)")
        try:
            pull_model(member.model, revision=member.revision)
        except ExpertUnavailable as error:
            say(f"failed: {error}")
            failed.append(member.model)
    for member in preset.models:
        if member.model not in failed:
            print(pretrained_folder(member.model))
    if failed:
        say(
            f"{len(failed)} of {len(missing)} models were not fetched ({', '.join(failed)}); run the same command again"
        )
    return 1 if failed else 0


def megabytes(member: "Member") -> str:
    """Size of a member's weights in words."""
    return f"{member.megabytes:,}" if member.model else "packaged"
