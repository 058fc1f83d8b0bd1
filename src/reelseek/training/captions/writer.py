"""A captioner with what it reads, on disk and in use."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import TypeAdapter
from torch import Tensor

from reelseek.errors import ModelError, UsageError
from reelseek.library.store import Library
from reelseek.library.tokens import Clip
from reelseek.models.captioner import Captioner, CaptionerConfig
from reelseek.models.device import device_of
from reelseek.models.model import RetrievalModel, load_model
from reelseek.models.weights import read_saved, write_saved
from reelseek.training.captions.stories import read_features

__all__ = ["Writer", "check_place", "load_writer", "write_clips"]

_BATCH = 32


class Writer:
    """A captioner with what it reads: embeddings of a retrieval model, or raw tracks.

    Args:
        model: whose embeddings of a clip and of its whole video are read; None reads tracks.
        experts: whose tracks are read, with their widths.
    """

    def __init__(
        self, captioner: Captioner, model: RetrievalModel | None = None, experts: Mapping[str, int] | None = None
    ) -> None:
        if (model is None) == (experts is None):
            raise ValueError("a writer reads either a model's embeddings or tracks")
        self.captioner, self.model, self.experts = captioner.eval(), model, dict(experts or {})

    def to(self, device: torch.device | str) -> Self:
        """Move the captioner, and the model whose embeddings it reads."""
        self.captioner.to(device)
        if self.model is not None:
            self.model.to(device)
        return self

    def write(self, library: Library, videos: Sequence[Sequence[Clip]], *, beam: int = 1) -> list[list[str]]:
        """Write a sentence for each clip of each video; an empty one where there is no evidence."""
        sentences: list[list[str]] = []
        for begin in range(0, len(videos), _BATCH):
            batch = videos[begin : begin + _BATCH]
            features, present = read_features(library, batch, self.model, self.experts)
            sentences += write_clips(self.captioner, features, present, batch, beam=beam)
        return sentences

    def save(self, folder: Path, record: Mapping[str, Any]) -> None:
        """Save the captioner, and beside it the model whose embeddings it reads.

        Args:
            record: of its training, written into config.json.

        Raises:
            UsageError: the folder holds something else.
            ModelError: one of the files cannot be written.
        """
        check_place(folder)
        if self.model is not None:
            self.model.save(folder / "encoder")
        encoder = None if self.model is None else self.model.fingerprint
        settings = {"captioner": asdict(self.captioner.config), "experts": self.experts, "encoder": encoder}
        write_saved(folder, self.captioner.state_dict(), {"format": 1, **settings, **record})


def write_clips(
    captioner: Captioner, features: Tensor, present: Tensor, videos: Sequence[Sequence[Clip]], *, beam: int = 1
) -> list[list[str]]:
    """Write a sentence for each clip from features that were read before, on the captioner's device."""
    device = device_of(captioner)
    rows = captioner.write(features.to(device), present.to(device), beam=beam)
    return [sentences[: len(clips)] for sentences, clips in zip(rows, videos, strict=True)]


def check_place(folder: Path) -> None:
    """Refuse a folder that holds another kind of model, which would be lost.

    Raises:
        UsageError: it does.
    """
    if not (folder / "config.json").is_file():
        return
    try:
        saved = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        saved = None
    if not isinstance(saved, dict) or "captioner" not in saved:
        raise UsageError(f"{folder} holds a model that is no captioner, which would be lost; name another folder")


def load_writer(folder: Path) -> Writer:
    """A captioner from its folder.

    Raises:
        ModelError: it is none, or its files do not fit together.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is no captioner: it has no config.json; `reelseek captioner train` makes one")
    try:
        config, weights = read_saved(folder)
        captioner = Captioner(TypeAdapter(CaptionerConfig).validate_python(config["captioner"]))
        captioner.load_state_dict(weights)
        experts = {str(name): int(dim) for name, dim in config["experts"].items()}
    except Exception as error:  # safetensors, pydantic and torch have no common root for a damaged or foreign file
        raise ModelError(f"{folder} cannot be loaded as a captioner: {error}") from error
    if experts:
        return Writer(captioner, experts=experts)
    model = load_model(folder / "encoder")
    if config.get("encoder") not in (None, model.fingerprint):  # None: saved before it was named
        raise ModelError(
            f"{folder}: the captioner and the model in {folder / 'encoder'} were not saved together; run the command "
            "that wrote them again"
        )
    return Writer(captioner, model)
