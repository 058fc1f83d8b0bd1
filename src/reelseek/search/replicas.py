"""Search beyond one machine: Ray Serve keeps replicas, each of which reads the segments of one group.

The process that answers keeps the page, the model and the full text. What has to be read of segments (`nearest.Call`)
it asks of one replica of every group at once, and merges the answers. A question names the segments that it is asked
of, so that it is answered of one manifest; a replica opens what it does not have open yet. What no replica of a group
answers is read here, so that no question fails for a replica that died; Serve starts another one meanwhile.
"""

import logging
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from reelseek.cluster import Cluster
from reelseek.errors import ClusterError, LibraryError, UsageError
from reelseek.search.generation import Sums
from reelseek.search.index import Index
from reelseek.search.nearest import Call, Method, Part, run_here
from reelseek.search.segment import Record, Segment

__all__ = ["Replicas", "SegmentReader"]

_START_SECONDS = 120.0  # until all groups have to answer
_ANSWER_SECONDS = 60.0  # for one answer; a large segment is read into memory by the first question
_RETRY_SECONDS = 2.0  # for an answer once a replica of the group has failed; after it the segments are read here
_PING_SECONDS = 5.0  # for a sign of life; one that went to a dead replica may never be answered
_HEALTH_SECONDS = 2.0  # between two health checks
_UNUSED = 500  # questions after which a segment that none of them named is closed
_log = logging.getLogger("reelseek")


@dataclass(frozen=True)
class _Address:
    """A segment as any node opens it."""

    folder: Path
    record: Record
    sums: Mapping[str, Sums]

    @property
    def key(self) -> tuple[Path, str, str]:
        """What tells it from all others, also from itself with other deletions."""
        return self.folder, self.record.name, self.record.deletions


@dataclass(frozen=True)
class _Message:
    """Calls as they travel: of every segment its address, and for each call the place of its segment among these."""

    segments: Sequence[_Address]
    places: Sequence[int]
    parts: Sequence[tuple[int, str]]
    methods: Sequence[tuple[Method, tuple[Any, ...]]]

    @classmethod
    def of(cls, calls: Sequence[Call]) -> Self:
        """Write down calls."""
        places = {segment: place for place, segment in enumerate(dict.fromkeys(call.part.segment for call in calls))}
        return cls(
            [_Address(segment.folder.absolute(), segment.record, segment.sums) for segment in places],
            [places[call.part.segment] for call in calls],
            [(call.part.base, call.part.pattern) for call in calls],
            [(call.method, call.arguments) for call in calls],
        )

    def calls(self, segments: Sequence[Segment]) -> list[Call]:
        """The same calls of segments that were opened elsewhere."""
        return [
            Call(Part(base, segments[place], pattern), method, arguments)
            for place, (base, pattern), (method, arguments) in zip(self.places, self.parts, self.methods, strict=True)
        ]


