"""What a job has made, with the ids under which pages show it: a model, pairs of a scan, captions."""

import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from reelseek.web.jobs.queue import Job
from reelseek.web.media import opaque_id

__all__ = ["linked_captions", "made_by", "scan_file"]

_MOST_PAIRS = 20  # of a scan that its result names
_MEASURES = ("split", "epoch", "recall_at_1", "recall_at_5", "recall_at_10", "median_rank")


def scan_file(state: Path, job_id: str) -> Path:
    """Where the pairs of a scan lie."""
    return state / "scans" / f"{job_id}.jsonl"


def made_by(job: Job, state: Path) -> dict[str, Any]:
    """What a job left in the state folder; nothing where it left nothing that can be read.

    Returns:
        of `train`: `model`, its name, and `validation` and `warnings`, what its training says of it; of `scan`:
        `pairs`, how many, and `best`, the first of them with the ids of both videos.
    """
    try:
        if job.kind == "train":
            return _trained(state / "models" / str(job.arguments["name"]))
        if job.kind == "scan":
            return _scanned(scan_file(state, job.id))
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {}


def _trained(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    validation = config.get("validation") or {}
    return {
        "model": folder.name,
        "validation": {name: validation[name] for name in _MEASURES if name in validation},
        "warnings": list(config.get("warnings", ())),
    }


def _scanned(file: Path) -> dict[str, Any]:
    with file.open(encoding="utf-8") as lines:
        best = [_linked_pair(json.loads(line)) for line in islice(lines, _MOST_PAIRS)]
        return {"pairs": len(best) + sum(1 for _ in lines), "best": best}


def _linked_pair(pair: Mapping[str, Any]) -> dict[str, Any]:
    return {**pair, "test_id": opaque_id(str(pair["test"])), "train_id": opaque_id(str(pair["train"]))}


def linked_captions(document: Mapping[str, Any]) -> dict[str, Any]:
    """Captions of a video, with its id."""
    return {**document, "id": opaque_id(str(document["video"]))}
