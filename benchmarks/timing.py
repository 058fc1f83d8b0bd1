"""Medians of interleaved runs: what is compared runs turn by turn, so that a busy machine disturbs all alike."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def medians(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            started = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def padded_layer(layer: torch.nn.Module, values: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """One of our layers as anyone would write it: every place computed, padding masked as a key."""
    attention = layer.attention
    ready = layer.norm1(values) if layer.order == "pre" else values
    heads = (attention.heads, attention.head_dim)
    query, key, value = (part.unflatten(2, heads).transpose(1, 2) for part in attention.qkv(ready).chunk(3, 2))
    read = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=present[:, None, None, :])
    return layer.add(values, attention.out(read.transpose(1, 2).flatten(2)))
