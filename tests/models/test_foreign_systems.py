"""Systems of other packages: used as ours are; a faulty one is one line, and breaks nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.foreign import install
from tests.training.test_training import world  # noqa: F401 - the fixture
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.errors import ModelError
from reelseek.library import Library
from reelseek.models import SYSTEMS, System, load_model
from reelseek.search import Searcher
from reelseek.testing import SystemContract

_MODULE = """
import torch
from pydantic.dataclasses import dataclass
from torch import nn
from torch.nn import functional

from reelseek.blocks import masked_mean
from reelseek.models import STRICT, Embedding, LearnedModel, System, SystemConfig


@dataclass(frozen=True, config=STRICT, kw_only=True)
class AcmeConfig(SystemConfig):
    width: int = 16


class Acme(LearnedModel):
    def __init__(self, config):
        super().__init__(config)
        self.video = nn.ModuleList(nn.Linear(dim, config.width) for dim in config.experts.values())
        self.caption = nn.Linear(self.text.width, config.width)

    def encode(self, steps):
        parts = zip(self.video, steps.values())
        rows = [functional.normalize(layer(masked_mean(part.values, part.present)), dim=-1) for layer, part in parts]
        present = torch.stack([part.present.any(1) for part in steps.values()], 1)
        return Embedding.even(torch.stack(rows, 1), present)

    def encode_texts(self, texts):
        row = functional.normalize(self.caption(self.text.pooled(texts)), dim=-1)
        return Embedding.even(row[:, None].expand(-1, len(self.slots), -1))


class Raising(Acme):
    def similarity(self, texts, videos):
        raise ZeroDivisionError("no such product")


class Leaky(Acme):
    def encode(self, steps):
        rows = [layer(part.values.mean(1)) for layer, part in zip(self.video, steps.values())]
        return Embedding.even(torch.stack(rows, 1), torch.stack([part.present.any(1) for part in steps.values()], 1))


def refuse(config):
    raise RuntimeError("no weights\\nanywhere")


