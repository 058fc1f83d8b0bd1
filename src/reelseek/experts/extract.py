"""One video through all its experts in one pass over the file: what a worker process does."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelseek.errors import ExpertUnavailable, MediaError
from reelseek.experts import load_expert
from reelseek.experts.channel import Channel, ServerAddress
from reelseek.experts.encoder import encoder_of, use_remote
from reelseek.experts.expert import Expert, Session, Track, check_track
from reelseek.experts.hub import model_bytes
from reelseek.media.container import Limits
from reelseek.media.decode import decode
from reelseek.media.memory import available_memory
from reelseek.media.notice import Notice
from reelseek.media.picture import THUMBNAIL_STREAM, Thumbnails
from reelseek.media.shots import SHOT_STREAM, ShotDetector
from reelseek.media.streams import FrameStream, Stream

__all__ = ["Extracted", "WorkerPlan", "extract", "is_served", "plan_workers", "prepare_worker", "worker_expert"]

_MEMORY_SHARE = 0.8  # of what is free, that models may take
_UNMOVED: dict[str, str] = {}  # by spec, why this process could not move an expert's model


@dataclass
class Extracted:
    """Tracks by expert spec, errors by expert spec, and what the pass over the file yields by itself.

    `notices` say what of the file was guessed, mended or could not be decoded; the rest was.
    """

    tracks: dict[str, Track] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    end_seconds: float = 0.0
    cuts: list[float] = field(default_factory=list)
    thumbnails: list[tuple[float, bytes]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)


@dataclass(frozen=True)
class WorkerPlan:
    """How many processes extract side by side, and on how many threads each computes.

    `reason` says why there are fewer processes than cores, else it is empty. `serves`: models run in one model server
    and not in the processes.
    """

    workers: int
    threads: int = 1
    reason: str = ""
    serves: bool = False


def plan_workers(specs: Sequence[str], device: str = "cpu", workers: int | None = None) -> WorkerPlan:
    """Plan one process a core, or as many as memory holds the models of which each process has its own copy.

    On an accelerator a model server has the models of all experts that it can serve. On the CPU, where processes with
    their own copies are faster, none.

    Args:
        workers: processes; None plans them.
    """
    serves = device != "cpu" and any(map(is_served, specs))
    if workers:
        return WorkerPlan(workers, serves=serves)
    cores = os.cpu_count() or 1
    copied = {spec.partition("@")[2] for spec in specs if not (serves and is_served(spec))}
    needed = sum(model_bytes(model) for model in copied if model)
    if not needed:
        return WorkerPlan(cores, serves=serves)
    fitting = max(1, min(cores, int(_MEMORY_SHARE * _free_memory(device) / needed)))
    if fitting == cores:
        return WorkerPlan(cores, serves=serves)
    reason = f"{fitting} at a time on {cores} cores: each holds {needed / 1e9:.1f} GB of models (--workers changes it)"
    return WorkerPlan(fitting, cores // fitting, reason, serves)


def _free_memory(device: str) -> int:
    """Bytes that models may take where they compute."""
    if device != "cpu":
        import torch

        from reelseek.experts.device import free_memory

        with contextlib.suppress(Exception):  # a device that cannot be used is the experts' failure
            return free_memory(torch.device(device)) or available_memory()
    return available_memory()


def is_served(spec: str) -> bool:
    """Whether an expert's model can run in a model server."""
    return encoder_of(load_expert(spec)) is not None


def prepare_worker(
    specs: Sequence[str], device: str = "cpu", threads: int = 1, server: ServerAddress | None = None
) -> None:
    """Load experts and their weights before the memory limit is set; compute on few threads, as files run side by side.

    An expert whose weights cannot be loaded, or moved to the device, fails later, for each file, and alone.

    Args:
        device: where the models of those experts go that have `to`.
        server: has the models of those experts that have an encoder.
    """
    import torch

    torch.set_num_threads(threads)
    use_remote(Channel(server) if server is not None else None)
    for spec in specs:
        expert = load_expert(spec)
        encoder = encoder_of(expert)
        if server is not None and encoder is not None:
            if encoder.spec in server.errors:
                _UNMOVED[spec] = server.errors[encoder.spec]
            continue
        prepare = getattr(expert, "prepare", None)
        if callable(prepare):
            with contextlib.suppress(Exception):
                prepare()
        if device != "cpu" and hasattr(expert, "to"):
            try:
                expert.to(device)
            except Exception as error:  # foreign code and drivers: an error here would end the whole pool
                reason = f"its model could not be moved to {device}: {type(error).__name__}: {error}"
                _UNMOVED[spec] = f"{reason}; use fewer --workers, or --device cpu"


def worker_expert(spec: str) -> Expert:
    """Return an expert that `prepare_worker` loaded.

    Raises:
        ExpertUnavailable: its model could not be loaded, or moved to the device.
    """
    if spec in _UNMOVED:
        raise ExpertUnavailable(_UNMOVED[spec])
    return load_expert(spec)


class _Guarded:
    """A session that is fed no more after its first error, so that one expert's failure does not end the others."""

    def __init__(self, spec: str) -> None:
        self.expert = load_expert(spec)
        self.session: Session | None = None
        self.error = ""
        try:
            self.session = worker_expert(spec).open()
        except MemoryError:
            raise
        except Exception as error:  # an expert is foreign code: whatever it raises is its failure, not the run's
            self.error = f"{type(error).__name__}: {error}"

    def feed(self, batch: Any) -> None:
        if self.session is not None and not self.error:
            try:
                self.session.feed(batch)
            except MemoryError:
                raise
            except Exception as error:  # see above
                self.error = f"{type(error).__name__}: {error}"


def extract(
    path: Path, specs: Sequence[str], limits: Limits, *, pictures: bool = True, copies: Sequence[Path] = ()
) -> Extracted:
    """Run experts over one file.

    Args:
        specs: experts, `name` or `name@model`.
        pictures: also find shot cuts and keep thumbnails.
        copies: other files of the same bytes, beside which subtitles may lie too.

    Raises:
        MediaError: the file cannot be decoded at all.
    """
    sessions = {spec: _Guarded(spec) for spec in specs}
    wants: dict[Stream, list[Any]] = {}
    for spec, session in sessions.items():
        for stream in load_expert(spec).streams:
            wants.setdefault(stream, []).append(session.feed)
    shots, thumbnails = ShotDetector(), Thumbnails()
    if pictures:
        wants.setdefault(SHOT_STREAM, []).append(shots.feed)
        wants.setdefault(THUMBNAIL_STREAM, []).append(thumbnails.feed)
    decoded = decode(path, wants, limits=limits, copies=copies)
    result = Extracted(
        end_seconds=decoded.end_seconds, cuts=shots.cuts(), thumbnails=thumbnails.pictures, notices=decoded.notices
    )
    if decoded.packet_errors:
        message = f"damaged: {decoded.packet_errors} packets could not be decoded; the rest was used"
        result.notices.insert(0, Notice("", message, lost=True))
    for spec, session in sessions.items():
        reads_frames = any(isinstance(stream, FrameStream) for stream in load_expert(spec).streams)
        _close(spec, session, decoded.picture_end if reads_frames else decoded.sound_end, result)
    return result


def _close(spec: str, session: _Guarded, end_seconds: float, result: Extracted) -> None:
    try:
        if session.session is not None and not session.error:
            track = session.session.close(end_seconds)
            check_track(track, session.expert)
            result.tracks[spec] = track
            return
    except (MemoryError, MediaError):
        raise
    except Exception as error:  # see _Guarded
        session.error = f"{type(error).__name__}: {error}"
    result.errors[spec] = session.error
