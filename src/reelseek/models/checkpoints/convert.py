"""A released checkpoint -> our model: sizes inferred from its tensors, weights mapped by the tables of `released`."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reelseek.errors import ModelError
from reelseek.models.backbones import save_network
from reelseek.models.checkpoints import clip_frames, gram, haiku, released
from reelseek.models.checkpoints.haiku_networks import ReleasedNetwork, vision_network
from reelseek.models.checkpoints.keymap import KeyMap, LeftOut
from reelseek.models.checkpoints.read import read_tensors
from reelseek.models.checkpoints.state import Settings, State, count_matches, list_matches
from reelseek.models.checkpoints.towers import convert_towers
from reelseek.models.learned import LearnedModel
from reelseek.models.systems import SYSTEMS
from reelseek.models.weights import check_finite

__all__ = ["FORMATS", "NOT_CONVERTED", "Format", "convert", "convert_file", "load_released"]

# Rows of MMT's table of expert embeddings, by the names in its release.
_MMT_ROWS = {
    "s3d": 1, "vggish": 2, "face": 3, "audio": 4, "rgb": 5, "speech": 6, "ocr": 7, "flow": 8, "scene": 9,
    "audio_c": 1, "face_c": 2, "i3d": 3, "resnext101_32x48d": 4, "senet154": 5, "ocr_c": 6, "r2p1d": 7, "s3dg": 8,
    "densenet161": 9, "speech_c": 10, "r2p1dk": 11, "i3d_logits": 12, "resnext101_32x48d_logits": 13,
    "senet154_logits": 14, "r2p1d_logits": 15, "s3dg_logits": 16, "densenet161_logits": 17, "r2p1dk_logits": 18,
    "VIDEO": 1, "CLIP": 2, "tf_vggish": 3,
}  # fmt: skip


@dataclass(frozen=True)
class Format:
    """A format of released checkpoints.

    Attributes:
        plan: from its tensors and the user's settings to (our settings, table of keys).
        note: settings that cannot be inferred from tensors, as published unless the user overrides them.
        export: what to do with a file as released that is not read here.
        network: the network of frames whose features the model reads, if its tensors have one.
    """

    system: str
    plan: Callable[[State, Settings], tuple[Settings, KeyMap]]
    note: str
    export: str = ""
    network: Callable[[State], ReleasedNetwork | None] = lambda _: None


def _bert(state: State, overrides: Settings, *, video: str, text: str, heads: int) -> tuple[Settings, KeyMap]:
    names = sorted(list_matches(state, rf"{re.escape(video)}video_dim_reduce\.(.+)\.fc\.weight"))
    if video:  # MDMMT orders experts by the rows of its table
        names.sort(key=lambda name: _MMT_ROWS.get(name, 99))
    rows = {**_MMT_ROWS, **overrides.pop("rows", {})}
    unknown = [name for name in names if name not in rows]
    if unknown:
        raise ModelError(
            f"which row of the table of expert embeddings is {unknown[0]!r}? Say it with rows.{unknown[0]}=N"
        )
    net = f"{video}vid_bert"
    positions = state[f"{net}.embeddings.position_embeddings.weight"]
    unit = "text_GU" if any(name.startswith(f"{text}text_GU.") for name in state) else "text_gu"
    depth = count_matches(state, rf"{re.escape(net)}\.encoder\.layer\.(\d+)\.")
    settings: Settings = {
        "experts": {name: state[f"{video}video_dim_reduce.{name}.fc.weight"].shape[1] for name in names},
        "width": positions.shape[1],
        "positions": positions.shape[0],
        "depth": depth,
        "heads": heads,
        "inner": state[f"{net}.encoder.layer.0.intermediate.dense.weight"].shape[0],
        "text_start": "random",
        "missing": "keep",
    }
    table = released.mmt(
        {name: rows[name] for name in names}, depth,
        types=state[f"{net}.embeddings.token_type_embeddings.weight"].shape[0], video=video, text=text, unit=unit,
    )  # fmt: skip
    encoder = f"{text}txt_bert."
    trained = bool(overrides.get("text", {}).get("trained"))
    for name in (name for name in state if name.startswith(encoder)):
        table.text_encoder(name, encoder, trained=trained)
    width = state[f"{text}moe_fc_txt.{names[0]}.weight"].shape[1]
    settings["text"] = {} if trained else {"dim": width}
    return settings, table


def _mmt(state: State, overrides: Settings) -> tuple[Settings, KeyMap]:
    return _bert(state, overrides, video="", text="", heads=4)


def _mdmmt(state: State, overrides: Settings) -> tuple[Settings, KeyMap]:
    return _bert(state, overrides, video="vid_state_dict.", text="txt_state_dict.", heads=8)


def _expert_names(overrides: Settings, count: int, system: str) -> list[str]:
    names = overrides.pop("names", None)
    if not isinstance(names, list) or len(names) != count:
        raise ModelError(f"{system} checkpoints number their {count} experts; name them in order with names=[...]")
    return names


def _ce(state: State, overrides: Settings) -> tuple[Settings, KeyMap]:
    count = count_matches(state, r"ce\.video_dim_reduce\.(\d+)\.")
    names = sorted(_expert_names(overrides, count, "CE"))
    vlad = list_matches(state, r"pooling\.(.+)\.clusters$")
    reduced = {name: state[f"ce.video_dim_reduce.{i}.fc.weight"].shape for i, name in enumerate(names)}
    clusters = {name: state[f"pooling.{name}.clusters2"].shape[2] for name in vlad}
    ghosts = {name: state[f"pooling.{name}.clusters"].shape[1] - count for name, count in clusters.items()}
    text_clusters = state["text_pooling.clusters2"].shape[2]
    layers = (
        count_matches(state, r"ce\.g_reason_shared\.(\d+)\.running_mean"),
        count_matches(state, r"ce\.h_reason\.(\d+)\.running_mean"),
    )
    settings = {
        "experts": {name: shape[1] // clusters.get(name, 1) for name, shape in reduced.items()},
        "vlad": clusters,
        "vlad_ghosts": {name: count for name, count in ghosts.items() if count},
        "width": reduced[names[0]][0],
        "pair_layers": layers[0] + 1,
        "gate_layers": layers[1],
        "text_clusters": text_clusters,
        "ghosts": state["text_pooling.clusters"].shape[1] - text_clusters,
        "text": {"dim": state["text_pooling.clusters"].shape[0]},
        "sequential": True,
        "count_padding": True,
    }
    return settings, released.ce(names, vlad, pair_layers=layers[0] + 1, gate_layers=layers[1])


def _mee(state: State, overrides: Settings) -> tuple[Settings, KeyMap]:
    count = count_matches(state, r"mee\.video_GU\.(\d+)\.")
    overrides.setdefault("names", ["face", "audio", "visual", "motion"][:count])
    names = _expert_names(overrides, count, "MEE")
    columns = overrides.pop("columns", sorted(names))
    units = {name: state[f"mee.video_GU.{i}.fc.weight"].shape for i, name in enumerate(names)}
    vlad = {"audio": "audio_pooling"} if "audio_pooling.clusters" in state and "audio" in names else {}
    clusters = {name: state[f"{theirs}.clusters"].shape[1] for name, theirs in vlad.items()}
    settings = {
        "experts": {name: shape[1] // clusters.get(name, 1) for name, shape in units.items()},
        "vlad": clusters,
        "widths": {name: shape[0] for name, shape in units.items()},
        "text_clusters": state["text_pooling.clusters"].shape[1],
        "text": {"dim": state["text_pooling.clusters"].shape[0]},
        "count_padding": True,
    }
    return settings, released.mee(names, vlad, columns)


def _audio(state: State, prefix: str) -> tuple[Settings, tuple[int, ...]]:
    stages = count_matches(state, rf"{prefix}layer(\d+)\.")
    blocks = tuple(count_matches(state, rf"{prefix}layer{stage}\.(\d+)\.") for stage in range(1, stages + 1))
    widths = [state[f"{prefix}conv1.weight"].shape[0]]
    widths += [state[f"{prefix}layer{stage}.0.conv1.weight"].shape[0] for stage in range(1, stages + 1)]
    kernel = state[f"{prefix}layer1.0.conv1.weight"].shape[3]
    return {"widths": widths, "blocks": blocks, "kernel": kernel}, blocks


def _eao(state: State, overrides: Settings) -> tuple[Settings, KeyMap]:
    audio, blocks = _audio(state, "davenet.")
    gated, shared = "video_token_proj.fc.weight" in state, not any(name.startswith("video_proj.") for name in state)
    gated_head = f"{'proj' if shared else 'video_proj'}.fc.weight" in state
    token, head = ("video_token_proj", "proj" if shared else "video_proj")
    first = state[f"{token}.fc.weight" if gated else f"{token}.weight"]
    last = state[f"{head}.fc.weight" if gated_head else f"{head}.weight"]
    words = state["text_token_proj.fc.weight" if gated else "text_token_proj.weight"]
    depth, learned = count_matches(state, r"fusion\.blocks\.(\d+)\."), "video_pos_embed" in state
    settings: Settings = {
        "experts": {"video": first.shape[1], "audio": state["davenet.conv1.weight"].shape[2]},
        "spectrograms": {"audio": audio},
        "width": first.shape[0],
        "depth": depth,
        "heads": max(1, first.shape[0] // 64),
        "inner": state["fusion.blocks.0.mlp.fc1.weight"].shape[0] if depth else first.shape[0],
        "embedding": last.shape[0],
        "projection": "gated" if gated else "linear",
        "head": "gated" if gated_head else "linear",
        "shared_head": shared,
        "pool": "cls" if "fusion.cls_token" in state else "mean",
        "positions": "learned" if learned else "none",
        "text": {"dim": words.shape[1], "most_tokens": 20},
        "released_audio": True,
    }
    if learned:
        settings["most_steps"] = state["video_pos_embed"].shape[1]
        settings["text"]["most_tokens"] = state["text_pos_embed"].shape[1] - 2
    table = released.eao(
        depth,
        blocks,
        gated=gated,
        gated_head=gated_head,
        shared=shared,
        cls="fusion.cls_token" in state,
        learned=learned,
    )
    return settings, table


_COOT_LIST = ("net_video_local", "net_video_global", "net_text_local", "net_text_global")


def _rename_old_key(name: str) -> str:
    """Rename a key of COOT's version 0.1: a list of four state dicts, with other names for three parts."""
    number, _, rest = name.partition(".")
    if not number.isdigit():
        return name
    for before, after in (
        ("input_norm.", "norm_input."), ("input_fc.", "input_fc.mlp."), ("pooler.genpool", "pooler.pools.0.genpool"),
    ):  # fmt: skip
        rest = rest.replace(before, after)
    return f"{_COOT_LIST[int(number)]}.{rest}"


