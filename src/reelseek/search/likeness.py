"""Examples as embeddings: what a moment, a picture or a piece of footage is to the model that clips were embedded by.

Files are extracted by the experts that made the library's tracks, in a process of their own that ends with the call,
and embedded like clips. Nothing of them is kept in the library.
"""

import os
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from reelseek.errors import DecodeError, ExpertUnavailable, MediaError, QueryError, UsageError
from reelseek.experts import load_expert
from reelseek.experts.expert import Track
from reelseek.library.store import Library
from reelseek.library.tokens import Clip, TokenReader
from reelseek.media.guard import guarded
from reelseek.models.embed import embed_clips, reader_for
from reelseek.models.embedding import Embedding
from reelseek.models.model import RetrievalModel
from reelseek.search.examples import Example, Examples, Footage, Moment, Picture

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

__all__ = ["MOST_PIXELS", "PICTURES", "Likeness", "compared_alone", "embed_example"]

_TAKEN_AWAY = -0.5  # what an example of what is not looked for counts, where one of what is counts 1
_MOST_SECONDS = 1800.0  # of a file that is extracted for one search
_PICTURE_SECONDS = 60.0
_NOT_IN_PICTURES = ("motion", "audio", "speech")  # a still says nothing of them
PICTURES = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "AVIF")
MOST_PIXELS = 8192 * 8192


@dataclass(frozen=True)
class Likeness:
    """One example under a model.

    Args:
        embedding: as of a clip; what is not compared is not present.
        weight: what it counts in the sum; negative takes away.
        clip: of the library, if it is a moment of it.
    """

    embedding: Embedding
    weight: float
    clip: Clip | None = None


def compared_alone(
    model: RetrievalModel, modalities: Mapping[str, str], examples: Examples, *, words: bool
) -> str | None:
    """The modality or expert that clips have to be embedded from alone, as examples say; None where all are.

    Where every slot is made of one expert, an example of one modality leaves its other slots out instead.

    Args:
        modalities: of each expert of the library.
        words: the query has words, too.

    Raises:
        UsageError: an unknown modality, or one that the system cannot tell from the others in this question.
    """
    every = {getattr(example, "modality", None) for example in (*examples.like, *examples.unlike)}
    names = [name for name in every if name is not None]
    for name in names:
        if name not in {*modalities, *modalities.values(), *model.experts}:
            raise UsageError(f"unknown modality or expert {name!r} of an example; there are {', '.join(modalities)}")
    if not names or (model.slots_apart and not model.pairwise):
        return None
    if len(every) > 1 or words:
        raise UsageError(
            f"{model.system} fuses its modalities into one embedding, so that a search by {names[0]} alone takes "
            "examples of that alone, without words; leave the others away"
        )
    return names[0]


def embed_example(
    library: Library, model: RetrievalModel, reader: TokenReader, example: Example, *, takes_away: bool
) -> Likeness:
    """Embed an example as clips of the library are.

    Args:
        reader: of the experts that clips are embedded from.

    Raises:
        QueryError: it is no picture or footage, or has nothing that the model compares.
        UsageError: no such video, or the library's experts cannot run here.
    """
    weight = _TAKEN_AWAY if takes_away else 1.0
    if isinstance(example, Moment):
        clip = _clip_of(library, example)
        embedding = embed_clips(model, reader, [clip])
        if example.modality is not None and not model.pairwise and model.slots_apart:
            embedding = _of_modality(model, reader, embedding, example.modality)
        _require_evidence(model, reader, embedding, f"{clip.video} from {example.start:g} s on", example.modality)
        return Likeness(embedding, weight, clip)
    with tempfile.TemporaryDirectory(prefix="reelseek-") as folder, Library.open(folder, create=True) as extra:
        tracks = _extracted(library, reader, example)
        with extra.saving():
            extra.catalog.videos.add("example")
            for name, track in tracks.items():
                extra.put_track("id:example", name, reader.fingerprints[name], reader.modalities[name], track)
        span = (example.start, example.end) if isinstance(example, Footage) else (None, None)
        present = [name for name in reader.dims if name in tracks and len(tracks[name].values)]
        if not present:
            raise QueryError(f"{example.path} has nothing of {', '.join(reader.dims)}, which {model.system} compares")
        embedding = embed_clips(model, reader_for(model, extra, present), [Clip("example", *span)])
    _require_evidence(model, reader, embedding, str(example.path), None)
    return Likeness(embedding, weight)


def _clip_of(library: Library, moment: Moment) -> Clip:
    video = library.video(moment.video)
    if video.duration is not None and moment.start >= video.duration:
        raise QueryError(f"{video.id} lasts {video.duration:g} s, and the example begins at {moment.start:g} s")
    return Clip(video.id, moment.start, moment.end)


def _of_modality(model: RetrievalModel, reader: TokenReader, embedding: Embedding, modality: str) -> Embedding:
    """What an embedding has of one modality or expert alone."""
    names = [slot for slot in model.slots if modality in (slot, reader.modalities.get(slot))]
    if not names:
        raise UsageError(
            f"{model.system} compares nothing of {modality!r}; it compares {', '.join(reader.dims)}. "
            "Take a model that was trained with it"
        )
    selected = torch.tensor([slot in names for slot in model.slots])
    return Embedding(embedding.values, embedding.present & selected, embedding.weights)


def _require_evidence(
    model: RetrievalModel, reader: TokenReader, embedding: Embedding, name: str, modality: str | None
) -> None:
    if not bool(embedding.present.any()):
        what = modality or ", ".join(reader.dims)
        raise QueryError(f"{name} has nothing of {what} that {model.system} compares; take another example")


