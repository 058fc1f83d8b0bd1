"""MMV's checkpoints: arrays under the names that JAX's library Haiku gives them, exported as .npz.

The released file is a pickle of JAX's own objects, which is not read here; docs/models.md exports it. Names have the
form `text_audio_video/~METHOD/MODULE/LAYER/ARRAY`: which method made a module, what the model is called and how batch
normalisation is called are left out of them here.
"""

import re

from reelseek.errors import ModelError
from reelseek.models.checkpoints.haiku_networks import NORM, SIGHT
from reelseek.models.checkpoints.keymap import KeyMap, Source
from reelseek.models.checkpoints.state import Settings, State

__all__ = ["mmv", "short_name"]

_NORM = re.compile(r"_*(?:cross_replica_)?batch_norm(?:_(\d+))?")
_NETWORKS = {
    SIGHT: "the network of frames, which `reelseek models convert` writes as the folder vision_net",
    "audio_module": "the network of sound: how its spectrograms are made was not released; import what it computes",
}
_UNUSED = {
    "audio2txt_embd": "sound is compared with text by way of the fine space",
    "txt2audio_embd": "sound is compared with text by way of the fine space",
}
_WORDS = "text_module/embed/embeddings"
_HEADS = ("vid2audio_embd", "vis_embd", "audio_embd", "txt_embd", "text_module")


def short_name(name: str) -> str:
    """The module, the layer and the array of a name.

    >>> short_name("text_audio_video/~_get_pair_embedding_heads/vis_embd/__cross_replica_batch_norm/~/mean_ema/average")
    'vis_embd/batch_norm_0/mean_ema/average'
    """
    parts = [part for part in re.split(r"[/:.]", name) if part and not part.startswith("~")]
    tops = [place for place, part in enumerate(parts) if part in (*_NETWORKS, *_UNUSED, *_HEADS)]
    parts = parts[tops[0] :] if tops else parts
    return "/".join(f"batch_norm_{match[1] or 0}" if (match := _NORM.fullmatch(part)) else part for part in parts)


def mmv(state: State, overrides: Settings) -> tuple[Settings, KeyMap]:
    """Plan MMV: its graph of heads, fine and coarse."""
    for name in list(state):
        short = short_name(name)
        if short != name and short in state:
            raise ModelError(f"two arrays of the checkpoint are {short}; one of them is {name}")
        state[short] = state.pop(name)
    sight, sound = state["vid2audio_embd/final_projection_inner/w"], state["audio_embd/final_projection/w"]
    words, coarse = state["text_module/text_conv1/w"], state["vis_embd/final_projection/w"]
    if coarse.shape[0] != sound.shape[1]:
        raise ModelError(
            f"its text head reads vectors of {coarse.shape[0]}, and the space of sight and sound has {sound.shape[1]}: "
            "its graph is not fine and coarse, which is the one that was released"
        )
    settings: Settings = {
        "experts": {_sight_expert(state): sight.shape[0], "audio": sound.shape[0]},
        "fine": sound.shape[1],
        "coarse": coarse.shape[1],
        "words": words.shape[-1],
        "text": {"dim": words.shape[-2]},
    }
    return settings, _table(state, named_words="encoder" in overrides.get("text", {}))


def _sight_expert(state: State) -> str:
    """What the network of frames is called as an expert; without it features are imported as `video`."""
    return "vision_net" if any(name.startswith(f"{SIGHT}/") for name in state) else "video"


def _table(state: State, *, named_words: bool) -> KeyMap:
    table = KeyMap("mmv")
    _dense(table, state, "vision.0.0", "vid2audio_embd/final_projection_inner")
    _norm(table, state, "vision.0.1", "vid2audio_embd/batch_norm_0")
    _dense(table, state, "vision.2.0", "vid2audio_embd/final_projection", bias=False)
    _norm(table, state, "vision.2.1", "vid2audio_embd/batch_norm_1")
    _dense(table, state, "coarsen.0", "vis_embd/final_projection")
    _norm(table, state, "coarsen.1", "vis_embd/batch_norm_0")
    _dense(table, state, "hear", "audio_embd/final_projection")
    _dense(table, state, "words.fc", "text_module/text_conv1")
    _dense(table, state, "text_head", "txt_embd/final_projection")
    if named_words:
        table.unused[_WORDS] = "its table of words; text.encoder names others"
    else:
        table.leave_out(_WORDS, "its table of words, without the words; name word vectors with text.encoder")
    for name in state:
        module, last = name.partition("/")[0], name.rpartition("/")[2]
        if module in _NETWORKS:
            table.leave_out(name, _NETWORKS[module])
        elif module in _UNUSED:
            table.unused[name] = _UNUSED[module]
        elif last in ("hidden", "counter"):
            table.unused[name] = "the running average stands beside it"
    return table


def _dense(table: KeyMap, state: State, ours: str, theirs: str, *, bias: bool = True) -> None:
    """Map a matrix [in, out], or a convolution of width 1 [1, in, out]."""
    lead = state[f"{theirs}/w"].ndim - 2 if f"{theirs}/w" in state else 0
    table.sources[f"{ours}.weight"] = Source((f"{theirs}/w",), lead=lead, transposed=True)
    if bias:
        table.same(f"{ours}.bias", f"{theirs}/b")


def _norm(table: KeyMap, state: State, ours: str, theirs: str) -> None:
    """Map batch normalisation, whose arrays have the shape [1, channel]."""
    for part, array in NORM.items():
        name = f"{theirs}/{array}"
        table.same(f"{ours}.{part}", name, lead=state[name].ndim - 1 if name in state else 0)
