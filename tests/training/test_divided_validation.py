"""Processes that train together divide validation, and each gets what one process would."""

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from reelseek.library.tokens import TokenReader
from reelseek.models import SYSTEMS
from reelseek.training import FeatureDataset
from reelseek.training.data import read_split
from reelseek.training.validation import Validator

SETTINGS = {"vse": {"width": 8, "hidden": 8}, "xpool": {"width": 8}}


def _measure(name: str, clips: int, captions: int) -> tuple[np.ndarray, np.ndarray, dict[str, object], int, int]:
    """Scores, ranks and metrics, and how many clips and captions were encoded for them."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    features = {key: [rng.normal(size=(1 + i % 5, 6)).astype(np.float32) for i in range(clips)] for key in "ab"}
    texts = [rng.normal(size=(2, 10)).astype(np.float32) for _ in range(captions)]
    dataset = FeatureDataset(features, texts, clip_of_caption=[row % clips for row in range(captions)])
    torch.manual_seed(0)
    text = {"encoder": "features", "dim": 10}
    model = SYSTEMS[name].build({"experts": {"a": 6, "b": 6}, "text": text, **SETTINGS[name]})
    counts = [0, 0]
    encode_videos, encode_texts = model.encode_videos, model.encode_texts

    def count_videos(tokens):  # type: ignore[no-untyped-def]
        counts[0] += len(tokens["a"])
        return encode_videos(tokens)

    def count_texts(texts):  # type: ignore[no-untyped-def]
        counts[1] += len(texts)
        return encode_texts(texts)

    model.encode_videos, model.encode_texts = count_videos, count_texts  # type: ignore[method-assign]
    validator = Validator(TokenReader(dataset), read_split(dataset, None), "mean_rank")
    measured = validator.measure(model, {})
    return measured.scores, measured.ranks, measured.as_json(), counts[0], counts[1]


def _process(rank: int, folder: Path, cases: list[tuple[str, int, int]], answers: Any) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    answers.put((rank, [_measure(*case) for case in cases]))
    dist.destroy_process_group()


@pytest.mark.long
def test_two_processes_measure_what_one_does_and_each_embeds_a_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [("vse", 300, 2500), ("xpool", 150, 1100), ("vse", 30, 40)]
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [context.Process(target=_process, args=(rank, tmp_path, cases, answers)) for rank in (0, 1)]
    for process in processes:
        process.start()
    alone = [_measure(*case) for case in cases]
    by_rank = dict(answers.get(timeout=600) for _ in processes)
    for process in processes:
        process.join(600)
        assert process.exitcode == 0
    both = [by_rank[0], by_rank[1]]
    for number, (_, clips, captions) in enumerate(cases):
        scores, ranks, metrics, *_ = alone[number]
        for divided in both:
            np.testing.assert_array_equal(divided[number][0], scores)
            np.testing.assert_array_equal(divided[number][1], ranks)
            assert divided[number][2] == metrics
        for kind, count, block in ((3, clips, 64), (4, captions, 1024)):
            encoded = [divided[number][kind] for divided in both]
            assert sum(encoded) in (count, count + 1)  # one to know the sizes where a process has no share
            assert count <= block or max(encoded) < count
