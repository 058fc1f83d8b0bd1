"""The optimizer of a recipe, and the moving average of weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reelseek.errors import RecipeError
from reelseek.models.model import RetrievalModel
from reelseek.training.recipe import TrainRecipe

__all__ = ["build_optimizer", "has_norms", "set_rate", "train_mode", "update_average"]

_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "radam": torch.optim.RAdam,
    "sgd": torch.optim.SGD,
}

_SECOND_BETA = 0.999  # PyTorch's


def build_optimizer(model: RetrievalModel, config: TrainRecipe, device: torch.device) -> torch.optim.Optimizer:
    """Build the optimizer, with a parameter group per side; each group's `start` is its rate before any schedule.

    Raises:
        RecipeError: `text_rate` is set, and no parameter of the text side learns.
    """
    text = [p for name, p in model.named_parameters() if name.startswith(model.text_side)]
    video = [p for name, p in model.named_parameters() if not name.startswith(model.text_side)]
    if config.text_rate is not None and not text:
        raise RecipeError(
            f"train.text_rate = {config.text_rate}: the text side of {model.system} is frozen and has no parameters; "
            "leave it out, or set model.text.trained = true"
        )
    text_rate = config.rate if config.text_rate is None else config.text_rate
    groups = [{"params": video, "start": config.rate}, {"params": text, "start": text_rate}]
    groups = [group for group in groups if group["params"]]
    build = _OPTIMIZERS[config.optimizer]
    options: dict[str, Any] = {}
    if config.optimizer == "sgd":
        options["momentum"] = config.momentum
    else:
        options["betas"] = (config.momentum, _SECOND_BETA if config.second_beta is None else config.second_beta)
        options |= {} if config.epsilon is None else {"eps": config.epsilon}
    if device.type == "cuda" and config.optimizer != "radam":  # which has no fused form
        options["fused"] = True
    return build(groups, lr=config.rate, weight_decay=config.weight_decay, **options)


def train_mode(model: nn.Module, *, freeze_norms: bool) -> None:
    """Put a model into training mode, with its batch normalisation left in evaluation mode if that is frozen."""
    model.train()
    for module in model.modules() if freeze_norms else ():
        if isinstance(module, _BatchNorm):
            module.eval()


def has_norms(model: nn.Module) -> bool:
    """Return whether a model has batch normalisation."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to its first one times a factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["start"] * factor


def update_average(average: dict[str, Tensor], model: nn.Module, decay: float) -> None:
    """Move a moving average, in place, towards a model's weights; does nothing where there is no average."""
    for name, value in model.state_dict().items() if average else ():
        if value.dtype.is_floating_point:
            average[name].lerp_(value, 1 - decay)
        else:
            average[name].copy_(value)
