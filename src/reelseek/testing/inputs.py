"""Random inputs for a model of any system, with holes."""

import torch

from reelseek.library.tokens import Steps
from reelseek.models.batch import Batch
from reelseek.models.model import RetrievalModel

__all__ = ["TEXTS", "random_batch", "random_tokens"]

TEXTS = ("a cat sits on a chair", "two dogs run. they bark at a red car.", "a man is cooking", "music plays")
_FRAMES = 24  # of a spectrogram, which networks of sound shorten


def random_tokens(model: RetrievalModel, videos: int = 4, steps: int = 5, seed: int = 1) -> dict[str, Steps]:
    """Make steps of every expert of a model, with holes; each expert is absent in one video, never all in one."""
    generator = torch.Generator().manual_seed(seed)
    tokens = {}
    for index, (name, dim) in enumerate(model.experts.items()):
        length = _FRAMES if name == "audio" else steps
        values = torch.rand(videos, length, dim, generator=generator)
        present = torch.rand(videos, length, generator=generator) > 0.3
        present[:, 1] = True
        present[index % videos] = False
        spans = torch.arange(length).float()[None, :, None].expand(videos, length, 2).clone()
        tokens[name] = Steps(values, present, spans + torch.tensor([0.0, 1.0]))
    return tokens


def random_batch(model: RetrievalModel) -> Batch:
    """Make a batch of four clips of three videos with a caption for each clip."""
    return Batch(random_tokens(model), TEXTS, torch.tensor([0, 0, 1, 2]))
