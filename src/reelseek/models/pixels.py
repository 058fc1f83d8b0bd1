"""A system with the networks under it: from frames and samples, end to end.

Any system that is trained on features has a place for them: here a network of windows of frames (`vision_net`) and one
of sound (`audio_net`) stand where its experts do, a step each, and learn with it (MMV, section 3). What is saved is the
system itself, over the features of these two experts, and beside it a folder for each network, so that `reelseek add`
can run them over a library and everything else works as with any model.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reelseek.experts.backbones import S3DG, SpectrogramResNet50, TSMResNet50
from reelseek.library.mask import Mask
from reelseek.library.tokens import Steps, Tokens
from reelseek.models import parallel
from reelseek.models.backbones import save_network
from reelseek.models.batch import Batch, Rows
from reelseek.models.blocks.project import apply_to_present
from reelseek.models.blocks.shared_norm import share_norms
from reelseek.models.embedding import Embedding
from reelseek.models.learned import LearnedModel
from reelseek.models.model import RetrievalModel
from reelseek.models.weights import read_saved

__all__ = ["AUDIO", "VISION", "FromPixels", "Network", "pixel_widths", "saved_tensors"]

VISION, AUDIO = "vision_net", "audio_net"
Network = S3DG | TSMResNet50 | SpectrogramResNet50
_INPUTS = {VISION: "frames", AUDIO: "samples"}


def pixel_widths(vision: Mapping[str, Any], audio: Mapping[str, Any] | None) -> dict[str, int]:
    """Widths of the steps that networks are fed: the pixels of a frame, and the samples of a hundredth of a second.

    Args:
        vision, audio: what the networks take, see `FromPixels`.
    """
    widths = {_INPUTS[VISION]: 3 * int(vision["crop"]) ** 2}
    return widths if audio is None else {**widths, _INPUTS[AUDIO]: int(audio["rate"]) // 100}


class FromPixels(LearnedModel):
    """Frames and samples -> a network of each -> the experts' features of an inner system, one step each.

    In distributed training the networks' batch statistics are those of all processes, as MMV's released code has them
    (`use_xreplica_bn`), so that several processes learn what one would.

    Args:
        inner: built for the experts of the networks, as wide as these.
        networks: by expert, `vision_net` and perhaps `audio_net`; each with the sizes that it was made with.
        takes: by expert what its network is fed: `frames`, `fps`, `resize`, `crop`; `rate`, `seconds`.
    """

    def __init__(
        self,
        inner: LearnedModel,
        networks: Mapping[str, tuple[Network, Mapping[str, Any]]],
        *,
        takes: Mapping[str, Mapping[str, Any]],
    ) -> None:
        RetrievalModel.__init__(self)
        self.inner = inner
        self.networks = nn.ModuleDict({name: network for name, (network, _) in networks.items()})
        share_norms(self.networks)
        self.sizes = {name: dict(sizes) for name, (_, sizes) in networks.items()}
        self.takes = {name: dict(settings) for name, settings in takes.items()}
        self.system, self.config, self.slots = inner.system, inner.config, inner.slots
        self.renormalise, self.candidates = inner.renormalise, inner.candidates
        self.learns_uncaptioned, self.joins_clips = inner.learns_uncaptioned, inner.joins_clips
        self.text_side = tuple(f"inner.{name}" for name in inner.text_side)
        self.unused = tuple(f"inner.{name}" for name in inner.unused)

    # As the inner system

    @property
    def experts(self) -> Mapping[str, int]:
        return pixel_widths(self.takes[VISION], self.takes.get(AUDIO))

    @property
    def score_loss(self) -> Any:  # type: ignore[override]  # an attribute would register its parameters twice
        return self.inner.score_loss

    @property
    def takes_narrations(self) -> bool:
        return self.inner.takes_narrations

    @property
    def compares_only(self) -> bool:
        return self.inner.compares_only

    @property
    def has_parts(self) -> bool:
        return self.inner.has_parts

    @property
    def pairwise(self) -> bool:
        return self.inner.pairwise

    def fit_inputs(self, tokens: Tokens, texts: Sequence[Sequence[str]]) -> None:
        """Nothing is fitted: features change with the networks, and batch normalisation keeps them in measure."""

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        return self.inner.encode_texts(texts)

    def reads(self, texts: Sequence[str]) -> Bool[Tensor, " text"]:
        return self.inner.reads(texts)

    def similarity(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "text video"]:
        return self.inner.similarity(texts, videos)

    def encode(self, steps: Mapping[str, Steps]) -> Embedding:
        return self.inner.encode(steps)

    # From frames and samples

    def features(self, tokens: Tokens) -> dict[str, Steps]:
        """The experts' features of a batch of windows, one step of each."""
        frames = tokens[_INPUTS[VISION]]
        side = int(self.takes[VISION]["crop"])
        pixels = frames.clean.unflatten(2, (side, side, 3)).permute(0, 4, 1, 2, 3)
        features = {VISION: _one_step(self.networks[VISION], pixels, frames)}
        if AUDIO in self.networks:
            sound = tokens[_INPUTS[AUDIO]]
            features[AUDIO] = _one_step(self.networks[AUDIO], sound.clean.flatten(1), sound)
        return features

    def encode_videos(self, tokens: Tokens) -> Embedding:
        self.check(tokens)
        return self.inner.encode_videos(self.features(tokens))

    def parts(self, batch: Batch) -> dict[str, Rows]:
        return self.inner.parts(replace(batch, tokens=self.features(batch.tokens)))

    def terms_of(self, parts: Mapping[str, Rows], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        return self.inner.terms_of(parts, batch)

    def terms(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        return self.inner.terms(replace(batch, tokens=self.features(batch.tokens)))

    def save(self, path: str | os.PathLike[str], *, card: str = "", about: Mapping[str, Any] | None = None) -> None:
        """Write the networks into folders of their own, then the inner system over their features.

        Raises:
            ModelError: a file cannot be written.
        """
        for name, network in self.networks.items():
            assert isinstance(network, S3DG | TSMResNet50 | SpectrogramResNet50)
            save_network(network, Path(path) / name, takes=self.takes[name], **self.sizes[name])
        self.inner.save(path, card=card, about=about)


def saved_tensors(folder: Path) -> dict[str, Tensor]:
    """Read the tensors of a model that `FromPixels.save` wrote, by the names that they have in a FromPixels.

    Raises:
        ModelError: see `read_saved`.
    """
    tensors = {f"inner.{name}": value for name, value in read_saved(folder)[1].items()}
    for expert in (VISION, AUDIO):
        if (folder / expert).is_dir():
            tensors |= {f"networks.{expert}.{name}": value for name, value in read_saved(folder / expert)[1].items()}
    return tensors


def _one_step(network: nn.Module, inputs: Tensor, steps: Steps) -> Steps:
    """A network's features of the clips that have any of its inputs, as one step that lasts as long as they do."""
    present: Mask = steps.videos
    shared = network.training and parallel.active()  # a process without inputs takes its part in batch statistics
    spans = torch.stack([steps.spans[..., 0].amin(1), steps.spans[..., 1].amax(1)], -1)[:, None]
    if parallel.total_count(present.count) if shared else present.count:
        values = apply_to_present(network, inputs, present)
    else:
        assert isinstance(network.width, int)
        values = inputs.new_zeros(len(inputs), network.width)
    return Steps(values[:, None], present.tensor[:, None], spans, host=present.host[:, None])
