"""Search without training: labels, speech, on-screen text and the query embedded in one sentence space.

Object labels, speech and writing on screen are text; a frozen sentence encoder embeds them like the query. With CLIP
weights appearance is one more slot in CLIP's space. Slots add up: vectors are centred on the mean text, so that
unrelated evidence adds about nothing, and an absent modality adds exactly nothing.
"""

import contextlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import platformdirs
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional

from reelseek.errors import ModelError
from reelseek.experts import load_expert
from reelseek.experts.clip import clip_reads, clip_text
from reelseek.experts.efficientnet import imagenet_labels
from reelseek.experts.hub import pretrained_folder
from reelseek.experts.sentence import SENTENCE_DIM, SentenceEncoder, sentence_encoder
from reelseek.library.files import read_checked, write_checked
from reelseek.library.mask import upload, zero_absent
from reelseek.library.tokens import Steps, Tokens
from reelseek.models.embedding import Embedding
from reelseek.models.model import RetrievalModel
from reelseek.models.settings import STRICT
from reelseek.models.shipped import label_means, label_names, remember_shipped

__all__ = ["Concepts", "ConceptsConfig", "background_queries", "label_vectors", "text_centre"]


@dataclass(frozen=True, config=STRICT)
class ConceptsConfig:
    """Args:
    object, speech, ocr, clip: weight of each slot in the sum.
    labels: number of likeliest labels per frame that count.
    clip_model: folder or hub name of the CLIP that made the library's `clip` tracks.
    """

    object: float = Field(default=1.0, ge=0)
    speech: float = Field(default=0.3, ge=0)
    ocr: float = Field(default=0.3, ge=0)
    clip: float = Field(default=2.0, ge=0)
    labels: int = Field(default=10, ge=1, le=1000)
    clip_model: str | None = None


@cache
def background_queries() -> list[str]:
    """A fixed set of everyday queries, about no library in particular."""
    return files("reelseek.models").joinpath("background.txt").read_text("utf-8").split("\n")[:-1]


