"""One of two processes: the gradients of losses over half of a batch, averaged over both, and whole runs of training.

Run by test_parallel.py: python -m tests.training.shared_losses OUT LIBRARY [SYSTEM ...] -- [RECIPE ...]
"""

import sys
from dataclasses import fields, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from tests.models.worlds import small
from torch.nn import BatchNorm2d

from reelseek.library import Library
from reelseek.library.mask import Mask
from reelseek.library.tokens import Steps
from reelseek.models import SYSTEMS, RetrievalModel, parallel
from reelseek.models.batch import Batch
from reelseek.models.learned import LearnedModel
from reelseek.testing.inputs import TEXTS, random_tokens
from reelseek.training import train
from reelseek.training.caching import cached_gradients

__all__ = ["batch_of_eight", "gradients", "gradients_of", "ready"]


def batch_of_eight(model: RetrievalModel) -> Batch:
    """Eight clips of six videos, with different modalities absent."""
    texts = [f"{text} {number}" for number, text in enumerate([*TEXTS, *TEXTS])]
    videos = torch.tensor([0, 0, 1, 2, 3, 4, 5, 5])
    return Batch(random_tokens(model, videos=8), texts, videos, torch.arange(8))


def ready(name: str) -> RetrievalModel:
    """A small model in training, without what is random or counted by each process alone."""
    has_dropout = "dropout" in {field.name for field in fields(SYSTEMS[name.partition("+")[0]].config)}
    model = small(name, dropout=0.0) if has_dropout else small(name)
    batch = batch_of_eight(model)
    model.fit_inputs(batch.tokens, [[text] for text in batch.texts])
    model.train()
    for layer in model.modules():
        if isinstance(layer, BatchNorm2d):  # of spectrograms: each process has statistics of its own, as published
            layer.eval()
    return model


def gradients(model: RetrievalModel, batch: Batch, chunk: int | None = None) -> dict[str, torch.Tensor]:
    """Gradients by parameter, and what the loss remembers of the batch by buffer."""
    if chunk is None:
        loss = torch.stack(list(model.loss(batch).values())).sum()
        loss.backward()
    else:
        loss = torch.tensor(cached_gradients(model, batch, chunk))
    assert loss.isfinite()
    return _gathered(model)


def _gathered(model: RetrievalModel) -> dict[str, torch.Tensor]:
    if parallel.active():
        parallel.average_gradients(model)
    remembered = {f"remembered {name}": value for name, value in model.named_buffers() if "shift_" not in name}
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None} | {
        name: value for name, value in remembered.items() if value.is_floating_point()
    }


def gradients_of(case: str) -> dict[str, torch.Tensor]:
    """Gradients of a system by its name, in one process or in two; the first of these has five of eight clips.

    `NAME silent`: the other three have nothing to learn from. `NAME chunks`: in chunks, two clips of each process.
    `NAME apart`: each process compares its own clips alone, and the other three lack a modality that terms need;
    `NAME apart silent` and `NAME apart chunks` likewise.
    """
    name, _, variant = case.partition(" ")
    model = ready(name)
    batch = batch_of_eight(model)
    if variant.startswith("apart"):
        return _gradients_apart(model, batch, variant.partition(" ")[2])
    if variant == "silent":
        present = torch.arange(8)[:, None] < 5
        tokens = {key: Steps(t.values, t.present & present, t.spans) for key, t in batch.tokens.items()}
        batch = replace(batch, tokens=tokens)
    if parallel.active():
        batch = batch[:5] if parallel.is_main_process() else batch[5:]
    if variant != "chunks":
        return gradients(model, batch)
    if not parallel.active():
        batch = batch.rows(torch.tensor([0, 1, 5, 2, 3, 6, 4, 7]))
    return gradients(model, batch, chunk=2 if parallel.active() else 3)


def _gradients_apart(model: RetrievalModel, batch: Batch, variant: str) -> dict[str, torch.Tensor]:
    """Of the mean of the losses of five clips and of three, whose batch statistics are of all eight."""
    tokens = dict(batch.tokens)
    for expert in tokens if variant == "silent" else list(tokens)[-1:]:
        present = tokens[expert].present & (torch.arange(8)[:, None] < 5)
        tokens[expert] = Steps(tokens[expert].values, present, tokens[expert].spans)
    halves = (torch.arange(5), torch.arange(5, 8))
    batch = replace(batch, tokens=tokens, local=True)
    if parallel.active():
        return gradients(model, batch.rows(halves[parallel.rank()]), 2 if variant == "chunks" else None)
    if variant == "silent":
        losses = list(model.loss(batch.rows(halves[0])).values())
    else:
        assert isinstance(model, LearnedModel)
        parts, losses = model.parts(batch), []
        for half in halves:
            rows = {name: (v[half], Mask.on(v.device, mask.host[half])) for name, (v, mask) in parts.items()}
            losses += model.compare_parts(rows, batch.rows(half)).values()
    (torch.stack(losses).sum() / 2).backward()
    return _gathered(model)


def main() -> None:
    torch.set_num_threads(1)
    parallel.join(torch.device("cpu"))
    out, library, *names = sys.argv[1:]
    systems, recipes = names[: names.index("--")], names[names.index("--") + 1 :]
    for name in systems:
        averaged = gradients_of(name)
        if parallel.is_main_process():
            save_file({key: value.contiguous() for key, value in averaged.items()}, f"{out}/{name}.safetensors")
    for recipe in recipes:
        with Library.open(library) as opened:
            train(recipe, opened, Path(out) / f"trained-{Path(recipe).stem}", device="cpu")


if __name__ == "__main__":
    main()
