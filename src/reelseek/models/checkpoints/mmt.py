"""Keys of the released MMT -> ours."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from reelseek.errors import ModelError

__all__ = ["from_released"]

_LAYER = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "out",
    "attention.output.layer_norm": "norm1",
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
    "output.layer_norm": "norm2",
}


def from_released(state: Mapping[str, Tensor], experts: Mapping[str, int]) -> dict[str, Tensor]:
    """Weights of the released video and text heads under our names.

    Args:
        state: `vid_bert.*`, `video_dim_reduce.*`, `text_GU.*`, `moe_fc_txt.*`.
        experts: the index of each expert in the released table of expert embeddings, in the order of our slots.

    Raises:
        ModelError: a key is absent.
    """
    ours: dict[str, Tensor] = {}
    try:
        ours["position.weight"] = state["vid_bert.embeddings.position_embeddings.weight"]
        types = state["vid_bert.embeddings.token_type_embeddings.weight"]
        ours["expert.weight"] = types[[0, *experts.values()]]
        for part in ("weight", "bias"):
            ours[f"norm.{part}"] = state[f"vid_bert.embeddings.layer_norm.{part}"]
            for name in experts:
                ours[f"project.{name}.{part}"] = state[f"video_dim_reduce.{name}.fc.{part}"]
                ours[f"text_heads.{name}.fc.{part}"] = state[f"text_GU.{name}.fc.{part}"]
                ours[f"text_heads.{name}.gate.{part}"] = state[f"text_GU.{name}.cg.fc.{part}"]
            ours[f"text_weights.scores.{part}"] = torch.cat([state[f"moe_fc_txt.{name}.{part}"] for name in experts])
        for name in experts:
            width = state[f"video_dim_reduce.{name}.fc.weight"].shape[1]
            ours[f"shift_{name}"], ours[f"scale_{name}"] = torch.zeros(width), torch.ones(width)
            for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                ours[f"text_heads.{name}.norm.{part}"] = state[f"text_GU.{name}.cg.batch_norm.{part}"]
    except KeyError as error:
        raise ModelError(f"not a released MMT checkpoint: no key {error}") from error
    for key, tensor in state.items():
        layer = re.fullmatch(r"vid_bert\.encoder\.layer\.(\d+)\.(.+)\.(weight|bias)", key)
        if layer:
            ours[f"mix.layers.{layer[1]}.{_LAYER[layer[2]]}.{layer[3]}"] = tensor
    return ours
