"""What becomes of every system when one expert is absent for half of the training videos.

Run: python benchmarks/absent.py [SYSTEM ...]   (default: all that are trained; 12 epochs each, seed 1, a studio world)
Each system is trained twice on the same videos, with the expert `object` everywhere and with it hidden from half of
them, and tested with everything. R@10 of either and their ratio: a system that collapses would be near chance, .05.
"""

import sys
import tempfile
from pathlib import Path

import torch
from pydantic import TypeAdapter

from reelseek.experiments.worlds import WORDS, world_library
from reelseek.library import Library
from reelseek.models import SYSTEMS
from reelseek.studio.worlds import WorldConfig
from reelseek.training import Recipe, evaluate, train

EXPERTS = ("appearance", "object", "scene")
SIZES = {
    "width": 64, "depth": 2, "heads": 4, "inner": 128, "embedding": 64, "hidden": 64, "fusion_layer": 1, "tokens": 8,
    "fusion_tokens": 4, "head_dim": 16, "reorganise_depth": 1, "slots": 16, "pool_inner": 64, "clip_steps": 4,
    "fine": 64, "coarse": 32, "words": 128, "clusters": 16, "global_heads": 4, "text_clusters": 4, "dropout": 0.0,
}  # fmt: skip
FIXED = {"w2vv": {}, "clip4clip": {"head": "linear", "text_head": "linear", "width": 64}}


def settings(name: str) -> dict[str, object]:
    """The published system, small: those of SIZES that its configuration has."""
    fields = SYSTEMS[name].config.__dataclass_fields__
    chosen = {key: value for key, value in SIZES.items() if key in fields} if name not in FIXED else FIXED[name]
    if "missing" in fields and SYSTEMS[name].defaults.get("missing") != "token" and name != "eao":
        chosen = {**chosen, "missing": "mask"}
    if name == "multi_cues":
        chosen = {**chosen, "spaces": [["appearance", "object"], ["scene"]]}
    if name in ("crossclr", "crossclr_lsmdc"):
        chosen = {**chosen, "local": {"queue": 0}}
    if name in ("avlnet", "mcn"):
        chosen = {**chosen, "spectrogram": None}
    return chosen


def main(names: list[str]) -> None:
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        path = world_library(WorldConfig(told=("person", "action", "object", "place")), 1, folder / "world")
        groups = [{"experts": EXPERTS}, {"experts": [name for name in EXPERTS if name != "object"]}]
        print(f"{'system':18} {'everywhere':>10} {'half':>6} {'ratio':>6}")
        with Library.open(path) as library:
            for name in names:
                recalls = []
                for kind, rule in (("whole", []), ("half", groups)):
                    model = {"system": name, **settings(name), "text": {"encoder": str(folder / "world" / WORDS)}}
                    training = {"epochs": 12, "batch": 64, "rate": 3e-3, "schedule": "cosine", "warmup": 1, "seed": 1}
                    recipe = {"model": model, "data": {"experts": EXPERTS, "groups": rule}, "train": training}
                    if name in ("w2vv", "clip4clip"):
                        model["text"] = {"encoder": "sentence"}
                    trained = train(TypeAdapter(Recipe).validate_python(recipe), library, folder / name / kind)
                    recalls.append(evaluate(trained, library).text_to_video.recall_at_10)
                ratio = recalls[1] / max(recalls[0], 1e-9)
                print(f"{name:18} {recalls[0]:10.3f} {recalls[1]:6.3f} {ratio:6.2f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or [name for name, system in SYSTEMS.items() if system.trained])
