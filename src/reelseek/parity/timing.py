"""Decodings of steps compared with those of CrossTask's and Mining YouTube's code."""

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
from reelseek.parity.fixture import Fixture, Outputs

__all__ = ["viterbi"]

Array = npt.NDArray[Any]


def viterbi(fixture: Fixture) -> Outputs:
    outputs: dict[str, Array] = {}
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
            outputs[best] = placed[task][video]
            outputs[f"{name}.score_sum"] = _one(float((scores * placed[task][video]).sum()))
            outputs[f"{best}.repeats_allowed"] = place_as_published(scores, repeats=True)
            outputs[f"{best}.repeats_allowed_background_cost"] = place_as_published(
                scores, background=background, repeats=True
            )
            outputs[f"{best}.log_softmax_over_steps"] = place_as_published(class_log_probs(scores, 1.0))
    if placed:
        recall = step_recall(placed, annotated)
        outputs |= {f"{t}.{v}.recall": _one(r) for t, videos in recall.of_videos.items() for v, r in videos.items()}
        outputs |= {f"recall_video_mean.{task}": _one(value) for task, value in recall.video_mean.items()}
        outputs |= {f"recall_pooled.{task}": _one(value) for task, value in recall.pooled.items()}
        outputs["recall_video_mean.mean_over_tasks"] = _one(recall.mean_of_video_means)
        outputs["recall_pooled.mean_over_tasks"] = _one(recall.mean_of_pooled)
    for case, settings in fixture.config.get("segmentation", {}).items():
        outputs |= _segment(fixture, case, settings)
    return {name: _to_recorded_dtype(value, fixture.outputs.get(name)) for name, value in outputs.items()}


def _segment(fixture: Fixture, case: str, settings: Mapping[str, Any]) -> dict[str, Array]:
    decoded = decode_by_beam(
        fixture.inputs[f"{case}.log_probs"].double().numpy(),
        settings["transcript"],
        settings["poisson_mean"],
        chunk=settings["frame_sampling"],
        hypotheses=settings["max_hypotheses"],
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


def _to_recorded_dtype(value: Array, recorded: torch.Tensor | None) -> torch.Tensor:
    """Convert to the recorded dtype: placements are recorded as numbers, and the dtype is compared too."""
    tensor = torch.from_numpy(np.ascontiguousarray(value))
    return tensor if recorded is None else tensor.to(recorded.dtype)