def _coot(state: State, overrides: Settings) -> tuple[Settings, KeyMap]:
    for name in list(state):
        state[_rename_old_key(name)] = state.pop(name)
    local, top = "net_video_local", "net_video_global"
    layers = [
        count_matches(state, rf"{net}\.{part}\.encoder_layers\.(\d+)\.")
        for net, part in ((local, "tf"), (top, "tf"), (top, "tf_context"))
    ]
    pool = state.get(f"{local}.pooler.pools.0.genpool_w1_head")
    width, dim = state[f"{local}.input_fc.mlp.0.weight"].shape
    feed = f"{local}.tf.encoder_layers.0.pointwise_feedforward_layer.sublayer.feed_forward.0.weight"
    settings: Settings = {
        "experts": {"video": dim},
        "text": {"dim": state["net_text_local.norm_input.gain"].shape[0]},
        "width": width,
        "inner": state[feed].shape[0],
        "local_layers": layers[0],
        "global_layers": layers[1],
        "context_layers": layers[2],
        "pooler": "attention" if pool is not None else "max",
    }
    if pool is not None:
        settings |= {"pool_heads": pool.shape[0], "pool_inner": pool.shape[0] * pool.shape[2]}
    return settings, released.coot(layers[0], layers[1], layers[2], attention=pool is not None)


