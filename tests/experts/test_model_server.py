"""Models in one process for all that decode: the same rows, and nothing lost where a process dies."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from reelseek.errors import ExpertUnavailable, UsageError
from reelseek.experts import extract as extraction
from reelseek.experts import load_expert
from reelseek.experts.batching import Models, Piece, PieceQueue, _serve_batch
from reelseek.experts.channel import Channel, ServerAddress
from reelseek.experts.encoder import Encoder, encoder_of, rows_per_batch, use_remote
from reelseek.experts.extract import WorkerPlan, extract, prepare_worker
from reelseek.experts.server import ModelServer
from reelseek.library import Library, add
from reelseek.media.container import Limits
from reelseek.media.guard import is_death
from reelseek.testing.films import write_film
from tests.experts.tiny import save_tiny

_DEADLINE = 120.0  # seconds, against hangs only


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("clip", "videomae", "ast"):
        save_tiny(name, folder / name)
    return folder


@pytest.fixture(autouse=True)
def _here() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    use_remote(None)
    extraction._UNMOVED.clear()
    torch.set_num_threads(threads)


def _encoder(spec: str) -> Encoder:
    encoder = encoder_of(load_expert(spec))
    assert encoder is not None
    return encoder


def _pictures(count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))}


def _wait(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + _DEADLINE
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


class _Answers:
    """Pieces without a process on the other side, and what became of them."""

    def __init__(self) -> None:
        self.errors: dict[int, str] = {}
        self.begun: list[int] = []
        self.answered: list[int] = []

    def piece(self, number: int, spec: str, inputs: dict[str, torch.Tensor], width: int, tried: bool = False) -> Piece:
        arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
        return Piece(
            spec,
            arrays,
            np.full((len(next(iter(arrays.values()))), width), np.nan, np.float32),
            begin=lambda: self.begun.append(number),
            answer=lambda error: (self.answered.append(number), self.errors.update({number: error})),
            is_wanted=lambda: number >= 0,
            tried=tried,
        )


class TestBatches:
    """What is computed together, and that it does not matter."""

    def test_rows_do_not_depend_on_what_came_with_them(self, folder: Path) -> None:
        spec = f"clip@{folder / 'clip'}"
        encoder = _encoder(spec)
        models = Models({spec: encoder}, torch.device("cpu"), batched=True, frames=16)
        answers, inputs = _Answers(), [_pictures(count, count) for count in (1, 3, 5)]
        alone = [answers.piece(i, spec, part, encoder.width) for i, part in enumerate(inputs)]
        for piece in alone:
            models.finish(models.launch([piece]))
        for order in ([0, 1, 2], [2, 0, 1], [1, 2]):
            together = [answers.piece(i, spec, inputs[i], encoder.width) for i in order]
            models.finish(models.launch(together))
            for number, piece in zip(order, together, strict=True):
                np.testing.assert_array_equal(piece.result, alone[number].result)  # a batch has one size: the same bits
                direct = encoder.compute(inputs[number])
                np.testing.assert_allclose(piece.result, direct, atol=1e-3)
        assert set(answers.errors.values()) == {""}

    def test_full_batches_go_first_and_what_waits_longest_is_never_passed_over_for_ever(self) -> None:
        def piece(number: int, kind: str, rows: int, tried: bool = False) -> Piece:
            return answers.piece(number, kind, {"x": torch.zeros(rows, 1)}, 1, tried)

        answers, queue = _Answers(), PieceQueue(lambda piece: 5)
        first, second, third, fourth = piece(0, "a", 1), piece(1, "b", 3), piece(2, "b", 2), piece(3, "a", 2)
        gone, tried = piece(-1, "a", 1), piece(4, "a", 1, tried=True)
        for part in (first, gone, second, third, tried, fourth):
            queue.put(part)
        assert queue.take(block=True) == [second, third]
        assert queue.take(block=True) == [first, fourth]
        assert queue.take(block=True) == [tried]  # alone, as it may end the process
        assert queue.take(block=False) == []

    def test_pieces_are_computed_one_by_one_where_batches_are_not_wanted(self) -> None:
        answers, queue = _Answers(), PieceQueue(lambda piece: 0)
        pieces = [answers.piece(number, "a", {"x": torch.zeros(2, 1)}, 1) for number in range(3)]
        for piece in pieces:
            queue.put(piece)
        assert [queue.take(block=False) for _ in range(4)] == [[pieces[0]], [pieces[1]], [pieces[2]], []]

    def test_sizes_of_batches_depend_on_the_shape_alone(self) -> None:
        assert rows_per_batch({"pixel_values": (3, 3, 224, 224)}, 256) == 256
        assert rows_per_batch({"pixel_values": (16, 3, 640, 640)}, 256) == 64
        assert rows_per_batch({"pixel_values": (1, 16, 3, 224, 224)}, 256) == 32
        assert rows_per_batch({"pixel_values": (1, 3, 224, 224)}, 256, frames=100) == 64
        assert rows_per_batch({"pixel_values": (1, 3, 16000, 16000)}, 256) == 1

    def test_an_error_is_that_of_its_own_piece(self, folder: Path) -> None:
        from reelseek.experts.batching import _fail

        def forward(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            if (inputs["x"] < 0).any():
                raise ValueError("a negative row")
            return inputs["x"]

        encoder = Encoder("a", 1, load=torch.nn.Identity, prepare=dict, forward=forward)
        models = Models({"a": encoder}, torch.device("cpu"), batched=True, frames=256)
        answers = _Answers()
        pieces = [answers.piece(i, "a", {"x": torch.full((1, 1), float(x))}, 1) for i, x in enumerate((1, -1, 2))]
        with pytest.raises(ValueError, match="a negative row") as raised:
            models.launch(pieces)
        _fail(models, pieces, raised.value)
        assert answers.errors == {0: "", 1: "ValueError: a negative row", 2: ""}
        assert [float(pieces[i].result[0, 0]) for i in (0, 2)] == [1.0, 2.0]

    @pytest.mark.parametrize("fails", ["launch", "overflow"])
    def test_each_piece_is_answered_once_whatever_fails(self, fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever has an answer may use its memory for another piece, so that a second answer would be of that one."""

        def forward(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            if fails == "launch" and (inputs["x"] < 0).any():
                raise ValueError("a negative row")
            return inputs["x"].masked_fill(inputs["x"] < 0, torch.inf)

        def load() -> torch.nn.Module:
            if begun:
                raise ValueError("the model cannot be loaded in single precision")
            return torch.nn.Identity()

        begun: list[int] = []
        monkeypatch.setattr(Models, "_halves", lambda self, encoder: fails == "overflow")
        encoder = Encoder("a", 1, load=load, prepare=dict, forward=forward)
        models = Models({"a": encoder}, torch.device("cpu"), batched=True, frames=256)
        answers, queue = _Answers(), PieceQueue(models.limit)
        for number, value in enumerate((1.0, 2.0, -1.0, 3.0)):
            queue.put(answers.piece(number, "a", {"x": torch.full((1, 1), value)}, 1))
        begun = answers.begun
        _serve_batch(queue, models, deque(), ahead=1)
        assert sorted(answers.answered) == [0, 1, 2, 3]
        assert answers.errors[2].startswith("ValueError: ")
        assert {answers.errors[number] for number in (0, 1, 3)} == {""}

    def test_a_model_that_a_restarted_server_cannot_load_is_named(self) -> None:
        def load() -> torch.nn.Module:
            raise OSError("weights are gone")

        encoder = Encoder("a", 1, load=load, prepare=dict, forward=lambda model, inputs: inputs["x"])
        models = Models({"a": encoder}, torch.device("cpu"), batched=True, frames=256)
        answers, queue = _Answers(), PieceQueue(models.limit)
        for number in range(2):
            queue.put(answers.piece(number, "a", {"x": torch.zeros(1, 1)}, 1))
        _serve_batch(queue, models, deque(), ahead=1)
        assert set(answers.errors.values()) == {"its model could not be loaded: OSError: weights are gone"}
        assert sorted(answers.answered) == [0, 1]


def test_what_float16_cannot_hold_is_computed_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Models, "_halves", lambda self, encoder: True)  # as on an accelerator

    def forward(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.nn.functional.normalize(model(inputs["x"]), dim=-1)

    layer = torch.nn.Linear(4, 4)
    encoder = Encoder("a", 4, load=lambda: layer, prepare=dict, forward=forward, half=True)
    models = Models({"a": encoder}, torch.device("cpu"), batched=True, frames=256)
    assert {part.dtype for part in layer.parameters()} == {torch.float32}, "the process's own instance was rounded"
    inputs = torch.randn(3, 4).half()
    large = torch.full((1, 4), 60_000.0).half()
    answers = _Answers()
    pieces = [answers.piece(i, "a", {"x": x}, 4) for i, x in enumerate((inputs, large))]
    with torch.no_grad():
        layer.weight.mul_(4).sub_(3)
        models._models["a"].load_state_dict(layer.state_dict())
    models.finish(models.launch(pieces))
    np.testing.assert_allclose(pieces[0].result, encoder.compute({"x": inputs.float()}), atol=2e-2)
    np.testing.assert_allclose(pieces[1].result, encoder.compute({"x": large.float()}), atol=1e-6)
    assert answers.errors == {0: "", 1: ""}


def test_batches_of_no_frames_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("0", "-1", "many", "1e3"):
        monkeypatch.setenv("REELSEEK_BATCH_FRAMES", value)
        with pytest.raises(UsageError, match=f"REELSEEK_BATCH_FRAMES is '{value}'"):
            ModelServer(["object"], "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
def test_a_gpu_gives_the_cpus_values_and_the_same_bits_in_any_company(folder: Path, tmp_path: Path) -> None:
    films = [write_film(tmp_path / f"{i}.mp4", 2.0 + i) for i in range(4)]
    specs = [f"clip@{folder / 'clip'}", f"video@{folder / 'videomae'}", f"sound@{folder / 'ast'}", "object", "copy"]
    digests = []
    for workers in (1, 4):
        with Library.open(tmp_path / f"{workers}", create=True) as library:
            assert not add(library, films, experts=specs, device="cuda", workers=workers).failed
            digests.append(library.digest())
    assert digests[0] == digests[1]
    expected = extract(films[0], specs, Limits())
    with ModelServer(specs, "cuda") as address:
        prepare_worker(specs, "cuda", 1, address)
        served = extract(films[0], specs, Limits())
    assert not served.errors
    for spec in specs:
        np.testing.assert_allclose(served.tracks[spec].values, expected.tracks[spec].values, atol=1e-3)


@pytest.mark.parametrize("batched", [pytest.param(False, marks=pytest.mark.long), True])
def test_tracks_are_the_same_with_a_server_as_without(folder: Path, tmp_path: Path, batched: bool) -> None:
    """Bit for bit on the CPU, and within 1e-3 in batches across videos as on an accelerator."""
    film = write_film(tmp_path / "film.mp4", 3.0)
    specs = [f"clip@{folder / 'clip'}", f"video@{folder / 'videomae'}", f"sound@{folder / 'ast'}"]
    expected = extract(film, specs, Limits())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REELSEEK_BATCH_FRAMES", "32")
        with ModelServer(specs, "cpu", batched=batched) as address:
            assert address.specs == set(specs)
            prepare_worker(specs, "cpu", 1, address)
            patch.setattr(Encoder, "compute", None)  # nothing is computed here
            served = extract(film, specs, Limits())
    assert not served.errors
    for spec in specs:
        values, rows = served.tracks[spec].values, expected.tracks[spec].values
        assert len(values) > 0
        assert served.tracks[spec].texts == expected.tracks[spec].texts
        if not batched:
            np.testing.assert_array_equal(values, rows)
        np.testing.assert_allclose(values, rows, atol=1e-3)


@pytest.mark.long
def test_a_library_is_the_same_with_a_server_as_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = write_film(tmp_path / "film.mp4")
    digests = []
    for plan in (WorkerPlan(1), WorkerPlan(1, serves=True)):
        monkeypatch.setattr("reelseek.library.ingest.plan_workers", lambda *_, plan=plan: plan)
        with Library.open(tmp_path / str(plan.serves), create=True) as library:
            report = add(library, [film], experts=["object", "motion"], device="cpu")
            assert not report.failed
            digests.append(library.digest())
    assert digests[0] == digests[1]
    assert not multiprocessing.active_children()


def _frames(count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Inputs of `appearance`, whose server starts fastest; 40 take it about a second."""
    generator = torch.Generator().manual_seed(seed)
    return {"pixels": torch.randint(0, 256, (count, 224, 224, 3), dtype=torch.uint8, generator=generator)}


@pytest.mark.long
def test_memory_is_bounded_and_whoever_fills_it_waits() -> None:
    encoder, inputs = _encoder("appearance"), _frames(2)
    expected = encoder.compute(inputs)
    piece_bytes = inputs["pixels"].nbytes + expected.nbytes
    with ModelServer(["appearance"], "cpu", channel_bytes=4096 + 3 * (piece_bytes + 64)) as address:
        channel = Channel(address)
        most, rows = 0, []
        for _ in range(10):
            rows.append(channel.submit(encoder, inputs))
            most = max(most, len(channel._pieces))
        for part in rows:
            np.testing.assert_array_equal(part(), expected)
        assert 1 <= most <= 3
        large = _frames(12)  # more than the memory holds: it gets a larger one
        np.testing.assert_array_equal(channel.submit(encoder, large)(), encoder.compute(large))


def _kill(server: ModelServer) -> None:
    """Kill the server's process, and wait for the next."""
    process = server.process_id
    os.kill(process, signal.SIGKILL)
    _wait(lambda: server.process_id != process or not server._monitor.is_alive())


@pytest.mark.long
def test_what_a_server_computed_when_it_died_is_tried_once_more_and_then_has_failed() -> None:
    encoder, slow, quick = _encoder("appearance"), _frames(60), _frames(1)
    expected = encoder.compute(quick)
    server = ModelServer(["appearance"], "cpu")
    with server as address:
        channel = Channel(address)

        def kill_in_the_middle() -> None:
            _wait(lambda: channel._memory is not None and channel._memory[0] == 1)
            _kill(server)

        tried, waiting = channel.submit(encoder, slow), channel.submit(encoder, quick)
        kill_in_the_middle()
        np.testing.assert_array_equal(tried()[:1], encoder.compute({"pixels": slow["pixels"][:1]}))
        np.testing.assert_array_equal(waiting(), expected)

        failed, waiting = channel.submit(encoder, slow), channel.submit(encoder, quick)
        kill_in_the_middle()
        channel._take_answer()  # goes to the next server
        kill_in_the_middle()
        with pytest.raises(ExpertUnavailable, match="its model server died twice while it computed this") as raised:
            failed()
        assert is_death(str(raised.value))
        np.testing.assert_array_equal(waiting(), expected)


def test_a_server_that_never_computes_anything_is_not_started_for_ever(tmp_path: Path) -> None:
    server = ModelServer(["appearance"], "cpu")
    film = write_film(tmp_path / "film.mp4")
    with server as address:
        prepare_worker(["appearance", "motion"], "cpu", 1, address)
        while server._monitor.is_alive():
            _kill(server)
        extracted = extract(film, ["appearance", "motion"], Limits())
    assert set(extracted.tracks) == {"motion"}
    reason = extracted.errors["appearance"]
    assert "its model server died: it was started 4 times" in reason
    assert "exit code -9" in reason
    assert is_death(reason)


def _send_and_wait(address: ServerAddress, inputs: npt.NDArray[np.uint8]) -> None:
    channel = Channel(address)
    for rows in [channel.submit(_encoder("appearance"), {"pixels": torch.from_numpy(inputs)}) for _ in range(20)]:
        rows()


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="what a process maps is read from /proc")
def test_a_worker_that_is_killed_while_it_waits_holds_up_nobody_and_leaves_nothing() -> None:
    encoder, inputs = _encoder("appearance"), _frames(8)
    server = ModelServer(["appearance"], "cpu")
    with server as address:
        worker = multiprocessing.get_context("spawn").Process(
            target=_send_and_wait, args=(address, inputs["pixels"].numpy())
        )
        worker.start()
        _wait(lambda: _open_memories(server.process_id) == 1)
        worker.kill()
        worker.join()
        channel = Channel(address)
        np.testing.assert_array_equal(channel.submit(encoder, inputs)(), encoder.compute(inputs))
        del channel
        _wait(lambda: _open_memories(server.process_id) == 0)
        assert server._process is not None
        assert server._process.poll() is None, "the server went on"


def _open_memories(process: int) -> int:
    return sum("memfd:reelseek-inputs" in line for line in Path(f"/proc/{process}/maps").read_text().splitlines())


_ADD = """
import sys
from reelseek.library import Library, add, ingest
from reelseek.experts.extract import WorkerPlan

if __name__ == "__main__":
    ingest.plan_workers = lambda *_: WorkerPlan(1, serves=True)
    with Library.open(sys.argv[1], create=True) as library:
        print("begins", flush=True)
        add(library, sys.argv[2:3], experts=sys.argv[3:])
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="the processes of a process are read from /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_server_outlives_the_process_that_started_it(tmp_path: Path, number: int) -> None:
    script = tmp_path / "script.py"
    script.write_text(_ADD)
    film = write_film(tmp_path / "film.mp4")
    environment = {
        **os.environ,
        "REELSEEK_DEVICE": "cpu",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TMPDIR": str(tmp_path),
    }
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "library"), str(film), "object"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    children: set[int] = set()
    _wait(lambda: children.update(_servers_of(process.pid)) or children)
    os.kill(process.pid, number)
    process.communicate(timeout=_DEADLINE)
    _wait(lambda: not any(Path(f"/proc/{child}/stat").exists() for child in children))
    if number == signal.SIGINT:
        assert not list(tmp_path.glob("reelseek-*"))


def _servers_of(parent: int) -> list[int]:
    rows = [file.read_text().split() for file in Path(f"/proc/{parent}/task").glob("*/children")]
    children = [int(child) for row in rows for child in row]
    return [child for child in children if b"serve_models" in Path(f"/proc/{child}/cmdline").read_bytes()]
