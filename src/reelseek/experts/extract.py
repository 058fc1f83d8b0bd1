"""One video through all its experts in one pass over the file: what a worker process does."""

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from reelseek.errors import ExpertUnavailable, MediaError
from reelseek.experts import load_expert
from reelseek.experts.channel import Channel, ServerAddress
from reelseek.experts.encoder import encoder_of, use_remote
from reelseek.experts.expert import Expert, Session, Track, check_track
from reelseek.experts.hub import model_bytes
from reelseek.experts.parts import PART_SECONDS, Parts, Resumable
from reelseek.media.container import Limits
from reelseek.media.decode import decode
from reelseek.media.memory import available_memory
from reelseek.media.notice import Notice
from reelseek.media.picture import THUMBNAIL_STREAM, Thumbnails
from reelseek.media.shots import SHOT_STREAM, ShotDetector
from reelseek.media.streams import FrameStream, Stream

__all__ = ["Extracted", "WorkerPlan", "extract", "is_served", "plan_workers", "prepare_worker", "worker_expert"]

_MEMORY_SHARE = 0.8  # of what is free, that models may take
_KEPT_EVERY = 5.0  # seconds of wall time, by what works on when the file is read
_UNMOVED: dict[str, str] = {}  # by spec, why this process could not move an expert's model


@dataclass
class Extracted:
    """Tracks by expert spec, errors by expert spec, and what the pass over the file yields by itself.

    `seconds` are what each expert spent. `notices` say what of the file was guessed, mended or could not be decoded;
    the rest was.
    """

    tracks: dict[str, Track] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
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
    """A session that is fed no more after its first error, so that one expert's failure does not end the others.

    Attributes:
        restored: how many of the first batches it has from an earlier pass, and is not fed again.
    """

    def __init__(self, spec: str, parts: Parts | None) -> None:
        self.expert = load_expert(spec)
        self.session: Session | None = None
        self.error = ""
        self.seconds = 0.0
        self.restored = self._batches = 0
        self._parts = parts
        self._saved_seconds: float | None = None
        self._kept = time.perf_counter()
        try:
            self.session = worker_expert(spec).open()
            if not self._restore():
                self.session = worker_expert(spec).open()
        except MemoryError:
            raise
        except Exception as error:  # an expert is foreign code: whatever it raises is its failure, not the run's
            self.error = f"{type(error).__name__}: {error}"

    def _restore(self) -> bool:
        """Take up what an earlier pass has made; False where that cannot be read, and the session begins anew."""
        session: Any = self.session
        if self._parts is None or not isinstance(session, Resumable):
            return True
        restored, states = self._parts.load(self.expert.fingerprint)
        try:
            if states:
                session.restore_parts(states)
                self.restored = restored
        except (ValueError, KeyError, TypeError, IndexError):  # of another version of this expert
            self._parts.forget(self.expert.fingerprint)
            return False
        return True

    def feed(self, batch: Any) -> None:
        self._batches += 1
        if self._batches <= self.restored:
            return
        if self.session is not None and not self.error:
            started = time.perf_counter()
            try:
                self.session.feed(batch)
                self._save_after(batch)  # which may be the first to wait for what was computed elsewhere
            except MemoryError:
                raise
            except Exception as error:  # see above
                self.error = f"{type(error).__name__}: {error}"
            self.seconds += time.perf_counter() - started

    def _save_after(self, batch: Any) -> None:
        """Keep what the session made of each minute of video; of one that can only be kept in closing, nothing."""
        if isinstance(batch, list) or not len(batch):
            return
        if self._saved_seconds is None:
            self._saved_seconds = batch.end_seconds
        if batch.end_seconds - self._saved_seconds >= PART_SECONDS and not hasattr(self.session, "keep_part"):
            self._saved_seconds = batch.end_seconds
            self._save(self._batches)

    def _save_in_closing(self) -> None:
        if time.perf_counter() - self._kept >= _KEPT_EVERY:
            self._kept = time.perf_counter()
            self._save(0)

    def _save(self, batches: int) -> None:
        session: Any = self.session
        if self._parts is not None and isinstance(session, Resumable) and not self.error:
            self._parts.save(self.expert.fingerprint, batches, session.save_part())

    def prepare_to_close(self) -> None:
        """Let a session that works on after the last batch keep what it has made now and then."""
        if self._parts is not None and hasattr(self.session, "keep_part"):
            session: Any = self.session
            session.keep_part = self._save_in_closing


def extract(
    path: Path,
    specs: Sequence[str],
    limits: Limits,
    *,
    pictures: bool = True,
    copies: Sequence[Path] = (),
    parts: Parts | None = None,
) -> Extracted:
    """Run experts over one file.

    Args:
        specs: experts, `name` or `name@model`.
        pictures: also find shot cuts and keep thumbnails.
        copies: other files of the same bytes, beside which subtitles may lie too.
        parts: what an earlier pass over the same bytes has made, and where this one is kept every minute of video.

    Raises:
        MediaError: the file cannot be decoded at all.
    """
    sessions = {spec: _Guarded(spec, parts) for spec in specs}
    wants: dict[Stream, list[Any]] = {}
    for spec, session in sessions.items():
        for stream in load_expert(spec).streams:
            wants.setdefault(stream, []).append(session.feed)
    blank: dict[Stream, int] = {
        stream: min(sessions[spec].restored for spec in specs if stream in load_expert(spec).streams)
        for stream in wants
        if isinstance(stream, FrameStream)
    }
    shots, thumbnails = ShotDetector(), Thumbnails()
    if pictures:  # cheap, and made anew
        for stream, feed in ((SHOT_STREAM, shots.feed), (THUMBNAIL_STREAM, thumbnails.feed)):
            wants.setdefault(stream, []).append(feed)
            blank[stream] = 0
    if parts is not None:
        for consumers in wants.values():
            consumers.append(partial(_tell, parts))
    decoded = decode(path, wants, limits=limits, copies=copies, blank=blank)
    result = Extracted(
        end_seconds=decoded.end_seconds, cuts=shots.cuts(), thumbnails=thumbnails.pictures, notices=decoded.notices
    )
    if decoded.packet_errors:
        message = f"damaged: {decoded.packet_errors} packets could not be decoded; the rest was used"
        result.notices.insert(0, Notice("", message, lost=True))
    if parts is not None and parts.error:
        result.notices.append(Notice("", f"the work on it could not be kept before its end: {parts.error}"))
    for spec, session in sessions.items():
        reads_frames = any(isinstance(stream, FrameStream) for stream in load_expert(spec).streams)
        _close(spec, session, decoded.picture_end if reads_frames else decoded.sound_end, result)
    return result


def _tell(parts: Parts, batch: Any) -> None:
    """Say how far a pass has come, by the last picture or sample of a batch."""
    if not isinstance(batch, list) and len(batch):
        parts.tell(batch.end_seconds)


def _close(spec: str, session: _Guarded, end_seconds: float, result: Extracted) -> None:
    started = time.perf_counter()
    try:
        if session.session is not None and not session.error:
            session.prepare_to_close()
            track = session.session.close(end_seconds)
            check_track(track, session.expert)
            result.tracks[spec] = track
            result.seconds[spec] = session.seconds + time.perf_counter() - started
            return
    except (MemoryError, MediaError):
        raise
    except Exception as error:  # see _Guarded
        session.error = f"{type(error).__name__}: {error}"
    result.errors[spec] = session.error
