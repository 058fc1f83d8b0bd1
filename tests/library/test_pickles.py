"""Pickles of strangers: arrays and plain values come out, and nothing else ever happens."""

import pickle
import pickletools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reelseek.errors import CollectionError
from reelseek.library.readers import opcodes, read_pickle

ROOT = Path(__file__).parents[2]


def _read(folder: Path, data: bytes) -> Any:
    (folder / "x.pkl").write_bytes(data)
    return read_pickle(folder / "x.pkl")


def _refused(folder: Path, data: bytes, message: str) -> None:
    with pytest.raises(CollectionError, match=message) as caught:
        _read(folder, data)
    assert "\n" not in str(caught.value)


class _Call:
    """Pickles as a call of anything with anything, and a state after it."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.parts


_reconstruct = np.ones(1).__reduce__()[0]
_scalar = np.float32(1).__reduce__()[0]


def _array(shape: Any, dtype: Any, data: Any, fortran: bool = False) -> bytes:
    call = _Call(_reconstruct, np.ndarray, (0,), b"b", state=(1, shape, dtype, fortran, data))
    return pickle.dumps({"v": call}, protocol=2)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_plain_type_come_back_as_they_were(protocol: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 4)) * 50
    types = ("f2", "f4", ">f4", "f8", "i1", "u2", ">i8", "c8", "bool", "S5", "U7", ">U7")
    arrays = {name: values.astype(name) for name in types}
    arrays |= {"fortran": np.asfortranarray(values), "empty": np.zeros((0, 4), np.float32), "none": np.array(3.5)}
    back = _read(tmp_path, pickle.dumps(arrays, protocol=protocol))
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype, name
        np.testing.assert_array_equal(back[name], array, err_msg=name)
    numbers = [np.float16(1.5), np.int64(-3), np.str_("x"), np.str_(""), np.bool_(True)]
    assert _read(tmp_path, pickle.dumps(numbers, protocol=protocol)) == numbers


def test_arrays_of_objects_become_lists(tmp_path: Path) -> None:
    ragged = np.empty(2, object)
    ragged[:] = [np.ones((2, 3)), np.zeros((1, 3))]
    back = _read(tmp_path, pickle.dumps({"a": ragged, "b": np.array([["x", None], [1, 2.5]], object)}))
    assert type(back["a"]) is list
    assert [array.shape for array in back["a"]] == [(2, 3), (1, 3)]
    assert back["b"] == [["x", None], [1, 2.5]]
    assert _read(tmp_path, pickle.dumps(np.array({"k": 1}, object))) == {"k": 1}


def test_strings_of_python_2_are_read(tmp_path: Path) -> None:
    values = np.arange(3, dtype="<f4")
    written = (  # what Python 2.7 writes: arrays' bytes are a string, and numpy's names are the old ones
        b"\x80\x02}U\x06video7cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87Rq\x01(K\x01K\x03\x85"
        b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x0c\x00\x00\x00"
        + values.tobytes()
        + b"tbs."
    )
    assert _read(tmp_path, written)["video7"].tolist() == [0, 1, 2]
    assert _read(tmp_path, b"(dp0\nS'caf\\xe9'\np1\n(lp2\nI1\naF2.5\naI01\nas.") == {"café": [1, 2.5, True]}


HOSTILE = {
    "addresses as objects": (pickle.dumps(_Call(_scalar, np.dtype("O"), b"\x41" * 8)), "type is an object"),
    "objects over bytes": (_array((2,), np.dtype("O"), b"\x41" * 16), "objects that are not there"),
    "fewer objects": (_array((3,), np.dtype("O"), [1]), "objects that are not there"),
    "fields": (_array((1,), np.dtype([("a", "f4"), ("b", "O")]), b"\x41" * 12), "wanted numbers or strings"),
    "sub-arrays": (_array((1,), np.dtype(("f4", (10**6,))), b"\x41" * 4), "wanted numbers or strings"),
    "beyond the bytes": (_array((10**9,), np.dtype("f4"), b"\x41" * 4), "takes 4,000,000,000 bytes, and 4 are"),
    "below the bytes": (_array((1,), np.dtype("f4"), b"\x41" * 8), "takes 4 bytes, and 8 are"),
    "negative": (_array((-1,), np.dtype("f4"), b""), "no tuple of lengths"),
    "overflowing": (_array((2**33, 2**33), np.dtype("f4"), b""), "takes"),
    "past int64": (_array((2**62, 4), np.dtype("f4"), b""), "no tuple of lengths"),
    "no size": (_array((10**12,), np.dtype("S0"), b""), "takes 0 bytes|wanted numbers"),
    "half characters": (_array((1,), np.dtype("U1"), b"\xff" * 4), "what is no text"),
    "not filled": (pickle.dumps([_Call(_reconstruct, np.ndarray, (10**6,), b"b")]), "never gets its values"),
    "an array called": (pickle.dumps(_Call(np.ndarray, (10**6,))), "calls numpy.ndarray"),
    "zeros": (pickle.dumps(_Call(bytearray, 2**40)), "encodes what is no text"),
    "run": (b"cos\nsystem\n(S'true'\ntR.", "names os.system, and only arrays"),
    "run by a string": (pickle.dumps(_Call(eval, "1")), "names builtins.eval"),
    "extension": (b"\x80\x02\x82\x01.", "no opcode"),
    "outside": (b"\x80\x02X\x01\x00\x00\x00aQ.", "outside itself"),
    "buffers": (b"\x80\x05\x97.", "no opcode"),
    "no values": (b"\x80\x02a.", "not a pickle that can be read"),
    "huge string": (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x00.", "bytes follow"),
    "huge number": (b"I" + b"9" * 5000 + b"\n.", "whole number"),
    "empty": (b"", "ends in the middle"),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_what_could_reach_memory_or_code_is_refused_in_words(name: str, tmp_path: Path) -> None:
    _refused(tmp_path, *HOSTILE[name])


def test_nothing_runs_though_a_pickle_calls_it(tmp_path: Path) -> None:
    trap = tmp_path / "was-run"
    _refused(tmp_path, pickle.dumps({"a": [_Call(exec, f"open({str(trap)!r}, 'w')")]}), "only arrays")
    pickle.loads(pickle.dumps(_Call(exec, f"open({str(trap)!r}, 'w').close()")))  # noqa: S301  # it is what it says
    assert trap.exists()


BOMBS = {
    "a list in itself": (b"\x80\x02]q\x00h\x00a.", "inside itself"),
    "doubled": (b"\x80\x04]\x94" + b"".join(
        b"](" + 2 * (b"j" + n.to_bytes(4, "little")) + b"e\x94" for n in range(60)
    ) + b".", "once every reference is followed"),
    "doubled tuples as keys": (b"\x80\x04}N\x85\x94" + b"".join(
        b"j" + n.to_bytes(4, "little") + b"\x86\x94" for n in range(40)
    ) + b"Ns.", "tuple as a key"),
    "deep tuples": (b"\x80\x02N" + b"\x85" * 200_000 + b".", "inside each other"),
    "deep lists": (b"\x80\x02" + b"](" * 100_000 + b"e" * 100_000 + b".", "inside each other"),
    "deep mappings": (b"\x80\x02" + b"}N" * 50_000 + b"N" + b"s" * 50_000 + b".", "inside each other"),
    "deep keys": (b"\x80\x02}N" + b"\x85" * 100_000 + b"Ns.", "as a key"),
    "one hash for all": (b"\x80\x02}" + b"".join(
        b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"Ns" for k in range(1, 2000)
    ) + b".", "as a key"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_bombs_are_refused_in_words(name: str, tmp_path: Path) -> None:
    _refused(tmp_path, *BOMBS[name])


def test_a_place_in_the_memo_takes_no_memory(tmp_path: Path) -> None:
    data = b"\x80\x02]r\xff\xff\xff\xff0j\xff\xff\xff\xff."
    assert any(opcode.name == "LONG_BINPUT" for opcode, _, _ in pickletools.genops(data))
    assert _read(tmp_path, data) == []


def test_operations_and_bytes_are_bounded_by_the_memory_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _read(tmp_path, b"\x80\x02](" + b"}" * 1_010_000 + b"e.")
    monkeypatch.setattr(opcodes, "available_memory", lambda: 2**24)
    _refused(tmp_path, b"\x80\x02](" + b"}" * 1_010_000 + b"e.", "operations, too many for the memory")
    one = np.zeros(2**18)
    assert len(_read(tmp_path, pickle.dumps([one] * 3))) == 3
    _refused(tmp_path, pickle.dumps([one] * 20), "once every reference is followed")


@pytest.mark.parametrize("reader", ["features", pytest.param("checkpoint", marks=pytest.mark.long)])
def test_pickles_of_a_hostile_grammar_end_in_words_within_bounds(reader: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.library.pickle_grammar", reader, "7", "400", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr[-3000:]
    read, refused = map(int, ended.stdout.split()[:2])
    assert read + refused == 400
    assert min(read, refused) > 0


def test_nothing_in_the_project_reads_a_file_that_could_run_code() -> None:
    flag = r"(weights_only\s*=\s*False|allow_pickle\s*=\s*True|\bpickle\.load\(|\bpickle\.Unpickler\b)"
    guilty = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for folder in ("src", "tests", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for match in re.finditer(flag, path.read_text("utf-8"))
        if path != Path(__file__)
    ]
    assert not guilty