# Files


def _extracted(library: Library, reader: TokenReader, example: Picture | Footage) -> Mapping[str, Track]:
    """The tracks of a file by expert, made as the library's were.

    Raises:
        QueryError: it cannot be read.
        UsageError: none of the experts can run here, or all failed on it.
    """
    path = Path(example.path)
    specs, problems = _specs(library, reader)
    if isinstance(example, Picture):
        specs = {spec: name for spec, name in specs.items() if reader.modalities[name] not in _NOT_IN_PICTURES}
        seconds = _PICTURE_SECONDS
    else:
        seconds = _checked_length(path, example)
    if not specs:
        reason = f": {'; '.join(problems)}" if problems else f", which is of {', '.join(reader.dims)}"
        raise UsageError(f"{path} cannot be compared with the library{reason}")
    from reelseek.media.container import Limits  # what decodes is imported by searches alone that show something

    limits = Limits()
    try:
        tracks, errors = guarded(
            _extract_picture if isinstance(example, Picture) else _extract_footage,
            (path, tuple(specs)),
            seconds=limits.with_models(len(specs)).wall_seconds(seconds),
        )
    except (MediaError, OSError) as error:
        raise QueryError(f"the example cannot be read: {error}") from error
    if not tracks and errors:
        raise UsageError(f"{path}: {'; '.join(errors.values())}")
    return {specs[spec]: track for spec, track in tracks.items()}


def _specs(library: Library, reader: TokenReader) -> tuple[dict[str, str], list[str]]:
    """The experts that made the tracks that are read, as specs with their names, and why others cannot be run."""
    specs: dict[str, str] = {}
    problems = []
    recorded = {spec.partition("@")[0]: spec for spec in library.catalog.expert_specs()}
    for name in reader.dims:
        spec = recorded.get(name, name)
        try:
            if load_expert(spec).fingerprint == reader.fingerprints[name]:
                specs[spec] = name
            else:
                problems.append(f"the library's {name} tracks are by another expert than the one here")
        except (ExpertUnavailable, UsageError) as error:
            problems.append(f"{name}: {error}")
    return specs, problems


def _checked_length(path: Path, footage: Footage) -> float:
    from reelseek.media.container import probe

    try:
        duration = probe(path).duration
    except MediaError as error:
        raise QueryError(f"the example cannot be read: {error}") from error
    if duration is not None and duration > _MOST_SECONDS:
        raise QueryError(
            f"{path} lasts {duration / 60:.0f} minutes; at most {_MOST_SECONDS / 60:.0f} are examined for one search. "
            "Cut it, or add it to the library and name a moment of it"
        )
    if duration is not None and (footage.start or 0.0) >= duration:
        raise QueryError(f"{path} lasts {duration:g} s, and the example begins at {footage.start:g} s")
    return duration or _MOST_SECONDS


def _extract_footage(task: tuple[Path, Sequence[str]]) -> tuple[dict[str, Track], dict[str, str]]:
    from reelseek.experts.extract import extract
    from reelseek.media.container import Limits

    path, specs = task
    result = extract(path, specs, Limits(), pictures=False)
    return result.tracks, result.errors


def _extract_picture(task: tuple[Path, Sequence[str]]) -> tuple[dict[str, Track], dict[str, str]]:
    """Show a picture to the experts as a film of one second, without any loss."""
    path, specs = task
    pixels = _read_picture(path)
    with tempfile.TemporaryDirectory(prefix="reelseek-") as folder:
        film = Path(folder, "picture.mov")
        _write_film(film, pixels)
        return _extract_footage((film, specs))


def _read_picture(path: Path) -> npt.NDArray[np.uint8]:
    """RGB [height, width, 3], upright.

    Raises:
        DecodeError: it is no picture.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DecodeError(f"{path} is no regular file")
        Image.init()
        with Image.open(path, formats=[name for name in PICTURES if name in Image.OPEN]) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise DecodeError(f"{path} has {picture.width}x{picture.height} pixels, which is too many")
            pixels = _rgb(ImageOps.exif_transpose(picture))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "it is no picture that can be read" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DecodeError(f"{path}: {reason}; pictures are JPEG, PNG, WebP, GIF, BMP or TIFF") from error
    return pixels


def _rgb(picture: "PILImage") -> npt.NDArray[np.uint8]:
    """Convert to the bytes that a screen shows: deep grey is scaled, and what is transparent lies on white.

    Pillow alone would clip grey values above 255, so that nearly all of a picture of 16 bits is white, and would show
    whatever colours lie hidden in transparent pixels.
    """
    from PIL import Image

    if picture.mode.startswith(("I", "F")):
        values = np.nan_to_num(np.asarray(picture, np.float64))
        ranges = (65535.0,) if picture.mode.startswith("I;16") else (1.0, 255.0, 65535.0)
        low, highest = min(0.0, values.min()), values.max()
        high = next((end for end in ranges if highest <= end), highest)
        grey = ((values - low) * (255.0 / (high - low))).round().astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.has_transparency_data:
        opaque = Image.new("RGBA", picture.size, "white")
        opaque.alpha_composite(picture.convert("RGBA"))
        picture = opaque
    return np.asarray(picture.convert("RGB"))


def _write_film(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("png", rate=2)
        stream.width, stream.height, stream.pix_fmt = pixels.shape[1], pixels.shape[0], "rgb24"
        for number in range(2):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 2)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
