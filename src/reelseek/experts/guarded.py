"""One expert's session in a pass over a file: an error ends it alone, and its work is kept now and then."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from reelseek.errors import MediaError
from reelseek.experts import load_expert
from reelseek.experts.expert import Session, Track, check_track
from reelseek.experts.parts import PART_SECONDS, WHOLE, Divisible, Parts, Resumable, Stretch
from reelseek.media.streams import FrameStream, Stream

__all__ = ["GuardedSession", "is_divisible", "reads_frames"]

_SAVED_EVERY = 5.0  # seconds of wall time, by a session that works on when the file is read


def is_divisible(spec: str) -> bool:
    """Whether a long video can be shared among several sessions of an expert."""
    return bool(getattr(load_expert(spec), "divisible", False))


def reads_frames(spec: str) -> bool:
    """Whether an expert looks at pictures."""
    return any(isinstance(stream, FrameStream) for stream in load_expert(spec).streams)


class GuardedSession:
    """A session that is fed no more after its first error, so that one expert's failure does not end the others.

    Args:
        spec: expert, `name` or `name@model`.
        open_session: returns a new session.
        parts: what an earlier pass has made, and where this one keeps its work.
        stretch: of the video that it works on.
    """

    def __init__(
        self, spec: str, open_session: Callable[[], Session], parts: Parts | None, stretch: Stretch = WHOLE
    ) -> None:
        self.expert = load_expert(spec)
        self.session: Session | None = None
        self.error = ""
        self.seconds = 0.0
        self._parts, self._stretch = parts, stretch
        streams = tuple(self.expert.streams)
        self._restored = dict.fromkeys(streams, 0)  # batches of the stretch that it is not fed again
        self._passed = dict.fromkeys(streams, 0)
        self._resumed = False  # with what it would learn from the batches before its stretch
        self._until: dict[Stream, float] = {}
        self._saved_until = float(stretch.start)
        self._saved_at = time.perf_counter()
        try:
            self.session = open_session()
            if not stretch.is_whole and not isinstance(self.session, Divisible):
                raise TypeError("its sessions cannot share a video (reelseek.experts.parts.Divisible)")
            if not self._restore():
                self.session = open_session()
        except MemoryError:
            raise
        except Exception as error:  # an expert is foreign code: whatever it raises is its failure, not the run's
            self.error = f"{type(error).__name__}: {error}"

    def _restore(self) -> bool:
        """Take up what an earlier pass has made; False where that cannot be read, and the session begins anew."""
        session: Any = self.session
        if self._parts is None or not isinstance(session, Resumable):
            return True
        batches, states = self._parts.load(self.expert.fingerprint)
        try:
            if states:
                restored = dict(zip(self._restored, batches, strict=True))
                session.restore_parts(states)
                self._restored, self._resumed = restored, True
        except (ValueError, KeyError, TypeError, IndexError):  # of another version of this expert
            self._parts.forget(self.expert.fingerprint)
            return False
        self._saved_until = max(self._saved_until, self._parts.kept_until(self.expert.fingerprint))
        return True

    def consumer(self, stream: Stream) -> Callable[[Any], None]:
        """Return what takes the batches of one of the expert's streams."""
        return partial(self._take, stream)

    def needs(self, stream: Stream, seconds: float) -> bool:
        """Whether it looks at the pictures of the batch that begins at a time, which comes next."""
        if self.error or seconds >= self._stretch.end:
            return False
        if seconds < self._stretch.start:
            return bool(getattr(self.session, "follows_pictures", False)) and not self._resumed
        return self._passed[stream] >= self._restored[stream]

    def _take(self, stream: Stream, batch: Any) -> None:
        begin = None if isinstance(batch, list) else batch.start_seconds
        if begin is not None and begin >= self._stretch.end:
            return
        follows = begin is not None and begin < self._stretch.start
        if not follows:
            self._passed[stream] += 1
            if self._passed[stream] <= self._restored[stream]:
                return
        elif self._resumed:
            return
        if self.session is not None and not self.error:
            started = time.perf_counter()
            session: Any = self.session
            try:
                if follows:
                    session.follow(batch)
                else:
                    session.feed(batch)
                    self._save_after(stream, batch)  # which may be the first to wait for what was computed elsewhere
            except MemoryError:
                raise
            except Exception as error:  # see above
                self.error = f"{type(error).__name__}: {error}"
            self.seconds += time.perf_counter() - started

    def _save_after(self, stream: Stream, batch: Any) -> None:
        """Keep the work before a minute of it could be lost; that of a session that works in closing, nothing."""
        if isinstance(batch, list) or not len(batch) or hasattr(self.session, "keep_part"):
            return
        before = self._until.get(stream, batch.start_seconds)
        self._until[stream] = batch.end_seconds
        until = min(self._until.values())
        if until + (batch.end_seconds - before) - self._saved_until > PART_SECONDS:
            self._save(until)

    def _save(self, until: float, *, ended: bool = False) -> None:
        session: Any = self.session
        if self._parts is not None and isinstance(session, Resumable) and not self.error:
            batches = list(self._passed.values())
            until = min(until, self._stretch.end)  # the last batch of a stretch may end behind it
            self._parts.save(self.expert.fingerprint, batches, session.save_part(), until=until, ended=ended)
            self._saved_until = until

    def _save_in_closing(self) -> None:
        if time.perf_counter() - self._saved_at >= _SAVED_EVERY:
            self._saved_at = time.perf_counter()
            session: Any = self.session
            if self._parts is not None and not self.error:
                batches = [0] * len(self._passed)  # sound is gathered anew
                self._parts.save(self.expert.fingerprint, batches, session.save_part())

    def end_stretch(self) -> None:
        """Keep what was made of a stretch that others go on from."""
        started = time.perf_counter()
        try:
            self._save(max([self._saved_until, *self._until.values()]), ended=True)
            if self._parts is None or self._parts.error:
                self.error = self.error or f"its work could not be kept: {self._parts and self._parts.error}"
        except MemoryError:
            raise
        except Exception as error:  # see above
            self.error = f"{type(error).__name__}: {error}"
        self.seconds += time.perf_counter() - started

    def close(self, end_seconds: float) -> Track | None:
        """Close the session; None where it failed, and `error` says why.

        Raises:
            MediaError, MemoryError: the pass has failed, and not the expert alone.
        """
        started = time.perf_counter()
        try:
            if self.session is not None and not self.error:
                session: Any = self.session
                if self._parts is not None and hasattr(session, "keep_part"):
                    session.keep_part = self._save_in_closing
                track = self.session.close(end_seconds)
                check_track(track, self.expert)
                return track
        except (MemoryError, MediaError):
            raise
        except Exception as error:  # see above
            self.error = f"{type(error).__name__}: {error}"
        finally:
            self.seconds += time.perf_counter() - started
        return None
