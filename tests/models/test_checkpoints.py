"""Released checkpoints: keys and shapes as published, through our tables and back."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.published_shapes import CE_WIDTHS, SHAPES, Shapes
from tests.models.worlds import TEXTS
from torch import Tensor

from reelseek.errors import ModelError
from reelseek.models import load_model
from reelseek.models.checkpoints import FORMATS, convert, load_released

DATA = Path(__file__).parents[1] / "data" / "parity"
FIXTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "mmt": ("mmt_keep_missing", {}),
    "mdmmt": ("mdmmt", {}),
    "ce": ("ce", {"names": ["audio", "face", "ocr", "rgb"]}),
    "mee": ("mee", {}),
    "eao": ("eao", {"heads": 4}),
    "coot": ("coot", {"heads": 4}),
    "umi": ("umi", {}),
}
SETTINGS: dict[str, dict[str, Any]] = {"ce": {"names": list(CE_WIDTHS)}}
"""What the tensors do not tell."""
PARAMETERS = {"eao": 689_000_000}
"""Published counts."""


def _meta(shapes: Shapes) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def test_every_format_is_tried_at_its_published_shapes() -> None:
    assert set(SHAPES) == set(FORMATS)


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_keys_at_published_shapes_go_through_our_table_and_back(kind: str) -> None:
    shapes, settings = SHAPES[kind](), SETTINGS.get(kind, {})
    state = _meta(shapes)
    if kind == "clip4clip":
        state["clip.logit_scale"] = torch.tensor(4.6)  # a setting is made of it
    with torch.device("meta"):
        tensors = dict(state)
        found, table = FORMATS[kind].plan(tensors, dict(settings))
        model = convert(state, kind, settings)
    ours = table.read(tensors)
    own = dict(model.state_dict())
    for name, tensor in ours.items():
        assert tensor.shape == own[name].shape, name
    back = table.write(ours)
    assert {name: tuple(tensor.shape) for name, tensor in back.items()} == {
        name: shape for name, shape in _padded(kind, shapes).items() if name not in table.unused
    }
    if kind in PARAMETERS:
        learnt = sum(t.numel() for n, t in state.items() if "running" not in n and "num_batches" not in n)
        assert learnt == pytest.approx(PARAMETERS[kind], rel=5e-3)
    assert found["experts"]


def _padded(kind: str, shapes: Shapes) -> Shapes:
    """UMI's positions have one length with us, that of the longer modality; those of frames have 128 places."""
    if kind in ("drl", "clip4clip"):
        return {**shapes, "frame_position_embeddings.weight": (128, 512)}
    if kind != "umi":
        return shapes
    return {n: (1, 784, 256) if n.startswith("reorganization.") and n.endswith("pos_embedding") else s
            for n, s in shapes.items()}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(FIXTURES))
def test_values_survive_the_way_there_and_back(kind: str) -> None:
    fixture, settings = FIXTURES[kind]
    state = load_file(DATA / fixture / "weights.safetensors")
    config = json.loads((DATA / fixture / "config.json").read_text())
    settings = dict(settings)
    if kind == "mmt":
        settings["rows"] = {each["name"]: each["idx"] for each in config["experts"]}
    model = convert(state, kind, settings)
    _, table = FORMATS[kind].plan(dict(state), dict(settings))
    back = table.write(dict(model.state_dict()))
    for name, tensor in state.items():
        if name in table.unused or name.endswith("num_batches_tracked"):
            continue
        found = back[name]
        if name.endswith("token_type_embeddings.weight"):
            rows = [0, *(each["idx"] for each in config["experts"])]
            found, tensor = found[rows], tensor[rows]
        if kind == "umi" and name.endswith("_pos_embedding"):
            found = found[:, : tensor.shape[1]]
        assert torch.equal(found, tensor), name


def test_experts_whose_names_hold_dots_keep_their_weights() -> None:
    state = load_file(DATA / "ce_dotted" / "weights.safetensors")
    names = [each["name"] for each in json.loads((DATA / "ce_dotted" / "config.json").read_text())["experts"]]
    model = convert(state, "ce", {"names": names})
    ours = model.state_dict()
    assert "i3d.i3d.0" in names
    assert torch.equal(
        ours["project.i3d__i3d__0.weight"], state[f"ce.video_dim_reduce.{names.index('i3d.i3d.0')}.fc.weight"]
    )


def test_a_converted_model_is_saved_and_ranks(tmp_path: Path) -> None:
    save_file(load_file(DATA / "eao" / "weights.safetensors"), tmp_path / "eao.safetensors")
    words = tmp_path / "words.txt"
    words.write_text(
        "\n".join(f"{word} {' '.join(['0.5'] * 11)} {i}" for i, word in enumerate("a cat dogs man".split()))
    )
    settings = {"heads": 4, "text": {"encoder": str(words)}}
    model = load_released(tmp_path / "eao.safetensors", "eao", settings)
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert torch.equal(again.encode_texts(TEXTS).values, model.encode_texts(TEXTS).values)


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        ("coot", "net_text_global.tf_context.encoder_layers.0.self_attention_layer.sublayer.query_projection.weight",
         lambda tensor: tensor[None]),
        ("mee", "mee.moe_fc.weight", lambda tensor: tensor[0, 0]),
        ("mdmmt", "vid_state_dict.vid_bert.embeddings.token_type_embeddings.weight", lambda tensor: tensor[:0]),
        ("eao", "text_norm_layer.bias", lambda tensor: tensor.to(torch.complex64)),
    ],
)  # fmt: skip
def test_a_tensor_that_cannot_be_joined_is_named_with_its_shape(kind: str, name: str, change: Any) -> None:
    fixture, settings = FIXTURES[kind]
    state = load_file(DATA / fixture / "weights.safetensors")
    state[name] = change(state[name])
    with pytest.raises(ModelError, match=rf"not a released {kind} checkpoint.*{re.escape(name)} \("):
        convert(state, kind, settings)
