"""Frames a second through the model server against the bare model, for `device.py`.

The bare model computes batches of 256 frames that lie on the device. The server gets pieces of 16 frames, as decoding
yields them, from processes that do nothing else; both compute in the same dtype. CLIP ViT-B/32 has random weights.
"""

import json
import multiprocessing
import os
import tempfile
import time
from collections import deque
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel

from reelseek.experts import load_expert
from reelseek.experts.channel import Channel, ServerAddress
from reelseek.experts.encoder import Encoder, encoder_of
from reelseek.experts.server import ModelServer

PIECE = 16
UNDER_WAY = 24  # pieces of each process, so that two of them fill a batch


def save_clip(folder: Path) -> str:
    """Save CLIP ViT-B/32 with random weights; returns the expert's name."""
    torch.manual_seed(0)
    CLIPModel(CLIPConfig()).save_pretrained(folder)
    size = {"size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}}
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "CLIPImageProcessor", **size}))
    return f"clip@{folder}"


def encoder_named(spec: str) -> Encoder:
    encoder = encoder_of(load_expert(spec))
    assert encoder is not None
    return encoder


def inputs_of(spec: str, frames: int) -> dict[str, torch.Tensor]:
    """Random prepared frames."""
    if spec == "appearance":
        return {"pixels": torch.randint(0, 256, (frames, 224, 224, 3), dtype=torch.uint8)}
    return {"pixel_values": torch.randn(frames, 3, 224, 224)}


def send(spec: str, address: ServerAddress, seconds: float, begin: "multiprocessing.Barrier", sent: "object") -> None:
    """Send pieces for some seconds, and count the frames that were answered in them."""
    torch.set_num_threads(1)
    channel, encoder, inputs = Channel(address), encoder_named(spec), inputs_of(spec, PIECE)
    channel.submit(encoder, inputs)()
    begin.wait()
    end, waiting, count = time.perf_counter() + seconds, deque(), 0
    while time.perf_counter() < end:
        while len(waiting) < UNDER_WAY:
            waiting.append(channel.submit(encoder, inputs))
        waiting.popleft()()
        count += PIECE * (time.perf_counter() < end)
    with sent.get_lock():
        sent.value += count


def bare(spec: str, device: torch.device, seconds: float) -> float:
    """Frames a second of the model alone."""
    encoder, batch = encoder_named(spec), 256 if device.type != "cpu" else PIECE
    half = encoder.half and device.type != "cpu"
    model = encoder.load().to(device, torch.float16 if half else torch.float32)
    torch.backends.cudnn.allow_tf32 = False  # as the server
    inputs = {name: part.to(device) for name, part in inputs_of(spec, batch).items()}
    inputs = {name: part.half() if half and part.is_floating_point() else part for name, part in inputs.items()}
    with torch.inference_mode():
        for _ in range(3):
            encoder.forward(model, inputs).cpu()
        began, rounds = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            for _ in range(4 if device.type != "cpu" else 1):
                rows = encoder.forward(model, inputs)
            rows.cpu()
            rounds += 4 if device.type != "cpu" else 1
        return rounds * batch / (time.perf_counter() - began)


def served(spec: str, device: torch.device, seconds: float, senders: int) -> float:
    """Frames a second of the server, with so many processes that send."""
    context = multiprocessing.get_context("spawn")
    with ModelServer([spec], str(device), lanes=os.cpu_count() or 1) as address:
        if address.errors:
            raise SystemExit(str(dict(address.errors)))
        begin, sent = context.Barrier(senders), context.Value("q", 0)
        processes = [context.Process(target=send, args=(spec, address, seconds, begin, sent)) for _ in range(senders)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return sent.value / seconds


def serving(name: str, device: torch.device, seconds: float = 20.0) -> list[dict[str, object]]:
    """Both rates of `clip` or `efficientnet`, and their ratio."""
    senders = max(1, min(8, (os.cpu_count() or 1) - 1))
    with tempfile.TemporaryDirectory() as folder:
        spec = save_clip(Path(folder)) if name == "clip" else "appearance"
        alone, through = bare(spec, device, seconds), served(spec, device, seconds, senders)
    return [
        {"system": f"{name}, bare", "examples_per_second": alone},
        {"system": f"{name}, server", "examples_per_second": through, "of_bare": through / alone, "senders": senders},
    ]
