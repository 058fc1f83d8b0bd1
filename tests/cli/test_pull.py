"""`reelseek models pull`: what is fetched, what is not fetched again, and what an interruption leaves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reelseek.errors import ExpertUnavailable
from reelseek.experts.hub import is_pulled, pretrained_folder
from reelseek.experts.presets import PRESETS
from tests.cli.hub import COMMIT, Hub, serve_hub
from tests.experts.tiny import STAND_INS, save_tiny


def _pull(hub: Hub, models: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "HF_ENDPOINT": hub.address, "REELSEEK_MODELS": str(models), "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1", "HF_HUB_DISABLE_XET": "1", "COLUMNS": "200",
    }  # fmt: skip
    environment.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-m", "reelseek.cli.main", "models", "pull", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)


def test_an_interrupted_pull_goes_on_and_is_no_model_until_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny("clip", tmp_path / "origin")
    for file in ("pytorch_model.bin", "onnx/config.json", "model.fp32-00001-of-00001.safetensors"):
        (tmp_path / "origin" / file).parent.mkdir(exist_ok=True)
        (tmp_path / "origin" / file).write_bytes(b"other forms of the same weights")
    others = {"pytorch_model.bin", "onnx", "model.fp32-00001-of-00001.safetensors"}
    models = tmp_path / "models"
    monkeypatch.setenv("REELSEEK_MODELS", str(models))
    with serve_hub({"some/clip": tmp_path / "origin"}) as hub:
        hub.broken = {"model.safetensors"}
        stopped = _pull(hub, models, "some/clip")
        assert stopped.returncode == 1
        assert "error: 'some/clip' could not be fetched" in stopped.stderr
        assert ("some/clip", COMMIT, "config.json") in hub.fetched
        assert not is_pulled("some/clip")
        with pytest.raises(ExpertUnavailable, match="fetch it with"):
            pretrained_folder("some/clip")
        wanted = {path.name for path in (tmp_path / "origin").iterdir()} - others
        complete = wanted & {path.name for path in models.rglob("*")}  # those that had begun when one failed
        assert complete
        hub.broken, hub.fetched = set(), []
        done = _pull(hub, models, "some/clip")
        assert done.returncode == 0, done.stderr
        assert sorted(name for _, _, name in hub.fetched) == sorted(wanted - complete)
        assert "model.safetensors" not in complete
        assert is_pulled("some/clip")
        assert Path(done.stdout.strip()) == pretrained_folder("some/clip")
        assert [path.name for path in models.iterdir()] == ["some__clip"]
        names = {path.name for path in pretrained_folder("some/clip").iterdir() if not path.name.startswith(".")}
        assert names == wanted


def test_weights_in_no_safetensors_are_named(tmp_path: Path) -> None:
    save_tiny("clip", tmp_path / "origin")
    (tmp_path / "origin" / "model.safetensors").rename(tmp_path / "origin" / "pytorch_model.bin")
    with serve_hub({"some/clip": tmp_path / "origin"}) as hub:
        done = _pull(hub, tmp_path / "models", "some/clip")
    assert done.returncode == 1
    assert "'some/clip' has no weights as safetensors on the hub" in done.stderr


@pytest.mark.long
def test_a_preset_is_fetched_but_for_what_is_here_and_what_fails_is_named(tmp_path: Path) -> None:
    members = PRESETS["standard"].models
    for member in members:
        save_tiny(STAND_INS[member.model], tmp_path / "origin" / member.model)
    origins = {member.model: tmp_path / "origin" / member.model for member in members}
    models = tmp_path / "models"
    save_tiny("siglip", models / "google__siglip2-base-patch16-224")
    with serve_hub({name: folder for name, folder in origins.items() if "xclip" not in name}) as hub:
        done = _pull(hub, models, "--preset", "standard")
        assert done.returncode == 1
        fetched = {(model, revision) for model, revision, _ in hub.fetched}
        assert not [model for model, _ in fetched if "siglip2" in model]
        assert ("laion/larger_clap_general", "16c8cc3159a3c8a31e8ff5ef1f66b0d9ab3667db") in fetched
        assert len(fetched) == 5
        assert "failed: 'microsoft/xclip-base-patch32' could not be fetched" in done.stderr
        assert "1 of 6 models were not fetched (microsoft/xclip-base-patch32)" in done.stderr
        table = done.stdout.splitlines()
        for member in members:
            (row,) = [line for line in table if line.split()[:1] == [member.expert]]
            assert member.licence in row
            assert f"{member.megabytes:,}" in row
        assert len([line for line in table if line.startswith(str(models))]) == 6
        hub.models, hub.fetched = origins, []
        again = _pull(hub, models, "--preset", "standard")
        assert again.returncode == 0, again.stderr
        assert {model for model, _, _ in hub.fetched} == {"microsoft/xclip-base-patch32"}
        hub.fetched = []
        assert _pull(hub, models, "--preset", "standard").returncode == 0
        assert not hub.fetched


def test_a_model_or_a_preset_and_not_both(tmp_path: Path) -> None:
    hub = Hub({}, address="http://127.0.0.1:9")
    for words in ((), ("some/model", "--preset", "standard"), ("--preset", "fast")):
        assert _pull(hub, tmp_path, *words).returncode == 2