class SegmentReader:
    """A replica: reads segments that a message names, and keeps them open.

    Args:
        folder: of the library's indexes, which this node has to see.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[tuple[Path, str, str], tuple[Segment, int]] = {}
        self._messages = 0
        self.check_health()

    def check_health(self) -> None:
        """Serve asks this now and then, and replaces a replica for which it fails.

        Raises:
            ClusterError: the node does not see the folder.
        """
        if not self._folder.is_dir():
            raise ClusterError(f"node {_node_name()} does not see {self._folder}")

    def ping(self) -> None:
        """Answer."""

    def read(self, message: _Message) -> list[Any]:
        """What the calls of a message give.

        Raises:
            ClusterError: a segment cannot be read on this node.
        """
        self._messages += 1
        try:
            segments = [self._segment(address) for address in message.segments]
            return run_here(message.calls(segments))
        except (LibraryError, OSError) as error:
            raise ClusterError(f"node {_node_name()}: {error}") from None
        finally:
            oldest = self._messages - _UNUSED
            self._open = {key: entry for key, entry in self._open.items() if entry[1] > oldest}

    def _segment(self, address: _Address) -> Segment:
        segment, _ = self._open.get(address.key, (None, 0))
        segment = segment or Segment(address.folder, address.record, address.sums, check=False)
        self._open[address.key] = segment, self._messages
        return segment


def _node_name() -> str:
    import platform

    import ray

    return f"{platform.node()} ({ray.get_runtime_context().get_node_id()[:8]})"


class _Group:
    """The replicas of one group, as the process that answers sees them.

    Args:
        handle: of Serve's deployment; it picks a replica that lives.
    """

    def __init__(self, number: int, handle: Any) -> None:
        self.number, self._handle = number, handle
        self._up, self._closed = threading.Event(), threading.Event()
        self._up.set()
        self._warned = "", ""

    def send(self, message: _Message) -> Any:
        """Begin a question; None where no replica lives."""
        return self._handle.read.remote(message) if self._up.is_set() else None

    def receive(self, response: Any, message: _Message) -> list[Any] | None:
        """The answer, of another replica where the first one failed; None where none answers."""
        if response is None:
            return None
        from ray.exceptions import RayError, RayTaskError
        from ray.serve.exceptions import RayServeException

        error: Exception | None = None
        for seconds in (_ANSWER_SECONDS, _RETRY_SECONDS):
            response = response or self._handle.read.remote(message)
            try:
                answers: list[Any] = response.result(timeout_s=seconds)
                return answers
            except (RayError, RayServeException, TimeoutError) as failure:
                response.cancel()
                response, error = None, failure
        if isinstance(error, RayTaskError):
            self._warn(f"a replica of group {self.number + 1} cannot read what it is asked for", error.cause)
        else:
            self._warn(f"no replica of group {self.number + 1} answers", error)
            self._up.clear()
            threading.Thread(target=self._wait, daemon=True).start()
        return None

    def _warn(self, problem: str, error: Exception | None) -> None:
        """Say what is wrong, once until something else is."""
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        if (problem, reason) != self._warned:
            _log.warning("%s (%s); these segments are read on this machine meanwhile", problem, reason)
        self._warned = problem, reason

    def _wait(self) -> None:
        """Until a replica answers again."""
        while not self._closed.wait(0.5):
            try:
                self._handle.ping.remote().result(timeout_s=_PING_SECONDS)
            except Exception:  # whatever it is, there is no replica yet
                continue
            _log.warning("a replica of group %d answers again", self.number + 1)
            self._warned = "", ""
            self._up.set()
            return

    def close(self) -> None:
        """Wait for replicas no more."""
        self._closed.set()


class Replicas:
    """Runs the calls of a search on replicas; `Searcher` takes it as its `run`. Use it in a `with`.

    Args:
        cluster: open.
        library: folder, which every node has to see under the same path.
        replicas: of each group.

    Raises:
        UsageError: Ray Serve is not installed.

    Example:
        with connect("10.0.0.5:6379") as cluster, Replicas(cluster, library.path, replicas=2) as replicas:
            searcher = Searcher(library, run=replicas)
            replicas.start(searcher.index)
    """

    def __init__(self, cluster: Cluster, library: Path, *, replicas: int = 1) -> None:
        _import_serve()
        self._cluster, self._folder, self._replicas = cluster, library.absolute() / "index", replicas
        self._name = f"reelseek-{secrets.token_hex(4)}"
        self._started = False
        self._groups: list[_Group] = []
        self._serve_is_ours = False
        self._group_of: weakref.WeakKeyDictionary[Segment, int] = weakref.WeakKeyDictionary()

    @property
    def groups(self) -> int:
        """How many groups the segments are divided into; 0 before `start`."""
        return len(self._groups)

    def start(self, index: Index) -> None:
        """Start the replicas and wait until they answer: a group for every node, and not more than segments.

        Raises:
            ClusterError: a node does not see the library's folder, or a group did not start; says which.
        """
        serve, nodes = _import_serve(), self._cluster.nodes()
        self._require(index)
        groups = max(1, min(len(nodes), len(index.segments)))
        cpus = min(1.0, sum(node.cpus for node in nodes) / (2 * groups * self._replicas))
        self._serve_is_ours, self._started = not _serve_runs(), True
        if self._serve_is_ours:
            serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
        deployment = serve.deployment(
            SegmentReader,
            num_replicas=self._replicas,
            ray_actor_options={"num_cpus": int(cpus * 1000) / 1000},
            max_ongoing_requests=1,
            health_check_period_s=_HEALTH_SECONDS,
            graceful_shutdown_timeout_s=1,
            logging_config={"log_level": "ERROR"},
        )
        targets = [
            serve.RunTarget(deployment.bind(self._folder), name=f"{self._name}-{number}", route_prefix=None)
            for number in range(groups)
        ]
        handles = serve.run_many(targets, wait_for_applications_running=False)
        self._wait_until_running([target.name for target in targets])
        self._groups = [_Group(number, handle) for number, handle in enumerate(handles)]

    def _require(self, index: Index) -> None:
        """Refuse a node that does not see the files of an index."""
        folder = index.folder.absolute()
        if folder.parent == self._folder:
            self._cluster.require(_files_reader(folder, {name: size for name, (size, _) in index.files().items()}))

    def _wait_until_running(self, names: Sequence[str]) -> None:
        serve = _import_serve()
        deadline = time.monotonic() + _START_SECONDS
        while True:
            applications = serve.status().applications
            states = {name: applications[name].status.value for name in names if name in applications}
            failed = [applications[name].message for name, state in states.items() if state == "DEPLOY_FAILED"]
            if failed:
                raise ClusterError(f"the replicas do not start: {failed[0]}")
            if [states.get(name) for name in names] == ["RUNNING"] * len(names):
                return
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"the replicas did not start within {_START_SECONDS:.0f} s; ask for fewer, and see: ray status"
                )
            time.sleep(0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End the replicas, and Serve itself where it was started here and nobody else uses it."""
        if not self._started:
            return
        serve, self._started = _import_serve(), False
        for group in self._groups:
            group.close()
        self._groups = []
        if self._cluster.address == "local":
            return  # all of it ends with the connection
        for name in serve.status().applications:
            if name.startswith(f"{self._name}-"):
                serve.delete(name)
        if self._serve_is_ours and not serve.status().applications:
            serve.shutdown()

    # Questions

    def __call__(self, calls: Sequence[Call]) -> list[Any]:
        """Run calls, those of every group on one of its replicas and the others here, and return what each gives."""
        places: dict[int | None, list[int]] = {}
        for place, call in enumerate(calls):
            places.setdefault(self._group(call.part.segment), []).append(place)
        messages = {
            group: _Message.of([calls[place] for place in of_group])
            for group, of_group in places.items()
            if group is not None
        }
        responses = {group: self._groups[group].send(message) for group, message in messages.items()}
        answers: list[Any] = [None] * len(calls)
        for group in sorted(places, key=lambda group: group is not None):  # what is read here while replicas read
            results = None
            if group is not None:
                results = self._groups[group].receive(responses[group], messages[group])
            if results is None:
                results = run_here([calls[place] for place in places[group]])
            for place, result in zip(places[group], results, strict=True):
                answers[place] = result
        return answers

    def _group(self, segment: Segment) -> int | None:
        """The group of a segment; a new one comes into the group with the fewest clips. None: only this process has it.

        A segment with other deletions stays where it was.
        """
        in_memory = segment.deleted is not None and not segment.record.deletions
        if not self._groups or in_memory or segment.folder.absolute().parent != self._folder:
            return None
        if segment not in self._group_of:
            clips = [0] * len(self._groups)
            by_name = {}
            for other, group in self._group_of.items():
                by_name[other.record.name] = group
                clips[group] += len(other)
            self._group_of[segment] = by_name.get(segment.record.name, clips.index(min(clips)))
        return self._group_of[segment]


def _import_serve() -> Any:
    try:
        from ray import serve
    except ImportError as error:
        raise UsageError("serve --ray needs Ray Serve; install it with: pip install 'reelseek[ray]'") from error
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    return serve


def _serve_runs() -> bool:
    """Whether somebody started Serve on the cluster."""
    import ray

    try:
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    except ValueError:
        return False
    return True


def _files_reader(folder: Path, sizes: Mapping[str, int]) -> Callable[[], dict[str, str]]:
    """A function that counts, on any node, how many files of an index are in sight as they were written."""

    def read() -> dict[str, str]:
        intact = 0
        for name, size in sizes.items():
            with suppress(OSError):
                intact += (folder / name).stat().st_size == size
        return {f"the index in {folder}": f"({intact} of {len(sizes)} files)"}

    return read
