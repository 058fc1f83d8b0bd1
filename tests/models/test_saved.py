"""A saved model is two files: new weights are never read with an old configuration, whatever interrupts a save."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.library.power import PowerCuts
from tests.models.worlds import small
from torch import nn

from reelseek.errors import ModelError
from reelseek.models import load_model
from reelseek.models.backbones import TSMResNet50, load_network, save_network
from reelseek.models.captioner import Captioner, CaptionerConfig
from reelseek.models.model import RetrievalModel
from reelseek.models.weights import read_checked_tensors, write_tensors
from reelseek.training.captions import Writer, load_writer


def _model(number: int) -> RetrievalModel:
    """Of the same shape for every number, with a setting and weights of its own."""
    model = small("vse", loss={"name": "nce", "settings": {"temperature": 0.1 * number}})
    with torch.no_grad():
        next(model.parameters()).fill_(number)
    return model


def _save_network(folder: Path, number: int) -> None:
    torch.manual_seed(number)
    sizes = {"blocks": [1] * number, "scale": 1 / 16}
    save_network(TSMResNet50(**sizes), folder, **sizes)


def _save_captioner(folder: Path, number: int, model: RetrievalModel | None) -> None:
    torch.manual_seed(number)
    config = CaptionerConfig(inputs=4, words=("a", f"word{number}"), width=4, heads=1, layers=1, inner=4)
    experts = {"see": number} if model is None else None
    Writer(Captioner(config), model, experts).save(folder, {"number": number})


def _weights(module: nn.Module) -> str:
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in module.state_dict().values())).hexdigest()


def _written_by(folder: Path) -> tuple[object, ...]:
    writer = load_writer(folder)
    model = writer.model.fingerprint if writer.model else None
    return _weights(writer.captioner), writer.captioner.config, writer.experts, model


KINDS: dict[str, tuple[Callable[[Path, int], object], Callable[[Path], object]]] = {
    "model": (lambda folder, number: _model(number).save(folder), lambda folder: load_model(folder).fingerprint),
    "network": (_save_network, lambda folder: _weights(load_network(folder))),
    "captioner of tracks": (lambda folder, number: _save_captioner(folder, number, None), _written_by),
    "captioner of a model": (lambda folder, number: _save_captioner(folder, number, _model(number)), _written_by),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_save_over_another_model_is_the_old_one_the_new_one_or_refused(kind: str, tmp_path: Path) -> None:
    save, load = KINDS[kind]
    expected = {}
    for number in (1, 2):
        save(tmp_path / str(number), number)
        expected[number] = load(tmp_path / str(number))
    root = tmp_path / "root"
    root.mkdir()
    power = PowerCuts(root)
    with power.recording():
        for number in (1, 2, 2):
            save(root / "m", number)
            power.acknowledge()
    refused = set()
    for place, cut in enumerate(power.cuts):
        folder = cut.restore(tmp_path / f"cut{place}") / "m"
        try:
            loaded = load(folder)
        except ModelError as error:
            refused.add((cut.commits, "were not saved together" in str(error)))
        else:
            assert loaded in [expected[max(1, min(2, number))] for number in (cut.commits, cut.commits + 1)], cut.step
    assert refused == {(0, False), (1, True)}  # what is saved again over itself can be loaded all the while


def test_files_of_two_models_are_refused_and_those_of_older_versions_are_not(tmp_path: Path) -> None:
    for number in (1, 2):
        _model(number).save(tmp_path / str(number))
    config, weights = tmp_path / "1" / "config.json", tmp_path / "1" / "model.safetensors"
    older = {name: value for name, value in json.loads(config.read_text()).items() if name != "id"}
    tensors = {name: value.clone() for name, value in load_file(weights).items()}  # which lie in the file
    save_file(tensors, weights)  # by a script of somebody's, which knows nothing of digests
    assert load_model(tmp_path / "1").fingerprint == _model(1).fingerprint
    weights.write_bytes((tmp_path / "2" / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match="were not saved together"):
        load_model(tmp_path / "1")
    config.write_text(json.dumps(older))
    with pytest.raises(ModelError, match="were not saved together"):
        load_model(tmp_path / "1")
    save_file(tensors, weights)  # both as an earlier version wrote them
    assert load_model(tmp_path / "1").fingerprint == _model(1).fingerprint


def test_no_flipped_bit_changes_what_is_read(tmp_path: Path) -> None:
    tensors = {
        "half": torch.ones(3, dtype=torch.bfloat16), "flags": torch.tensor([True, False]), "one": torch.tensor(2.0),
        "none": torch.empty(0, 4),
    }  # fmt: skip
    path = tmp_path / "w.safetensors"
    write_tensors(path, tensors, {"epoch": "3"})
    metadata, read = read_checked_tensors(path)
    assert metadata == {"epoch": "3"}
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())
    content = path.read_bytes()
    values = len(content) - sum(tensor.nbytes for tensor in tensors.values())
    for place in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            try:
                metadata, read = read_checked_tensors(path)
            except ModelError:
                continue
            # the name of the checksum itself, or a blank of the header: nothing that is read
            assert place < values
            assert metadata["epoch"] == "3"
            assert read.keys() == tensors.keys()
            assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def test_an_encoder_that_another_one_replaced_is_refused(tmp_path: Path) -> None:
    _save_captioner(tmp_path, 1, _model(1))
    assert load_writer(tmp_path).model.fingerprint == _model(1).fingerprint
    _model(2).save(tmp_path / "encoder")
    with pytest.raises(ModelError, match="were not saved together"):
        load_writer(tmp_path)


def test_a_model_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be written: File exists"):
        _model(1).save(tmp_path / "file" / "m")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
