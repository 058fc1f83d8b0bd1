"""Checkpoints of DRL and CLIP4Clip: CLIP's two towers, and what compares the frames and words that they give.

The towers have a format of their own (`towers`); here is what stands behind them.
"""

from collections.abc import Mapping

import torch

from reelseek.errors import ModelError
from reelseek.models.checkpoints.keymap import KeyMap
from reelseek.models.checkpoints.state import Settings, State, count_matches

__all__ = ["TS2NET", "clip4clip", "drl"]

TS2NET = (
    "it shifts and selects patches inside of CLIP's image tower, and a library has one vector a frame; `drl` with "
    "`shift` and `select` is trained anew"
)
_DEPTH = 4
_PLACES = 128  # of positions of frames with us; the release has as many as CLIP reads tokens
_FOREIGN = {
    "visual_token_selector.": f"it is TS2-Net's: {TS2NET}",
    "cross.": "it compares by a transformer over a text and a video together, which has no place here",
    "lstm_visual.": "it reads frames by an LSTM, which has no place here",
}


def drl(state: State, overrides: Settings) -> tuple[Settings, KeyMap]:
    """Plan DRL: token-wise interaction, weighted or not, over frames that a transformer has read."""
    width, depth = _width(state), _depth(state)
    _refuse_others(state)
    if not depth:
        raise ModelError("it has no transformer over frames (--agg_module None), and here there always is one")
    weighted = any(name.startswith("text_weight_fc.") for name in state)
    if weighted and "text_weight_fc.2.weight" not in state:
        raise ModelError("its weights of words are of one linear layer (--wti_arch 1); here they are of two")
    table = KeyMap("drl")
    _frames(table, state, "mix.clip", depth)
    for ours, theirs in (("word_weight", "text_weight_fc"), ("step_weight", "video_weight_fc")):
        for layer, rows in ((0, width), (2, 1)):
            if weighted:
                table.linear(f"{ours}.{layer}", f"{theirs}.{layer}")
            else:  # equal logits weigh all tokens alike
                table.constants[f"{ours}.{layer}.weight"] = torch.zeros(rows, width)
                table.constants[f"{ours}.{layer}.bias"] = torch.zeros(rows)
    for name in ("project.clip", "project_words"):
        table.constants[f"{name}.weight"], table.constants[f"{name}.bias"] = torch.eye(width), torch.zeros(width)
    table.same("score_loss.logit_scale", "clip.logit_scale")
    _leave_towers(table, state, overrides)
    settings: Settings = {
        "experts": {"clip": width},
        "width": width,
        "depth": depth,
        "released": True,
        "text": {"dim": width, "most_tokens": 30},  # 32 with the first and the last
    }
    return settings, table


def clip4clip(state: State, overrides: Settings) -> tuple[Settings, KeyMap]:
    """Plan CLIP4Clip with a transformer over frames ("seqTransf"), compared with a text by the mean of its output."""
    width = _width(state)
    _refuse_others(state)
    if "text_weight_fc.0.weight" in state:
        raise ModelError("it weighs words and frames, as DRL's do: --format drl")
    if not _depth(state):
        raise ModelError(
            "it has no transformer over frames (meanP), so that it is its CLIP alone: --format clip makes a folder of "
            "it, for `--experts clip@FOLDER` and the system clip_mean"
        )
    if _depth(state) != _DEPTH:
        raise ModelError(f"its transformer over frames has {_depth(state)} layers; here it has {_DEPTH}, as published")
    table = KeyMap("clip4clip")
    _frames(table, state, "read.0.0", _DEPTH)
    _leave_towers(table, state, overrides)
    table.unused["clip.logit_scale"] = "the temperature, which is in the settings of the loss"
    temperature = 1 / float(state["clip.logit_scale"].float().exp())
    settings: Settings = {
        "experts": {"clip": width},
        "video": "residual_released",
        "loss": {"name": "info_nce", "settings": {"temperature": temperature}},
        "text": {"dim": width},
    }
    return settings, table


def _refuse_others(state: State) -> None:
    for prefix, reason in _FOREIGN.items():
        if any(name.startswith(prefix) for name in state):
            raise ModelError(f"{prefix}* of the checkpoint: {reason}")


def _width(state: State) -> int:
    return int(state["clip.text_projection"].shape[1])


def _depth(state: State) -> int:
    return count_matches(state, r"transformerClip\.resblocks\.(\d+)\.")


def _frames(table: KeyMap, state: State, ours: str, depth: int) -> None:
    """Map the transformer over frames, and its positions, of which the last stands for all later ones."""
    name = "frame_position_embeddings.weight"
    if name in state and len(state[name]) < _PLACES:
        state[name] = torch.cat([state[name], state[name][-1:].expand(_PLACES - len(state[name]), -1)])
    table.same(f"{ours}.position.weight", name)
    parts: Mapping[str, str] = {
        "attention.out": "attn.out_proj", "norm1": "ln_1", "norm2": "ln_2", "feed.fc1": "mlp.c_fc",
        "feed.fc2": "mlp.c_proj",
    }  # fmt: skip
    for layer in range(depth):
        mine, other = f"{ours}.mix.layers.{layer}", f"transformerClip.resblocks.{layer}"
        for part in ("weight", "bias"):
            table.same(f"{mine}.attention.qkv.{part}", f"{other}.attn.in_proj_{part}")
        for our_part, their_part in parts.items():
            table.linear(f"{mine}.{our_part}", f"{other}.{their_part}")


def _leave_towers(table: KeyMap, state: State, overrides: Settings) -> None:
    """Leave out CLIP's towers: not needed where the user names the folder that was made of them."""
    named = "encoder" in overrides.get("text", {})
    for name in state:
        if name.startswith("clip.") and name != "clip.logit_scale":
            if named:
                table.unused[name] = "CLIP's towers; text.encoder names a folder with them"
            else:
                table.leave_out(
                    name, "CLIP's towers: make a folder of them with --format clip, name it with text.encoder"
                )