def _umi(state: State, overrides: Settings) -> tuple[Settings, KeyMap]:
    names = list_matches(state, r"reorganization\.(.+?)_pos_embedding")
    lengths = [state[f"reorganization.{name}_pos_embedding"].shape[1] for name in names]
    most = max(lengths)
    for name in names:  # ours have one length; shorter modalities never use the added positions
        table = state[f"reorganization.{name}_pos_embedding"]
        state[f"reorganization.{name}_pos_embedding"] = table.new_zeros(1, most, table.shape[2]).index_copy(
            1, torch.arange(table.shape[1], device=table.device), table
        )
    depth = count_matches(state, r"model\.transformer\.layers\.(\d+)\.")
    reorganise = count_matches(state, rf"reorganization\.{names[0]}_transformer\.layers\.(\d+)\.")
    inner = state["model.transformer.layers.0.1.to_qkv.weight"].shape[0] // 3
    settings = {
        "experts": {name: state[f"reorganization.{name}_embedding.0.weight"].shape[0] for name in names},
        "width": state["model.cls_token"].shape[2],
        "heads": 8,
        "head_dim": inner // 8,
        "inner": state["model.transformer.layers.0.3.net.0.weight"].shape[0],
        "reorganise_depth": reorganise,
        "depth": depth,
        "slots": state["model.pos_embedding"].shape[1] - 2,
        "classes": state["model.mlp_head.1.weight"].shape[0],
        "prototypes": state["alignment.base_vectors"].shape[1],
        "most_steps": most,
        "reading": "released",
    }
    return settings, released.umi(names, reorganise, depth)