class Concepts(RetrievalModel):
    """A frozen model: nothing is trained, and its configuration is its whole state."""

    system = "concepts"
    renormalise = False
    embeds_sentences = True
    slots_apart = True

    def __init__(self, config: ConceptsConfig) -> None:
        super().__init__()
        self.config = config
        self._experts = {"object": 1000, "speech": SENTENCE_DIM, "ocr": SENTENCE_DIM}
        if config.clip_model is not None:
            self._experts["clip"] = load_expert(f"clip@{config.clip_model}").dim
        self.slots = tuple(self._experts)
        self._dim = max(SENTENCE_DIM, self._experts.get("clip", 0))
        self.register_buffer("where", torch.zeros(()), persistent=False)  # its only tensor: it carries the device
        self.where: Tensor

    @property
    def experts(self) -> Mapping[str, int]:
        return self._experts

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint}-{sentence_encoder().fingerprint.partition(':')[2]}"

    def encode_videos(self, tokens: Tokens) -> Embedding:
        self.check(tokens)
        videos = len(next(iter(tokens.values())).present)
        device = self.where.device
        values = torch.zeros(videos, len(self.slots), self._dim, device=device)
        present = torch.zeros(videos, len(self.slots), dtype=torch.bool, device=device)
        for index, name in enumerate(self.slots):
            if name in tokens:
                steps = tokens[name]
                row = self._labels(steps) if name == "object" else self._mean_vector(steps, centred=name != "clip")
                present[:, index] = steps.present.any(1)
                values[:, index, : row.shape[1]] = zero_absent(present[:, index, None], row)
        return Embedding.even(values, present)

    def _labels(self, steps: Steps) -> Float[Tensor, "video dim"]:
        """Mean over frames of the likeliest labels' vectors, each weighted by its probability."""
        chances, best = steps.clean.topk(self.config.labels, dim=-1)
        chances = chances / chances.sum(-1, keepdim=True).clamp(min=1e-6)
        vectors = upload([label_vectors()], best.device)[0]
        frames = torch.einsum("vsk,vskd->vsd", chances, vectors[best])
        return functional.normalize(_mean(frames, steps), dim=-1)

    def _mean_vector(self, steps: Steps, *, centred: bool) -> Float[Tensor, "video dim"]:
        mean = _mean(steps.clean, steps)
        return functional.normalize(mean - upload([text_centre()], mean.device)[0] if centred else mean, dim=-1)

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        if any(not text.strip() for text in texts):
            raise ModelError("an empty text has no embedding; give at least one word")
        sentences = functional.normalize(torch.from_numpy(sentence_encoder().encode(texts)) - text_centre(), dim=-1)
        device = self.where.device
        values = torch.zeros(len(texts), len(self.slots), self._dim)
        weights = torch.zeros(len(texts), len(self.slots))
        read = self._read_by_space(texts)
        for index, name in enumerate(self.slots):
            if name == "clip":
                rows = torch.from_numpy(clip_text(self._clip_folder(), texts))
            else:
                rows = sentences
            values[:, index, : rows.shape[1]] = rows
            weights[:, index] = getattr(self.config, name)
            if len(read) > 1:  # a space whose encoder cannot read a text says nothing of it, and the other may
                weights[:, index] *= read["clip" if name == "clip" else "sentence"]
        return Embedding(
            *upload([values], device),
            *upload([torch.ones(weights.shape, dtype=torch.bool)], device),
            *upload([weights], device),
        )

    def reads(self, texts: Sequence[str]) -> Bool[Tensor, " text"]:
        return torch.stack(list(self._read_by_space(texts).values())).any(0)

    def _read_by_space(self, texts: Sequence[str]) -> dict[str, Bool[Tensor, " text"]]:
        """Which texts the encoder of each space can read."""
        read = {"sentence": torch.from_numpy(sentence_encoder().reads(texts))}
        if self.config.clip_model is not None:
            read["clip"] = torch.from_numpy(clip_reads(self._clip_folder(), texts))
        return read

    def _clip_folder(self) -> Path:
        assert self.config.clip_model is not None
        return pretrained_folder(self.config.clip_model)


def _mean(values: Float[Tensor, "video step dim"], steps: Steps) -> Float[Tensor, "video dim"]:
    weights = steps.present[..., None].to(values.dtype)
    return (values * weights).sum(1) / weights.sum(1).clamp(min=1)


@cache
def _encoder() -> SentenceEncoder:
    """The sentence encoder, with the vectors that come with the package; encoding them takes seconds."""
    remember_shipped(sentence_encoder(), background_queries())
    return sentence_encoder()


@cache
def text_centre() -> Float[Tensor, " dim"]:
    """The mean vector of the background queries."""
    return torch.from_numpy(_encoder().encode(background_queries()).mean(axis=0))


@cache
def label_vectors() -> Float[Tensor, "label dim"]:
    """A centred unit vector for each ImageNet class: the mean over its synonyms.

    Those of another encoder than the packaged one take seconds, so they are cached on disk under its fingerprint.
    """
    encoder, labels = _encoder(), imagenet_labels()
    is_known = encoder.remembers([name for label in labels for name in label_names(label)])
    means = label_means(encoder, labels) if is_known else _cached_means(encoder, labels)
    vectors = functional.normalize(torch.from_numpy(means), dim=-1)
    return functional.normalize(vectors - vectors.mean(dim=0), dim=-1)


def _cached_means(encoder: SentenceEncoder, labels: Sequence[str]) -> npt.NDArray[np.float32]:
    cache = Path(platformdirs.user_cache_dir("reelseek")) / f"labels-4-{encoder.fingerprint.replace(':', '-')}.npy"
    try:
        means: npt.NDArray[np.float32] = np.load(BytesIO(read_checked(cache)), allow_pickle=False)
    except (OSError, ValueError, EOFError):  # no cache yet, or a damaged one
        means = label_means(encoder, labels)
        content = BytesIO()
        np.save(content, means)
        with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
            write_checked(cache, content.getvalue())
    return means
