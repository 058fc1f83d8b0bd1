"""CLIP towers that another project trained further, as a folder that transformers, experts and text sides load.

DRL and CLIP4Clip name the parts as OpenAI's code does, LanguageBind's tower for images as transformers does.
"""

import json
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from reelseek.errors import ModelError
from reelseek.experts.hub import pretrained_folder
from reelseek.models.checkpoints.keymap import KeyMap, LeftOut, Source
from reelseek.models.checkpoints.read import read_tensors
from reelseek.models.checkpoints.state import State, count_matches
from reelseek.models.weights import check_finite, write_errors

__all__ = ["convert_towers"]

_BLOCK = {
    "self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}  # fmt: skip
_SIZES = ("input_resolution", "context_length", "vocab_size")  # beside OpenAI's own weights


def convert_towers(path: Path, settings: Mapping[str, Any], out: Path) -> tuple[LeftOut, ...]:
    """Write a folder of a CLIP model: the towers of a checkpoint, and tokenizer and preparation of pictures of `like`.

    Args:
        settings: `like`, the folder or pulled hub name of the CLIP that the towers began as.

    Returns:
        which tensors of the checkpoint are not in the folder.

    Raises:
        ModelError: no `like`, or not its kind of model; names a tensor that is absent, unknown or of another shape.
        ExpertUnavailable: `like` is not on this machine.
    """
    if set(settings) != {"like"}:
        raise ModelError("--format clip takes one setting, the CLIP that it began as: --set like=FOLDER_OR_PULLED_NAME")
    if out.exists():
        raise ModelError(f"{out} exists; name a folder that does not")
    like = pretrained_folder(str(settings["like"]))
    state = {name.removeprefix("module."): tensor for name, tensor in read_tensors(path).items()}
    table, openai = _table(state)
    model = _model(like, state, table, openai=openai)
    ours = table.read(state)
    check_finite(ours, "the checkpoint")
    expected = model.state_dict()
    table.check_shapes(ours, expected, f"a CLIP like {like}")
    if foreign := sorted(set(ours) - set(expected)):
        raise ModelError(f"{' + '.join(table.sources[foreign[0]].keys)} has no place in a CLIP like {like}")
    if absent := sorted(set(expected) - set(ours)):
        raise ModelError(f"no weights for {', '.join(absent[:3])}, which {like} has")
    model.load_state_dict(ours)
    partial = out.with_name(f"{out.name}.{secrets.token_hex(4)}")
    with write_errors(out):
        try:
            model.save_pretrained(partial)
            for file in like.iterdir():
                if file.suffix in (".json", ".txt") and not (partial / file.name).exists() and "index" not in file.name:
                    shutil.copyfile(file, partial / file.name)
            partial.rename(out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return table.left_out(state)


def _table(state: State) -> tuple[KeyMap, bool]:
    """Keys of the towers, and whether they are OpenAI's."""
    if video := next((name for name in state if ".temporal_" in name), None):
        raise ModelError(f"{video}: its layers attend over time, which transformers' CLIP does not")
    table = KeyMap("clip")
    if "visual_projection.weight" in state:
        for name in state:
            if name.endswith("position_ids"):
                table.unused[name] = "positions 0, 1, 2, ..., which are no weights"
            elif name.startswith(("text_model.", "vision_model.")) or name in (
                "visual_projection.weight", "text_projection.weight", "logit_scale",
            ):  # fmt: skip
                table.same(name, name)
        return table, False
    prefix = "clip." if "clip.visual.proj" in state else ""
    if f"{prefix}visual.proj" not in state:
        raise ModelError(
            f"it has no CLIP of two transformers (visual.proj); it has {', '.join(sorted(state)[:3])}, ..."
        )
    _openai(table, state, prefix)
    for name in state:
        if name in _SIZES:
            table.unused[name] = "sizes, which the tensors have"
        elif prefix and not name.startswith(prefix):
            table.unused[name] = "what compares frames and words, which the format of its system reads"
    return table, True


def _openai(table: KeyMap, state: State, prefix: str) -> None:
    for ours, theirs in (("vision_model", f"{prefix}visual.transformer"), ("text_model", f"{prefix}transformer")):
        for layer in range(count_matches(state, rf"{re.escape(theirs)}\.resblocks\.(\d+)\.")):
            mine, other = f"{ours}.encoder.layers.{layer}", f"{theirs}.resblocks.{layer}"
            for part in ("weight", "bias"):
                joined = f"{other}.attn.in_proj_{part}"
                chunks = state.pop(joined).chunk(3) if joined in state else ()
                state.update({f"{joined}[{one}]": chunk for one, chunk in zip("qkv", chunks, strict=False)})
                for one in "qkv":
                    table.same(f"{mine}.self_attn.{one}_proj.{part}", f"{joined}[{one}]")
            for our_part, their_part in _BLOCK.items():
                table.linear(f"{mine}.{our_part}", f"{other}.{their_part}")
    for ours, theirs in (
        ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
        ("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"),
        ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
        ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
        ("text_model.embeddings.position_embedding.weight", "positional_embedding"), ("logit_scale", "logit_scale"),
    ):  # fmt: skip
        table.same(ours, prefix + theirs)
    for ours, theirs in (
        ("vision_model.pre_layrnorm", "visual.ln_pre"), ("vision_model.post_layernorm", "visual.ln_post"),
        ("text_model.final_layer_norm", "ln_final"),
    ):  # fmt: skip
        table.linear(ours, prefix + theirs)
    for ours, theirs in (("visual_projection.weight", "visual.proj"), ("text_projection.weight", "text_projection")):
        table.sources[ours] = Source((prefix + theirs,), transposed=True)


def _model(like: Path, state: State, table: KeyMap, *, openai: bool) -> Any:
    """A CLIP model of the sizes of the tensors, otherwise as the model that the towers began as."""
    from transformers import CLIPConfig, CLIPModel

    raw = json.loads((like / "config.json").read_text("utf-8"))
    if raw.get("model_type") != "clip":
        raise ModelError(f"{like} holds a {raw.get('model_type')} model; wanted the CLIP that the towers began as")
    config = CLIPConfig.from_dict(raw)
    patch = _released(state, table, "vision_model.embeddings.patch_embedding.weight")
    places = _released(state, table, "vision_model.embeddings.position_embedding.weight")
    vision, text = config.vision_config, config.text_config
    vision.hidden_size, vision.patch_size = patch.shape[0], patch.shape[3]
    vision.image_size = round((places.shape[0] - 1) ** 0.5) * vision.patch_size
    words = _released(state, table, "text_model.embeddings.token_embedding.weight")
    text.vocab_size, text.hidden_size = words.shape
    text.max_position_embeddings = _released(state, table, "text_model.embeddings.position_embedding.weight").shape[0]
    for part, name in ((vision, "vision_model"), (text, "text_model")):
        layers = {ours.split(".")[3] for ours in table.sources if ours.startswith(f"{name}.encoder.layers.")}
        part.num_hidden_layers = len(layers)
        part.intermediate_size = _released(state, table, f"{name}.encoder.layers.0.mlp.fc1.weight").shape[0]
        if openai:
            part.num_attention_heads = max(1, part.hidden_size // 64)
            part.hidden_act = "quick_gelu"
    projected = _released(state, table, "text_projection.weight")
    config.projection_dim = projected.shape[1 if table.sources["text_projection.weight"].transposed else 0]
    return CLIPModel(config).eval()


def _released(state: State, table: KeyMap, ours: str) -> Tensor:
    """The released tensor of one of ours.

    Raises:
        ModelError: it is absent.
    """
    keys = table.sources[ours].keys if ours in table.sources else (ours,)
    if keys[0] not in state:
        raise ModelError(f"not a CLIP of two towers: {keys[0]} is absent")
    return state[keys[0]]
