"""Small models of every system, and tokens to feed them."""

import pytest
import torch

from reelseek.models import SYSTEMS, RetrievalModel
from reelseek.testing.inputs import TEXTS, random_batch, random_tokens

__all__ = ["DIMS", "EVERY_SYSTEM", "SMALL", "TEXTS", "batch_of", "small", "tokens_of"]

DIMS = {"object": 1000, "speech": 384, "ocr": 384}  # what `concepts` takes
_NET = {"widths": (8, 8, 16), "blocks": (1, 1)}
_SMALL = {"width": 32, "depth": 2, "heads": 2, "inner": 48}
_TWO = {"experts": {"object": 1000, "audio": 40}}
_COOT = {"width": 32, "heads": 2, "inner": 48, "pool_inner": 32, "clip_steps": 2}
_UMI = {"width": 32, "heads": 2, "inner": 48, "reorganise_depth": 1, "depth": 1, "slots": 4, "prototypes": 5}
_JSFUSION = {
    "width": 16, "channels": 16, "hidden": 8, "decoded": 8, "scorer": (8,), "coarse": 32, "most_steps": 9,
    "text": {"most_tokens": 12},
}  # fmt: skip

# Every entry of the registry, small. `name+variant` is the entry with other settings.
SMALL: dict[str, dict[str, object]] = {
    "concepts": {},
    "clip_mean": {"experts": {"speech": 384}, "text": {"encoder": "sentence"}},
    "late_fusion": {**_SMALL, "embedding": 16},
    "mee": {"vlad": {"ocr": 2}, "text_clusters": 3},
    "mee_coco": {"text_clusters": 0, "widths": {"object": 24}},
    "ce": {"width": 32, "text_clusters": 3, "vlad": {"ocr": 2}, "gate_layers": 1},
    "mmt": _SMALL,
    "mmt+linear": {**_SMALL, "linear": True},
    "mdmmt": _SMALL,
    "avlnet": {**_TWO, "width": 32, "spectrogram": _NET},
    "avlnet+fused": {**_TWO, "width": 32, "spectrogram": None, "form": "fused"},
    "mcn": {**_TWO, "width": 32, "spectrogram": _NET, "clusters": 3, "queue": 8},
    "eao": {**_TWO, "width": 32, "heads": 2, "embedding": 24, "spectrograms": {"audio": _NET}, "most_steps": 8},
    "eao+mask": {"width": 32, "heads": 2, "embedding": 24, "missing": "mask", "depth": 2, "positions": "rotary"},
    "eao+cls": {
        "width": 32, "heads": 2, "embedding": 24, "pool": "cls", "shared_head": True, "positions": "learned",
    },
    "eao+single": {"width": 32, "heads": 2, "embedding": 24, "fused": False, "combinatorial": False},
    "eao+per_modality": {
        "width": 32, "heads": 2, "embedding": 24, "fused": False, "combinatorial": False,
        "transformers": "per_modality",
    },
    "eao+clips": {"width": 32, "heads": 2, "embedding": 24, "longer": "clips", "clip_seconds": 2.0},
    "eao+nothing": {"width": 32, "heads": 2, "embedding": 24, "depth": 0, "longer": "max_pool", "most_steps": 2},
    "coot": _COOT,
    "coot+apart": {**_COOT, "together": (("object",), ("speech", "ocr")), "pooler": "max"},
    "coot+video": {**_COOT, "level": "video"},
    "crossclr": {**_COOT, "local": {"queue": 16}},
    "crossclr_lsmdc": {**_COOT, "global_heads": 2, "local": {"queue": 16}},
    "mmv": {**_TWO, "fine": 32, "coarse": 16, "words": 24},
    "mmv+shared": {**_TWO, "fine": 32, "graph": "shared", "words": 24},
    "mmv+disjoint": {**_TWO, "fine": 32, "coarse": 16, "graph": "disjoint", "words": 24},
    "mbt": {**_SMALL, "embedding": 16, "fusion_layer": 1},
    "zorro": {**_SMALL, "embedding": 16, "fusion_tokens": 3},
    "token_fusion": {**_SMALL, "embedding": 16, "tokens": 4, "threshold": 0.5},
    "umi": _UMI,
    "umi+tokens": {**_UMI, "over": "tokens"},
    "umi+released": {**_UMI, "reading": "released"},
    "umi_reproduction": _UMI,
    "vse": {"width": 16, "hidden": 16},
    "vsepp": {"width": 16, "hidden": 16},
    "multi_cues": {"width": 16, "hidden": 16, "spaces": (("object", "ocr"), ("speech",))},
    "w2vv": {},
    "dual_encoding": {"width": 16, "hidden": 8},
    "jpose": {"width": 16},
    "ht": {"width": 16, "hidden": 16},
    "e2e": {"width": 16, "hidden": 16},
    "clip4clip": {"experts": {"speech": 384}, "text": {"encoder": "sentence"}},
    "xpool": {"width": 32, "most_steps": 4},
    "xpool+heads": {"width": 384, "heads": 2, "most_steps": 8, "candidates": 3},
    "jsfusion": _JSFUSION,
    "ssb": {**_SMALL, "embedding": 16, "decoder": 12, "buckets": 40, "most_words": 6},
    "drl": {"width": 32, "depth": 1, "most_steps": 4},
    "drl+ts2": {"width": 32, "depth": 1, "most_steps": 5, "shift": 0.25, "select": 3},
    "binding": {**_SMALL, "embedding": 16},
    "binding+expert": {**_SMALL, "embedding": 16, "anchor": "object"},
    "gram": {**_SMALL, "embedding": 16},
    "vast": {**_SMALL, "embedding": 16},
    "perceiver_io": {**_SMALL, "latents": 5, "bands": 3, "embedding": 16},
    "anchored": {"inner": {"system": "late_fusion", **_SMALL, "embedding": 16}, "bank": 8},
    "anchored+sum": {"inner": {"system": "avlnet", "width": 32, "spectrogram": None, "form": "fused"}, **_TWO},
    "anchored+pairs": {"inner": {"system": "jsfusion", **_JSFUSION}, "bank": 8},
    "jsfusion+both": {**_JSFUSION, "most_steps": 3, "loss": {"name": "max_margin", "settings": {"margin": 1.0}}},
}  # fmt: skip

# For `parametrize`: each entry as it comes, and its variants among the tests that compute for long.
EVERY_SYSTEM = [pytest.param(name, marks=pytest.mark.long) if "+" in name else name for name in SMALL]


def small(name: str, **settings: object) -> RetrievalModel:
    """An entry of SMALL with random weights, in evaluation mode."""
    torch.manual_seed(0)
    system = name.partition("+")[0]
    settings = {**SMALL[name], **settings}
    if system != "concepts":
        settings.setdefault("experts", DIMS)
    model = SYSTEMS[system].build(settings).eval()
    if name == "mmt+linear" or system == "anchored":
        model.fit_inputs(tokens_of(model), [["a cat", "a tabby"], ["a dog"], ["a car"], ["two trees"]])
        model.state_dict()["linear.share" if system == "mmt" else "anchor.linear.share"].fill_(0.5)
    return model


tokens_of, batch_of = random_tokens, random_batch
