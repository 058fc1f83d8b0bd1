"""The option `--device`, the same for every command that computes."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import torch

__all__ = ["Device", "named_device"]

Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="auto, cpu, cuda, cuda:N or mps; default REELSEEK_DEVICE, else an accelerator where there is one.",
    ),
]


def named_device(name: str | None) -> "torch.device":
    """Resolve the option to a device.

    Raises:
        UsageError: there is no such device; names those there are.
    """
    from reelseek.models.device import resolve_device

    return resolve_device(name)
