"""The text side: captions -> one vector each, or one per token; frozen or trained with the model.

Text is one more modality: a caption's tokens are `Steps`, as a video's are. Every system takes every encoder.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from reelseek.errors import ExpertUnavailable, ModelError
from reelseek.experts.clip import is_sigmoid
from reelseek.experts.hub import weights_hash
from reelseek.experts.sentence import SENTENCE_DIM, packaged_encoder
from reelseek.library.caption_features import CaptionFeatures
from reelseek.library.mask import Mask, upload
from reelseek.library.text_store import TextStore
from reelseek.library.tokens import Steps
from reelseek.models.settings import STRICT
from reelseek.models.text_networks import (
    as_trained,
    collate_tokens,
    count_positions,
    encoder_folder,
    is_causal,
    is_clip,
    load_encoder,
    run_encoder,
    trainable_copy,
)
from reelseek.models.words import split_words, word_vectors

__all__ = [
    "FEATURES",
    "TextConfig",
    "TextEncoder",
    "caption_features_of",
    "named_features",
    "refuse_features",
    "takes_one_text",
]

FEATURES = "features"  # the encoder's name where captions come as vectors; `features@NAME` where a library has those

_log = logging.getLogger("reelseek")
_VECTORS = (".txt", ".vec", ".bin")
Method = TypeVar("Method", bound=Callable[..., Any])


def takes_one_text(method: Method) -> Method:
    """A method of texts that takes one string as one text, and never as its letters.

    Raises:
        ModelError: what it is called with are no texts.
    """

    @wraps(method)
    def of_texts(model: Any, texts: str | Sequence[str]) -> Any:
        texts = [texts] if isinstance(texts, str) else list(texts) if hasattr(texts, "__iter__") else texts
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ModelError(f"texts are {texts!r:.80}; give a string, or a sequence of strings")
        return method(model, texts)

    return cast(Method, of_texts)


def _uncompiled(method: Method) -> Method:
    """A method that a compiled model calls as it is: tokenizers and files of vectors are no tensors.

    `torch.compiler.disable` as a decorator would say the same, and load the compiler, which costs every process a
    second or more, into those that compile nothing.
    """

    @wraps(method)
    def plain_unless_compiling(*arguments: Any) -> Any:
        if torch.compiler.is_compiling():
            return torch.compiler.disable(method)(*arguments)
        return method(*arguments)

    return cast(Method, plain_unless_compiling)


@dataclass(frozen=True, config=STRICT)
class TextConfig:
    """Args:
    encoder: `sentence` (packaged), a folder or pulled hub name of a BERT-, CLIP- or SigLIP-like model, a file of word
        vectors (GloVe or word2vec, .txt .vec .bin), or `features`: captions come as vectors of width `dim`, and text
        cannot be read. `features@NAME` are those that a library has under this name (`reelseek data import ce-text`).
    trained: train its weights too; they are then part of the model.
    most_tokens: later tokens are left out, and counted in `TextEncoder.left_out`.
    layers: of a BERT-like model, put the last so many layers of each token side by side (COOT, CrossCLR: 2).
    dim: width of its vectors; None reads it from the encoder, which must then be on this machine.
    """

    encoder: str = "sentence"
    trained: bool = False
    most_tokens: int = Field(default=64, ge=1)
    layers: int = Field(default=1, ge=1)
    dim: int | None = Field(default=None, ge=1)


class TextEncoder(nn.Module):
    """Texts -> vectors, by the configured encoder.

    Attributes:
        width: of its vectors.
        left_out: number of tokens beyond `most_tokens` so far; each increase is logged as a warning.
        requested: what it was asked for so far, `words` or `pooled`.
        stores: for each of these, vectors of texts that were encoded before, see `encode_once`.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.left_out = 0
        self.requested: set[str] = set()
        self.stores: dict[str, TextStore] = {}
        self._readable: dict[str, bool] = {}  # of texts of a run whose vectors are stored
        # The only tensor of a frozen encoder: it carries the device.
        self.register_buffer("where", torch.zeros(()), persistent=False)
        self.where: Tensor
        if config.trained:
            if config.encoder.endswith(_VECTORS) or _takes_features(config.encoder):
                what = "caption features" if _takes_features(config.encoder) else "word vectors"
                raise ModelError(f"{what} are not trained; the projection after them is")
            self.encoder = trainable_copy(config.encoder)
        self.width = config.dim or _width(config.encoder) * config.layers
        if config.layers > 1 and not _stacks_layers(config.encoder):
            raise ModelError(
                f"model.text.layers: {config.encoder!r} has no layers that could stand side by side; set it to 1"
            )

    @_uncompiled
    @takes_one_text
    def pooled(self, texts: str | Sequence[str]) -> Float[Tensor, "text width"]:
        """Encode each text as one vector: sentence mean, BERT's [CLS], CLIP's or SigLIP's projection, or mean token.

        Raises:
            ModelError: a text is empty, is features and words are read or the reverse, or features have another width.
        """
        self._refuse_unreadable(texts)
        self.requested.add("pooled")
        stored = self.stores["pooled"].read(texts) if "pooled" in self.stores else None
        if stored is not None:
            return upload([torch.from_numpy(np.concatenate(stored))], self._device)[0]
        if self.config.encoder == "sentence" and not self.config.trained:
            rows = upload([torch.from_numpy(packaged_encoder().encode(texts))], self._device)[0]
            self._check(rows)
            return rows
        steps, pooled = self._encode(texts)
        if pooled is not None:
            self._check(pooled)
            return pooled
        return steps.clean.sum(1) / steps.present.sum(1, keepdim=True).clamp(min=1)

    @_uncompiled
    @takes_one_text
    def words(self, texts: str | Sequence[str]) -> Steps:
        """Encode each token as one vector. A text without any word of a word-vector file has no token.

        Raises:
            ModelError: a text is empty, is features and words are read or the reverse, or features have another width.
        """
        self._refuse_unreadable(texts)
        self.requested.add("words")
        stored = self.stores["words"].read(texts) if "words" in self.stores else None
        steps = self._encode(texts)[0] if stored is None else self._from_store(stored)
        self._check(steps.values)
        return steps

    def words_or_none(self, texts: Sequence[str]) -> Steps:
        """As `words`, but an empty text is a clip in which nothing is said, and has no token."""
        has_words = torch.tensor([bool(text) for text in texts], dtype=torch.bool)
        if bool(has_words.all()):
            return self.words(texts)
        if not bool(has_words.any()):
            silent = Mask.on(self._device, torch.zeros(len(texts), 1, dtype=torch.bool))
            values = torch.zeros(len(texts), 1, self.width, device=self._device)
            return Steps(values, silent.tensor, values.new_zeros(len(texts), 1, 2), host=silent.host)
        spoken = self.words([text for text in texts if text])
        steps = spoken.rows((has_words.cumsum(0) - 1).clamp(min=0))
        present = Mask.on(self._device, steps.mask & has_words[:, None])
        return replace(steps, present=present.tensor, host=present.host)

    @property
    def takes_features(self) -> bool:
        """Whether captions come as vectors, and text cannot be read."""
        return _takes_features(self.config.encoder)

    @property
    def is_frozen(self) -> bool:
        """Whether a text has the same vectors for good, and a network has to run for them."""
        return not (self.config.trained or self.takes_features or self.config.encoder.endswith(_VECTORS))

    @property
    def fingerprint(self) -> str:
        """Names a frozen encoder and all that its vectors depend on."""
        sentence = self.config.encoder == "sentence"
        weights = packaged_encoder().fingerprint if sentence else weights_hash(encoder_folder(self.config.encoder))
        identity = f"{weights}, {self.config.most_tokens} tokens, {self.config.layers}"
        return hashlib.sha256(identity.encode()).hexdigest()[:16]

    def rows_of(self, kind: str, texts: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
        """The vectors [row, width] of texts, to be stored: one for each token in `words`, one in `pooled`."""
        with torch.no_grad():
            if kind == "pooled":
                return {text: row[None] for text, row in zip(texts, self.pooled(texts).cpu().numpy(), strict=True)}
            steps = self._encode(texts)[0]
        starts = steps.mask.int().argmax(1)  # some encoders are padded at the left
        if is_clip(load_encoder(self.config.encoder)[1]):
            starts.zero_()  # the first token is stored too, or the others would move
        ends = steps.mask.shape[1] - steps.mask.int().flip(1).argmax(1)
        values = steps.values.float().cpu().numpy()
        places = zip(texts, values, starts.tolist(), ends.tolist(), strict=True)
        return {text: rows[start:end] for text, rows, start, end in places}

    def _from_store(self, rows: Sequence[npt.NDArray[np.float32]]) -> Steps:
        """Steps of stored tokens, as `_encode` gives them."""
        steps = self._padded(rows, limit=None)
        if is_clip(load_encoder(self.config.encoder)[1]):
            present = steps.mask.clone()
            present[:, 0] = False
            steps = Steps(steps.values, present, steps.spans)
        return steps.to(self._device)

    @_uncompiled
    @takes_one_text
    def reads(self, texts: str | Sequence[str]) -> Bool[Tensor, " text"]:
        """Which texts consist at least half of known words; a trained encoder may learn unknown scripts."""
        if self.takes_features:
            self._refuse_foreign(texts)
            return torch.ones(len(texts), dtype=torch.bool, device=self._device)
        refuse_features(texts)
        if not self.stores:
            return self._reads(texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._readable]
        if new:  # captions of a validation split come again after every epoch
            self._readable.update(zip(new, self._reads(new).tolist(), strict=True))
        return torch.tensor([self._readable[text] for text in texts], dtype=torch.bool, device=self._device)

    def _reads(self, texts: Sequence[str]) -> Bool[Tensor, " text"]:
        if self.config.encoder == "sentence" and not self.config.trained:
            return torch.from_numpy(packaged_encoder().reads(texts)).to(self._device)
        if self.config.encoder.endswith(_VECTORS):
            return self._vectors(texts).present.any(1)
        tokenizer, model = load_encoder(self.config.encoder)
        texts = as_trained(texts, model)
        if tokenizer.unk_token_id in (None, tokenizer.eos_token_id):  # every byte is a token
            return torch.ones(len(texts), dtype=torch.bool, device=self._device)
        rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        readable = [2 * sum(token == tokenizer.unk_token_id for token in row) < max(1, len(row)) for row in rows]
        return torch.tensor(readable, dtype=torch.bool, device=self._device)

    def _refuse_unreadable(self, texts: Sequence[str]) -> None:
        if self.takes_features:
            self._refuse_foreign(texts)
        else:
            refuse_features(texts)
            _refuse_empty(texts)

    def _refuse_foreign(self, texts: Sequence[str]) -> None:
        """Refuse words, and features of another width."""
        for text in texts:
            if not isinstance(text, CaptionFeatures):
                raise ModelError(f"the model reads caption features, and was given the text {text[:40]!r}")
            if text.vectors.shape[1] != self.width:
                raise ModelError(
                    f"the model was built for caption features of width {self.width}, and {text[:40]!r} has width "
                    f"{text.vectors.shape[1]}"
                )

    def _check(self, vectors: Tensor) -> None:
        if vectors.shape[-1] != self.width:
            raise ModelError(
                f"the model was built for text vectors of width {self.width}, and {self.config.encoder!r} gives "
                f"{vectors.shape[-1]}; set model.text.encoder"
            )

    @property
    def _device(self) -> torch.device:
        return self.where.device

    def _encode(self, texts: Sequence[str]) -> tuple[Steps, Tensor | None]:
        if self.takes_features:
            return self._features(texts), None
        if self.config.encoder.endswith(_VECTORS):
            return self._vectors(texts), None
        tokenizer, frozen = load_encoder(self.config.encoder, self._device.type, self._device.index)
        model = self.encoder if self.config.trained else frozen
        rows = [tokenizer(text)["input_ids"] for text in as_trained(texts, model)]
        limit = min(self.config.most_tokens + 2, count_positions(model))
        self._count_left_out(sum(max(0, len(row) - limit) for row in rows), limit)
        rows = [row if len(row) <= limit else [*row[: limit - 1], row[-1]] for row in rows]
        ids, host = collate_tokens(rows, tokenizer, model)
        ids, mask = upload([ids], self._device)[0], Mask.on(self._device, host)
        with torch.set_grad_enabled(self.config.trained and torch.is_grad_enabled()):
            sentence = self.config.encoder == "sentence"
            summary = not is_causal(self.config.encoder)
            values, pooled = run_encoder(
                model, ids, mask.tensor, sentence=sentence, summary=summary, layers=self.config.layers
            )
        if is_clip(model):
            host = host.clone()
            host[:, 0] = False  # the first token is the same for every text; the last is used (EAO, section 4.1)
            mask = Mask.on(self._device, host)
        return Steps(values, mask.tensor, values.new_zeros(*host.shape, 2), host=mask.host), pooled

    def _vectors(self, texts: Sequence[str]) -> Steps:
        vectors = word_vectors(self.config.encoder)
        rows = [[row for row in map(vectors.get, split_words(text)) if row is not None] for text in texts]
        rows_of_texts = [np.array(row, np.float32).reshape(-1, vectors.width) for row in rows]
        return self._padded(rows_of_texts, self.config.most_tokens).to(self._device)

    def _features(self, texts: Sequence[str]) -> Steps:
        rows = [text.vectors for text in texts if isinstance(text, CaptionFeatures)]
        return self._padded(rows, self.config.most_tokens).to(self._device)

    def _padded(self, rows: Sequence[npt.NDArray[np.float32]], limit: int | None) -> Steps:
        """Steps of the vectors [word, dim] of each text on the host, without the words that are too many."""
        if limit is not None:
            self._count_left_out(sum(max(0, len(row) - limit) for row in rows), limit)
            rows = [row[:limit] for row in rows]
        width = rows[0].shape[1] if rows else self.width
        values = np.zeros((len(rows), max(1, *map(len, rows), 1), width), np.float32)
        present = np.zeros(values.shape[:2], bool)
        for index, row in enumerate(rows):
            values[index, : len(row)], present[index, : len(row)] = row, True
        return Steps(torch.from_numpy(values), torch.from_numpy(present), torch.zeros(*present.shape, 2))

    def _count_left_out(self, tokens: int, limit: int) -> None:
        if tokens:
            self.left_out += tokens
            _log.warning("texts longer than %d tokens: %d tokens were left out", limit, tokens)


def _takes_features(encoder: str) -> bool:
    return encoder == FEATURES or encoder.startswith(f"{FEATURES}@")


def named_features(encoder: str | None) -> str | None:
    """The name of the caption features that an encoder's setting asks a library for.

    >>> named_features("features@gpt")
    'gpt'
    """
    return (encoder or "").removeprefix(f"{FEATURES}@") if (encoder or "").startswith(f"{FEATURES}@") else None


def caption_features_of(model: nn.Module) -> str | None:
    """The name of the caption features that a model reads instead of words."""
    encoders = [part.config.encoder for part in model.modules() if isinstance(part, TextEncoder)]
    return next((name for name in map(named_features, encoders) if name is not None), None)


def refuse_features(texts: Sequence[str]) -> None:
    """Refuse captions that come as vectors.

    Raises:
        ModelError: there is one; a text side that reads words would read its name instead.
    """
    for text in texts:
        if isinstance(text, CaptionFeatures):
            raise ModelError(
                f"the model reads captions as text, and {text[:40]!r} comes as features of width "
                f"{text.vectors.shape[1]}; train one with model.text.encoder = 'features'"
            )


def _refuse_empty(texts: Sequence[str]) -> None:
    for text in texts:
        if not text.strip():
            raise ModelError("an empty text has no embedding; give at least one word")


def _stacks_layers(name: str) -> bool:
    """Whether an encoder is a BERT-like model of a folder."""
    if name == "sentence" or name.endswith(_VECTORS) or _takes_features(name):
        return False
    try:
        model = load_encoder(name)[1]
    except ExpertUnavailable:
        return True  # not on this machine, which is said when text is read
    return not (is_clip(model) or is_sigmoid(model.config))


def _width(name: str) -> int:
    if name == "sentence":
        return SENTENCE_DIM
    if _takes_features(name):
        raise ModelError("model.text.encoder = 'features' wants model.text.dim, the width of the caption features")
    if name.endswith(_VECTORS):
        return word_vectors(name).width
    try:
        model = load_encoder(name)[1]
    except ExpertUnavailable as error:
        raise ModelError(f"the text encoder {error}") from error
    if is_sigmoid(model.config):
        return int(model.text_model.head.out_features)
    return int(model.config.projection_dim if is_clip(model) else model.config.hidden_size)
