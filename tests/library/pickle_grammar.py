"""Pickles that a hostile writer could make: opcodes put together by a grammar over the names of numpy and torch.

`python -m tests.library.pickle_grammar READER SEED COUNT FOLDER` reads COUNT of them and prints how many were read and
refused; a reader that raises anything but our own errors ends it with a traceback, one that crashes with a signal.
"""

import io
import pickle
import random
import resource
import struct
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from reelseek.errors import CollectionError, ModelError

_NAMES = (
    "numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct", "numpy.core.multiarray scalar",
    "numpy._core.multiarray scalar", "numpy._core.numeric _frombuffer", "numpy ndarray", "numpy dtype",
    "numpy.core.multiarray fromstring", "numpy.ma.core _mareconstruct", "numpy.ctypeslib as_array", "numpy memmap",
    "collections OrderedDict", "collections defaultdict", "builtins set", "builtins list", "builtins bytearray",
    "builtins eval", "builtins getattr", "os system", "_codecs encode", "copyreg _reconstructor", "torch Size",
    "torch FloatStorage", "torch LongStorage", "torch UntypedStorage", "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor", "torch._utils _rebuild_parameter", "torch.storage _load_from_bytes",
    "torch.jit._script unpackage_script_module", "ctypes string_at",
)  # fmt: skip
_TYPES = "f4 <f8 >f2 i8 u1 b1 c8 f16 S4 U2 S0 U0 U99999999 O |O8 V8 M8[ns] (4,)f4 f4,O x i99 ?".split()
_LENGTHS = (0, 1, 2, 3, 7, -1, 2**31, 2**40, 2**62, 2**63, -(2**63))


