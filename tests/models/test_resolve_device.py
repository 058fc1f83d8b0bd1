"""Names of devices: what is here is taken, what is not is refused in words."""

import pytest
import torch

from reelseek.cli import main
from reelseek.errors import UsageError
from reelseek.experts import device
from reelseek.experts.device import available, resolve_device
from reelseek.models.device import describe, device_of


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs, as far as anybody asks."""
    monkeypatch.setattr(device, "available", lambda: ["cuda:0", "cuda:1", "cpu"])
    monkeypatch.delenv("REELSEEK_DEVICE", raising=False)


def test_the_host_is_always_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REELSEEK_DEVICE", raising=False)
    assert available()[-1] == "cpu"
    assert resolve_device() == torch.device(available()[0])
    assert resolve_device(" CPU ") == torch.device("cpu")
    assert resolve_device(torch.device("meta")) == torch.device("meta")
    assert describe(torch.device("cpu")) == "cpu"


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("name", "found"), [("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu"), (None, "cuda:0")]
)
def test_a_name_means_a_device(name: str | None, found: str) -> None:
    assert resolve_device(name) == torch.device(found)


@pytest.mark.usefixtures("gpus")
def test_the_environment_stands_in_where_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELSEEK_DEVICE", "cpu")
    assert resolve_device() == torch.device("cpu")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    monkeypatch.setenv("REELSEEK_DEVICE", "")
    assert resolve_device() == torch.device("cuda:0")
    monkeypatch.setenv("REELSEEK_DEVICE", "tpu")
    with pytest.raises(UsageError, match="REELSEEK_DEVICE is 'tpu'; wanted auto, cpu, cuda, cuda:N or mps"):
        resolve_device()


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda1", "cuda:x", "CUDA 0", "cpu:7"])
def test_an_unknown_name_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(UsageError, match=r"wanted auto, cpu, .* here there is cuda:0, cuda:1, cpu"):
        resolve_device(name)


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize("name", ["cuda:2", "mps"])
def test_a_device_that_is_not_here_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}', which is not on this machine; here there is cuda:0, cuda:1, cpu"):
        resolve_device(name)


def test_a_model_says_where_it_is() -> None:
    model = torch.nn.BatchNorm1d(3)
    assert device_of(model) == torch.device("cpu")
    assert device_of(model.to("meta")) == torch.device("meta")


def test_a_command_that_runs_out_of_a_devices_memory_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: list[str]) -> int:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total of 16 GiB")

    monkeypatch.setattr(main, "_run", full)
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == 1
    expected = "error: the device has too little memory: CUDA out of memory; free some, or take --device cpu"
    assert expected in " ".join(capsys.readouterr().err.split())
