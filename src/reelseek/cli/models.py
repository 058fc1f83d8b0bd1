"""`reelseek models`."""

from typing import Annotated

import typer

from reelseek.cli.show import print_json, print_table

__all__ = ["app"]

app = typer.Typer(help="Systems, and models of a hub.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list", epilog="Example: reelseek models list --json")
def list_(json: Annotated[bool, typer.Option("--json", help="One JSON line a system.")] = False) -> None:
    """The systems that can be trained or used as they are."""
    from reelseek.models import SYSTEMS

    for name, system in SYSTEMS.items():
        if json:
            about = {"trained": system.trained, "paper": system.paper, "composition": system.composition}
            print_json({"system": name, **about, "missing": system.missing})
    if not json:
        rows = [(name, "trained" if s.trained else "as it is", s.paper) for name, s in SYSTEMS.items()]
        print_table(["system", "use", "paper"], rows)


@app.command(epilog="Example: reelseek models pull openai/clip-vit-base-patch32")
def pull(model: Annotated[str, typer.Argument(help="Name of a model on the hub.")]) -> None:
    """Fetch a model of the hub once; experts then load it by name, offline."""
    from reelseek.experts.hub import pull as pull_model

    print(pull_model(model))
