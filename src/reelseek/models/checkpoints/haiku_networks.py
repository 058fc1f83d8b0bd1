"""MMV's networks of frames in its checkpoints: S3D-G, and ResNet50 with a temporal shift, of one width or two."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from reelseek.errors import ModelError
from reelseek.experts.backbones import S3DG, TSMResNet50
from reelseek.models.checkpoints.keymap import KeyMap
from reelseek.models.checkpoints.state import State
from reelseek.models.weights import check_finite

__all__ = ["NORM", "SIGHT", "ReleasedNetwork", "vision_network"]

SIGHT = "visual_module"
NORM = {"weight": "scale", "bias": "offset", "running_mean": "mean_ema/average", "running_var": "var_ema/average"}
"""Haiku's names of what a batch normalisation of PyTorch holds."""
_TSM, _S3D = f"{SIGHT}/TSMResNetV2", f"{SIGHT}/S3D"
_TAKES = {"fps": 10.0, "frames": 32, "resize": 200, "crop": 200}
_MIXED = ("3b", "3c", None, "4b", "4c", "4d", "4e", "4f", None, "5b", "5c")  # between them S3D pools
_BRANCHES = {  # of a block of ours: the convolution of the release, and whether it is one over space and one over time
    "0": ("Branch_0_Conv2d_0a_1x1", False), "1.0": ("Branch_1_Conv2d_0a_1x1", False),
    "1.1": ("Branch_1_Conv2d_0b_3x3", True), "2.0": ("Branch_2_Conv2d_0a_1x1", False),
    "2.1": ("Branch_2_Conv2d_0b_3x3", True), "3.1": ("Branch_3_Conv2d_0b_1x1", False),
}  # fmt: skip


@dataclass(frozen=True)
class ReleasedNetwork:
    """A network of a checkpoint, in evaluation mode.

    Attributes:
        name: of its folder, which is the expert that runs it.
        sizes: arguments of its constructor.
        takes: the windows that it was trained on.
        tensors: names of what was read of it.
    """

    name: str
    network: S3DG | TSMResNet50
    sizes: Mapping[str, Any]
    takes: Mapping[str, Any]
    tensors: frozenset[str]


def vision_network(state: State) -> ReleasedNetwork | None:
    """Build the network of frames of MMV's checkpoint, under names as `short_name` gives them; None if it has none.

    Windows are those of `published/mmv-pixels`, 32 frames at 10 a second, 200 pixels high and wide; how the networks
    were trained was not released, and its evaluation takes every second frame, 224 pixels high and wide.

    Raises:
        ModelError: arrays of it are absent or unknown, have other shapes, or hold NaN or infinity.
    """
    arrays = {name: _in_torch_order(name, array) for name, array in state.items() if name.startswith(f"{SIGHT}/")}
    if not arrays:
        return None
    is_tsm = any(name.startswith(f"{_TSM}/") for name in arrays)
    network, sizes, table = _plan_tsm(arrays) if is_tsm else _plan_s3d(arrays)
    for name in arrays:
        if name.rpartition("/")[2] in ("hidden", "counter"):
            table.unused[name] = "the running average stands beside it"
    weights = table.read(arrays)
    check_finite(weights, "the network of MMV's checkpoint")
    table.check_shapes(weights, network.state_dict(), "MMV's network of frames as wide as its first layer")
    network.load_state_dict(weights, strict=False)  # it counts batches, which the release does not
    return ReleasedNetwork("vision_net", network.eval(), sizes, _TAKES, frozenset(arrays))


def _in_torch_order(name: str, array: Tensor) -> Tensor:
    """An array as PyTorch orders it: kernels [(frame,) height, width, in, out] are [out, in, frame, height, width]."""
    if not name.endswith("/w") or array.ndim < 2:
        return array.reshape(-1)  # of one number a channel
    if array.ndim == 4:
        array = array[None]
    return array.movedim((-1, -2), (0, 1))