acme = System(config=AcmeConfig, create=Acme)
raising = System(config=AcmeConfig, create=Raising)
leaky = System(config=AcmeConfig, create=Leaky)
no_config = System(config=dict, create=Acme)
no_model = System(config=AcmeConfig, create=lambda config: 7)
unbuilt = System(config=AcmeConfig, create=refuse)
klass = Acme
"""
_EXIT = "import sys\nsys.exit('I am a script')\n"
_GOOD = ("acme = acme_module:acme", "raising = acme_module:raising", "leaky = acme_module:leaky")
_FAULTY = {
    "absent": ("acme_module:nothing", "AttributeError"),
    "lost": ("other_lost:system", "No module named 'other_lost'"),
    "syntax": ("other_syntax:system", "SyntaxError"),
    "script": ("other_script:system", "SystemExit: I am a script"),
    "klass": ("acme_module:klass", "name a reelseek.models.System"),
    "no_config": ("acme_module:no_config", "pydantic dataclass"),
    "no_model": ("acme_module:no_model", "gives a int"),
    "unbuilt": ("acme_module:unbuilt", "RuntimeError: no weights anywhere"),
    "pathless": ("acme_module", "no entry point"),
}
RECIPE = '[model]\nsystem = "{system}"\n[train]\nepochs = 1\nbatch = 32\n'


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    site = tmp_path / "site"
    modules = {"acme_module.py": _MODULE, "other_syntax.py": "def make(:\n", "other_script.py": _EXIT}
    entries = [*_GOOD, *(f"{name} = {target}" for name, (target, _) in _FAULTY.items()), "mmt = acme_module:acme"]
    install(site, monkeypatch, "acme-systems-1.0", modules, {"reelseek.systems": entries})
    monkeypatch.delitem(sys.modules, "acme_module", raising=False)
    return site


@pytest.mark.usefixtures("acme")
class TestForeignSystem(SystemContract):
    system = "acme"


def test_the_contract_refuses_a_system_that_averages_padding(acme: Path) -> None:
    model, contract = SYSTEMS["leaky"].build({"experts": {"see": 8, "hear": 8}}).eval(), SystemContract()
    contract.test_permuting_videos_permutes_outputs(model)
    with pytest.raises(AssertionError, match="not close"):
        contract.test_padding_and_company_change_nothing(model)


def _run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


@pytest.mark.long
def test_a_system_of_another_package_goes_the_whole_way(
    acme: Path,
    world: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe, out = tmp_path / "r.toml", tmp_path / "m"
    recipe.write_text(RECIPE.format(system="acme"))
    command = [str(Path(sys.executable).with_name("reelseek")), "train", str(recipe), "--library", str(world)]
    ran = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, check=False, timeout=3000)
    assert ran.returncode == 0, ran.stderr
    assert json.loads((out / "config.json").read_text())["package"] == "acme-systems==1.0"
    assert "acme" in (out / "README.md").read_text()
    code, text = _run("evaluate", out, "--library", world, "--json")
    assert code == 0
    assert json.loads(text.splitlines()[0])
    with Library.open(str(world)) as library:
        assert len(Searcher(library, model=str(out)).search("a cat and a dog", k=5)) == 5
        assert len(Searcher(library, model=out).search("a cat and a dog", k=5)) == 5
    code, text = _run("models", "show", "acme", "--json")
    assert code == 0
    assert json.loads(text)["settings"]["width"] == 16
    code, text = _run("models", "show", "acme", "--recipe")
    assert code == 0
    assert 'system = "acme"' in text

    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(acme)])
    with pytest.raises(ModelError, match=r"'acme' belongs to the package acme-systems==1.0, which is not installed"):
        load_model(out)


@pytest.mark.long
def test_a_faulty_system_is_one_line_and_the_others_work(acme: Path) -> None:
    code, text = _run("models", "list")
    assert code == 0
    lines = text.splitlines()
    assert sum(line.split()[0] == "acme" for line in lines) == 1
    for name, (_, reason) in _FAULTY.items():
        (line,) = [line for line in lines if line.startswith(f"not offered: {name}: ")]
        assert reason in line
    (line,) = [line for line in lines if "acme-systems==1.0 registers 'mmt'" in line]
    assert "rename" in line
    code, text = _run("models", "list", "--json")
    rows = {row["system"]: row for row in map(json.loads, text.splitlines())}
    assert rows["acme"]["package"] == "acme-systems==1.0"
    assert rows["unbuilt"]["offered"] is False
    assert "no weights" in rows["unbuilt"]["why"]
    code, text = _run("doctor")
    assert code == 0
    for name, (_, reason) in _FAULTY.items():
        if name not in ("unbuilt", "no_model"):  # these load, and fail where they are built
            (line,) = [line for line in text.splitlines() if line.split()[:1] == [name]]
            assert "does not load" in line
            assert reason in line
    with pytest.raises(ModelError, match="SyntaxError"):
        _ = SYSTEMS["syntax"]


def test_training_a_faulty_system_says_why(acme: Path, world: Path, tmp_path: Path) -> None:  # noqa: F811
    for name in ("unbuilt", "lost"):
        (tmp_path / "r.toml").write_text(RECIPE.format(system=name))
        with pytest.raises(ModelError, match=_FAULTY[name][1].replace(" anywhere", "")):
            _run("train", tmp_path / "r.toml", "--library", world, "--out", tmp_path / name)


def test_a_similarity_that_raises_is_one_error(acme: Path, world: Path, tmp_path: Path) -> None:  # noqa: F811
    SYSTEMS["raising"].build({"experts": {"see": 16, "hear": 16}}).save(tmp_path / "m")
    with pytest.raises(ModelError, match=r"similarity of raising failed: ZeroDivisionError: no such product"):
        _run("evaluate", tmp_path / "m", "--library", world)
    with pytest.raises(ModelError, match=r"raising.*no such product"), Library.open(world) as library:
        Searcher(library, model=tmp_path / "m").search("a cat")


def test_two_packages_of_one_name_are_refused(acme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "other", monkeypatch, "zeta-2.0", {}, {"reelseek.systems": ["acme = acme_module:acme"]})
    with pytest.raises(ModelError, match=r"acme-systems==1.0 and zeta==2.0 register 'acme'"):
        _ = SYSTEMS["acme"]
    assert "mmt" in SYSTEMS


def test_a_damaged_list_of_entry_points_harms_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "broken-1.0", {}, {"reelseek.systems": ["no equals sign"]})
    assert "mmt" in SYSTEMS
    (line,) = [line for line in _run("models", "list")[1].splitlines() if "broken" in line]
    assert "cannot be read" in line


def test_a_script_adds_a_system_of_its_own(acme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = SYSTEMS["acme"]
    SYSTEMS["mine"] = System(config=entry.config, create=entry.create)
    try:
        model = SYSTEMS["mine"].build({"experts": {"see": 8}})
        model.save(tmp_path / "m")
        assert load_model(str(tmp_path / "m")).system == "mine"
    finally:
        del SYSTEMS["mine"]
    with pytest.raises(ModelError, match=r"'mine' is none of Reelseek's, and no package is recorded"):
        load_model(tmp_path / "m")
    with pytest.raises(ModelError, match="Reelseek's own"):
        SYSTEMS["mmt"] = entry
    with pytest.raises(ModelError, match="name a reelseek"):
        SYSTEMS["mine"] = 7  # type: ignore[assignment]
    (tmp_path / "m" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(tmp_path / "m")
