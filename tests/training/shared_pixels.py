"""The gradients of a system with networks under it, in one process or in two that share a batch.

Run by test_pixels_in_processes.py: python -m tests.training.shared_pixels OUT
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tests.training.shared_losses import batch_of_eight, gradients
from torch import nn

from reelseek.experts.backbones import S3DG, SpectrogramResNet50, TSMResNet50
from reelseek.library.tokens import Steps
from reelseek.models import SYSTEMS, parallel
from reelseek.models.batch import Batch
from reelseek.models.pixels import AUDIO, VISION, FromPixels
from reelseek.testing.inputs import random_tokens
from reelseek.training.caching import cached_gradients

__all__ = ["CASES", "gradients_of"]

CASES = {
    "tsm": 5,
    "s3dg": 5,
    "first without frames": 1,  # the only clip of the first process, whose network of frames then has no rows
    "second without anything": 5,
    "chunks": 5,
}
"""How many of the eight clips the first process has."""
_ORDER = [0, 1, 5, 2, 3, 6, 4, 7]  # chunks of two, two and one of five clips, each with one of the other three


def _model(case: str) -> FromPixels:
    """MMV, which has batch normalisation itself, over two small networks; in double precision, to round little."""
    torch.manual_seed(0)
    vision: S3DG | TSMResNet50 = S3DG(1 / 16) if case == "s3dg" else TSMResNet50(1 / 16, [1, 1, 1, 1])
    audio = SpectrogramResNet50(1 / 16, [1, 1, 1, 1])
    widths = {VISION: vision.width, AUDIO: audio.width}
    inner: Any = SYSTEMS["mmv"].build({"experts": widths, "fine": 16, "coarse": 16, "words": 16})
    takes = {VISION: {"crop": 32}, AUDIO: {"rate": 16_000}}
    model = FromPixels(inner, {VISION: (vision, {}), AUDIO: (audio, {})}, takes=takes).double().train()
    # What is computed in single precision whatever the weights are: spectrograms, and the vectors of words.
    for module in (audio.resnet, *(layer for layer in inner.modules() if isinstance(layer, nn.Linear))):
        module.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
    return model


def _batch(model: FromPixels, case: str) -> Batch:
    """Eight clips, the first without frames, the second without sound."""
    tokens = {}
    for name, steps in random_tokens(model, videos=8, steps=8).items():
        present = steps.present.clone()
        if case == "second without anything":
            present[CASES[case] :] = False
        tokens[name] = Steps(steps.values.double(), present, steps.spans)
    return replace(batch_of_eight(model), tokens=tokens)


def gradients_of(case: str) -> dict[str, torch.Tensor]:
    """Gradients by parameter, and running statistics, after one batch in one process or in two."""
    model = _model(case)
    batch = _batch(model, case)
    if parallel.active():
        batch = batch[: CASES[case]] if parallel.is_main_process() else batch[CASES[case] :]
    if case != "chunks":
        return gradients(model, batch)
    if parallel.active():
        cached_gradients(model, batch, 2)
        parallel.average_gradients(model)
    else:
        cached_gradients(model, batch.rows(torch.tensor(_ORDER)), 3)
    statistics = {name: value for name, value in model.named_buffers() if name.endswith(("_mean", "_var"))}
    return statistics | {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def main() -> None:
    torch.set_num_threads(1)
    parallel.join(torch.device("cpu"))
    for case in CASES:
        result = gradients_of(case)
        if parallel.is_main_process():
            save_file({name: value.contiguous() for name, value in result.items()}, Path(sys.argv[1]) / case)


if __name__ == "__main__":
    main()