def _plan_tsm(arrays: State) -> tuple[TSMResNet50, dict[str, Any], KeyMap]:
    scale = _width(arrays, f"{_TSM}/tsm_resnet_stem/w") / 64
    units = [name.split("/")[2:4] for name in arrays if name.startswith(f"{_TSM}/tsm_resnet_unit_")]
    blocks = [len({block for unit, block in units if unit == f"tsm_resnet_unit_{stage}"}) for stage in range(4)]
    sizes: dict[str, Any] = {"scale": scale, "blocks": blocks}
    network = TSMResNet50(**sizes)
    table = KeyMap("MMV network of frames")
    _kernel(table, "stem", f"{_TSM}/tsm_resnet_stem")
    places = [(stage, block) for stage, count in enumerate(blocks) for block in range(count)]
    for number, (stage, block) in enumerate(places):
        theirs = f"{_TSM}/tsm_resnet_unit_{stage}/block_{block}"
        for layer in range(3):
            _norm(table, f"blocks.{number}.norm{layer}", f"{theirs}/batch_norm_{layer}")
            _kernel(table, f"blocks.{number}.conv{layer}", f"{theirs}/conv_{layer}")
        if block == 0:
            _kernel(table, f"blocks.{number}.shortcut", f"{theirs}/shortcut_conv")
    _norm(table, "norm", f"{_TSM}/batch_norm_0")
    return network, sizes, table


def _plan_s3d(arrays: State) -> tuple[S3DG, dict[str, Any], KeyMap]:
    sizes = {"scale": _width(arrays, f"{_S3D}/Conv2d_1a_7x7/conv3_d/w") / 64}
    table = KeyMap("MMV network of frames")
    _unit(table, "stem", f"{_S3D}/Conv2d_1a_7x7")
    _unit(table, "blocks.1", f"{_S3D}/Conv2d_2b_1x1")
    _unit(table, "blocks.2", f"{_S3D}/Conv2d_2c_3x3", separable=True)
    _gate(table, "blocks.3", f"{_S3D}/Conv2d_2c_3x3")
    for number, mixed in enumerate(_MIXED, 5):
        if mixed is None:
            continue
        for branch, (theirs, separable) in _BRANCHES.items():
            place = f"{_S3D}/Mixed_{mixed}/{theirs}"
            _unit(table, f"blocks.{number}.branches.{branch}", place, separable=separable)
            if branch in ("0", "1.1", "2.1", "3.1"):
                _gate(table, f"blocks.{number}.gates.{branch[0]}", place)
    return S3DG(**sizes), sizes, table


def _width(arrays: State, name: str) -> int:
    if name not in arrays:
        raise ModelError(
            f"{name} is absent, and {min(arrays)} is there: neither S3D-G nor ResNet50 with a temporal shift, "
            "the networks that MMV released"
        )
    return len(arrays[name])


def _kernel(table: KeyMap, ours: str, theirs: str) -> None:
    table.same(f"{ours}.weight", f"{theirs}/w")


def _unit(table: KeyMap, ours: str, theirs: str, *, separable: bool = False) -> None:
    """Map convolutions, each with its normalisation."""
    for number in range(1 + separable):
        suffix = f"_{number}" if number else ""
        _kernel(table, f"{ours}.{3 * number}", f"{theirs}/conv3_d{suffix}")
        _norm(table, f"{ours}.{3 * number + 1}", f"{theirs}/batch_norm_{number}")


def _norm(table: KeyMap, ours: str, theirs: str) -> None:
    for part, array in NORM.items():
        table.same(f"{ours}.{part}", f"{theirs}/{array}")


def _gate(table: KeyMap, ours: str, theirs: str) -> None:
    table.same(f"{ours}.fc.weight", f"{theirs}/self_gating/w")
    table.same(f"{ours}.fc.bias", f"{theirs}/self_gating/b")
