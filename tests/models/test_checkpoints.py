"""Released checkpoints: keys and shapes as published, through our tables and back; hostile and foreign files."""

import io
import json
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
from tests.models.worlds import TEXTS
from torch import Tensor

from reelseek.errors import ModelError
from reelseek.models import load_model
from reelseek.models.checkpoints import FORMATS, convert, load_released, read_tensors
from reelseek.models.checkpoints.convert import _MMT_ROWS

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


def _meta(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def _linear(name: str, out: int, into: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), **({f"{name}.bias": (out,)} if bias else {})}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": (width,) for part in ("weight", "bias")}


def _batch(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {**_norm(name, width), f"{name}.running_mean": (width,), f"{name}.running_var": (width,),
            f"{name}.num_batches_tracked": ()}  # fmt: skip


def _gated(name: str, out: int, into: int, batch_norm: bool) -> dict[str, tuple[int, ...]]:
    found = {**_linear(f"{name}.fc", out, into), **_linear(f"{name}.cg.fc", out, out)}
    return {**found, **(_batch(f"{name}.cg.batch_norm", out) if batch_norm else {})}


def _bert(net: str, experts: dict[str, int], depth: int, video: str, text: str, unit: str) -> dict[str, Any]:
    width, shapes = 512, {}
    shapes[f"{net}.embeddings.position_embeddings.weight"] = (32, width)
    shapes[f"{net}.embeddings.token_type_embeddings.weight"] = (19, width)
    shapes |= _norm(f"{net}.embeddings.layer_norm", width)
    for layer in range(depth):
        at = f"{net}.encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            shapes |= _linear(f"{at}.attention.self.{part}", width, width)
        shapes |= _linear(f"{at}.attention.output.dense", width, width) | _norm(
            f"{at}.attention.output.layer_norm", width
        )
        shapes |= _linear(f"{at}.intermediate.dense", 3072, width) | _linear(f"{at}.output.dense", width, 3072)
        shapes |= _norm(f"{at}.output.layer_norm", width)
    shapes |= _linear(f"{net}.pooler.dense", width, width)
    for name, dim in experts.items():
        shapes |= _linear(f"{video}video_dim_reduce.{name}.fc", width, dim)
        shapes |= _gated(f"{text}{unit}.{name}", width, 768, True) | _linear(f"{text}moe_fc_txt.{name}", 1, 768)
    return shapes


def _vlad(name: str, width: int, clusters: int, ghosts: int = 0) -> dict[str, tuple[int, ...]]:
    return {f"{name}.clusters": (width, clusters + ghosts), f"{name}.clusters2": (1, width, clusters),
            **_batch(f"{name}.batch_norm", clusters + ghosts)}  # fmt: skip


def _davenet(prefix: str, widths: tuple[int, ...], blocks: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    shapes = {**_batch(f"{prefix}batchnorm1", 1), f"{prefix}conv1.weight": (widths[0], 1, 40, 1)}
    shapes |= _batch(f"{prefix}bn1", widths[0])
    for stage, (before, width, count) in enumerate(zip(widths[:-1], widths[1:], blocks, strict=True), 1):
        for block in range(count):
            at, into = f"{prefix}layer{stage}.{block}", width if block else before
            shapes |= {f"{at}.conv1.weight": (width, into, 1, 9), f"{at}.conv2.weight": (width, width, 1, 9)}
            shapes |= _batch(f"{at}.bn1", width) | _batch(f"{at}.bn2", width)
            if not block:
                shapes |= {f"{at}.downsample.0.weight": (width, into, 1, 1)} | _batch(f"{at}.downsample.1", width)
    return shapes


def _coot_net(name: str, dim: int, width: int = 384) -> dict[str, tuple[int, ...]]:
    local = name.endswith("local")
    shapes = {
        f"{name}.norm_input.gain": (dim,),
        f"{name}.norm_input.bias": (dim,),
        f"{name}.embedding.pe": (1000, width),
    }
    for net in ["tf"] if local else ["tf", "tf_context"]:
        at = f"{name}.{net}.encoder_layers.0"
        for part in ("query_projection", "key_projection", "value_projection", "final_projection"):
            shapes |= _linear(f"{at}.self_attention_layer.sublayer.{part}", width, width)
        for layer in (0, 3):
            shapes |= _linear(f"{at}.pointwise_feedforward_layer.sublayer.feed_forward.{layer}", width, width)
        for part in ("self_attention_layer", "pointwise_feedforward_layer"):
            shapes |= {f"{at}.{part}.layer_normalization.{each}": (width,) for each in ("gain", "bias")}
    if local:
        shapes |= _linear(f"{name}.input_fc.mlp.0", width, dim)
        pool = f"{name}.pooler.pools.0.genpool"
        shapes |= {f"{pool}_w1_head": (2, 384, 384), f"{pool}_b1_head": (2, 384), f"{pool}_w2_head": (2, 384, 192),
                   f"{pool}_b2_head": (2, 192), f"{pool}_one": (1,)}  # fmt: skip
    return shapes


def _umi_block(at: tuple[str, str, str, str]) -> dict[str, tuple[int, ...]]:
    norm1, attention, norm2, feed = at
    shapes = (
        _norm(norm1, 256) | {f"{attention}.to_qkv.weight": (1536, 256)} | _linear(f"{attention}.to_out.0", 256, 512)
    )
    return shapes | _norm(norm2, 256) | _linear(f"{feed}.net.0", 512, 256) | _linear(f"{feed}.net.3", 256, 512)


def _affine(name: str, dim: int) -> dict[str, tuple[int, ...]]:
    return _norm(f"{name}.0", dim) | _linear(f"{name}.1", 256, dim) | _norm(f"{name}.2", 256)


def _mmv(sight: int, fine: int, coarse: int, words: int, sound: int = 2048) -> dict[str, tuple[int, ...]]:
    """MMV's heads under the short names of their arrays."""

    def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
        averages = {f"{name}/{which}_ema/average": (1, width) for which in ("mean", "var")}
        return {f"{name}/scale": (1, width), f"{name}/offset": (1, width), **averages}

    def dense(name: str, into: int, out: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}/w": (into, out), f"{name}/b": (out,)}

    return {
        **dense("vid2audio_embd/final_projection_inner", sight, 512), **norm("vid2audio_embd/batch_norm_0", 512),
        "vid2audio_embd/final_projection/w": (512, fine), **norm("vid2audio_embd/batch_norm_1", fine),
        **dense("vis_embd/final_projection", fine, coarse), **norm("vis_embd/batch_norm_0", coarse),
        **dense("audio_embd/final_projection", sound, fine), **dense("txt_embd/final_projection", words, coarse),
        "text_module/text_conv1/w": (1, 300, words), "text_module/text_conv1/b": (words,),
        **dense("txt2audio_embd/final_projection", words, 512), **dense("audio2txt_embd/final_projection", sound, 512),
        "text_module/embed/embeddings": (65536, 300), "audio_module/res_net_v2/initial_conv/w": (7, 7, 1, 64),
        "vis_embd/batch_norm_0/mean_ema/hidden": (1, coarse), "vis_embd/batch_norm_0/mean_ema/counter": (),
    }  # fmt: skip


def _frames() -> dict[str, tuple[int, ...]]:
    """CLIP4Clip's transformer over frames; of CLIP's towers the text projection, by which its width is told."""
    width = 512
    shapes: dict[str, tuple[int, ...]] = {"clip.text_projection": (width, width), "clip.logit_scale": ()}
    shapes["frame_position_embeddings.weight"] = (77, width)
    for layer in range(4):
        at = f"transformerClip.resblocks.{layer}"
        shapes |= {f"{at}.attn.in_proj_weight": (3 * width, width), f"{at}.attn.in_proj_bias": (3 * width,)}
        shapes |= _linear(f"{at}.attn.out_proj", width, width) | _linear(f"{at}.mlp.c_fc", 4 * width, width)
        shapes |= _linear(f"{at}.mlp.c_proj", width, 4 * width) | _norm(f"{at}.ln_1", width)
        shapes |= _norm(f"{at}.ln_2", width)
    return shapes


def _weights() -> dict[str, tuple[int, ...]]:
    parts = {}
    for side in ("text", "video"):
        parts |= _linear(f"{side}_weight_fc.0", 512, 512) | _linear(f"{side}_weight_fc.2", 1, 512)
    return parts


def _gram() -> dict[str, tuple[int, ...]]:
    dims = {"t": 768, "s": 768, "v": 1408, "a": 768, "d": 1408}
    heads: dict[str, tuple[int, ...]] = {f"contra_head_{head}.linear.weight": (512, dim) for head, dim in dims.items()}
    fused = _linear("contra_head_va", 512, 2176) | _linear("contra_head_vs", 512, 2176)
    return heads | fused | _linear("contra_head_vas", 512, 2944) | {"contra_temp": ()}


def _published() -> dict[str, tuple[dict[str, tuple[int, ...]], dict[str, Any], int | None]]:
    """Every key with its published shape, what the tensors do not tell, and the published count of parameters."""
    mmt = {"face": 512, "ocr": 300, "rgb": 2048, "s3d": 1024, "scene": 2208, "speech": 300, "vggish": 128}
    mdmmt = {"VIDEO": 2048, "CLIP": 512, "tf_vggish": 128}
    ce_dims = {"audio": 128, "face": 512, "flow": 1024, "ocr": 300, "rgb": 2048, "scene": 2208, "speech": 300}
    ce_vlad = {"audio": 16, "ocr": 23, "speech": 29}
    ce = _vlad("text_pooling", 768, 28, 1) | _linear("ce.moe_fc", 7, 21504) | _linear("ce.g_reason_1", 768, 1536)
    for name, clusters in ce_vlad.items():
        ce |= _vlad(f"pooling.{name}", ce_dims[name], clusters, 1)
    for layer in (0, 3):
        ce |= _batch(f"ce.g_reason_shared.{layer}", 768) | _linear(f"ce.g_reason_shared.{layer + 2}", 768, 768)
    for index, (name, dim) in enumerate(ce_dims.items()):
        ce |= _linear(f"ce.video_dim_reduce.{index}.fc", 768, dim * ce_vlad.get(name, 1))
        ce |= _linear(f"ce.video_GU.{index}.cg.fc", 768, 768) | _batch(f"ce.video_GU.{index}.cg.batch_norm", 768)
        ce |= _batch(f"ce.video_GU.{index}.cg.batch_norm2", 768) | _gated(f"ce.text_GU.{index}", 768, 21504, True)
    mee = _vlad("text_pooling", 300, 32) | _vlad("audio_pooling", 128, 16) | _linear("mee.moe_fc", 4, 9600)
    for index, (into, out) in enumerate([(128, 128), (2048, 128), (2048, 2048), (1024, 1024)]):
        mee |= _gated(f"mee.video_GU.{index}", out, into, True) | _gated(f"mee.text_GU.{index}", out, 9600, True)
    widths = (128, 128, 256, 512, 1024, 2048, 4096)
    eao = (
        _davenet("davenet.", widths, (2, 2, 1, 1, 1, 1))
        | {"fusion.masking_token": (4096,)}
        | _norm("fusion.norm", 4096)
    )
    for part in ("norm1", "norm2"):
        eao |= _norm(f"fusion.blocks.0.{part}", 4096)
    eao |= _linear("fusion.blocks.0.attn.qkv", 3 * 4096, 4096)
    for part in ("attn.proj", "mlp.fc1", "mlp.fc2"):
        eao |= _linear(f"fusion.blocks.0.{part}", 4096, 4096)
    for name, dim in {"video": 4096, "text": 300, "audio": 4096}.items():
        eao |= _norm(f"{name}_norm_layer", 4096) | _gated(f"{name}_token_proj", 4096, dim, False)
        eao |= _gated(f"{name}_proj", 6144, 4096, False)
    coot: dict[str, tuple[int, ...]] = {}
    for name, dim in (
        ("net_video_local", 512),
        ("net_video_global", 384),
        ("net_text_local", 1536),
        ("net_text_global", 384),
    ):
        coot |= _coot_net(name, dim)
    umi: dict[str, tuple[int, ...]] = {"alignment.base_vectors": (1, 3806, 256)}
    for name, tokens in (("rgb", 784), ("audio", 146)):
        at = f"reorganization.{name}"
        umi |= _affine(f"{at}_embedding", 768) | {f"{at}_pos_embedding": (1, tokens, 256)}
        umi |= _norm(f"{at}_head.0", 256) | _linear(f"{at}_head.1", 512, 256) | _affine(f"model.{name}_embedding", 768)
        for layer in range(6):
            inner = f"{at}_transformer.layers.{layer}"
            umi |= _umi_block((f"{inner}.0.norm", f"{inner}.0.fn", f"{inner}.1.norm", f"{inner}.1.fn"))
    umi |= {"model.pos_embedding": (1, 514, 256), "model.cls_token": (1, 2, 256)}
    for layer in range(6):
        inner = f"model.transformer.layers.{layer}"
        umi |= _umi_block((f"{inner}.0.norm", f"{inner}.1", f"{inner}.2.norm", f"{inner}.3"))
    umi |= _norm("model.mlp_head.0", 256) | _linear("model.mlp_head.1", 3806, 256)
    audio = _davenet("DAVEnet.", (128, 128, 256, 512, 1024), (2, 2, 2, 2)) | _linear(
        "text_pooling_caption.fc", 4096, 300
    )
    audio |= _gated("GU_audio", 1024, 1024, False) | _linear("DAVEnet_projection", 4096, 1024)
    audio |= _gated("GU_video", 4096, 4096, False) | _gated("GU_text_captions", 4096, 4096, False)
    ht = _gated("GU_video", 4096, 4096, False) | _gated("GU_text_captions", 4096, 4096, False)
    ht |= _linear("text_pooling_caption.fc", 4096, 300)
    e2e = _linear("fc", 512, 1024) | _linear("text_module.fc1", 2048, 300) | _linear("text_module.fc2", 512, 2048)
    e2e |= {"text_module.word_embd.weight": (66250, 300), "conv1.conv1.weight": (64, 24, 2, 4, 4)}
    return {
        "mmt": (_bert("vid_bert", mmt, 4, "", "", "text_GU"), {}, None),
        "mdmmt": (
            _bert("vid_state_dict.vid_bert", mdmmt, 9, "vid_state_dict.", "txt_state_dict.", "text_gu"), {}, None,
        ),
        "ce": (ce, {"names": list(ce_dims)}, None),
        "mee": (mee, {}, None),
        "eao": (eao, {}, 689_000_000),
        "coot": (coot, {}, None),
        "umi": (umi, {}, None),
        "avlnet": (audio, {}, None),
        "ht": (ht, {}, None),
        "e2e": (e2e, {}, None),
        "mmv": (_mmv(1024, 512, 256, 2048), {}, None),
        "drl": (_frames() | _weights(), {}, None),
        "clip4clip": (_frames(), {}, None),
        "gram": (_gram(), {}, None),
    }  # fmt: skip


def test_every_format_is_tried_at_its_published_shapes() -> None:
    assert set(_published()) == set(FORMATS)


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_keys_at_published_shapes_go_through_our_table_and_back(kind: str) -> None:
    shapes, settings, count = _published()[kind]
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
    if count is not None:
        learnt = sum(t.numel() for n, t in state.items() if "running" not in n and "num_batches" not in n)
        assert learnt == pytest.approx(count, rel=5e-3)
    assert found["experts"]


def _padded(kind: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
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