def _avlnet(state: State, overrides: Settings) -> tuple[Settings, KeyMap]:
    audio, blocks = _audio(state, "DAVEnet.")
    fused = "GU_audio_text.fc_text.weight" in state
    width, dim = state["GU_video.fc.weight"].shape
    settings = {
        "experts": {"video": dim, "audio": state["DAVEnet.conv1.weight"].shape[2]},
        "spectrogram": audio,
        "width": width,
        "form": "fused" if fused else "tri",
        "text": {"dim": state["text_pooling_caption.fc.weight"].shape[1]},
    }
    return settings, released.avlnet(blocks, fused=fused)


def _ht(state: State, overrides: Settings) -> tuple[Settings, KeyMap]:
    width, dim = state["GU_video.fc.weight"].shape
    hidden, words = state["text_pooling_caption.fc.weight"].shape
    settings = {"experts": {"video": dim}, "width": width, "hidden": hidden, "text": {"dim": words}}
    return settings, released.ht()


def _e2e(state: State, overrides: Settings) -> tuple[Settings, KeyMap]:
    hidden, words = state["text_module.fc1.weight"].shape
    width, dim = state["fc.weight"].shape
    settings = {"experts": {"s3d": dim}, "width": width, "hidden": hidden, "text": {"dim": words}}
    table = released.e2e()
    for name in state:
        if name not in ("fc.weight", "fc.bias") and not name.startswith(("text_module.fc1.", "text_module.fc2.")):
            table.leave_out(name, "the network from pixels, and its table of words")
    return settings, table


FORMATS: dict[str, Format] = {
    "mmt": Format("mmt", _mmt, "heads: 4"),
    "mdmmt": Format("mdmmt", _mdmmt, "heads: 8"),
    "ce": Format("ce", _ce, "names of the experts, sorted as they were"),
    "mee": Format("mee", _mee, "names and columns: face, audio, visual, motion; columns sorted"),
    "eao": Format("eao", _eao, "heads: one for 64 of the width"),
    "coot": Format("coot", _coot, "heads: 8"),
    "umi": Format("umi", _umi, "heads: 8; classifies, and has no text side"),
    "avlnet": Format("avlnet", _avlnet, "nothing"),
    "ht": Format("ht", _ht, "nothing"),
    "e2e": Format("e2e", _e2e, "the heads alone: features come from its network"),
    "drl": Format("drl", clip_frames.drl, "texts of 32 tokens; frames as its image tower gives them"),
    "clip4clip": Format("clip4clip", clip_frames.clip4clip, "frames as its image tower gives them"),
    "gram": Format("gram", gram.gram, "names: vision, audio, subtitles; features come from its encoders"),
    "mmv": Format(
        "mmv",
        haiku.mmv,
        "its heads and its network of frames; words as vectors of 300",
        export="its .pkl holds objects of JAX; export its arrays as .npz, as docs/models.md shows",
        network=vision_network,
    ),
}

NOT_CONVERTED: dict[str, str] = {
    "ts2net": clip_frames.TS2NET,
    "imagebind": "its six towers are an architecture that neither transformers nor an expert here has, and behind them "
    "there is nothing that learns; import what they compute, and train `binding` on it",
    "languagebind": "its towers for video, sound, depth and heat attend over time or over spectrograms in ways that "
    "transformers' CLIP does not; --format clip reads its tower for images, if that has CLIP's names. Import what the "
    "others compute, and train `binding` on it",
    "vast": "it maps its encoders' outputs by linear layers alone, and ours normalises what a transformer makes of "
    "them; import what its encoders compute, and train `vast` on it",
    "perceiver_io": "no weights of it were released for retrieval",
    "ssb": "its decoder is T5, and ours is small and begins at random",
}
"""Why checkpoints of these have no format."""