class Grammar:
    """Random pickles; `pickle()` is one of them."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._forms: list[Callable[[int], bytes]] = [
            self._atom, self._tuple, self._list, self._dict, self._set, self._call, self._array, self._scalar,
            self._over_bytes, self._tensor, self._memo, self._odd,
        ]  # fmt: skip

    def pickle(self) -> bytes:
        """A whole one, sometimes with bytes changed or cut off."""
        data = bytearray(b"\x80" + bytes([self.rng.choice((0, 2, 4, 5))]) + self._value(5) + b".")
        if self.rng.random() < 0.3:
            for _ in range(self.rng.choice((1, 3, 10))):
                data[self.rng.randrange(2, len(data))] = self.rng.randrange(256)
        if self.rng.random() < 0.1:
            del data[self.rng.randrange(2, len(data)) :]
        return bytes(data)

    def _value(self, depth: int) -> bytes:
        return self.rng.choice(self._forms if depth > 0 else self._forms[:1])(depth - 1)

    def _atom(self, _: int) -> bytes:
        return self.rng.choice((self._int, self._text, self._bytes, self._name, lambda: b"N", lambda: b"\x88"))()

    def _int(self) -> bytes:
        number = self.rng.choice((*_LENGTHS, self.rng.randrange(100)))
        data = number.to_bytes(9, "little", signed=True)
        return b"\x8a" + bytes([len(data)]) + data

    def _text(self, text: str | None = None) -> bytes:
        data = (self.rng.choice(("a", "features", "latin1", "<", ">", *_TYPES)) if text is None else text).encode()
        return b"X" + struct.pack("<I", len(data)) + data

    def _bytes(self, size: int | None = None) -> bytes:
        size = self.rng.choice((0, 1, 8, 16, 24, 100)) if size is None else size
        return b"C" + bytes([size]) + self.rng.randbytes(size)

    def _name(self, name: str | None = None) -> bytes:
        module, _, attribute = (name or self.rng.choice(_NAMES)).partition(" ")
        if self.rng.random() < 0.3:
            return self._text(module) + self._text(attribute) + b"\x93"
        return b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"

    def _many(self, depth: int) -> bytes:
        return b"".join(self._value(depth) for _ in range(self.rng.randrange(4)))

    def _tuple(self, depth: int) -> bytes:
        return b"(" + self._many(depth) + b"t"

    def _list(self, depth: int) -> bytes:
        return b"](" + self._many(depth) + b"e"

    def _dict(self, depth: int) -> bytes:
        return b"}(" + b"".join(self._atom(0) + self._value(depth) for _ in range(self.rng.randrange(4))) + b"u"

    def _set(self, depth: int) -> bytes:
        return self.rng.choice((b"\x8f(" + self._many(depth) + b"\x90", b"(" + self._many(depth) + b"\x91"))

    def _call(self, depth: int) -> bytes:
        arguments = self._tuple(depth)
        how = self.rng.randrange(5)
        if how == 0:
            return b"(" + self._name() + self._many(depth) + b"o"
        if how == 1:
            module, _, attribute = self.rng.choice(_NAMES).partition(" ")
            return b"(" + self._many(depth) + b"i" + module.encode() + b"\n" + attribute.encode() + b"\n"
        if how == 2:
            return self._name() + arguments + b"}\x92"
        call = self._name() + arguments + self.rng.choice((b"R", b"\x81"))
        return call + (self._value(depth) + b"b" if self.rng.random() < 0.4 else b"")

    def _dtype(self, depth: int) -> bytes:
        text = self.rng.choice(_TYPES)
        made = self._name("numpy dtype") + b"(" + self._text(text) + b"K\x00K\x01tR"
        if self.rng.random() < 0.2:
            return made
        inside = self._tuple(depth) if self.rng.random() < 0.2 else b"N"
        return made + b"(K\x03" + self._text(self.rng.choice("<>|=")) + inside + b"NN" + self._int() * 2 + b"K\x3ftb"

    def _shape(self) -> bytes:
        lengths = [self._int() for _ in range(self.rng.randrange(4))]
        return b"(" + b"".join(lengths) + b"t" if self.rng.random() < 0.9 else self._atom(0)

    def _array(self, depth: int) -> bytes:
        empty = self._name("numpy._core.multiarray _reconstruct") + b"(" + self._name("numpy ndarray") + b"K\x00\x85"
        data = self._list(depth) if self.rng.random() < 0.3 else self._bytes()
        state = b"(K\x01" + self._shape() + self._dtype(depth) + self.rng.choice((b"\x88", b"\x89")) + data + b"t"
        return empty + b"C\x01btR" + (b"q\x07" if self.rng.random() < 0.5 else b"") + state + b"b"

    def _scalar(self, depth: int) -> bytes:
        data = self._bytes() if self.rng.random() < 0.7 else self._value(depth)
        return self._name("numpy._core.multiarray scalar") + b"(" + self._dtype(depth) + data + b"tR"

    def _over_bytes(self, depth: int) -> bytes:
        name = self._name("numpy._core.numeric _frombuffer")
        return name + b"(" + self._bytes() + self._dtype(depth) + self._shape() + self._text("C") + b"tR"

    def _tensor(self, _: int) -> bytes:
        kind, count = self.rng.choice((("Float", 7), ("Byte", 28), ("Long", 7), ("Double", 3)))
        number, key = (self._int(), b"") if self.rng.random() < 0.3 else (b"K" + bytes([count]), self._text("1"))
        storage = self._text("storage") + self._name(f"torch {kind}Storage") + (key or self._text("0"))
        place = self._int() + self._shape() + self._shape() if self.rng.random() < 0.5 else b"K\x01K\x02\x85K\x03\x85"
        tensor = b"((" + storage + self._text("cpu") + number + b"tQ" + place + b"\x89NtR"
        return self._name("torch._utils _rebuild_tensor_v2") + tensor

    def _memo(self, depth: int) -> bytes:
        index = self.rng.choice((0, 1, 7, 2**31, 2**32 - 1))
        fetch = b"j" + struct.pack("<I", index)
        return self._value(depth) + b"r" + struct.pack("<I", index) + (b"0" + fetch if self.rng.random() < 0.7 else b"")

    def _odd(self, depth: int) -> bytes:
        return self.rng.choice((
            b"\x82\x01", b"\x83\x01\x00", b"Px\n", self._value(depth) + b"Q", b"2", b"0", b"1", b"a", b"s", b"\x97",
            b"\x95" + b"\xff" * 8, b"\x8e" + b"\xff" * 8, b"\x96" + b"\x00" * 5 + b"\x01" + b"\x00" * 2,
            b"j\xff\xff\xff\x7f", b"]q\x01" + b"h\x01a" * self.rng.randrange(3), b"(" * 50 + b"t" * 50,
            b"I" + b"9" * 30 + b"\n", b"F1e400\n",
        ))  # fmt: skip


def read_features(data: bytes, path: Path) -> None:
    """As feature pickles are read, with a look at every value."""
    from reelseek.library.readers import read_pickle

    path.write_bytes(data)
    repr(read_pickle(path))


def read_checkpoint(data: bytes, path: Path) -> None:
    """As checkpoints are read: in torch's zip, or in its older row of pickles; every number is looked at."""
    from reelseek.models.checkpoints import read_tensors

    if data[-2] % 3:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x/data.pkl", data)
            for key in range(2):
                archive.writestr(f"x/data/{key}", bytes(28 * key))
    else:
        stream = io.BytesIO()
        for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(value, stream, protocol=2)
        path.write_bytes(stream.getvalue() + data + pickle.dumps(["0", "1"], protocol=2) + bytes(64))
    for tensor in read_tensors(path).values():
        float(tensor.double().sum())


def main(reader: str, seed: int, count: int, folder: Path) -> None:
    read = {"features": read_features, "checkpoint": read_checkpoint}[reader]
    read(pickle.dumps({}), folder / "first") if reader == "features" else None
    import torch  # noqa: F401  # before the limit, which is on what a file takes

    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + 2**30, mapped + 2**30))
    outcomes = {"read": 0, "refused": 0}
    slowest = 0.0
    for number in range(count):
        data = Grammar(random.Random(seed * 1_000_003 + number)).pickle()
        started = time.perf_counter()
        try:
            read(data, folder / "case")
            outcomes["read"] += 1
        except (CollectionError, ModelError) as error:
            outcomes["refused"] += 1
            if "\n" in str(error):
                raise ValueError(f"case {number} of seed {seed} is refused in several lines: {error}") from error
        except BaseException:
            print(f"case {number} of seed {seed}: {data!r}", file=sys.stderr)
            raise
        slowest = max(slowest, time.perf_counter() - started)
    print(outcomes["read"], outcomes["refused"], f"{slowest:.3f}", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
