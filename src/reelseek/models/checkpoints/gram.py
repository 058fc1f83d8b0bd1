"""GRAM's checkpoints: a linear map of each encoder's output, compared by volume; BERT reads captions and subtitles."""

import torch

from reelseek.errors import ModelError
from reelseek.models.blocks.project import key
from reelseek.models.checkpoints.keymap import KeyMap
from reelseek.models.checkpoints.state import Settings, State

__all__ = ["gram"]

_HEADS = {"vision": "v", "audio": "a", "subtitles": "s", "depth": "d"}
_BERT = "multimodal_encoder.bert."
_ENCODERS = ("vision_encoder.", "evaclip_model.", "clip_model.", "audio_encoder.", "audio_embeddings.")
_MATCHING = (
    "multimodal_encoder.cls.", "itm_head.", "hidden_trans_", "vision_frame_", "audio_frame_", "video_frame_",
    "vision_type_", "audio_type_", "video_type_", "subtitle_type_",
)  # fmt: skip


def gram(state: State, overrides: Settings) -> tuple[Settings, KeyMap]:
    """Plan GRAM: heads of the modalities that are named, the temperature, and BERT where it is trained."""
    names = overrides.pop("names", [name for name in _HEADS if name != "depth"])
    if not isinstance(names, list) or not names or not set(names) <= set(_HEADS):
        raise ModelError(f"names is {names!r}; its modalities are {', '.join(_HEADS)}")
    heads = {name: state[f"contra_head_{_HEADS[name]}.linear.weight"] for name in names}
    width, words = state["contra_head_t.linear.weight"].shape
    # Ours is the logarithm of what scores are multiplied by.
    state["contra_temp"] = -state["contra_temp"].float().log()
    table = KeyMap("gram")
    for name in names:
        table.same(f"towers.project.{key(name)}.weight", f"contra_head_{_HEADS[name]}.linear.weight")
        table.constants[f"towers.project.{key(name)}.bias"] = torch.zeros(width)
        table.constants[f"towers.heads.{key(name)}.weight"] = torch.eye(width)
        table.constants[f"towers.heads.{key(name)}.bias"] = torch.zeros(width)
    table.same("text_head.weight", "contra_head_t.linear.weight")
    table.constants["text_head.bias"] = torch.zeros(width)
    table.same("score_loss.logit_scale", "contra_temp")
    trained = bool(overrides.get("text", {}).get("trained"))
    others = {f"contra_head_{head}.linear.weight" for name, head in _HEADS.items() if name not in names}
    for name in state:
        _classify(table, name, others, trained=trained)
    settings: Settings = {
        "experts": {name: head.shape[1] for name, head in heads.items()},
        "width": width,
        "embedding": width,
        "depth": 0,
        "heads": 1,
        "text": {} if trained else {"dim": words},
    }
    return settings, table


def _classify(table: KeyMap, name: str, others: set[str], *, trained: bool) -> None:
    """Map a tensor of BERT, or say why one has no place; those of no known part stay, and are refused."""
    if name.startswith(_ENCODERS):
        table.leave_out(name, "the encoders of pictures and sound, from which features come")
    elif name.startswith(_MATCHING) or (name.startswith(_BERT) and "crossattention" in name):
        table.leave_out(name, "matching and captioning by a cross-encoder, which has no place here")
    elif name.startswith(_BERT):
        table.text_encoder(name, _BERT, trained=trained)
    elif name in {f"contra_head_{head}.{part}" for head in ("va", "vs", "vas") for part in ("weight", "bias")}:
        table.unused[name] = "fused modalities are VAST's, and a volume has none"
    elif name in others:
        table.unused[name] = "its modality is not among names"
