"""MMT, MDMMT, CE and MEE against their recorded numbers."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from reelseek.library.tokens import Steps
from reelseek.models.blocks.project import key
from reelseek.models.checkpoints import released
from reelseek.models.losses import max_margin
from reelseek.models.model import Embedding, similarity
from reelseek.parity.fixture import Fixture, Found, built, scalar, steps

__all__ = ["ce", "mdmmt", "mee", "mmt"]


def _mmt_settings(config: Any) -> dict[str, Any]:
    return {
        "experts": {each["name"]: each["dim"] for each in config["experts"]},
        "width": config["hidden_size"],
        "depth": config["num_layers"],
        "heads": config["num_heads"],
        "inner": config["intermediate_size"],
        "positions": config["max_position_embeddings"],
        "most_steps": config["max_expert_tokens"],
        "text": {"dim": config["text_dim"]},
        "missing": "keep",
    }


def _raw(fixture: Fixture) -> dict[str, Steps]:
    """Features of every expert as its extractor gave them, NaN where there are none."""
    config, found = fixture.config, {}
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
        found[name] = Steps(values, present, spans)
    return found


def _rows(fixture: Fixture, model: Any) -> tuple[Found, Tensor]:
    """What went into the transformer and what came out, with MMT's normalised aggregates."""
    row, positions = model.arrange(model.inputs(_raw(fixture)))
    types = torch.tensor([0, *(each["idx"] for each in fixture.config["experts"])])
    output = model.mixed(row, positions, torch.ones_like(row.present))
    found = {
        "encoder_input_features": row.values,
        "encoder_output": output,
        "position_ids": positions,
        "token_type_ids": types[row.group].expand(len(row.values), -1),
        "attention_mask": row.present.long(),
    }
    return found, functional.normalize(output[:, model.aggregates(row)], dim=-1)


def mmt(fixture: Fixture) -> Found:
    config = fixture.config
    experts = {each["name"]: each["idx"] for each in config["experts"]}
    table = released.mmt(experts, config["num_layers"], types=config["type_vocab_size"])
    settings = _mmt_settings(config) | {"longer": "published"}
    settings["missing"] = "keep" if config["keep_missing_modalities"] else "mask"
    model = built("mmt", settings, table, fixture.weights, config)
    found, vectors = _rows(fixture, model)
    videos = model.encode_videos(_raw(fixture))
    texts = model.encode_pooled(fixture.inputs["text_cls"].flatten(0, 1))
    captions = config["captions_per_video"]
    scores = model.similarity(texts, videos)
    mean = scores.unflatten(0, (-1, captions)).mean(1)
    weights = videos.present.float()
    # Where a slot is absent the recorded embedding is what its empty token becomes; nothing of ours reads it.
    videos_or_empty = torch.where(videos.present[..., None], videos.values, vectors)
    return found | {
        "vid_embds": videos_or_empty,
        "text_embds": texts.values.unflatten(0, (-1, captions)).transpose(1, 2),
        "text_weights": texts.weights.unflatten(0, (-1, captions)),
        "vid_weights": weights / weights.sum(1, keepdim=True).clamp(min=1e-5),
        "sims_indep": scores,
        "sims_avg": mean,
        "loss_max_margin": scalar(max_margin(mean, margin=config["margin"])),
    }


def mdmmt(fixture: Fixture) -> Found:
    config = fixture.config
    experts = {each["name"]: each["idx"] for each in config["experts"]}
    table = released.mdmmt(experts, config["num_layers"], types=config["type_vocab_size"])
    found: Found = {}
    models = {}
    for name, aggregate in (("vid_emb", "kept"), ("vid_emb_with_supplied_maxpool", "all")):
        models[name] = built("mdmmt", _mmt_settings(config) | {"aggregate": aggregate}, table, fixture.weights, config)
        found[name] = models[name].encode_videos(_raw(fixture)).values.flatten(1)
    model = models["vid_emb"]
    rows, _ = _rows(fixture, model)
    texts = model.encode_pooled(fixture.inputs["text_cls"])
    found["txt_emb"] = (texts.values * texts.weights[..., None]).flatten(1)
    found["sims"] = model.similarity(texts, model.encode_videos(_raw(fixture)))
    return found | rows


