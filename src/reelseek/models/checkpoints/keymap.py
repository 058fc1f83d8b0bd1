"""Maps tensors of a published checkpoint to ours; one table reads and writes them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reelseek.errors import ModelError

__all__ = ["KeyMap", "LeftOut", "Source"]


@dataclass(frozen=True)
class Source:
    """The released tensors that make up one of ours.

    Args:
        keys: their names; several are concatenated along `axis`, or `added`.
        lead: number of leading axes of length 1 that ours lacks.
        rows: the rows of the released table that we use, of `of` rows in all.
        transposed: a matrix [in, out], as JAX and TensorFlow have it.
    """

    keys: tuple[str, ...]
    lead: int = 0
    rows: tuple[int, ...] | None = None
    of: int = 0
    axis: int = 0
    added: bool = False
    transposed: bool = False

    def read(self, state: Mapping[str, Tensor]) -> Tensor:
        parts = [state[key] for key in self.keys]
        parts = [part.reshape(part.shape[self.lead :]) for part in parts]
        if self.transposed:
            parts = [part.transpose(0, 1) for part in parts]
        if self.added:
            return torch.stack(parts).sum(0)
        joined = parts[0] if len(parts) == 1 else torch.cat(parts, self.axis)
        return joined if self.rows is None else joined[list(self.rows)]

    def write(self, ours: Tensor) -> dict[str, Tensor]:
        """Write the released tensors; rows of a table that we do not use are zeros, and so are all but one addend."""
        if self.added:
            return {key: ours if index == 0 else torch.zeros_like(ours) for index, key in enumerate(self.keys)}
        if self.rows is not None:
            table = ours.new_zeros(self.of, *ours.shape[1:])
            table[list(self.rows)] = ours
            ours = table
        parts = ours.chunk(len(self.keys), self.axis) if len(self.keys) > 1 else (ours,)
        if self.transposed:
            parts = tuple(part.T for part in parts)
        return {
            key: part.reshape((1,) * self.lead + tuple(part.shape)) for key, part in zip(self.keys, parts, strict=True)
        }


@dataclass(frozen=True)
class LeftOut:
    """Released tensors that are not read for one reason.

    Attributes:
        tensors, numbers: how many of them, and how many numbers they hold.
        example: the name of one.
        missed: whether outputs of the released model depend on them.
    """

    reason: str
    tensors: int
    numbers: int
    example: str
    missed: bool

    def __str__(self) -> str:
        what = "left out" if self.missed else "not needed"
        return f"{what}: {self.tensors:,} tensors with {self.numbers:,} numbers, such as {self.example}: {self.reason}"


@dataclass
class KeyMap:
    """The table of keys of one checkpoint.

    Attributes:
        sources: the source of each of our tensors.
        constants: those of our tensors that the release has not, with values that do nothing.
        unused: released keys that are not read, with the reason.
        missed: those of them that outputs of the released model depend on; of others none does.
    """

    system: str
    sources: dict[str, Source] = field(default_factory=dict)
    constants: dict[str, Tensor] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    missed: set[str] = field(default_factory=set)

    def same(self, ours: str, theirs: str, *parts: str, lead: int = 0) -> None:
        """Map one tensor, or each part (`weight`, `bias`) of one module."""
        for part in parts or ("",):
            dot = f".{part}" if part else ""
            self.sources[ours + dot] = Source((theirs + dot,), lead)

    def linear(self, ours: str, theirs: str, *, bias: bool = True) -> None:
        self.same(ours, theirs, *(("weight", "bias") if bias else ("weight",)))

    def norm(self, ours: str, theirs: str) -> None:
        """Map batch normalisation with its statistics."""
        self.same(ours, theirs, "weight", "bias", "running_mean", "running_var", "num_batches_tracked")

    def joined(self, ours: str, theirs: tuple[str, ...], *, bias: bool = True) -> None:
        """Map several released modules to one of ours."""
        for part in ("weight", "bias") if bias else ("weight",):
            self.sources[f"{ours}.{part}"] = Source(tuple(f"{key}.{part}" for key in theirs))

    def gated(self, ours: str, theirs: str, *, batch_norm: bool) -> None:
        """Map a gated embedding unit."""
        self.linear(f"{ours}.fc", f"{theirs}.fc")
        self.linear(f"{ours}.gate", f"{theirs}.cg.fc")
        if batch_norm:
            self.norm(f"{ours}.norm", f"{theirs}.cg.batch_norm")

    def drop(self, keys: str, why: str, *parts: str) -> None:
        for part in parts or ("weight", "bias"):
            self.unused[f"{keys}.{part}"] = why

    def leave_out(self, name: str, why: str) -> None:
        """Leave out a tensor that outputs of the released model depend on."""
        self.unused[name] = why
        self.missed.add(name)

    def text_encoder(self, name: str, prefix: str, *, trained: bool) -> None:
        """Map a tensor of a BERT whose names begin with a prefix, or leave it out where ours is not trained."""
        rest = name.removeprefix(prefix)
        if rest.startswith("pooler.") or rest.endswith("position_ids"):
            self.unused[name] = "no output of the text encoder depends on it"
        elif trained:
            self.same(f"text.encoder.{rest}", name)
        else:
            why = "the text encoder, which is not trained here; name it with text.encoder and text.trained=true"
            self.leave_out(name, why)

    def read(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Read released tensors under our names.

        Raises:
            ModelError: keys are absent, or not of this system, or tensors have shapes that cannot be joined.
        """
        expected = {key for source in self.sources.values() for key in source.keys}
        optional = {key for key in expected if key.endswith("num_batches_tracked")}
        absent = sorted(expected - optional - set(state))
        if absent:
            raise ModelError(
                f"not a released {self.system} checkpoint of these sizes: {len(absent)} keys are absent, "
                f"such as {absent[0]!r}; it has {', '.join(sorted(state)[:3])}, ..."
            )
        foreign = sorted(set(state) - expected - set(self.unused))
        if foreign:
            raise ModelError(
                f"not a released {self.system} checkpoint of these sizes: {len(foreign)} keys are not known there, "
                f"such as {foreign[0]!r}"
            )
        mapped = {
            ours: self._read_source(source, state)
            for ours, source in self.sources.items()
            if set(source.keys) <= set(state)
        }
        return {**mapped, **self.constants}

    def _read_source(self, source: Source, state: Mapping[str, Tensor]) -> Tensor:
        shapes = ", ".join(f"{key} {tuple(state[key].shape)}" for key in source.keys)
        if any(state[key].is_complex() for key in source.keys):
            raise ModelError(f"not a released {self.system} checkpoint: its numbers are complex in {shapes}")
        try:
            return source.read(state)
        except (RuntimeError, IndexError) as error:
            raise ModelError(
                f"not a released {self.system} checkpoint: its tensors have other shapes: {shapes} ({error})"
            ) from error

    def check_shapes(self, ours: Mapping[str, Tensor], model: Mapping[str, Tensor], system: str) -> None:
        """Refuse tensors of other shapes than a model's, by their released names.

        Args:
            model: its state; what it lacks is not looked at.
            system: what the message calls it.

        Raises:
            ModelError: names up to three of them, what they make and what was wanted.
        """
        wrong = []
        for name, tensor in ours.items():
            if name in model and tensor.shape != model[name].shape:
                released_as = " + ".join(self.sources[name].keys) if name in self.sources else name
                wrong.append(f"{released_as} makes {tuple(tensor.shape)}, wanted {tuple(model[name].shape)}")
        if wrong:
            more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise ModelError(f"the checkpoint's shapes are not those of {system}: {'; '.join(wrong[:3])}{more}")

    def left_out(self, state: Mapping[str, Tensor]) -> tuple[LeftOut, ...]:
        """What of a checkpoint is not read, by its reason; what is missed comes first."""
        groups: dict[tuple[bool, str], list[str]] = {}
        for name in sorted(set(state) & set(self.unused)):
            groups.setdefault((name not in self.missed, self.unused[name]), []).append(name)
        return tuple(
            LeftOut(reason, len(names), sum(state[name].numel() for name in names), names[0], not unneeded)
            for (unneeded, reason), names in sorted(groups.items())
        )

    def write(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Write our tensors under the released names."""
        state: dict[str, Tensor] = {}
        for name, source in self.sources.items():
            if name in ours:
                state |= source.write(ours[name])
        return state
