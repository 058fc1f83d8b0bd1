"""Losses compared with their recorded values."""

import torch
from torch import Tensor
from torch.nn import functional

from reelseek.models.losses import (
    CrossCLR,
    CrossCLRConfig,
    crossclr_published,
    cycle_consistency,
    info_nce,
    max_margin,
    mil_nce,
    mms,
    nce,
    soft_nearest,
)
from reelseek.parity.fixture import Fixture, Outputs, scalar

__all__ = ["coot_losses", "crossclr", "crossclr_queue", "max_margins", "milnce", "mms_losses", "nce_losses"]


def _cases(fixture: Fixture, name: str) -> list[str]:
    """The cases that have an input of this name."""
    return sorted(key.removesuffix(f".{name}") for key in fixture.inputs if key.endswith(f".{name}"))


def nce_losses(fixture: Fixture) -> Outputs:
    config, outputs = fixture.config, {}
    for case in _cases(fixture, "a"):
        one, two = (functional.normalize(fixture.inputs[f"{case}.{side}"], dim=-1, eps=1e-8) for side in "ab")
        outputs[f"{case}.sims"] = one @ two.T
        for raw, scores in (("", one @ two.T), ("_raw", fixture.inputs[f"{case}.raw_scores"])):
            for temperature in config["temperatures"]:
                outputs[f"{case}.nce{raw}.{temperature}"] = scalar(nce(scores, temperature=temperature))
            for margin in config["margins"]:
                outputs[f"{case}.mms{raw}.{margin}"] = scalar(mms(scores, margin=margin))
    return outputs


def mms_losses(fixture: Fixture) -> Outputs:
    return {
        f"{case}.mms.margin{margin}": scalar(mms(fixture.inputs[f"{case}.scores"], margin=margin))
        for case in _cases(fixture, "scores")
        for margin in fixture.config["margins"]
    }


def max_margins(fixture: Fixture) -> Outputs:
    outputs = {}
    for case in _cases(fixture, "scores"):
        scores = fixture.inputs[f"{case}.scores"]
        for name in (output.removeprefix(f"{case}.") for output in fixture.outputs if output.startswith(f"{case}.")):
            kind, _, margin = name.rpartition(".margin")
            if kind:
                outputs[f"{case}.{name}"] = scalar(
                    max_margin(scores, margin=float(margin), diagonal=not kind.endswith("off_diagonal"))
                )
            else:
                outputs[f"{case}.{name}"] = scalar(2 * info_nce(scores, temperature=1.0))
    return outputs


def milnce(fixture: Fixture) -> Outputs:
    outputs = {}
    for case in _cases(fixture, "video"):
        video, text = fixture.inputs[f"{case}.video"], fixture.inputs[f"{case}.text"]
        video_of_text = torch.arange(len(video)).repeat_interleave(len(text) // len(video))
        outputs[f"{case}.loss"] = scalar(mil_nce(text @ video.T, video_of_text=video_of_text))
    return outputs


def coot_losses(fixture: Fixture) -> Outputs:
    config, inputs = fixture.config, fixture.inputs
    outputs: Outputs = {}
    for case in _cases(fixture, "x"):
        x, y = inputs[f"{case}.x"], inputs[f"{case}.y"]
        unit_x, unit_y = functional.normalize(x, dim=-1), functional.normalize(y, dim=-1)
        count = len(x)
        for margin in config["margins"]:
            for name, scores in (("normalised", unit_x @ unit_y.T), ("raw", x @ y.T), ("self", unit_x @ unit_x.T)):
                value = max_margin(scores, margin=margin) * (2 * (count - 1) / count)
                outputs[f"{case}.{name}.margin{margin}"] = scalar(value)
            hardest = max_margin(unit_x @ unit_y.T, margin=margin, hardest=True) * (2 * count)
            outputs[f"{case}.hardest_sum.margin{margin}"] = scalar(hardest)
    clips, sentences = inputs["cycle.clip_emb"], inputs["cycle.sent_emb"]
    clips_present, sentences_present = ~inputs["cycle.clip_mask"], ~inputs["cycle.sent_mask"]
    outputs["cycle.clip_clip"] = scalar(cycle_consistency(clips, clips_present, sentences, sentences_present))
    outputs["cycle.sent_sent"] = scalar(cycle_consistency(sentences, sentences_present, clips, clips_present))
    weights = soft_nearest(clips, clips_present, sentences, sentences_present)
    outputs["cycle.clip_to_sent_weights"] = weights
    outputs["cycle.clip_to_sent_soft_nn"] = weights @ sentences
    outputs["cycle.clip_cycle_weights"] = soft_nearest(weights @ sentences, clips_present, clips, clips_present)
    return outputs


def crossclr(fixture: Fixture) -> Outputs:
    return {
        f"{case}.loss.tau{tau}.lambda{intra}": scalar(
            crossclr_published(
                fixture.inputs[f"{case}.video"], fixture.inputs[f"{case}.text"], temperature=tau, intra=intra
            )
        )
        for case in _cases(fixture, "video")
        for tau, intra in fixture.config["tau_lambda"]
    }


def crossclr_queue(fixture: Fixture) -> Outputs:
    config, inputs, weights = fixture.config, fixture.inputs, fixture.weights
    loss_config = CrossCLRConfig(
        temperature=config["tau"], intra=config["lambda"], prune=config["gamma"], sharpness=config["kappa"],
        queue=config["queue_size"], form="released",
    )  # fmt: skip
    names = {"queue_x": "queue_vid", "queue_y": "queue_txt", "input_x": "queue_vid_org", "input_y": "queue_txt_org"}
    dims = (len(weights["queue_vid"]), len(weights["queue_vid_org"]), len(weights["queue_txt_org"]))
    loss = CrossCLR(loss_config, dims)
    for ours, theirs in names.items():
        getattr(loss, ours).copy_(weights[theirs].T)
    loss.state.copy_(torch.tensor([int(weights["queue_ptr"][0]), config["queue_size"]]))
    outputs: Outputs = {}
    for step in range(config["steps"]):
        video, text = (inputs[f"step{step}.{side}"] for side in ("video", "text"))
        encoder_inputs = {side: inputs[f"step{step}.{side}_input"] for side in ("video", "text")}
        outputs[f"step{step}.loss"] = scalar(
            loss(video, text, encoder_inputs["video"], encoder_inputs["text"]).double()
        )
        outputs[f"step{step}.queue_ptr"] = loss.state[:1].clone()
        for side, queue in (("video", loss.input_x), ("text", loss.input_y)):
            keep, pruned, share = loss.released_selection(encoder_inputs[side], queue)
            prefix = f"step{step}.derived.{side}"
            outputs[f"{prefix}.intra_keep"], outputs[f"{prefix}.inter_pruned_columns"] = keep.long(), pruned.long()
            outputs[f"{prefix}.sample_weight"] = share
    return outputs | {f"final.{theirs}": _transposed(getattr(loss, ours)) for ours, theirs in names.items()}


def _transposed(queue: Tensor) -> Tensor:
    return queue.T.clone()
