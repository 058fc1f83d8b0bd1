"""EAO's fusion block over all six views against six padded passes: the same weights, forward and backward.

Run: python benchmarks/fusion.py [WIDTH] [BATCH] [ROUNDS]   (default 1024, 16, 7)
Projections, heads and the audio network are left out. Queries, keys and values of a token are the same in all views it
is in, so that counting multiplications says 1.5x at full fill and no more. The typical fill is that of MSR-VTT's clips
and captions under the paper's limits: 9 of 20 words, 12 of 12 video tokens in half of the clips and 8 in the others,
10 of 12 audio tokens, and no audio at all in one clip of eight.
"""

import sys

import torch

from reelseek.models.blocks.arrange import concat_groups, expand_views, own
from reelseek.models.blocks.mix import Transformer
from timing import medians, padded_layer

VIEWS = ([0], [1], [2], [0, 1], [0, 2], [1, 2])
PLACES = (20, 12, 12)  # text, video, audio


def fills(name: str, batch: int) -> list[torch.Tensor]:
    """Which tokens are there, for text, video and audio."""
    counts = [torch.full((batch,), places) for places in PLACES]
    if name == "typical":
        rows = torch.arange(batch)
        counts = [torch.full((batch,), 9), torch.where(rows % 2 == 0, 12, 8), torch.where(rows % 8 == 7, 1, 10)]
    return [torch.arange(places)[None] < count[:, None] for places, count in zip(PLACES, counts, strict=True)]


def main(width: int, batch: int, rounds: int) -> None:
    torch.manual_seed(0)
    block = Transformer(1, width, width // 64, width, order="pre")
    values = [torch.randn(batch, places, width, requires_grad=True) for places in PLACES]
    for name in ("full", "typical"):
        present = fills(name, batch)

        def ours(present: list[torch.Tensor] = present) -> list[torch.Tensor]:
            seen = expand_views(concat_groups(list(zip(values, present, strict=True))), VIEWS)
            return list(block(seen, own(6)).split([sum(PLACES[g] for g in view) for view in VIEWS], 1))

        def padded(present: list[torch.Tensor] = present) -> list[torch.Tensor]:
            rows = [(torch.cat([values[g] for g in v], 1), torch.cat([present[g] for g in v], 1)) for v in VIEWS]
            return [padded_layer(block.layers[0], row, view_present) for row, view_present in rows]

        def step(run: object, present: list[torch.Tensor] = present) -> None:
            total = torch.zeros(())
            for view, out in zip(VIEWS, run(), strict=True):  # type: ignore[operator]
                view_present = torch.cat([present[g] for g in view], 1)
                total = total + out[view_present].square().sum()
            total.backward()
            block.zero_grad()
            for leaf in values:
                leaf.grad = None

        for one, two, view in zip(ours(), padded(), VIEWS, strict=True):
            view_present = torch.cat([present[g] for g in view], 1)
            torch.testing.assert_close(one[view_present], two[view_present], atol=1e-4, rtol=1e-4)
        seconds = medians({"ours": lambda: step(ours), "padded": lambda: step(padded)}, rounds)
        part = sum(int(p.sum()) for p in present) / (batch * sum(PLACES))
        print(
            f"{name:8} fill {part:.2f}: ours {seconds['ours']:.3f} s, six padded passes {seconds['padded']:.3f} s, "
            f"ratio {seconds['padded'] / seconds['ours']:.2f}"
        )


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    main(*(arguments + [1024, 16, 7][len(arguments) :]))
