"""The one face of every system: tokens and texts in, embeddings out, similarity between them."""

import hashlib
import json
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reelseek.errors import ModelError, suggest
from reelseek.library.files import write_whole
from reelseek.library.tokens import Tokens
from reelseek.models.batch import Batch
from reelseek.models.embedding import Embedding, contributions, mean_of_slots, similarity
from reelseek.models.text import TextEncoder, refuse_features, takes_one_text
from reelseek.models.weights import read_saved, write_errors, write_saved

__all__ = ["RetrievalModel", "load_model"]


class RetrievalModel(nn.Module):
    """What every system is: `encode_videos`, `encode_texts`, `similarity`, `save`; called with a batch, its loss terms.

    Where texts are taken, one string is one text, in the systems of other packages too.

    A system whose slots meet in dot products has nothing to say of `similarity`, and is searched by an index that
    orders clips exactly. One that compares in a way of its own (X-Pool, JSFusion) overrides it, and is `pairwise`:
    search finds candidates by the dot product of coarse embeddings and scores those again by `similarity`. The slots of
    its embeddings may be steps or words, always the same number of them, with `present` telling which are real.

    Attributes:
        system: its name in SYSTEMS.
        config: a frozen dataclass that rebuilds it.
        slots: names of the slots, usually experts.
        slots_apart: each slot is made of the expert of its name alone, so that leaving the expert out of a video is
            leaving out its slot.
        candidates: how many clips a search scores again by a pairwise `similarity`; None takes as many as a recall of
            .99 needs, which is measured when an index is built.
        renormalise: how `similarity` treats absent slots.
        text_side: what names of parameters of the text side begin with; they may learn at a rate of their own.
        unused: parameters that no loss reaches, by what their names begin with.
        learns_uncaptioned: whether its loss has terms of clips without captions (sight with sound).
        joins_clips: its loss reads the clips of a video together, so that they stay in one process and one chunk.
        record: what was written beside its weights of how it was trained; empty for one that was not loaded.
        embeds_sentences: whether it compares queries with a library's lines as they are, in one encoder's space.
    """

    embeds_sentences: bool = False
    slots_apart: bool = False
    joins_clips: bool = False
    candidates: int | None = None
    learns_uncaptioned: bool = False
    system: str = ""
    text_side: tuple[str, ...] = ("text", "caption", "words")
    unused: tuple[str, ...] = ()
    renormalise: bool = True
    slots: tuple[str, ...] = ()
    config: Any = None
    record: Mapping[str, Any] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in ("encode_texts", "reads"):
            if name in vars(cls):
                setattr(cls, name, takes_one_text(vars(cls)[name]))

    @property
    def takes_narrations(self) -> bool:
        """Whether its loss takes several captions for one clip, of which one may be right (MIL-NCE)."""
        return False

    @property
    def compares_only(self) -> bool:
        """Whether the loss is a function of embeddings alone, which may be made elsewhere."""
        return False

    @property
    def step_by_step(self) -> Mapping[str, int]:
        """Experts whose steps it wants as they are and not averaged, and how many of them."""
        return {}

    @property
    def shifts(self) -> Mapping[str, float]:
        """Experts that are read earlier or later by so many seconds while it is trained."""
        return {}

    @property
    @abstractmethod
    def experts(self) -> Mapping[str, int]:
        """The experts it can take and their dims."""

    @abstractmethod
    def encode_videos(self, tokens: Tokens) -> Embedding:
        """Embeddings of videos (or clips) from any subset of its experts.

        Raises:
            ModelError: an expert it was not built for, or features of another width.
        """

    @abstractmethod
    def encode_texts(self, texts: str | Sequence[str]) -> Embedding:
        """Embeddings of captions or queries; a string is one of them.

        Raises:
            ModelError: a text is empty.
        """

    @takes_one_text
    def reads(self, texts: str | Sequence[str]) -> Bool[Tensor, " text"]:
        """Which texts its text side can read; the vectors of the others say nothing of what they mean."""
        encoder = getattr(self, "text", None)
        if isinstance(encoder, TextEncoder):
            return encoder.reads(texts)
        refuse_features(texts)
        return torch.ones(len(texts), dtype=torch.bool)

    def forward(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The terms of `loss`: what `DistributedDataParallel` and `torch.compile` call.

        >>> shared = DistributedDataParallel(model)  # doctest: +SKIP
        >>> sum(shared(batch).values()).backward()  # doctest: +SKIP
        """
        return self.loss(batch)

    def loss(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Terms whose sum a training step makes smaller, each times its weight."""
        raise ModelError(f"{self.system} is not trained")

    def fit_inputs(self, tokens: Tokens, texts: Sequence[Sequence[str]]) -> None:
        """Learn what is known in closed form from training clips and their captions, before the first step."""

    def refit(self, tokens: Tokens, texts: Sequence[Sequence[str]]) -> None:
        """Fit the closed form again, to all training clips, once the best epoch has been chosen on some of them."""

    def choices(self) -> Mapping[str, Sequence[float]]:
        """State of one number each that is chosen on validation clips after every epoch, with what may be chosen."""
        return {}

    def calibrate(
        self, texts: Sequence[str], videos: Embedding, owner: Int[Tensor, " text"]
    ) -> Mapping[str, float | Tensor]:
        """State, by name, at the values under which validation clips rank best; taken after every epoch.

        Args:
            texts: captions of the validation clips.
            videos: embeddings of the clips.
            owner: the clip of each caption.
        """
        return {}

    def similarity(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "text video"]:
        """Higher is nearer. The one score: training, evaluation and search all rank by it."""
        return similarity(texts, videos, renormalise=self.renormalise)

    @property
    def pairwise(self) -> bool:
        """Whether `similarity` is the system's own, and not the weighted dot product of slots."""
        return type(self).similarity is not RetrievalModel.similarity

    def contributions(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "text video slot"]:
        """What each slot adds to `similarity`, of a system that is not pairwise."""
        return contributions(texts, videos, renormalise=self.renormalise)

    def coarse_texts(self, texts: Embedding) -> Embedding:
        """What the candidates of a search are found by, in dot products with `coarse_videos`."""
        return mean_of_slots(texts) if self.pairwise else texts

    def coarse_videos(self, videos: Embedding) -> Embedding:
        """See `coarse_texts`; as many slots, and as wide."""
        return mean_of_slots(videos) if self.pairwise else videos

    def check(self, tokens: Tokens) -> None:
        """Refuse what the model was not built for.

        Raises:
            ModelError: says what was given and what is wanted.
        """
        widths = self.experts
        if not tokens:
            raise ModelError(f"{self.system} was given no features; it takes {', '.join(widths)}")
        for name, steps in tokens.items():
            if name not in widths:
                raise ModelError(f"{self.system} was not built for {name!r}; it takes {', '.join(widths)}")
            if steps.values.shape[2] != widths[name]:
                raise ModelError(
                    f"{self.system} wants {name} of width {widths[name]}, and was given width {steps.values.shape[2]}"
                )

    def check_embedding(self, embedding: Any, method: str) -> Embedding:
        """Return what a method of this model gave, if clips can be compared by it.

        Raises:
            ModelError: it is no embedding, or has another number of slots than `slots` has names.
        """
        if not isinstance(embedding, Embedding):
            raise ModelError(
                f"the {method} of {self.system} gave a {type(embedding).__name__}; wanted an Embedding, such as "
                "Embedding.even(values, present)"
            )
        count = embedding.values.shape[1]
        if not self.pairwise and count != len(self.slots):
            raise ModelError(
                f"the {method} of {self.system} gave embeddings with {count} slots, and its `slots` names "
                f"{len(self.slots)} ({', '.join(self.slots)}); give `slots` one name for each"
            )
        return embedding

    @property
    def fingerprint(self) -> str:
        """Names the system and its exact weights and configuration; embeddings of two fingerprints never meet."""
        digest = hashlib.sha256(json.dumps(_plain(self.config), sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return f"{self.system}:{digest.hexdigest()[:16]}"

    def save(self, path: str | os.PathLike[str], *, card: str = "", about: Mapping[str, Any] | None = None) -> None:
        """Write config.json, model.safetensors and a card; each appears whole or not at all.

        A save over another model that is interrupted leaves two files that `load_model` refuses to pair.

        Raises:
            ModelError: one of them cannot be written.
        """
        folder = Path(path)
        from reelseek.models.systems import SYSTEMS

        package = SYSTEMS.package(self.system)
        config = {"format": 1, "system": self.system, "config": _plain(self.config), **(about or {})}
        config |= {"package": package} if package else {}
        write_saved(folder, self.state_dict(), config)
        with write_errors(folder / "README.md"):
            write_whole(folder / "README.md", card or f"# {self.system}\n\nA Reelseek retrieval model.\n")


def _plain(config: Any) -> Any:
    return asdict(config) if is_dataclass(config) and not isinstance(config, type) else config


def load_model(path: "RetrievalModel | str | os.PathLike[str]", **settings: Any) -> RetrievalModel:
    """A model from its folder, or an untrained system by name; a model is given back as it is.

    Args:
        path: a folder with config.json and model.safetensors, or a name in SYSTEMS that needs no training.
        settings: given to the system's configuration when it is built by name.

    Raises:
        ModelError: neither; or the folder's files do not fit together, or a weight is NaN or infinite.
    """
    from reelseek.models.systems import SYSTEMS

    if isinstance(path, RetrievalModel):
        return path
    folder = Path(path)
    if not folder.is_dir() and str(path) in SYSTEMS and SYSTEMS[str(path)].trained is False:
        return SYSTEMS[str(path)].build(settings)
    if not (folder / "config.json").is_file():
        names = ", ".join(name for name, system in SYSTEMS.items() if not system.trained)
        raise ModelError(
            f"{folder} is not a model: no config.json there, nor a system that needs no training ({names})"
            f"{suggest(str(path), SYSTEMS)}"
        )
    try:
        config, weights = read_saved(folder)
        if "system" not in config or "config" not in config:
            raise ModelError("its config.json names no system and configuration; is it a folder of another project?")
        system = SYSTEMS.of_saved(config["system"], str(config.get("package", "")))
        model = system.build(config["config"])
        model.load_state_dict(weights)
        model.record = {key: value for key, value in config.items() if key not in ("format", "system", "config")}
    except Exception as error:  # safetensors and torch have no common root for a damaged or foreign file
        raise ModelError(f"{folder} cannot be loaded: {error}") from error
    return model.eval()
