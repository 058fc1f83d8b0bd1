"""Arrays and tensors of features, checked: one array [step, dim] for each clip or caption."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reelseek.errors import FeatureError

__all__ = ["ClipArrays", "check_names", "clip_arrays", "to_array"]

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class ClipArrays:
    """One modality: values [step, dim] and spans [step, 2] in seconds of each clip; no steps where it is absent."""

    values: list[Floats]
    spans: list[npt.NDArray[np.float64]]
    dim: int


def clip_arrays(name: str, features: Any, *, lengths: Any = None, mask: Any = None, spans: Any = None) -> ClipArrays:
    """Read one modality of a data set.

    Args:
        features: an array [clip, step, dim] or [clip, dim], or a list with an array [step, dim] or [dim], or None, for
            each clip.
        lengths: of a padded array, how many steps each clip has.
        mask: of a padded array, bool [clip, step], True = present; of an array [clip, dim], bool [clip].
        spans: start and end of each step in seconds, shaped as the features with 2 for dim; None is one step per
            second.

    Raises:
        FeatureError: says what is wrong with which clip.
    """
    if isinstance(features, list | tuple):
        if lengths is not None or mask is not None:
            raise FeatureError(f"{name} is a list of arrays, which have lengths of their own; give no lengths or masks")
        rows = [_steps(name, clip, row) for clip, row in enumerate(features)]
        present = None
    else:
        padded = to_array(name, features)
        if padded.ndim not in (2, 3):
            raise FeatureError(f"{name} has the shape {padded.shape}; wanted [clip, step, dim] or [clip, dim]")
        present = _present(name, padded.shape[:-1], lengths, mask)
        padded = padded[:, None] if padded.ndim == 2 else padded
        rows = list(padded) if present is None else [row[steps] for row, steps in zip(padded, present, strict=True)]
    dim = _common_dim(name, rows)
    values = [row if row is not None else np.zeros((0, dim), np.float32) for row in rows]
    for clip, steps in enumerate(values):
        if not np.isfinite(steps).all():
            raise FeatureError(f"{name} of clip {clip} holds NaN or infinity; mask what is absent, and mend the rest")
    return ClipArrays(values, _spans(name, values, present, spans), dim)


def to_array(name: str, values: Any, *, floating: bool = True) -> npt.NDArray[Any]:
    """Return numbers as an array of float16 or float32, or as they are.

    Raises:
        FeatureError: they are ragged, or no numbers.
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise FeatureError(f"{name} is ragged: {error}; give a list with an array [step, dim] for each clip") from error
    if array.dtype == object:
        raise FeatureError(f"{name} is ragged; give a list with an array [step, dim] for each clip, or pad it")
    if array.dtype.kind not in "fiub":
        raise FeatureError(f"{name} holds {array.dtype}; wanted real numbers")
    if not floating or array.dtype in (np.float16, np.float32):
        return array
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused where it is present
        return array.astype(np.float32)


def check_names(what: str, options: Any, names: Sequence[str]) -> Mapping[str, Any]:
    """Refuse lengths, masks or spans that are not by modality, or of a modality that is absent."""
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise FeatureError(
            f"{what} are {type(options).__name__}; wanted a dict by modality, such as {{{names[0]!r}: ...}}"
        )
    unknown = [name for name in options if name not in names]
    if unknown:
        raise FeatureError(f"{what} name {unknown[0]!r}; the modalities are {', '.join(names)}")
    return options


def _steps(name: str, clip: int, row: Any) -> Floats | None:
    if row is None:
        return None
    array = to_array(f"{name} of clip {clip}", row)
    if array.ndim == 1 and array.size:
        array = array[None]
    if array.ndim != 2:
        if array.size == 0:
            return None
        raise FeatureError(f"{name} of clip {clip} has the shape {array.shape}; wanted [step, dim]")
    return array


def _present(name: str, shape: tuple[int, ...], lengths: Any, mask: Any) -> npt.NDArray[np.bool_] | None:
    """Which steps [clip, step] of a padded array are present; None where all are."""
    if lengths is not None and mask is not None:
        raise FeatureError(f"{name} has lengths and a mask; give one of them")
    if mask is not None:
        array = to_array(f"the mask of {name}", mask, floating=False)
        if array.shape != shape:
            raise FeatureError(f"the mask of {name} has the shape {array.shape}; wanted {shape}, as its steps have")
        if array.dtype != bool and not np.isin(array, (0, 1)).all():
            raise FeatureError(f"the mask of {name} holds other numbers than 0 and 1; True is a step that is present")
        return array.astype(bool).reshape(shape[0], -1)
    if lengths is None:
        return None
    most = shape[1] if len(shape) > 1 else 1
    counts = to_array(f"the lengths of {name}", lengths, floating=False)
    if counts.shape != shape[:1] or counts.dtype.kind not in "iu":
        raise FeatureError(
            f"the lengths of {name} are {counts.dtype} of shape {counts.shape}; wanted {shape[0]} integers"
        )
    wrong = np.flatnonzero((counts < 0) | (counts > most))
    if len(wrong):
        raise FeatureError(
            f"clip {wrong[0]} of {name} has the length {counts[wrong[0]]}; wanted 0 to {most}, the steps of the array"
        )
    return np.arange(most)[None] < counts[:, None]


def _common_dim(name: str, rows: Sequence[Floats | None]) -> int:
    dims = {row.shape[1]: clip for clip, row in reversed(list(enumerate(rows))) if row is not None}
    if len(dims) > 1:
        (one, first), (other, second) = sorted(dims.items(), key=lambda pair: pair[1])[:2]
        raise FeatureError(f"{name} is ragged: clip {first} has width {one}, and clip {second} has width {other}")
    if not dims or not next(iter(dims)):
        raise FeatureError(f"{name} has no features of any clip; leave it out")
    return next(iter(dims))


def _spans(
    name: str, rows: Sequence[Floats], present: npt.NDArray[np.bool_] | None, spans: Any
) -> list[npt.NDArray[np.float64]]:
    """Spans of the steps that are present; a step keeps its second where others before it are absent."""
    if spans is None:
        places = [np.arange(len(row)) for row in rows] if present is None else [np.flatnonzero(row) for row in present]
        return [np.stack([place, place + 1.0], axis=1) for place in places]
    if len(spans) != len(rows):
        raise FeatureError(f"the spans of {name} are of {len(spans)} clips, and its features of {len(rows)}")
    selected = []
    for clip, (row, span) in enumerate(zip(rows, spans, strict=True)):
        if span is None:
            array = np.zeros((0, 2))
        else:
            array = np.asarray(to_array(f"the spans of {name} of clip {clip}", span, floating=False), np.float64)
        if present is not None and len(array) == present.shape[1]:
            array = array[present[clip]]
        if array.shape != (len(row), 2):
            raise FeatureError(
                f"the spans of {name} of clip {clip} have the shape {array.shape}; wanted {(len(row), 2)}"
            )
        if not np.isfinite(array).all() or (array[:, 1] < array[:, 0]).any() or (np.diff(array[:, 0]) < 0).any():
            raise FeatureError(f"the spans of {name} of clip {clip} are not finite seconds that rise")
        selected.append(array)
    return selected
