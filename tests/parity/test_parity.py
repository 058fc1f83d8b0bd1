"""Numbers recorded from the released code (CPU, float32, random weights), and what the command does with bad ones.

The fixtures were recorded by running each released system, see their config.json for seed, sizes and tolerance.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reelseek.parity import SYSTEMS, check, find_fixtures, read_fixture
from reelseek.parity.__main__ import main

DATA = Path(__file__).parents[1] / "data" / "parity"


@pytest.mark.parametrize("name", sorted(folder.name for folder in DATA.iterdir()))
def test_recorded_numbers_are_ours(name: str) -> None:
    differences = list(check(read_fixture(DATA / name)))
    assert not [f"{each} {each.note}" for each in differences if not each.ok]
    assert {each.output for each in differences} == set(load_file(DATA / name / "outputs.safetensors"))


def test_every_system_has_a_fixture() -> None:
    recorded = {json.loads((folder / "config.json").read_text())["system"] for folder in DATA.iterdir()}
    assert recorded == set(SYSTEMS)


def test_the_command_prints_a_line_an_output_and_fails_when_one_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(DATA / "nce"), str(DATA / "max_margin")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert all(line.split()[0] in ("nce", "max_margin") and line.endswith(" ok") for line in out)
    shutil.copytree(DATA / "nce", tmp_path / "wrong")
    outputs = load_file(tmp_path / "wrong" / "outputs.safetensors")
    name = sorted(outputs)[0]
    outputs[name] = outputs[name] + 0.1
    outputs["never.heard.of"] = torch.zeros(1)
    save_file(outputs, tmp_path / "wrong" / "outputs.safetensors")
    assert main([str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert f"nce {name} 0.1 FAIL" in lines
    assert "nce never.heard.of inf FAIL" in lines
    config = json.loads((tmp_path / "wrong" / "config.json").read_text()) | {"system": "jsfusion"}
    (tmp_path / "wrong" / "config.json").write_text(json.dumps(config))
    assert main([str(tmp_path)]) == 1
    assert "no system is called 'jsfusion'" in capsys.readouterr().err


def test_folders_that_are_no_fixtures_are_usage_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["--help"]) == 0
    assert main([str(tmp_path)]) == 2
    assert "holds no fixture" in capsys.readouterr().err
    shutil.copytree(DATA / "nce", tmp_path / "broken")
    (tmp_path / "broken" / "inputs.safetensors").write_bytes(b"nothing")
    assert main([str(tmp_path)]) == 2
    assert "cannot be read as a fixture" in capsys.readouterr().err


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reelseek.parity", str(DATA / "mms")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout.count(" ok\n") == 4


def test_weights_that_lack_a_key_fail_by_name(tmp_path: Path) -> None:
    shutil.copytree(DATA / "mee", tmp_path / "mee")
    weights = load_file(tmp_path / "mee" / "weights.safetensors")
    weights.pop("mee.moe_fc.bias")
    save_file(weights, tmp_path / "mee" / "weights.safetensors")
    (found,) = check(read_fixture(find_fixtures([tmp_path])[0]))
    assert not found.ok
    assert "mee.moe_fc.bias" in found.note
