"""In which sentence encoder's space a library's lines lie: vectors of two encoders never meet."""

import json
import os

from reelseek.errors import ExpertUnavailable, UsageError
from reelseek.experts.sentence import (
    SENTENCE_VARIABLE,
    SentenceEncoder,
    packaged_encoder,
    sentence_encoder,
    use_sentence_encoder,
)
from reelseek.library.storage import Storage

__all__ = ["LINE_EXPERTS", "check_text_space", "follow_text_space", "note_text_space"]

LINE_EXPERTS = ("speech", "ocr")  # their steps are sentence embeddings
_KEY = "text_space"


def check_text_space(storage: Storage) -> None:
    """Refuse to mix the vectors of two sentence encoders.

    Raises:
        UsageError: the library's lines were embedded by another encoder than the one that is named now.
    """
    encoder, noted = sentence_encoder(), json.loads(storage.catalog.meta(_KEY) or "null")
    if noted is None and encoder is packaged_encoder():
        return
    noted = noted or {"name": "", "fingerprint": packaged_encoder().fingerprint}
    lines = [expert for expert in LINE_EXPERTS if storage.catalog.tracks.groups(expert)]
    if not lines or noted["fingerprint"] == encoder.fingerprint:
        return
    embedder = f"the encoder {noted['name']}" if noted["name"] else "the packaged encoder"
    remedy = (
        f"set {SENTENCE_VARIABLE}={noted['name']}"
        if noted["name"]
        else f"unset {SENTENCE_VARIABLE} and name experts without a preset"
    )
    erase = " and ".join(f"reelseek remove {storage.path} --expert {expert}" for expert in lines)
    raise UsageError(
        f"the lines of {storage.path} were embedded by {embedder}, and {_named(encoder)} is named now; {remedy}, or "
        f"make them again after {erase}"
    )


def follow_text_space(storage: Storage) -> str:
    """Embed text in this process by the encoder of the library's lines, where REELSEEK_SENTENCE_ENCODER names none.

    Returns:
        The encoder's name, or '' where there is nothing to follow.

    Raises:
        ExpertUnavailable: the encoder is not on this machine.
        UsageError: this process has embedded text by another encoder.
    """
    name = (json.loads(storage.catalog.meta(_KEY) or "null") or {"name": ""})["name"]
    if not name or os.environ.get(SENTENCE_VARIABLE, "").strip():
        return ""
    if not any(storage.catalog.tracks.groups(expert) for expert in LINE_EXPERTS):
        return ""
    try:
        use_sentence_encoder(name)
    except ExpertUnavailable as error:
        raise ExpertUnavailable(f"the lines of {storage.path} were embedded by {name!r}: {error}") from error
    return str(name)


def note_text_space(storage: Storage) -> None:
    """Keep which encoder embeds the library's lines from now on; call it after `check_text_space`."""
    encoder = sentence_encoder()
    if encoder is not packaged_encoder() or storage.catalog.meta(_KEY) is not None:
        name = "" if encoder is packaged_encoder() else os.environ[SENTENCE_VARIABLE].strip()
        storage.set_meta(_KEY, json.dumps({"name": name, "fingerprint": encoder.fingerprint}))


def _named(encoder: SentenceEncoder) -> str:
    return "the packaged one" if encoder is packaged_encoder() else str(encoder.folder)
