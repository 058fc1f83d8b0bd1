"""Files of released checkpoints: foreign, hostile and damaged ones."""

import io
import pickle
import random
import re
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reelseek.errors import ModelError
from reelseek.models import load_model
from reelseek.models.checkpoints import FORMATS, convert, load_released, read_tensors
from reelseek.models.checkpoints.convert import _MMT_ROWS

DATA = Path(__file__).parents[1] / "data" / "parity"


def test_torch_files_of_data_parallel_and_of_lists_are_read(tmp_path: Path) -> None:
    state = load_file(DATA / "coot" / "weights.safetensors")
    order = ("net_video_local", "net_video_global", "net_text_local", "net_text_global")
    older = []
    for net in order:
        part = {n.removeprefix(f"{net}."): t for n, t in state.items() if n.startswith(f"{net}.")}
        names = {
            n: n.replace("norm_input.", "input_norm.").replace("input_fc.mlp.", "input_fc.")
            .replace("pooler.pools.0.genpool", "pooler.genpool") for n in part
        }  # fmt: skip
        older.append({f"module.{names[n]}": t for n, t in part.items()})
    torch.save(older, tmp_path / "old.pth")
    newer = {net: {n.removeprefix(f"{net}."): t for n, t in state.items() if n.startswith(f"{net}.")} for net in order}
    torch.save(newer, tmp_path / "new.pth")
    one, two = (load_released(tmp_path / name, "coot", {"heads": 4}) for name in ("old.pth", "new.pth"))
    for (name, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


class _ParseConfig:
    """What released checkpoints carry beside their tensors."""

    def __init__(self) -> None:
        self.settings = {"lr": 0.1}


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_but_tensors_is_built_from_a_pickle(tmp_path: Path, legacy: bool) -> None:
    trap = tmp_path / "was-run"
    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.nn.Parameter(torch.ones(2))}
    whole = {
        "epoch": 3,
        "config": _ParseConfig(),
        "bomb": _Bomb(trap),
        "state_dict": {f"module.{n}": t for n, t in state.items()},
    }
    torch.save(whole, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
    found = read_tensors(tmp_path / "x.pth")
    assert not trap.exists()
    assert set(found) == set(state)
    assert torch.equal(found["a.weight"], state["a.weight"])


def test_files_that_are_no_checkpoints_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "bad.safetensors").write_bytes(b"\x80\x04pickle")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps({"a": 1}))
    torch.save({"epoch": 1}, tmp_path / "empty.pth")
    refused = {
        "text.pth": "no tensors that can be read", "bad.safetensors": "not a safetensors file",
        "bare.pth": "holds no tensor", "empty.pth": "holds no tensor", "no.pth": "is no file",
    }  # fmt: skip
    for name, said in refused.items():
        with pytest.raises(ModelError, match=said):
            read_tensors(tmp_path / name)
    mee = load_file(DATA / "mee" / "weights.safetensors")
    for kind in FORMATS:
        if kind != "mee":
            with pytest.raises(ModelError, match=r"not a released|which row|name them"):
                convert(mee, kind)
    with pytest.raises(ModelError, match=r"2 keys are not known there, such as 'left\.bias'"):
        convert(mee | {"left.weight": torch.ones(1), "left.bias": torch.ones(1)}, "mee")
    with pytest.raises(ModelError, match="no format is called 'clip'"):
        convert(mee, "clip")
    with pytest.raises(ModelError, match="CE checkpoints number their 4 experts"):
        convert(load_file(DATA / "ce" / "weights.safetensors"), "ce")
    assert _MMT_ROWS["s3d"] == 1


# Hostile and old containers


class _Program(torch.nn.Module):
    """A TorchScript module whose loading writes a file."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.path = path

    def forward(self) -> Tensor:
        return self.weight

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool, str]:
        return self.weight, self.training, self.path

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool, str]) -> None:
        self.weight = state[0] + torch.from_file(state[2], True, 4).sum()
        self.training = state[1]
        self.path = state[2]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_archive_is_refused_before_it_runs(tmp_path: Path) -> None:
    trap = tmp_path / "was-run"
    program = torch.jit.script(_Program(str(trap)))
    program.save(str(tmp_path / "x.pt"))
    with pytest.raises(ModelError, match="TorchScript archive, which is a program"):
        read_tensors(tmp_path / "x.pt")
    with pytest.raises(ModelError, match="TorchScript"):
        load_released(tmp_path / "x.pt", "ht")
    assert not trap.exists()
    torch.jit.load(str(tmp_path / "x.pt"))
    assert trap.exists()  # that is what it does where it is let


def test_tensors_of_every_type_and_order_are_read_as_torch_reads_them(tmp_path: Path) -> None:
    base = torch.arange(24.0)
    state: dict[str, Any] = {
        "view": base[4:].reshape(4, 5).t(), "same": base, "scalar": torch.tensor(3), "none": torch.empty(0, 3),
        "repeated": torch.ones(1).expand(3, 4), "step": base[::5],
    } | {str(t): torch.arange(5).to(t) for t in (
        torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    )}  # fmt: skip
    for legacy in (False, True):
        torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
        back = read_tensors(tmp_path / "x.pth")
        assert set(back) == set(state)
        for name, tensor in state.items():
            assert back[name].dtype == tensor.dtype
            assert torch.equal(back[name], tensor), name
        assert back["view"].data_ptr() == back["same"].data_ptr() + 16


def _tar(path: Path, tensors: dict[str, Tensor]) -> None:
    """The container that torch wrote until 2017, as its reader in today's torch expects it."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> str | None:
            return str(1000 + value[1]) if isinstance(value, tuple) and value[:1] == ("tensor",) else None

    storages, table, whole = io.BytesIO(), io.BytesIO(), io.BytesIO()
    for stream in (storages, table):
        pickle.dump(len(tensors), stream, 2)
    for number, tensor in enumerate(tensors.values()):
        pickle.dump((number, "cpu", torch.FloatStorage), storages, 2)
        storages.write(struct.pack("<q", tensor.numel()) + tensor.t().contiguous().numpy().tobytes())
        pickle.dump((1000 + number, number, torch.FloatTensor), table, 2)
        table.write(struct.pack("<ii", tensor.ndim, 0))
        table.write(struct.pack(f"<{2 * tensor.ndim + 1}q", *tensor.shape, *tensor.t().contiguous().t().stride(), 0))
    pickle.dump([], storages, 2)
    Pickler(whole, 2).dump({"state_dict": {name: ("tensor", number) for number, name in enumerate(tensors)}})
    with tarfile.open(path, "w") as archive:
        for name, stream in (("pickle", whole), ("tensors", table), ("storages", storages)):
            member = tarfile.TarInfo(name)
            member.size = len(stream.getvalue())
            archive.addfile(member, io.BytesIO(stream.getvalue()))