def convert(state: Mapping[str, Tensor], kind: str, settings: Mapping[str, Any] | None = None) -> LearnedModel:
    """Build our model from released tensors.

    Args:
        kind: one of FORMATS.
        settings: overrides of the released settings, and those that tensors do not determine; see the format's note.

    Raises:
        ModelError: another system's tensors; names keys that are absent or unknown, or hold NaN or infinity.
    """
    return _convert(state, kind, settings or {}).model


def _check_kind(kind: str) -> None:
    if kind in NOT_CONVERTED:
        raise ModelError(f"checkpoints of {kind} cannot become a model here: {NOT_CONVERTED[kind]}")
    if kind not in FORMATS:
        raise ModelError(f"no format is called {kind!r}; there are {', '.join(FORMATS)}, and clip for its towers alone")


@dataclass(frozen=True)
class _Converted:
    """A model, the network whose features it reads, and which tensors are in neither."""

    model: LearnedModel
    network: ReleasedNetwork | None
    left_out: tuple[LeftOut, ...]


def _convert(state: Mapping[str, Tensor], kind: str, settings: Mapping[str, Any]) -> _Converted:
    _check_kind(kind)
    overrides = dict(settings)
    tensors = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    try:
        inferred, table = FORMATS[kind].plan(tensors, overrides)
    except (KeyError, ValueError, IndexError) as error:
        reason = f"{error} is absent" if isinstance(error, KeyError) else f"its tensors have other shapes ({error})"
        raise ModelError(
            f"not a released {kind} checkpoint: {reason}; it has {', '.join(sorted(state)[:4])}, ..."
        ) from error
    ours = table.read(tensors)
    check_finite(ours, f"the {kind} checkpoint")
    text = {**inferred.pop("text", {}), **overrides.pop("text", {})}
    model = SYSTEMS[FORMATS[kind].system].build({**inferred, **({"text": text} if text else {}), **overrides})
    table.check_shapes(ours, model.state_dict(), f"{kind} with these settings")
    absent, foreign = model.load_state_dict(ours, strict=False)
    absent = [name for name in absent if not name.startswith("inputs.") and not name.endswith("num_batches_tracked")]
    if absent or foreign:
        raise ModelError(f"no weights for {', '.join(absent[:3])}; no parameter for {', '.join(foreign[:3])}")
    assert isinstance(model, LearnedModel)
    network = FORMATS[kind].network(tensors)
    rest = {name: tensor for name, tensor in tensors.items() if network is None or name not in network.tensors}
    return _Converted(model.eval(), network, table.left_out(rest))


def load_released(path: Path, kind: str, settings: Mapping[str, Any] | None = None) -> LearnedModel:
    """Read a file by `read_tensors` and `convert` it.

    Raises:
        ModelError: see both; a file that is not read as released says how to export it.
    """
    return _load(path, kind, settings or {}).model


def _load(path: Path, kind: str, settings: Mapping[str, Any]) -> _Converted:
    _check_kind(kind)
    try:
        tensors = read_tensors(path)
    except ModelError as error:
        if path.is_file() and FORMATS[kind].export:
            raise ModelError(f"{error}; {FORMATS[kind].export}") from error
        raise
    return _convert(tensors, kind, settings)


def convert_file(path: Path, kind: str, settings: Mapping[str, Any], out: Path) -> tuple[LeftOut, ...]:
    """Convert a file and save our model in a folder, with its origin in config.json; `clip` saves a folder of a CLIP.

    The network that the model's features come from is a folder in it, named as the expert that runs it.

    Returns:
        which of its tensors are in neither.
    """
    if kind == "clip":
        return convert_towers(path, settings, out)
    converted = _load(path, kind, settings)
    model, network, left_out = converted.model, converted.network, converted.left_out
    origin = {"converted_from": path.name, "released_as": kind, "as_published": FORMATS[kind].note}
    missed = "".join(f"\n- {part}" for part in left_out if part.missed)
    card = f"# {model.system}\n\nConverted from `{path.name}`.\n{missed}{missed and chr(10)}"
    model.save(out, card=card, about=origin)
    if network is not None:
        save_network(network.network, out / network.name, takes=network.takes, **network.sizes)
    return left_out
