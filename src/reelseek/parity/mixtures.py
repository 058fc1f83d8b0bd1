"""MMT, MDMMT, CE and MEE compared with their recorded numbers."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from reelseek.library.tokens import Steps
from reelseek.models.blocks.project import key
from reelseek.models.checkpoints import released
from reelseek.models.embedding import Embedding, similarity
from reelseek.models.losses import max_margin
from reelseek.parity.fixture import Fixture, Outputs, build_model, scalar, steps

__all__ = ["ce", "mdmmt", "mee", "mmt"]


def _mmt_settings(config: Any) -> dict[str, Any]:
    return {
        "experts": {expert["name"]: expert["dim"] for expert in config["experts"]},
        "width": config["hidden_size"],
        "depth": config["num_layers"],
        "heads": config["num_heads"],
        "inner": config["intermediate_size"],
        "positions": config["max_position_embeddings"],
        "most_steps": config["max_expert_tokens"],
        "text": {"dim": config["text_dim"]},
        "missing": "keep",
    }


def _raw_features(fixture: Fixture) -> dict[str, Steps]:
    """Raw features of every expert, NaN where absent."""
    config, features = fixture.config, {}
    for expert in config["experts"]:
        name, lengths = expert["name"], config["raw_lengths"][expert["name"]]
        longest = max(config["max_expert_tokens"], *lengths)
        values = torch.full((config["batch"], longest, expert["dim"]), torch.nan)
        present = torch.zeros(config["batch"], longest, dtype=torch.bool)
        spans = torch.zeros(config["batch"], longest, 2)
        for video in range(config["batch"]):
            rows = fixture.inputs.get(f"raw.{name}.{video}.features")
            if rows is not None:
                values[video, : len(rows)], present[video, : len(rows)] = rows, True
                spans[video, : len(rows)] = fixture.inputs[f"raw.{name}.{video}.mid_seconds"][:, None]
        features[name] = Steps(values, present, spans)
    return features


def _transformer_outputs(fixture: Fixture, model: Any) -> tuple[Outputs, Tensor]:
    """Inputs and outputs of the transformer, and MMT's normalised aggregates."""
    sequence, positions = model.arrange(model.inputs(_raw_features(fixture)))
    types = torch.tensor([0, *(expert["idx"] for expert in fixture.config["experts"])])
    encoded = model.encode_tokens(sequence, positions, torch.ones_like(sequence.present))
    outputs = {
        "encoder_input_features": sequence.values,
        "encoder_output": encoded,
        "position_ids": positions,
        "token_type_ids": types[sequence.group].expand(len(sequence.values), -1),
        "attention_mask": sequence.present.long(),
    }
    return outputs, functional.normalize(encoded[:, model.aggregates(sequence)], dim=-1)


def mmt(fixture: Fixture) -> Outputs:
    config = fixture.config
    experts = {expert["name"]: expert["idx"] for expert in config["experts"]}
    table = released.mmt(experts, config["num_layers"], types=config["type_vocab_size"])
    settings = _mmt_settings(config) | {"longer": "published"}
    settings["missing"] = "keep" if config["keep_missing_modalities"] else "mask"
    model = build_model("mmt", settings, table, fixture.weights, config)
    outputs, vectors = _transformer_outputs(fixture, model)
    videos = model.encode_videos(_raw_features(fixture))
    texts = model.encode_pooled(fixture.inputs["text_cls"].flatten(0, 1))
    captions = config["captions_per_video"]
    scores = model.similarity(texts, videos)
    mean = scores.unflatten(0, (-1, captions)).mean(1)
    weights = videos.present.float()
    # For an absent slot the recorded embedding is the output of its empty token; ours never uses it.
    videos_or_empty = torch.where(videos.present[..., None], videos.values, vectors)
    return outputs | {
        "vid_embds": videos_or_empty,
        "text_embds": texts.values.unflatten(0, (-1, captions)).transpose(1, 2),
        "text_weights": texts.weights.unflatten(0, (-1, captions)),
        "vid_weights": weights / weights.sum(1, keepdim=True).clamp(min=1e-5),
        "sims_indep": scores,
        "sims_avg": mean,
        "loss_max_margin": scalar(max_margin(mean, margin=config["margin"])),
    }


def mdmmt(fixture: Fixture) -> Outputs:
    config = fixture.config
    experts = {expert["name"]: expert["idx"] for expert in config["experts"]}
    table = released.mdmmt(experts, config["num_layers"], types=config["type_vocab_size"])
    outputs: Outputs = {}
    models = {}
    for name, aggregate in (("vid_emb", "kept"), ("vid_emb_with_supplied_maxpool", "all")):
        models[name] = build_model(
            "mdmmt", _mmt_settings(config) | {"aggregate": aggregate}, table, fixture.weights, config
        )
        outputs[name] = models[name].encode_videos(_raw_features(fixture)).values.flatten(1)
    model = models["vid_emb"]
    encoded, _ = _transformer_outputs(fixture, model)
    texts = model.encode_pooled(fixture.inputs["text_cls"])
    outputs["txt_emb"] = (texts.values * texts.weights[..., None]).flatten(1)
    outputs["sims"] = model.similarity(texts, model.encode_videos(_raw_features(fixture)))
    return outputs | encoded


