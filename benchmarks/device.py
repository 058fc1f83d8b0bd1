"""Training and extraction on an accelerator: examples a second, and the share of the card's rate of bf16 products.

Run: python benchmarks/device.py [--device cuda] [--batches 32,128,512,1024]
     [--only mdmmt,eao,crossclr,attention,loader,plans,clip,efficientnet] [--out FILE]
MDMMT has nine layers of eight heads over seven experts, 30 places each and half of them filled, captions encoded
beforehand (768 wide); EAO has its full width of 4,096 over two experts and words; CrossCLR its queue of 5,000. A step
is loss, backward and Adam under bfloat16, with copies from the host; its batches are made beforehand and taken in turn.
Ways to compute a transformer over padding are held against one another, and the fastest is named (attention.py; without
an accelerator at a tiny size, which says nothing of speed).
Frames a second of extraction's model server are held against the bare model (serving.py).
The loader alone reads 1,000 videos of seven experts from a library, by threads and by processes. Attention plans are
timed where a step makes them, where it looks up those that came with its batch, and where a worker makes them (CPU
time of one thread), and what `train.buckets` pads is counted. FLOPs are those of matrix products as PyTorch counts them
in one step, so what is computed for padding counts as done.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from reelseek.library.tokens import Steps
from reelseek.models import SYSTEMS, RetrievalModel
from reelseek.models.batch import Batch
from reelseek.models.device import describe, matmul_precision, resolve_device

EXPERTS = {"rgb": 2048, "s3d": 1024, "scene": 2208, "face": 512, "vggish": 128, "speech": 300, "ocr": 300}
WORDS = 12
_AHEAD = 2  # batches that a worker reads ahead


def tokens(experts: dict[str, int], batch: int, places: int, rng: np.random.Generator) -> dict[str, Steps]:
    """Half of the places filled: a uniform count of steps, and an expert absent altogether in one video of ten."""
    inputs = {}
    for name, dim in experts.items():
        counts = np.minimum(rng.integers(1, places + 4, batch), places)
        counts[rng.random(batch) < 0.1] = 0
        present = torch.from_numpy(np.arange(places)[None] < counts[:, None])
        spans = torch.arange(float(places))[None, :, None].expand(batch, places, 2).clone()
        inputs[name] = Steps(torch.from_numpy(rng.standard_normal((batch, places, dim), np.float32)), present, spans)
    return inputs


def batches(experts: dict[str, int], batch: int, places: int, videos: int, pinned: bool) -> list[Batch]:
    """Four batches on the host."""
    examples = []
    for seed in range(4):
        steps = tokens(experts, batch, places, np.random.default_rng(seed))
        if pinned:
            steps = {name: track.pinned() for name, track in steps.items()}
        video = torch.arange(batch) % videos
        examples.append(Batch(steps, [f"{seed} {row}" for row in range(batch)], video, torch.arange(batch)))
    return examples


def encoded_texts(model: RetrievalModel, most: int, device: torch.device) -> None:
    """Put vectors of the right width in the place of captions, as a frozen text side has them ready."""
    text = model.text
    steps = tokens({"words": text.width}, most, WORDS, np.random.default_rng(9))["words"]
    steps = steps if device.type == "cpu" else steps.pinned()

    def words(texts: list[str]) -> Steps:
        return (steps if len(texts) == most else steps.rows(torch.arange(len(texts)))).to(device)

    def pooled(texts: list[str]) -> torch.Tensor:
        return steps.values[: len(texts), 0].to(device, non_blocking=True)

    text.pooled, text.words = pooled, words


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_rate(device: torch.device) -> float:
    """FLOP a second of a large bf16 matrix product on random numbers."""
    size = 8192 if device.type == "cuda" else 512
    one, two = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = timed(lambda: one @ two, device, 20)
    return 2 * size**3 / seconds


def timed(work: Callable[[], object], device: torch.device, times: int) -> float:
    """Median seconds of a call among `times`, after two that do not count; each third a run without a pause."""
    for _ in range(2):
        work()
    runs = []
    for _ in range(3):
        synchronize(device)
        began = time.perf_counter()
        for _ in range(max(1, times // 3)):
            work()
        synchronize(device)
        runs.append((time.perf_counter() - began) / max(1, times // 3))
    return float(np.median(runs))


def learning(
    name: str, settings: dict[str, object], experts: dict[str, int], batch: int, places: int, device: torch.device,
    *, videos: int | None = None, times: int = 12,
) -> dict[str, object]:  # fmt: skip
    """One system's step at one size."""
    torch.manual_seed(0)
    model = SYSTEMS[name].build({"experts": experts, **settings}).to(device).train()
    encoded_texts(model, batch, device)
    gpu = device.type == "cuda"
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, **({"fused": True} if gpu else {}))
    examples = batches(experts, batch, places, videos or batch, gpu)
    turn: Iterator[Batch] = cycle(examples)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            loss = torch.stack([term.float() for term in model.loss(next(turn).to(device)).values()]).sum()
        loss.backward()
        optimizer.step()

    step()
    with FlopCounterMode(display=False) as counter:
        step()
    if gpu:
        torch.cuda.reset_peak_memory_stats(device)
    seconds = timed(step, device, times)
    filled = np.mean([float(track.mask.float().mean()) for b in examples for track in b.tokens.values()])
    return {
        "system": name, "batch": batch, "ms": 1e3 * seconds, "examples_per_second": batch / seconds,
        "tflops": counter.get_total_flops() / seconds / 1e12, "filled": float(filled),
        "peak_gib": torch.cuda.max_memory_allocated(device) / 2**30 if gpu else None,
    }  # fmt: skip


