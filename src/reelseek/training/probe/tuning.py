"""A linear layer and the model's weights, tuned together."""

from collections.abc import Callable, Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from reelseek.errors import UsageError
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models.device import device_of
from reelseek.models.model import RetrievalModel
from reelseek.training.probe.samples import Bools, Parts, Sample
from reelseek.training.probe.scores import Matrix, score

__all__ = ["tuned_decisions"]

_EPOCHS = 20
_BATCH = 32


def tuned_decisions(
    model: RetrievalModel,
    reader: TokenReader,
    samples: Sequence[Sample],
    targets: Bools,
    parts: Parts,
    *,
    single: bool,
    rng: np.random.Generator,
    progress: Callable[[str, int, int, str], None],
) -> Matrix:
    """Return decision values of the test samples [sample, class], of the epoch that did best on the held-out ones.

    Raises:
        UsageError: the model has no weights.
    """
    if not any(True for _ in model.parameters()):
        raise UsageError(f"{model.system} has no weights to tune; leave --tune out")
    learn, held, test = parts
    tuner = _Tuner(model, reader, samples, targets, single=single, seed=int(rng.integers(2**31)))
    best, decisions = -1.0, tuner.decide(test)
    rows = np.flatnonzero(learn & ~held)
    for epoch in range(1, _EPOCHS + 1):
        tuner.train_epoch(rows, rng)
        validation = score(targets[held], tuner.decide(held), single=single)
        progress("tuning", epoch, _EPOCHS, f"{validation:.3f}")
        if validation > best:
            best, decisions = validation, tuner.decide(test)
    return decisions


class _Tuner:
    """A copy of a model with a batch normalisation and a linear layer after it."""

    def __init__(
        self,
        model: RetrievalModel,
        reader: TokenReader,
        samples: Sequence[Sample],
        targets: Bools,
        *,
        single: bool,
        seed: int,
    ) -> None:
        self.model, self.reader, self.samples, self.single = deepcopy(model), reader, samples, single
        torch.manual_seed(seed)
        self.model.requires_grad_(True)
        self.device = device_of(self.model)
        with torch.no_grad():
            self.model.eval()
            width = self._embed(samples[0].clips[:1]).shape[1]
        self.norm = nn.BatchNorm1d(width, affine=False).to(self.device)
        self.head = nn.Linear(width, targets.shape[1]).to(self.device)
        groups = [{"params": self.model.parameters(), "lr": 1e-4}, {"params": self.head.parameters(), "lr": 1e-2}]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=1e-3)
        self.targets = torch.from_numpy(targets).float().to(self.device)

    def decide(self, part: Bools) -> Matrix:
        """Decision values of some samples, each the mean over its windows."""
        self.model.eval()
        self.norm.eval()
        with torch.inference_mode():
            rows = [self._logits(self.samples[i].clips).mean(0) for i in np.flatnonzero(part).tolist()]
        return torch.stack(rows).cpu().numpy()

    def train_epoch(self, samples: np.ndarray, rng: np.random.Generator) -> None:
        """Take one pass over some samples, with a window of each drawn at random."""
        self.model.train()
        self.norm.train()
        order = rng.permutation(samples)
        for begin in range(0, len(order), _BATCH):
            rows = order[begin : begin + _BATCH]
            clips = [self.samples[i].clips[int(rng.integers(len(self.samples[i].clips)))] for i in rows.tolist()]
            if len(clips) < 2:  # the batch normalisation has no variance of one
                continue
            logits, targets = self._logits(clips), self.targets[torch.from_numpy(rows).to(self.device)]
            loss = (
                functional.cross_entropy(logits, targets.argmax(1))
                if self.single
                else functional.binary_cross_entropy_with_logits(logits, targets)
            )
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def _embed(self, clips: Sequence[Clip]) -> Tensor:
        tokens = {name: steps.to(self.device) for name, steps in self.reader.batch(clips).items()}
        return self.model.encode_videos(tokens).flat

    def _logits(self, clips: Sequence[Clip]) -> Tensor:
        logits: Tensor = self.head(self.norm(self._embed(clips)))
        return logits
