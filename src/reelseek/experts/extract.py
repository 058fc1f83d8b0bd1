"""One video through all its experts in one pass over the file: what a worker process does."""

import contextlib
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from reelseek.errors import ExpertUnavailable
from reelseek.experts import load_expert
from reelseek.experts.channel import Channel, ServerAddress
from reelseek.experts.encoder import encoder_of, use_remote
from reelseek.experts.expert import Expert, Session, Track
from reelseek.experts.guarded import GuardedSession, reads_frames
from reelseek.experts.hub import model_bytes
from reelseek.experts.parts import WHOLE, Parts, Resumable, State, Stretch, kept_stretches
from reelseek.media.container import Limits
from reelseek.media.decode import decode
from reelseek.media.memory import available_memory
from reelseek.media.notice import Notice
from reelseek.media.picture import THUMBNAIL_STREAM, Thumbnails
from reelseek.media.shots import SHOT_STREAM, ShotDetector
from reelseek.media.streams import Stream

__all__ = [
    "Extracted",
    "WorkerPlan",
    "close_stretches",
    "extract",
    "is_served",
    "plan_workers",
    "prepare_worker",
    "worker_expert",
]

_MEMORY_SHARE = 0.8  # of what is free, that models may take
_UNMOVED: dict[str, str] = {}  # by spec, why this process could not move an expert's model


@dataclass
class Extracted:
    """Tracks by expert spec, errors by expert spec, and what the pass over the file yields by itself.

    `seconds` are what each expert spent. The video ends at `end_seconds`, its frames at `picture_end`, its samples
    at `sound_end`. `notices` say what of the file was guessed, mended or could not be decoded; the rest was.
    """

    tracks: dict[str, Track] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    end_seconds: float = 0.0
    picture_end: float = 0.0
    sound_end: float = 0.0
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


def _open_session(spec: str) -> Session:
    return worker_expert(spec).open()


def extract(
    path: Path,
    specs: Sequence[str],
    limits: Limits,
    *,
    pictures: bool = True,
    copies: Sequence[Path] = (),
    parts: Parts | None = None,
    short_side: int = 0,
) -> Extracted:
    """Run experts over one file.

    Args:
        specs: experts, `name` or `name@model`.
        pictures: also find shot cuts and keep thumbnails.
        copies: other files of the same bytes, beside which subtitles may lie too.
        parts: what an earlier pass over the same bytes has made, and where this one is kept every minute of video. Of
            a stretch of the video no tracks are made: `close_stretches` makes them of the parts of all stretches.
        short_side: see `decode`.

    Raises:
        MediaError: the file cannot be decoded at all.
    """
    stretch = parts.stretch if parts is not None else WHOLE
    sessions = {spec: GuardedSession(spec, partial(_open_session, spec), parts, stretch) for spec in specs}
    readers = _sessions_by_stream(sessions.values())
    wants: dict[Stream, list[Any]] = {
        stream: [session.consumer(stream) for session in group] for stream, group in readers.items()
    }
    shots, thumbnails = ShotDetector(), Thumbnails()
    needed = {stream: partial(_any_needs, group, stream) for stream, group in readers.items()}
    if pictures:  # cheap, and made anew
        for stream, feed in ((SHOT_STREAM, shots.feed), (THUMBNAIL_STREAM, thumbnails.feed)):
            wants.setdefault(stream, []).append(feed)
            needed.pop(stream, None)
    if parts is not None:
        resumable = [s.expert.fingerprint for s in sessions.values() if isinstance(s.session, Resumable)]
        for consumers in wants.values():
            consumers.append(partial(_report, parts, resumable))
    until = math.inf if pictures else stretch.end
    decoded = decode(
        path, wants, limits=limits, copies=copies, needed=needed, short_side=short_side, until_seconds=until
    )
    result = Extracted(
        end_seconds=decoded.end_seconds,
        picture_end=decoded.picture_end,
        sound_end=decoded.sound_end,
        cuts=shots.cuts(),
        thumbnails=thumbnails.pictures,
        notices=decoded.notices,
    )
    if decoded.packet_errors:
        message = f"damaged: {decoded.packet_errors} packets could not be decoded; the rest was used"
        result.notices.insert(0, Notice("", message, lost=True))
    for spec, session in sessions.items():
        _finish(spec, session, stretch, result)
    if parts is not None and parts.error:
        result.notices.append(Notice("", f"the work on it could not be kept before its end: {parts.error}"))
    return result


def _sessions_by_stream(sessions: Iterable[GuardedSession]) -> dict[Stream, list[GuardedSession]]:
    """The sessions that read each stream."""
    readers: dict[Stream, list[GuardedSession]] = {}
    for session in sessions:
        for stream in session.expert.streams:
            readers.setdefault(stream, []).append(session)
    return readers


def _any_needs(sessions: Sequence[GuardedSession], stream: Stream, seconds: float) -> bool:
    """Whether some session looks at the pictures of the batch of a stream that begins at a time."""
    return any(session.needs(stream, seconds) for session in sessions)


def _report(parts: Parts, resumable: Sequence[str], batch: Any) -> None:
    """Note how far a pass has come, by the last picture or sample of a batch."""
    if not isinstance(batch, list) and len(batch):
        parts.report(batch.end_seconds, resumable)


def _finish(spec: str, session: GuardedSession, stretch: Stretch, result: Extracted) -> None:
    """Note the track of an expert, or why there is none; of a stretch, that its parts are complete."""
    if stretch.is_whole:
        track = session.close(result.picture_end if reads_frames(spec) else result.sound_end)
        if track is not None:
            result.tracks[spec] = track
    else:
        session.end_stretch()
    if session.error:
        result.errors[spec] = session.error
    else:
        result.seconds[spec] = session.seconds


def close_stretches(
    folder: Path, specs: Sequence[str], starts: Sequence[int], *, picture_end: float, sound_end: float
) -> Extracted:
    """Make tracks of the parts of all stretches of a video, as one pass over it would.

    Args:
        folder: of the parts.
        starts: of the stretches, rising.
        picture_end, sound_end: seconds at which the last frame and the last sample end.
    """
    result = Extracted(end_seconds=max(picture_end, sound_end), picture_end=picture_end, sound_end=sound_end)
    for spec in specs:
        fingerprint = load_expert(spec).fingerprint
        stretches = kept_stretches(folder, fingerprint)
        ends = [*starts[1:], math.inf]
        if not all(stretches.get(start, (0.0, 0.0))[1] >= end for start, end in zip(starts, ends, strict=True)):
            result.errors[spec] = "some of the work that was kept on it is lost; add it again"
            continue
        states = [state for start in starts for state in Parts(folder, Stretch(start)).load(fingerprint)[1]]
        session = GuardedSession(spec, partial(_restored_session, spec, states), None)
        _finish(spec, session, WHOLE, result)
    return result


def _restored_session(spec: str, states: list[State]) -> Session:
    session: Any = _open_session(spec)
    session.restore_parts(states)
    opened: Session = session
    return opened