def loading(rounds: int) -> Iterator[dict[str, object]]:
    """Batches of 128 videos from a library on disk, read by so many threads or processes: as fast as they can, and
    beside a step of 128 / 4,000 s that holds Python's lock, as one does that launches kernels."""
    from input import build
    from reelseek.library.token_loader import TokenLoader, TokenRequest, read_tokens
    from reelseek.library.tokens import Clip, TokenReader
    from reelseek.training.ahead import in_order

    with tempfile.TemporaryDirectory() as place:
        library, _ = build(Path(place), 1000)
        reader = TokenReader(library)
        rng = np.random.default_rng(1)
        requests = [
            TokenRequest([Clip(f"v{i}") for i in rng.choice(1000, 128, replace=False)], {}) for _ in range(rounds)
        ]
        for workers in (0, 1, 2, 4, 8):
            for kind in ("threads", "processes") if workers else ("threads",):
                with closing(TokenLoader(reader, max(1, workers), pin=torch.cuda.is_available())) as loader:

                    def read(kind: str = kind, workers: int = workers, loader: TokenLoader = loader) -> Iterator[Any]:
                        if kind == "processes":
                            return loader.load(requests)
                        return in_order(requests, lambda request: read_tokens(reader, request), workers)

                    for _ in read():  # workers start, files come into memory
                        pass
                    fastest, _ = consume(read(), 0.0, _AHEAD * workers)
                    paced, waited = consume(read(), 128 / 4000, _AHEAD * workers)
                yield {
                    "system": f"loader, {workers} {kind}", "examples_per_second": 128 / fastest,
                    "beside_a_step": 128 / paced, "waiting": waited / paced,
                }  # fmt: skip


def planning(batch: int, rounds: int = 11) -> dict[str, object]:
    """Medians of the time of MDMMT's attention plan of a batch."""
    from statistics import median

    from reelseek.models.blocks.arrange import everything
    from reelseek.models.blocks.mix import plan_attention, prepared_plans
    from reelseek.models.planning import AttentionPlanner, read_plans

    model = SYSTEMS["mdmmt"].build({"experts": EXPERTS}).train()
    planner, rng = AttentionPlanner(model), np.random.default_rng(0)
    seconds: dict[str, list[float]] = {"in_the_step_ms": [], "looked_up_ms": [], "in_a_worker_ms": []}
    for _ in range(rounds):
        features = tokens(EXPERTS, batch, 30, rng)
        with torch.no_grad():
            sequence, _ = model.arrange(model.inputs(features))
        began = time.thread_time()
        written = planner(features)
        seconds["in_a_worker_ms"].append(time.thread_time() - began)
        for name, plans in (("in_the_step_ms", None), ("looked_up_ms", written)):
            began = time.thread_time()
            with prepared_plans(None if plans is None else read_plans(plans)):
                plan_attention(sequence, everything(len(EXPERTS) + 1))
            seconds[name].append(time.thread_time() - began)
    return {"system": f"plans of mdmmt, batch {batch}"} | {
        name: round(median(values) * 1000, 2) for name, values in seconds.items()
    }


