"""Every text through a frozen text encoder once: what it gives is kept, and read from then on."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from reelseek.library.caption_features import CaptionFeatures
from reelseek.library.text_store import TextStore
from reelseek.models.model import RetrievalModel
from reelseek.models.text import TextEncoder

__all__ = ["encode_once"]

_BLOCK = 64  # texts of about one length that are encoded together
_BLOCKS_A_WRITE = 16
_log = logging.getLogger("reelseek")


def encode_once(model: RetrievalModel, texts: Sequence[str], folder: Path | None) -> None:
    """Encode texts by the frozen text encoders of a model, as it asks for them, and let it read them from then on.

    What a text's vectors are does not depend on which of the texts were encoded before: a block of which any text is
    missing is encoded whole, always with the same company.

    Args:
        folder: where vectors are kept, in a folder for each encoder; None keeps them in memory.
    """
    encoders = [part for part in model.modules() if isinstance(part, TextEncoder) and part.is_frozen]
    unique = sorted(
        {text for text in texts if not isinstance(text, CaptionFeatures)}, key=lambda text: (len(text), text)
    )
    if not encoders or not unique:
        return
    was_training = model.training
    model.eval()
    with torch.no_grad():
        model.encode_texts(unique[:1])  # which shows whether it asks for words or for one vector
    model.train(was_training)
    blocks = [unique[start : start + _BLOCK] for start in range(0, len(unique), _BLOCK)]
    for encoder in encoders:
        for kind in sorted(encoder.requested - encoder.stores.keys()):
            place = folder / f"{encoder.fingerprint}-{kind}" if folder is not None else None
            store = TextStore(place, encoder.width)
            _fill(encoder, kind, store, blocks)
            encoder.stores[kind] = store


def _fill(encoder: TextEncoder, kind: str, store: TextStore, blocks: Sequence[Sequence[str]]) -> None:
    missing = [block for block in blocks if any(text not in store for text in block)]
    if not missing:
        return
    count = sum(map(len, missing))
    where = store.folder or "memory"
    _log.info("encoding %d texts once by %s; kept in %s", count, encoder.config.encoder, where)
    for start in range(0, len(missing), _BLOCKS_A_WRITE):
        part = missing[start : start + _BLOCKS_A_WRITE]
        store.add({text: row for block in part for text, row in encoder.rows_of(kind, block).items()})
    if store.problem:
        _log.warning("%s; encoded texts are kept in memory, for this process", store.problem)
