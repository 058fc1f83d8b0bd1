"""A whole CrossCLR training step with a queue of 5,000 against the same step without one.

Run: python benchmarks/crossclr_queue.py [BATCH] [ROUNDS]   (default 64, 9)
The step is forward, loss, backward and Adam, on COOT's published sizes for YouCook2
(512 features, 32 steps, text of 1536). Connectivity to the queue is measured against
its mean, so that no Gram matrix of the queue is built.
"""

import sys

import torch

from reelseek.library.tokens import Steps
from reelseek.models import SYSTEMS, RetrievalModel
from reelseek.models.batch import Batch
from timing import medians


class _Words(torch.nn.Module):
    """Stands for captions that were encoded before: 1536 features of 12 tokens each."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        present = torch.arange(12)[None] < torch.randint(4, 13, (batch, 1), generator=generator)
        self.steps = Steps(torch.randn(batch, 12, 1536, generator=generator), present, torch.zeros(batch, 12, 2))

    def words(self, texts: object) -> Steps:
        return self.steps


def main(batch: int, rounds: int) -> None:
    generator = torch.Generator().manual_seed(0)
    present = torch.arange(32)[None] < torch.randint(8, 33, (batch, 1), generator=generator)
    tokens = {"video": Steps(torch.randn(batch, 32, 512, generator=generator), present, torch.zeros(batch, 32, 2))}
    clips = torch.arange(batch)
    inputs = Batch(tokens, [str(i) for i in range(batch)], clips // 8, clips)
    steps = {}
    for queue in (0, 5000):
        torch.manual_seed(0)
        settings = {"experts": {"video": 512}, "text": {"dim": 1536}, "local": {"queue": queue}}
        model: RetrievalModel = SYSTEMS["crossclr"].build(settings).train()
        model.text = _Words(batch)
        optimizer = torch.optim.Adam(model.parameters(), lr=7e-4)

        def step(model: RetrievalModel = model, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.zero_grad()
            torch.stack(list(model.loss(inputs).values())).sum().backward()
            optimizer.step()

        steps[f"queue {queue}"] = step
    for _ in range(1 + 5000 // batch):  # fill the queue before the clock starts
        model.loss(inputs)
    seconds = medians(steps, rounds)
    print(
        f"batch {batch}: with a queue of 5,000 {seconds['queue 5000']:.3f} s, without {seconds['queue 0']:.3f} s, "
        f"ratio {seconds['queue 5000'] / seconds['queue 0']:.3f}"
    )


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    main(*(arguments + [64, 9][len(arguments) :]))