def padding(batch: int, rounds: int = 60) -> dict[str, object]:
    """How many shapes so many of MDMMT's batches have, packed and with `train.buckets`, and how many tokens."""
    from reelseek.models.blocks.arrange import everything
    from reelseek.models.blocks.mix import plan_attention
    from reelseek.models.blocks.plan import pad_plan

    narrow = dict.fromkeys(EXPERTS, 2)  # widths change no plan
    model = SYSTEMS["mdmmt"].build({"experts": narrow, "width": 8, "depth": 1, "inner": 8}).train()
    rng = np.random.default_rng(0)
    plans, width = [], 0
    for _ in range(rounds):
        with torch.no_grad():
            sequence, _ = model.arrange(model.inputs(tokens(narrow, batch, 30, rng)))
        plans.append(plan_attention(sequence, everything(len(EXPERTS) + 1)))
        width = sequence.values.shape[1]
    ways = {"packed": plans} | {f"buckets {n}": [pad_plan(plan, width, n) for plan in plans] for n in (1, 2, 4, 8)}
    counts = {
        name: {"shapes": len({plan.shape for plan in padded}), "tokens": sum(plan.computed for plan in padded)}
        for name, padded in ways.items()
    }
    return {"system": f"padding of mdmmt, batch {batch}", "batches": rounds, "dense": rounds * batch * width, **counts}


def consume(batches: Iterator[Any], step: float, ahead: int) -> tuple[float, float]:
    """Take batches, each followed by a step of so many seconds of this thread; seconds a batch, and of these waiting.

    Args:
        ahead: batches that may have been read before the first is taken, which do not count.
    """
    for _ in range(ahead + 1):
        next(batches)
    count, waited, began = 0, 0.0, time.perf_counter()
    while True:
        requested_at = time.perf_counter()
        if next(batches, None) is None:
            return (requested_at - began) / count, waited / count
        waited += time.perf_counter() - requested_at
        count += 1
        end = time.thread_time() + step
        while time.thread_time() < end:
            pass


def main(device: torch.device, sizes: list[int], only: list[str], out: Path | None) -> None:
    matmul_precision(device)
    peak = peak_rate(device)
    card = describe(device)
    print(f"{card}; torch {torch.__version__}; a bf16 matrix product runs at {peak / 1e12:.0f} TFLOP/s", flush=True)
    text = {"text": {"dim": 768}}
    rows: list[dict[str, object]] = []
    environment = {"card": card, "torch": torch.__version__, "bf16_tflops": peak / 1e12, "command": " ".join(sys.argv)}

    def add(row: dict[str, object]) -> None:
        share = "" if "tflops" not in row else f", {row['tflops']:.1f} TFLOP/s, {row['tflops'] / (peak / 1e12):.1%}"
        size = f"batch {row['batch']:5}: {row['ms']:8.1f} ms, " if "ms" in row else ""
        rows.append(row)
        if out is not None:
            out.write_text(json.dumps({**environment, "rows": rows}, indent=1) + "\n", "utf-8")
        if "examples_per_second" not in row:
            print(f"{row['system']}: {json.dumps({key: value for key, value in row.items() if key != 'system'})}")
            return
        if "waiting" in row:
            share = f"; beside a step of 32 ms {row['beside_a_step']:.0f}, waiting {row['waiting']:.1%} of the time"
        memory = f", {row['peak_gib']:.1f} GiB" if row.get("peak_gib") else ""
        ratio = f", {row['of_bare']:.1%} of the bare model" if "of_bare" in row else ""
        print(
            f"{row['system']:20} {size}{row['examples_per_second']:9.0f} examples/s{share}{ratio}{memory}", flush=True
        )

    if "mdmmt" in only:
        for size in sizes:
            add(learning("mdmmt", text, EXPERTS, size, 30, device))
    if "eao" in only:
        sound = {"video": 2048, "sound": 1024}
        for size in sizes[:3]:
            add(learning("eao", {"spectrograms": {}, **text}, sound, size, 12, device))
    if "crossclr" in only:
        for size in sizes:
            add(learning("crossclr", text, {"rgb": 2048, "s3d": 1024}, size, 30, device, videos=max(2, size // 8)))
    if "attention" in only:
        from attention import compare

        for size in sizes:
            for row in compare(size, device, timed):
                add(row)
    if "loader" in only:
        for row in loading(64):
            add(row)
    if "plans" in only:
        add(planning(128))
        add(padding(128))
    for name in ("clip", "efficientnet"):
        if name in only:
            from serving import serving

            for row in serving(name, device):
                add(row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default=None)
    parser.add_argument("--batches", default="32,128,512,1024")
    parser.add_argument("--only", default="mdmmt,eao,crossclr,attention,loader,plans,clip,efficientnet")
    parser.add_argument("--out", type=Path, default=None)
    read = parser.parse_args()
    main(resolve_device(read.device), [int(size) for size in read.batches.split(",")], read.only.split(","), read.out)