def _captions(model: Any, fixture: Fixture, captions: int) -> tuple[Found, Embedding, Tensor]:
    tokens = fixture.inputs["text_tokens"].flatten(0, 1)
    pooled = model.captions.pool(steps(tokens, tokens.abs().sum(-1) > 0))
    return {"text_pooled": pooled.unflatten(0, (-1, captions))}, model.encode_pooled(pooled), pooled


def ce(fixture: Fixture) -> Found:
    """CE, and the mixture without gating that its code has too, which is MEE."""
    config = fixture.config
    experts = {each["name"]: each["dim"] for each in config["experts"]}
    vlad = {each["name"]: each["vlad_clusters"] for each in config["experts"] if each.get("vlad_clusters")}
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
        model = built("ce", settings, table, fixture.weights, config)
    else:
        settings["widths"] = {each["name"]: each["out_dim"] for each in config["experts"]}
        table = released.mee(
            list(experts), {name: f"pooling.{name}" for name in vlad}, list(experts), net="ce", text="text_pooling"
        )
        model = built("mee", settings, table, fixture.weights, config)
    tokens = {name: steps(fixture.inputs[f"features.{name}"], fixture.inputs[f"ind.{name}"]) for name in experts}
    captions = config["captions_per_video"]
    found, texts, pooled = _captions(model, fixture, captions)
    videos = model.encode_videos(tokens)
    softmax = model.captions.weights(pooled)
    found["moe_softmax"] = softmax.unflatten(0, (-1, captions))
    widths = {
        each["name"]: each["out_dim"] if not config["use_ce"] else config["shared_dim"] for each in config["experts"]
    }
    for index, name in enumerate(experts):
        found[f"aggregated.{name}"] = model.pools(name, tokens[name])
        found[f"vid_embds.{name}"] = videos.values[:, index, : widths[name]]
        found[f"text_embds.{name}"] = texts.values[:, index, : widths[name]].unflatten(0, (-1, captions))
    there = torch.stack([fixture.inputs[f"ind.{name}"] > 0 for name in experts], 1)
    masked = Embedding(videos.values, there, videos.weights)
    weighted = Embedding(texts.values, texts.present, softmax)
    ways = {"keep_missing": model.similarity(texts, videos), "renormalised": similarity(weighted, masked)}
    for way, scores in ways.items():
        mean = scores.unflatten(0, (-1, captions)).mean(1)
        found |= {f"sims_indep.{way}": scores, f"sims_avg.{way}": mean}
        for margin in config["margins"]:
            found[f"loss.{way}.margin{margin}"] = scalar(max_margin(mean, margin=margin))
    return found


def mee(fixture: Fixture) -> Found:
    config = fixture.config
    modalities = config["modalities"]
    names = list(modalities)
    experts = {name: about["dim"] for name, about in modalities.items()}
    settings = {
        "experts": experts,
        "vlad": {"audio": config["audio_clusters"]} if "audio" in experts else {},
        "widths": {name: about.get("out", about.get("dim_out_audio")) for name, about in modalities.items()},
        "text": {"dim": config["text_dim"]},
        "text_clusters": config["text_clusters"],
        "count_padding": True,
    }
    vlad = {"audio": "audio_pooling"} if "audio" in experts else {}
    model = built("mee", settings, released.mee(names, vlad, config["moe_column_order"]), fixture.weights, config)
    tokens = {name: steps(fixture.inputs[f"features.{name}"], fixture.inputs[f"ind.{name}"]) for name in names}
    pooled = model.captions.pool(steps(fixture.inputs["text"]))
    videos, texts = model.encode_videos(tokens), model.encode_pooled(pooled)
    scores = model.similarity(texts, videos)
    order = [names.index(name) for name in config["moe_column_order"]]
    found = {
        "sims": scores,
        "paired_scores": scores.diagonal(),
        "moe_softmax": texts.weights[:, order],
    }
    for index, name in enumerate(names):
        width = settings["widths"][name]
        assert key(name) in model.heads
        found[f"vid_embds.{name}"] = videos.values[:, index, :width]
        found[f"text_embds.{name}"] = texts.values[:, index, :width]
    for margin in config["margins"]:
        found[f"loss.margin{margin}"] = scalar(max_margin(scores, margin=margin, diagonal=True))
    return found
