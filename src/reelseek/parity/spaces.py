"""EAO with its audio network, UMI, and COOT compared with their recorded numbers."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from reelseek.library.tokens import Steps
from reelseek.models.blocks.audio import AudioCNN
from reelseek.models.checkpoints import released
from reelseek.models.checkpoints.keymap import KeyMap
from reelseek.models.losses import cycle_consistency, half_cycle, mms, prototype_alignment, pseudo_supervision
from reelseek.models.losses.combinatorial import weighted_losses
from reelseek.models.systems.coot import hierarchy_loss
from reelseek.parity.fixture import Fixture, Outputs, build_model, scalar, steps

__all__ = ["coot", "eao", "eao_audio", "umi"]

_VIEWS = {"text": "t", "video": "v", "audio": "a"}


def _short(view: tuple[str, ...]) -> str:
    return "".join(_VIEWS[name] for name in sorted(view, key="text video audio".split().index))


def _eao_model(fixture: Fixture) -> Any:
    config = fixture.config
    gated, gated_head = config["token_projection"] == "gated", config["projection"] == "gated"
    shared, cls = not config["individual_projections"], config["use_cls_token"]
    audio = config["audio_cnn"]
    learned = config["use_positional_emb"]
    settings: dict[str, Any] = {
        "experts": {"video": config["video_dim"], "audio": audio["mel_bins"]},
        "spectrograms": {
            "audio": {"widths": audio["widths"], "blocks": audio["blocks_per_stage"], "kernel": audio["kernel_width"]}
        },
        "width": config["embed_dim"],
        "depth": config["depth"],
        "heads": config["num_heads"],
        "inner": int(config["embed_dim"] * config["mlp_ratio"]),
        "embedding": config["projection_dim"],
        "projection": "gated" if gated else "linear",
        "head": "gated" if gated_head else "linear",
        "shared_head": shared,
        "pool": "cls" if cls else "mean",
        "positions": "learned" if learned else "none",
        "most_steps": 4096,
        "released_audio": True,
        "text": {"dim": config["text_dim"], "most_tokens": 4094},
        "loss": {"name": "nce", "settings": {"temperature": config["temperature"]}},
    }
    table = released.eao(
        config["depth"], tuple(audio["blocks_per_stage"]), gated=gated, gated_head=gated_head, shared=shared, cls=cls,
        learned=learned,
    )  # fmt: skip
    weights = dict(fixture.weights)
    for name in _VIEWS if learned else ():  # ours have more positions, which no input here reaches
        places = weights[f"{name}_pos_embed"]
        weights[f"{name}_pos_embed"] = functional.pad(places, (0, 0, 0, 4096 - places.shape[1]))
    return build_model("eao", settings, table, weights, config)


def eao(fixture: Fixture) -> Outputs:
    config, inputs = fixture.config, fixture.inputs
    model = _eao_model(fixture)
    modalities = {
        "video": steps(inputs["video"], inputs["video_mask"]),
        "text": steps(inputs["text"], inputs["text_mask"]),
        "audio": steps(inputs["audio"].transpose(1, 2), inputs["audio_mask"]),
    }
    parts = {"text": model.project_tokens("text", modalities["text"])}
    parts |= model.tokens({name: modalities[name] for name in ("video", "audio")})
    outputs: Outputs = {}
    for name, (values, present) in parts.items():
        # Absent places were recorded too, as the projection of the padding of the input.
        raw = model.listen(name, modalities[name]).values if name == "audio" else modalities[name].values
        unread = model.norm[name](model.project[name](raw))
        if config["use_positional_emb"]:
            unread = unread + model.place[name][: raw.shape[1]]
        outputs[f"tokens.{name}"] = torch.where(present.tensor[..., None], values, unread)
        outputs[f"token_mask.{name}"] = present.tensor.float()
        outputs[f"{name}_nonempty_input_mask"] = modalities[name].present.any(1)
    terms = model.pairs()
    views = list(dict.fromkeys(view for pair in terms for view in pair))
    embedded = dict(zip(views, model.embed(parts, views), strict=True))
    for view, values in embedded.items():
        outputs[f"{view[0]}_embed" if len(view) == 1 else f"{_short(view)}_embed"] = values
    unit = {name: functional.normalize(embedded[(name,)], dim=-1, eps=1e-8) for name in _VIEWS}
    for name in ("t_plus_v", "t_plus_a", "v_plus_a"):
        one, two = (next(long for long, short in _VIEWS.items() if short == part) for part in name.split("_plus_"))
        outputs[f"{name}_embed"] = (unit[one] + unit[two]) / 2
    video_audio = next(values for view, values in embedded.items() if _short(view) == "va")
    outputs["sims_t_va"] = unit["text"] @ functional.normalize(video_audio, dim=-1, eps=1e-8).T
    masks = {name: modalities[name].videos for name in _VIEWS}
    for loss_name, loss in (("nce", model.score_loss), ("mms", _mms(config["mms_margin"]))):
        outputs |= _term_losses(f"loss_{loss_name}", embedded, masks, terms, loss, config["loss_weights_pretrain"])
    return outputs


def _mms(margin: float) -> Any:
    return lambda scores, negatives: mms(scores, margin=margin, negatives=negatives)


def _term_losses(prefix: str, embedded: Any, masks: Any, terms: Any, loss: Any, pretrain: dict[str, float]) -> Outputs:
    """Every single term, and both weighted means."""
    item_numbers = torch.arange(len(masks["text"].host))  # no two items share a number
    names = {}
    for one, two in terms:
        long = f"{'+'.join(one)}|{'+'.join(two)}"
        pair = _short((*one, *two)) if len(one) == len(two) else f"{_short(one)}_{_short(two)}"
        names[long] = pair
    outputs = {}
    for long, short in names.items():
        single = weighted_losses(
            embedded, masks, terms, {name: float(name == long) for name in names}, loss, item_numbers
        )
        outputs[f"{prefix}.{short}"] = scalar(torch.stack(list(single.values())).sum())
    weighted = {long: float(pretrain[f"{short}_weight"]) for long, short in names.items()}
    for total, weights in (("equal", {}), ("pretrain", weighted)):
        parts = weighted_losses(embedded, masks, terms, weights, loss, item_numbers)
        outputs[f"{prefix}.total_{total}"] = scalar(torch.stack(list(parts.values())).sum())
    return outputs


def eao_audio(fixture: Fixture) -> Outputs:
    network = fixture.config["audio_cnn"]
    blocks = tuple(network["blocks_per_stage"])
    net = AudioCNN(network["mel_bins"], network["widths"], blocks, kernel=network["kernel_width"])
    table = KeyMap("audio network")
    released.audio_cnn(table, "", "", blocks)
    net.load_state_dict(table.read(fixture.weights), strict=False)
    net.eval()
    outputs: Outputs = {}
    for frames in fixture.config["frame_counts"]:
        present = fixture.inputs[f"mask.{frames}"]
        outputs |= {
            f"tokens.{frames}": net.features(fixture.inputs[f"spec.{frames}"].transpose(1, 2)),
            f"token_mask.{frames}": net.token_mask(present).float(),
            f"mask_kernel.{frames}": torch.tensor([net.kernel(frames)]),
        }
    return outputs


def umi(fixture: Fixture) -> Outputs:
    config, inputs = fixture.config, fixture.inputs
    names = list(config["modalities"])
    settings = {
        "experts": {name: modality["dim"] for name, modality in config["modalities"].items()},
        "width": config["dim"],
        "heads": config["heads"],
        "head_dim": config["dim_head"],
        "inner": config["mlp_dim"],
        "reorganise_depth": config["reorg_depth"],
        "depth": config["fusion_depth"],
        "slots": config["slots"],
        "classes": config["num_classes"],
        "prototypes": config["num_classes"],
        "most_steps": max(modality["tokens"] for modality in config["modalities"].values()),
        "reading": "released",
        "text": {"dim": 8},
    }
    weights = dict(fixture.weights)
    for name in names:
        places = f"reorganization.{name}_pos_embedding"
        more = settings["most_steps"] - weights[places].shape[1]
        weights[places] = functional.pad(weights[places], (0, 0, 0, more))
    table = released.umi(names, config["reorg_depth"], config["fusion_depth"])
    model = build_model("umi", settings, table, weights, config)
    tokens = {name: steps(inputs[name]) for name in names}
    present = {name: inputs[f"{name}_mask"][:, 0, 0] > 0 for name in names}
    outputs: Outputs = {}
    for name in names:
        outputs[f"O.{name}"] = model.reorganise[name].assign(tokens[name])
        outputs[f"slots.{name}"] = model.reorganise[name](tokens[name])
    branches = model.predict({name: outputs[f"slots.{name}"] for name in names}, present)
    outputs["logits"] = branches
    outputs["probs_mean"] = branches.softmax(-1).mean(1)
    return outputs | _umi_losses(fixture, model.prototypes, branches, present)


def _umi_losses(fixture: Fixture, prototypes: Tensor, branches: Tensor, present: dict[str, Tensor]) -> Outputs:
    config, inputs = fixture.config, fixture.inputs
    labels, dim = inputs["labels"], config["dim"]
    outputs: Outputs = {}
    means, row_labels = [], []
    for name, has_modality in present.items():
        mean = inputs[f"align.{name}"].mean(1)
        distances = (mean[:, None] - prototypes[None]).square().mean(-1)
        outputs[f"align.mean_sq_dist.{name}"] = distances
        outputs[f"align.nearest_token.{name}"] = distances.argmin(1)
        means.append(mean[has_modality])
        row_labels.append(labels[has_modality])
    for form, alignment_labels in (("class", torch.cat(row_labels)), ("nearest", None)):
        total = prototype_alignment(torch.cat(means), prototypes, labels=alignment_labels)
        outputs[f"loss.align_{form}_token.sum_over_dim"] = scalar(total)
        outputs[f"loss.align_{form}_token.mean_over_dim"] = scalar(total / dim)
    classes, smoothing = config["num_classes"], config["label_smoothing"]
    target = torch.full_like(branches[:, 0], smoothing / (classes - 1))
    target.scatter_(1, labels[:, None], 1 - smoothing)
    supervised = functional.cross_entropy(branches[:, 0], target)
    scaled, summed = torch.zeros(()), torch.zeros(())
    for name, has_modality in present.items():
        count = int(has_modality.sum())
        divergence = pseudo_supervision(branches[has_modality, 1], inputs[f"pseudo.{name}"][has_modality])
        summed = summed + divergence * count / len(labels)
        # Released as the mean over elements, times the number of present videos, over the batch, times 3,000.
        scaled = scaled + divergence / classes * count / len(labels) * 3000
    outputs["loss.supervised_branch0"] = scalar(supervised)
    outputs["loss.pseudo_kl_sum_over_instances_div_batch"] = scalar(summed)
    outputs["loss.pseudo_released_scaled"] = scalar(scaled)
    aligned = outputs["loss.align_class_token.mean_over_dim"][0]
    outputs["loss.total_released_form"] = scalar(supervised + scaled + 0.001 * aligned)
    return outputs


def coot(fixture: Fixture) -> Outputs:
    config, inputs = fixture.config, fixture.inputs
    nets = (("net_video_local", "tf"), ("net_video_global", "tf"), ("net_video_global", "tf_context"))
    layers = [
        len({name.split(".")[3] for name in fixture.weights if name.startswith(f"{net}.{stack}.encoder_layers.")})
        for net, stack in nets
    ]
    settings = {
        "experts": {"video": config["video_dim"]},
        "text": {"dim": config["text_dim"]},
        "width": config["hidden_dim"],
        "heads": config["num_heads"],
        "inner": config["ff_dim"],
        "local_layers": layers[0],
        "global_layers": layers[1],
        "context_layers": layers[2],
        "pool_inner": config["pooler_hidden_dim"],
        "pool_heads": config["pooler_heads"],
        "average": "released",
    }
    model = build_model("coot", settings, released.coot(*layers), fixture.weights, config)

    def tracks(name: str, rows: slice = slice(None)) -> Steps:
        return steps(inputs[f"{name}_feat"][rows], ~inputs[f"{name}_feat_mask"][rows])

    outputs: Outputs = {}
    levels = {}
    for side, net, whole_name, part_name, number in (
        ("vid", model.video[0], "vid", "clip", "clip_num"), ("par", model.caption[0], "par", "sent", "sent_num")
    ):  # fmt: skip
        counts = inputs[number]
        owner = torch.arange(len(counts)).repeat_interleave(counts)
        level = net(tracks(whole_name), tracks(part_name), owner)
        levels[side] = level
        outputs |= {
            f"{part_name}_emb": level.parts, f"{side}_emb": level.wholes, f"{side}_context": level.contexts,
            f"{part_name}_emb_reshape": level.grouped, f"{part_name}_emb_mask": ~level.present,
            f"{part_name}_emb_lens": counts,
        }  # fmt: skip
        first = int(counts[0])
        single = net(tracks(whole_name, slice(0, 1)), tracks(part_name, slice(0, first)), owner[:first])
        outputs[f"alone0.{side}_emb"] = single.wholes
        net.global_reader.average = "masked"
        outputs[f"masked_average.{side}_emb"] = net(tracks(whole_name), tracks(part_name), owner).wholes
    terms = hierarchy_loss(levels["vid"], levels["par"], margin=config["margin"])
    outputs |= {f"loss.{name}": scalar(value) for name, value in terms.items()}
    outputs["loss.contrastive_total"] = scalar(torch.stack(list(terms.values())).sum())
    sides = {"clip": levels["vid"], "sent": levels["par"]}
    for one, two in (("clip", "sent"), ("sent", "clip")):
        pair = (sides[one].grouped, sides[one].present, sides[two].grouped, sides[two].present)
        outputs[f"loss.cycle.{one}_{one}"] = scalar(cycle_consistency(*pair))
        outputs[f"loss.cycle.{one}_{two}_half"] = scalar(half_cycle(*pair))
    return outputs
