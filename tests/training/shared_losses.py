"""One of two processes: the gradients of losses over half of a batch, averaged over both, and whole runs of training.

Run by test_parallel.py: python -m tests.training.shared_losses OUT LIBRARY [SYSTEM ...] -- [RECIPE ...]
"""

import sys
from dataclasses import fields
from pathlib import Path

import torch
from safetensors.torch import save_file
from tests.models.worlds import small
from torch.nn import BatchNorm2d

from reelseek.library import Library
from reelseek.models import SYSTEMS, RetrievalModel, parallel
from reelseek.models.model import Batch
from reelseek.testing.inputs import TEXTS, random_tokens
from reelseek.training import train

__all__ = ["batch_of_eight", "gradients", "ready"]


def batch_of_eight(model: RetrievalModel) -> Batch:
    """Eight clips of six videos, with different modalities absent."""
    texts = [f"{text} {number}" for number, text in enumerate([*TEXTS, *TEXTS])]
    videos = torch.tensor([0, 0, 1, 2, 3, 4, 5, 5])
    return Batch(random_tokens(model, videos=8), texts, videos, torch.arange(8))


def ready(name: str) -> RetrievalModel:
    """A small model in training, without what is random or counted by each process alone."""
    has_dropout = "dropout" in {field.name for field in fields(SYSTEMS[name].config)}
    model = small(name, dropout=0.0) if has_dropout else small(name)
    batch = batch_of_eight(model)
    model.fit_inputs(batch.tokens, [[text] for text in batch.texts])
    model.train()
    for layer in model.modules():
        if isinstance(layer, BatchNorm2d):  # of spectrograms: each process has statistics of its own, as published
            layer.eval()
    return model


def gradients(model: RetrievalModel, batch: Batch) -> dict[str, torch.Tensor]:
    """Gradients by parameter, and what the loss remembers of the batch by buffer."""
    torch.stack(list(model.loss(batch).values())).sum().backward()
    if parallel.active():
        parallel.average_gradients(model)
    remembered = {f"remembered {name}": value for name, value in model.named_buffers() if "shift_" not in name}
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None} | {
        name: value for name, value in remembered.items() if value.is_floating_point()
    }


def main() -> None:
    torch.set_num_threads(1)
    parallel.join(torch.device("cpu"))
    out, library, *names = sys.argv[1:]
    systems, recipes = names[: names.index("--")], names[names.index("--") + 1 :]
    for name in systems:
        model = ready(name)
        batch = batch_of_eight(model)
        half = batch[:5] if parallel.is_main_process() else batch[5:]
        averaged = gradients(model, half)
        if parallel.is_main_process():
            save_file({key: value.contiguous() for key, value in averaged.items()}, f"{out}/{name}.safetensors")
    for recipe in recipes:
        with Library.open(library) as opened:
            train(recipe, opened, Path(out) / f"trained-{Path(recipe).stem}", device="cpu")


if __name__ == "__main__":
    main()