def test_the_oldest_container_is_still_read(tmp_path: Path) -> None:
    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}
    _tar(tmp_path / "x.pth.tar", state)
    back = read_tensors(tmp_path / "x.pth.tar")
    assert set(back) == set(state)
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())
    whole = (tmp_path / "x.pth.tar").read_bytes()
    (tmp_path / "half.tar").write_bytes(whole[:2000])
    with pytest.raises(ModelError, match="holds no tensor"):
        read_tensors(tmp_path / "half.tar")


class _Rebuilt:
    """Pickles as a tensor over seven numbers, with the place that a test gives it."""

    def __init__(self, offset: Any, size: Any, stride: Any, count: Any = 7) -> None:
        self.place, self.count = (offset, size, stride), count

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, (self, *self.place, False, {})


class _StoragePickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, _Rebuilt) and self.__dict__.setdefault("seen", set()) & {id(value)}:
            return "storage", torch.FloatStorage, "0", "cpu", value.count
        if isinstance(value, _Rebuilt):
            self.__dict__["seen"].add(id(value))
        return None


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((0, (8,), (1,)), "lies outside of its 7 numbers"),
        ((1, (7,), (1,)), "lies outside"),
        ((0, (2, 2), (6, 1)), "lies outside"),
        ((0, (2,), (2**39,)), "lies outside"),
        ((-1, (2,), (1,)), "no offset"),
        ((0, (2,), (-1,)), "no tuple of lengths"),
        ((0, (2**62,), (0,)), "no tuple of lengths"),
        ((0, (2**36, 2**36), (0, 0)), "too often for this machine"),
        ((0, (2, 2), (1,)), "not as many strides"),
        ((0, (2,), (1,), 8), "8 numbers, more than the file holds"),
        ((0, (2,), (1,), 6), "has 28 bytes; its tensor takes 24"),
        ((0, (2,), (1,), 2**62), "more than the file holds"),
    ],
)
def test_a_tensor_lies_inside_its_bytes(place: tuple[Any, ...], message: str, tmp_path: Path) -> None:
    def write(name: str, *where: Any) -> Path:
        stream = io.BytesIO()
        _StoragePickler(stream, 2).dump({"w": _Rebuilt(*where)})
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("x/data.pkl", stream.getvalue())
            archive.writestr("x/data/0", np.arange(7, dtype=np.float32).tobytes())
        return tmp_path / name

    assert read_tensors(write("good.pth", 1, (2, 3), (3, 1)))["w"].tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(ModelError, match=message):
        read_tensors(write("bad.pth", *place))


def test_damaged_checkpoints_are_one_line_each(tmp_path: Path) -> None:
    rng = random.Random(2)
    state = {f"layer{i}.weight": torch.randn(4, 8) for i in range(3)}
    for legacy in (False, True):
        torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
        whole = (tmp_path / "x.pth").read_bytes()
        for _ in range(60):
            data = bytearray(whole)
            for _ in range(rng.choice((1, 5, 30))):
                data[rng.randrange(len(data))] = rng.randrange(256)
            (tmp_path / "y.pth").write_bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
            try:
                read_tensors(tmp_path / "y.pth")
            except ModelError as error:
                assert "\n" not in str(error)  # noqa: PT017
    with zipfile.ZipFile(tmp_path / "bare.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(ModelError, match=r"zip without data\.pkl"):
        read_tensors(tmp_path / "bare.zip")


def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path: Path) -> None:
    state = load_file(DATA / "mee" / "weights.safetensors")
    name = next(name for name, tensor in state.items() if tensor.is_floating_point() and tensor.numel() > 1)
    state[name].view(-1)[0] = torch.nan
    with pytest.raises(ModelError, match="1 NaN or infinite"):
        convert(state, "mee")
    model = convert(load_file(DATA / "mee" / "weights.safetensors"), "mee")
    model.save(tmp_path / "m")
    assert load_model(tmp_path / "m").fingerprint == model.fingerprint
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weight = next(name for name, tensor in own.items() if tensor.is_floating_point() and tensor.numel() > 1)
    own[weight].view(-1)[1] = -torch.inf
    save_file(own, tmp_path / "m" / "model.safetensors")
    with pytest.raises(ModelError, match=f"{re.escape(weight)} holds 1 NaN or infinite"):
        load_model(tmp_path / "m")
