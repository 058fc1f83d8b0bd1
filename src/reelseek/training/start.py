"""The model that a run begins with: built by the recipe, fitted to training clips, perhaps from another model."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from reelseek.errors import RecipeError, suggest
from reelseek.experts.backbones import NETWORKS, SpectrogramResNet50
from reelseek.library.caption_features import CaptionFeatures
from reelseek.library.tokens import TokenReader, Tokens
from reelseek.models import parallel
from reelseek.models.learned import LearnedModel
from reelseek.models.model import RetrievalModel, load_model
from reelseek.models.pixels import AUDIO, VISION, FromPixels, Network, saved_tensors
from reelseek.models.systems import SYSTEMS
from reelseek.models.text import FEATURES, TextEncoder, named_features
from reelseek.training.optimizer import has_norms
from reelseek.training.pixels.recipe import PixelRecipe
from reelseek.training.recipe import Recipe
from reelseek.training.split import Split

__all__ = ["build_model", "check_loss", "check_norms", "fitting_sample", "load_matching", "set_text_dropout"]

_log = logging.getLogger("reelseek")
_MOST_FITTED = 8192  # clips from which closed forms are fitted


def build_model(recipe: Recipe, reader: TokenReader, split: Split) -> RetrievalModel:
    """Build the recipe's system for the experts that are read and, where captions come as features, for their width.

    Raises:
        RecipeError: no such system, it needs no training, or its experts are not those that are read.
    """
    settings = dict(recipe.model)
    name = settings.pop("system", None)
    if name not in SYSTEMS or not SYSTEMS[name].trained:
        trained = [key for key, system in SYSTEMS.items() if system.trained]
        near = suggest(str(name), trained)
        raise RecipeError(f"model.system is {name!r}{near}; systems that can be trained are: {', '.join(trained)}")
    networks = {} if recipe.pixels is None else _networks(recipe.pixels)
    widths = {expert: network.width for expert, (network, _) in networks.items()} or reader.dims
    if settings.setdefault("experts", widths) != widths:
        raise RecipeError(
            f"model.experts is {settings['experts']}, and what is read has the widths {widths}; leave it out, and "
            "choose experts with data.experts"
        )
    first = split.texts[0] if split.texts else ""
    if isinstance(first, CaptionFeatures):
        config = settings.get("text", {})
        width = first.vectors.shape[1]
        if config.get("encoder", FEATURES) != FEATURES and named_features(config["encoder"]) is None:
            raise RecipeError(
                f"the captions of {split.name!r} come as features, which model.text.encoder = {config['encoder']!r} "
                f"cannot read; leave it out, or set it to {FEATURES!r}"
            )
        settings["text"] = {"encoder": FEATURES, "dim": width, **config}
    if recipe.pixels is not None:
        inner_model = SYSTEMS[name].build(settings)
        if not isinstance(inner_model, LearnedModel):
            raise RecipeError(f"pixels: {name} is no system whose features can be learnt along; take mmv, e2e or mee")
        return FromPixels(inner_model, networks, takes=recipe.pixels.takes)
    if recipe.anchor is None:
        return SYSTEMS[name].build(settings)
    experts, inner = settings.pop("experts"), {"system": name, **settings}
    return SYSTEMS["anchored"].build({"experts": experts, "inner": inner, **asdict(recipe.anchor)})


def _networks(config: PixelRecipe) -> dict[str, tuple[Network, dict[str, Any]]]:
    """The networks of a recipe from pixels by their experts, each with the sizes that it was made with."""
    networks: dict[str, tuple[Network, dict[str, Any]]] = {
        VISION: (NETWORKS[config.network](**config.vision_sizes), config.vision_sizes)
    }
    if config.sound:
        networks[AUDIO] = (SpectrogramResNet50(**config.audio_sizes), config.audio_sizes)
    return networks


def set_text_dropout(model: RetrievalModel, rate: float) -> None:
    """Set the dropout of the text encoder that is trained along (`train.text_dropout`).

    Raises:
        RecipeError: none is, or it has no dropout.
    """
    encoders = [part for part in model.modules() if isinstance(part, TextEncoder) and part.config.trained]
    layers = [layer for encoder in encoders for layer in encoder.modules() if isinstance(layer, nn.Dropout)]
    if not layers:
        raise RecipeError(
            f"train.text_dropout = {rate}: the text encoder of {model.system} is frozen, or has no dropout; leave it "
            "out, or train a BERT-like one with model.text.trained = true"
        )
    for layer in layers:
        layer.p = rate
    for encoder in encoders:
        for module in encoder.modules():
            for name in ("dropout_prob", "attention_dropout"):  # of attention that asks PyTorch's kernel for dropout
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, rate)


def check_loss(recipe: Recipe, model: RetrievalModel) -> None:
    """Refuse data that the system's loss has no term for, and to train in several processes what only one can.

    Raises:
        RecipeError: clips without captions, or with several, say nothing to it; or the loss is more than a function of
            all embeddings.
    """
    if recipe.data.uncaptioned and not model.learns_uncaptioned:
        raise RecipeError(
            f"data.uncaptioned: the loss of {model.system} compares captions alone; eao and mmv have more"
        )
    if recipe.train.narrations and not model.takes_narrations:
        raise RecipeError(
            f"train.narrations = {recipe.train.narrations}: the loss of {model.system} takes one caption a clip; set "
            "model.loss.name to mil_nce where a system takes other losses, or leave it out"
        )
    if recipe.train.narrations and (recipe.train.chunk or parallel.active()) and not getattr(model, "has_parts", False):
        raise RecipeError(
            f"train.narrations: {model.system} takes a batch whole, in one process; leave out train.chunk, or take mmv"
        )
    if parallel.active() and not model.compares_only:
        raise RecipeError(
            f"{parallel.world_size()} processes share a loss that is a function of all clips' embeddings: "
            f"{model.system} has another; train it in one process"
        )
    if parallel.active() and recipe.train.chunk and model.joins_clips:
        raise RecipeError(
            f"train.chunk: {model.system} reads the clips of a video together, and {parallel.world_size()} processes "
            "cannot take as many chunks each; leave it out, or train in one process"
        )
    if parallel.active() and not recipe.train.gather and model.pairwise and has_norms(model):
        raise RecipeError(
            f"train.gather = false: {model.system} normalises pairs of captions and clips over a batch, which "
            f"{parallel.world_size()} processes share; leave it out"
        )


def check_norms(recipe: Recipe, model: RetrievalModel) -> None:
    """Refuse to freeze the statistics of batch normalisation where there are none, or none that were learned.

    Raises:
        RecipeError: says what to leave out or to add.
    """
    if not recipe.train.freeze_norms:
        return
    if not has_norms(model):
        raise RecipeError(f"train.freeze_norms: {model.system} has no batch normalisation here; leave it out")
    if recipe.train.start is None:
        raise RecipeError(
            "train.freeze_norms keeps the statistics that a model has learned: name it with --set train.start=FOLDER, "
            "or learn them anew with --set train.freeze_norms=false"
        )


def fitting_sample(reader: TokenReader, split: Split, seed: int) -> tuple[Tokens, list[list[str]]]:
    """Return the features and the captions of captioned clips, at most 8,192 of them, for `fit_inputs` and `refit`."""
    captions = split.captions_by_clip()
    captioned = [clip for clip, rows in enumerate(captions) if rows]
    sample = np.random.default_rng(seed).permutation(captioned)[:_MOST_FITTED]
    texts = [[split.texts[row] for row in captions[clip]] for clip in sample]
    return reader.batch([split.clips[clip] for clip in sample]), texts


def load_matching(model: RetrievalModel, folder: str) -> None:
    """Load the parameters of another model wherever name and shape are the same (`train.start`).

    Raises:
        RecipeError: there are none; says what either model is.
    """
    other = load_model(folder)
    state = model.state_dict()
    tensors = saved_tensors(Path(folder)) if isinstance(model, FromPixels) else other.state_dict()
    matches = {name: value for name, value in tensors.items() if name in state and state[name].shape == value.shape}
    if not set(matches) & {name for name, _ in model.named_parameters()}:
        raise RecipeError(
            f"train.start = {folder!r} is {other.system} over {', '.join(other.experts)}, of which {model.system} over "
            f"{', '.join(model.experts)} can take nothing over: no parameter has the same name and shape"
        )
    model.load_state_dict({**state, **matches})
    _log.info("%d of %d tensors are taken over from %s", len(matches), len(state), folder)