def _encode_captions(model: Any, fixture: Fixture, captions: int) -> tuple[Outputs, Embedding, Tensor]:
    tokens = fixture.inputs["text_tokens"].flatten(0, 1)
    pooled = model.captions.pool(steps(tokens, tokens.abs().sum(-1) > 0))
    return {"text_pooled": pooled.unflatten(0, (-1, captions))}, model.encode_pooled(pooled), pooled


def ce(fixture: Fixture) -> Outputs:
    """CE, or its code's mixture without gating, which is MEE."""
    config = fixture.config
    experts = {expert["name"]: expert["dim"] for expert in config["experts"]}
    vlad = {expert["name"]: expert["vlad_clusters"] for expert in config["experts"] if expert.get("vlad_clusters")}
    settings: dict[str, Any] = {
        "experts": experts,
        "vlad": vlad,
        "text": {"dim": config["text_dim"]},
        "text_clusters": config["text_vlad_clusters"],
        "ghosts": config["text_ghost_clusters"],
        "count_padding": True,
        "missing": "keep",
    }
    if config["use_ce"]:
        settings |= {
            "width": config["shared_dim"],
            "with_self": config["include_self"],
            "activation": "mish" if config.get("use_mish", True) else "relu",
            "pair_layers": config["num_g_layers"],
            "gate_layers": config["num_h_layers"],
            "sequential": config["compat"]["sequential_gating"],
        }
        table = released.ce(
            list(experts), list(vlad), pair_layers=config["num_g_layers"], gate_layers=config["num_h_layers"]
        )
        model = build_model("ce", settings, table, fixture.weights, config)
    else:
        settings["widths"] = {expert["name"]: expert["out_dim"] for expert in config["experts"]}
        table = released.mee(
            list(experts), {name: f"pooling.{name}" for name in vlad}, list(experts), net="ce", text="text_pooling"
        )
        model = build_model("mee", settings, table, fixture.weights, config)
    tokens = {name: steps(fixture.inputs[f"features.{name}"], fixture.inputs[f"ind.{name}"]) for name in experts}
    captions = config["captions_per_video"]
    outputs, texts, pooled = _encode_captions(model, fixture, captions)
    videos = model.encode_videos(tokens)
    softmax = model.captions.weights(pooled)
    outputs["moe_softmax"] = softmax.unflatten(0, (-1, captions))
    widths = {
        expert["name"]: expert["out_dim"] if not config["use_ce"] else config["shared_dim"]
        for expert in config["experts"]
    }
    for index, name in enumerate(experts):
        outputs[f"aggregated.{name}"] = model.pools(name, tokens[name])
        outputs[f"vid_embds.{name}"] = videos.values[:, index, : widths[name]]
        outputs[f"text_embds.{name}"] = texts.values[:, index, : widths[name]].unflatten(0, (-1, captions))
    present = torch.stack([fixture.inputs[f"ind.{name}"] > 0 for name in experts], 1)
    masked = Embedding(videos.values, present, videos.weights)
    weighted = Embedding(texts.values, texts.present, softmax)
    forms = {"keep_missing": model.similarity(texts, videos), "renormalised": similarity(weighted, masked)}
    for form, scores in forms.items():
        mean = scores.unflatten(0, (-1, captions)).mean(1)
        outputs |= {f"sims_indep.{form}": scores, f"sims_avg.{form}": mean}
        for margin in config["margins"]:
            outputs[f"loss.{form}.margin{margin}"] = scalar(max_margin(mean, margin=margin))
    return outputs


def mee(fixture: Fixture) -> Outputs:
    config = fixture.config
    modalities = config["modalities"]
    names = list(modalities)
    experts = {name: sizes["dim"] for name, sizes in modalities.items()}
    settings = {
        "experts": experts,
        "vlad": {"audio": config["audio_clusters"]} if "audio" in experts else {},
        "widths": {name: sizes.get("out", sizes.get("dim_out_audio")) for name, sizes in modalities.items()},
        "text": {"dim": config["text_dim"]},
        "text_clusters": config["text_clusters"],
        "count_padding": True,
    }
    vlad = {"audio": "audio_pooling"} if "audio" in experts else {}
    model = build_model("mee", settings, released.mee(names, vlad, config["moe_column_order"]), fixture.weights, config)
    tokens = {name: steps(fixture.inputs[f"features.{name}"], fixture.inputs[f"ind.{name}"]) for name in names}
    pooled = model.captions.pool(steps(fixture.inputs["text"]))
    videos, texts = model.encode_videos(tokens), model.encode_pooled(pooled)
    scores = model.similarity(texts, videos)
    order = [names.index(name) for name in config["moe_column_order"]]
    outputs = {
        "sims": scores,
        "paired_scores": scores.diagonal(),
        "moe_softmax": texts.weights[:, order],
    }
    for index, name in enumerate(names):
        width = settings["widths"][name]
        assert key(name) in model.heads
        outputs[f"vid_embds.{name}"] = videos.values[:, index, :width]
        outputs[f"text_embds.{name}"] = texts.values[:, index, :width]
    for margin in config["margins"]:
        outputs[f"loss.margin{margin}"] = scalar(max_margin(scores, margin=margin, diagonal=True))
    return outputs
