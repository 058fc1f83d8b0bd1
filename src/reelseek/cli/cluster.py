"""The option `--ray [ADDRESS]`, the same for every command that can compute on a cluster."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from reelseek.cluster import Cluster

__all__ = ["OnRay", "Ray", "on_cluster", "with_address"]

Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Compute on a cluster of Ray: HOST:PORT, local, or nothing for RAY_ADDRESS, else one that runs here.",
    ),
]
_ADDRESS = re.compile(r"auto|local|(\[[0-9a-fA-F:]+\]|[\w.-]+):\d{1,5}|ray://.*")


class OnRay(TyperCommand):
    """A command whose option `--ray` stands with an address or without one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_address(args))


def with_address(arguments: Sequence[str]) -> list[str]:
    """Write `--ray` without an address as `--ray=auto`.

    >>> with_address(["my.library", "--ray", "films"])
    ['my.library', '--ray=auto', 'films']
    """
    complete: list[str] = []
    options = True
    for place, argument in enumerate(arguments):
        options = options and argument != "--"
        following = arguments[place + 1] if place + 1 < len(arguments) else ""
        bare = options and argument == "--ray" and not _ADDRESS.fullmatch(following)
        complete.append("--ray=auto" if bare else argument)
    return complete


@contextmanager
def on_cluster(address: str | None) -> "Iterator[Cluster | None]":
    """Connect to the cluster that `--ray` names; None without the option."""
    if address is None:
        yield None
        return
    from reelseek.cluster import connect

    with connect(address) as cluster:
        yield cluster
