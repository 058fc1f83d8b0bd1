"""Decodings of steps against recorded ones of CrossTask's and Mining YouTube's code."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reelseek.evaluation.segments import score
from reelseek.evaluation.steps import Placed, step_recall
from reelseek.moments.beam import decode_by_beam
from reelseek.moments.decoding import class_log_probs
from reelseek.moments.placement import place_as_published
from reelseek.parity.fixture import Fixture, Found

__all__ = ["viterbi"]

Array = npt.NDArray[Any]


def viterbi(fixture: Fixture) -> Found:
    found: dict[str, Array] = {}
    placed: dict[str, dict[str, Placed]] = {}
    annotated: dict[str, dict[str, Array]] = {}
    for task, videos in fixture.config.get("tasks", {}).items():
        placed[task], annotated[task] = {}, {}
        for video in videos:
            name = f"{task}.{video}"
            scores = fixture.inputs[f"{name}.scores"].double().numpy()
            annotated[task][video] = fixture.inputs[f"{name}.annotation"].numpy()
            placed[task][video] = place_as_published(scores)
            best = f"{name}.assignment"
            background = -fixture.config["background_cost"]
            found[best] = placed[task][video]
            found[f"{name}.score_sum"] = _one(float((scores * placed[task][video]).sum()))
            found[f"{best}.repeats_allowed"] = place_as_published(scores, repeats=True)
            found[f"{best}.repeats_allowed_background_cost"] = place_as_published(
                scores, background=background, repeats=True
            )
            found[f"{best}.log_softmax_over_steps"] = place_as_published(class_log_probs(scores, 1.0))
    if placed:
        recall = step_recall(placed, annotated)
        found |= {f"{t}.{v}.recall": _one(r) for t, videos in recall.of_videos.items() for v, r in videos.items()}
        found |= {f"recall_video_mean.{task}": _one(value) for task, value in recall.video_mean.items()}
        found |= {f"recall_pooled.{task}": _one(value) for task, value in recall.pooled.items()}
        found["recall_video_mean.mean_over_tasks"] = _one(recall.mean_of_video_means)
        found["recall_pooled.mean_over_tasks"] = _one(recall.mean_of_pooled)
    for case, about in fixture.config.get("segmentation", {}).items():
        found |= _segmented(fixture, case, about)
    return {name: _tensor(value, fixture.outputs.get(name)) for name, value in found.items()}


def _segmented(fixture: Fixture, case: str, about: Mapping[str, Any]) -> dict[str, Array]:
    decoded = decode_by_beam(
        fixture.inputs[f"{case}.log_probs"].double().numpy(),
        about["transcript"],
        about["poisson_mean"],
        chunk=about["frame_sampling"],
        hypotheses=about["max_hypotheses"],
    )
    scores = score(decoded.labels, fixture.inputs[f"{case}.ground_truth"].numpy())
    return {
        f"{case}.labels": decoded.labels,
        f"{case}.segments": np.array([(label, end - begin) for label, begin, end in decoded.parts]),
        f"{case}.score": _one(decoded.score),
        f"{case}.frame_accuracy": _one(scores.frame_accuracy),
        f"{case}.derived.mean_iou_over_ground_truth_classes": _one(scores.mean_iou),
        f"{case}.derived.mean_iod_over_detected_classes": _one(scores.mean_iod),
    }


def _one(value: float) -> Array:
    return np.array([value])


def _tensor(value: Array, recorded: torch.Tensor | None) -> torch.Tensor:
    """Placements are recorded as numbers; kinds are compared too, so ours take theirs."""
    found = torch.from_numpy(np.ascontiguousarray(value))
    return found if recorded is None else found.to(recorded.dtype)
