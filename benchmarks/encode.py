"""`encode_videos` of cached videos: videos a second for each system at its published sizes.

Run: python benchmarks/encode.py [VIDEOS] [SYSTEM ...]   (default 10,000 videos, every system that is trained)
Tokens are in memory: five experts as wide as the offline ones, 5 to 30 steps, an expert absent in one video of five;
the spectrogram of systems that read one has 3 seconds. Where 10,000 videos would take more than 20 seconds, as many are
encoded as those allow, and the line says so.
"""

import sys
import time

import torch

from reelseek.library.tokens import Steps
from reelseek.models import SYSTEMS

BATCH, LIMIT = 64, 20.0


def tokens(experts: dict[str, int], frames: dict[str, int], seed: int) -> dict[str, Steps]:
    generator = torch.Generator().manual_seed(seed)
    inputs = {}
    for name, dim in experts.items():
        most = 300 if name in frames and dim == 40 else 30
        counts = torch.randint(most // 6, most + 1, (BATCH,), generator=generator)
        counts[torch.rand(BATCH, generator=generator) < 0.2] = 0
        present = torch.arange(most)[None] < counts[:, None]
        spans = torch.arange(float(most))[None, :, None].expand(BATCH, most, 2).clone()
        inputs[name] = Steps(torch.randn(BATCH, most, dim, generator=generator), present, spans)
    return inputs


@torch.inference_mode()
def main(videos: int, names: list[str]) -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batches of {BATCH}")
    for name in names or [name for name, system in SYSTEMS.items() if system.trained]:
        torch.manual_seed(0)
        system = SYSTEMS[name]
        model = system.build({"experts": dict(system.experts)}).eval()
        batches = [tokens(dict(system.experts), dict(model.step_by_step), seed) for seed in range(4)]
        model.encode_videos(batches[0])
        started, done = time.perf_counter(), 0
        while done < videos and time.perf_counter() - started < LIMIT:
            model.encode_videos(batches[(done // BATCH) % len(batches)])
            done += BATCH
        seconds = time.perf_counter() - started
        print(
            f"{name:18} {done / seconds:10.0f} videos/s over {done:6} videos, {system.parameters:>13,} parameters",
            flush=True,
        )
        del model


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, sys.argv[2:])
