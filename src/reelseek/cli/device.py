"""The options `--device` and `--exact`, the same for every command that has them."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import torch

__all__ = ["Device", "Exact", "named_device"]

Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="auto, cpu, cuda, cuda:N or mps; default REELSEEK_DEVICE, else an accelerator where there is one.",
    ),
]

Exact = Annotated[
    bool,
    typer.Option(
        "--exact",
        help="Score every clip on the device instead of searching nearest neighbours; on an accelerator the clips have "
        "to fit into its memory.",
    ),
]


def named_device(name: str | None) -> "torch.device":
    """Resolve the option to a device.

    Raises:
        UsageError: there is no such device; names those there are.
    """
    from reelseek.models.device import resolve_device

    return resolve_device(name)
