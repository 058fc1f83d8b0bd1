"""A pool of actors over the nodes of a cluster, with the interface of `media.guard.Workers`.

A bounded number of items is under way: an actor has one, and a second one while others wait. Results stay in the
object store until the driver takes them, so that a slow driver slows the actors down and fills nothing. An item whose
worker or node dies, or whose file a node cannot read, is tried again, on another node where there is one; after three
tries it is a failure with its reasons.
"""

import errno
import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from reelseek.cluster.actor import Job, TaskActor, Unreadable, file_sizes
from reelseek.cluster.nodes import Agreement, Node, list_nodes
from reelseek.errors import ClusterError, LimitError, MediaError
from reelseek.media.guard import WORKER_DIED

__all__ = ["TRIES", "ActorPool", "Resources"]

TRIES = 3
_START_SECONDS = 120.0  # until the first actor has to be up
_NODES_SECONDS = 2.0  # between two looks at the nodes
_NO_LIMIT = 10.0**9
_DISK_FULL = os.strerror(errno.ENOSPC)
_AGAIN = object()
_log = logging.getLogger("reelseek")

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Resources:
    """What an actor asks for.

    Attributes:
        gpu: it computes on an accelerator; the actors of a node share those that the node has.
        memory_bytes: what its models need.
    """

    cpus: int = 1
    gpu: bool = False
    memory_bytes: int = 0

    def slots(self, node: Node) -> int:
        """How many actors a node takes; one whose processors are fewer than an actor asks for takes one."""
        if self.gpu and not node.gpus:
            return 0
        slots = max(1, node.cpus // self.cpus)
        if self.memory_bytes:
            slots = max(1, min(slots, node.memory_bytes // self.memory_bytes))
        return slots

    def options(self, node: Node, slots: int) -> dict[str, Any]:
        """The options of Ray for one of `slots` actors on a node."""
        options: dict[str, Any] = {"num_cpus": min(self.cpus, node.cpus)}
        if self.gpu:
            share = node.gpus / slots
            options["num_gpus"] = int(share) if share >= 1 else int(share * 10_000) / 10_000
        return options


@dataclass
class _Attempt(Generic[Item]):
    """An item under way.

    Attributes:
        reasons: why earlier tries failed.
        refused: nodes that cannot do it.
        lost_at: when a worker on a node died with it; only an actor that started later is asked on that node.
    """

    item: Item
    reasons: list[str] = field(default_factory=list)
    lost: int = 0
    refused: set[str] = field(default_factory=set)
    lost_at: dict[str, float] = field(default_factory=dict)


@dataclass(eq=False)
class _Remote(Generic[Item]):
    """An actor as the driver sees it; `starting` is the reference of its first answer until that came."""

    handle: Any
    node: Node
    starting: Any
    began: float
    attempts: dict[Any, _Attempt[Item]] = field(default_factory=dict)


class ActorPool(Generic[Item, Result]):
    """Actors that run one function over many items. Use it in a `with`.

    Args:
        job: what actors do.
        agreement: what nodes that join later are checked for.
        resources: what each actor asks for.
        most: how many actors; None takes as many as the nodes lend.
        files: the files that an item reads; a node that does not see them as the driver does is not asked.

    Raises:
        ClusterError: no node lends what an actor asks for.
    """

    def __init__(
        self,
        job: Job,
        *,
        agreement: Agreement,
        resources: Resources = Resources(),
        most: int | None = None,
        files: Callable[[Item], Sequence[Path]] = lambda _: (),
    ) -> None:
        import ray

        self._job = ray.put(job)
        self._actor_class: Any = ray.remote(TaskActor)
        self._agreement, self._resources, self._most, self._files = agreement, resources, most, files
        self._actors: list[_Remote[Item]] = []
        self._checks: dict[Any, Node] = {}
        self._usable = {node.id: node for node in list_nodes()}
        self._refused: set[str] = set()
        self._looked = time.monotonic()
        if not self.slots():
            device = "an accelerator" if resources.gpu else "a processor"
            raise ClusterError(f"no node of the cluster lends {device}; see: ray status")

    def slots(self) -> int:
        """How many actors the nodes take."""
        return sum(map(self._resources.slots, self._usable.values()))

    def __enter__(self) -> "ActorPool[Item, Result]":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End all actors and what they run."""
        for actor in list(self._actors):
            self._dismiss(actor)

    def map(
        self, items: Iterable[Item], seconds: Callable[[Item], float] = lambda _: _NO_LIMIT
    ) -> Iterator[tuple[Item, Result | Exception]]:
        """Yield each item with its result, or with the error it ended in, in the order in which they finish.

        Args:
            items: read a little ahead of the actors.
            seconds: how long an item may take, where calls are guarded.

        Raises:
            ClusterError: no actor started for two minutes.
        """
        source, waiting = iter(items), deque[_Attempt[Item]]()
        more, idle_since = True, time.monotonic()
        while True:
            while more and len(waiting) < 2 * max(1, self._count()):
                try:
                    waiting.append(_Attempt(next(source)))
                except StopIteration:
                    more = False
            running = sum(len(actor.attempts) for actor in self._actors)
            if not (waiting or running):
                return
            self._look_at_nodes()
            self._start_actors(waiting, running)
            self._send(waiting, seconds, more=more)
            for attempt, outcome in self._finished():
                if (settled := self._settle(attempt, outcome)) is _AGAIN:
                    waiting.appendleft(attempt)
                else:
                    yield attempt.item, settled
            yield from self._give_up(waiting)
            if any(actor.starting is None for actor in self._actors):
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > _START_SECONDS:
                raise ClusterError(
                    f"no worker started on the cluster within {_START_SECONDS:.0f} s; its nodes are "
                    f"{', '.join(node.name for node in self._usable.values()) or 'all gone'}; see: ray status"
                )

    def _count(self) -> int:
        return self.slots() if self._most is None else min(self._most, self.slots())

    def _look_at_nodes(self) -> None:
        """Forget nodes that are gone, and check those that joined."""
        import ray

        if time.monotonic() - self._looked < _NODES_SECONDS:
            return
        self._looked = time.monotonic()
        alive = {node.id: node for node in list_nodes()}
        self._usable = {name: node for name, node in self._usable.items() if name in alive}
        pending = {node.id for node in self._checks.values()}
        for name, node in alive.items():
            if name not in self._usable and name not in self._refused and name not in pending:
                self._checks[self._agreement.start(node)] = node
        for check in ray.wait(list(self._checks), num_returns=len(self._checks), timeout=0)[0] if self._checks else []:
            node = self._checks.pop(check)
            if problem := self._agreement.problem(node, check):
                self._refused.add(node.id)
                _log.warning("%s; it joined after work began, and is not used", problem)
            else:
                self._usable[node.id] = node

    def _start_actors(self, waiting: Iterable[_Attempt[Item]], running: int) -> None:
        """Start actors, spread over the nodes, until there is one for each item or place, and one for each retry."""
        waiting = list(waiting)
        for _ in range(min(len(waiting) + running, self._count()) - len(self._actors)):
            self._start_actor()
        for attempt in waiting:
            if (attempt.refused or attempt.lost_at) and not any(_may_run(attempt, actor) for actor in self._actors):
                idle = next((a for a in self._actors if not a.attempts and a.node.id not in attempt.refused), None)
                if idle is not None:  # it may be as dead as the one that was lost
                    self._dismiss(idle)
                self._start_actor(excluded=attempt.refused)

    def _start_actor(self, excluded: Collection[str] = ()) -> None:
        """Start an actor on the node that has the smallest share of its places taken, if one has any left."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        taken = Counter(actor.node.id for actor in self._actors)
        places = {node.id: self._resources.slots(node) for node in self._usable.values()}
        nodes = [node for node in self._usable.values() if taken[node.id] < places[node.id] and node.id not in excluded]
        if not nodes:
            return
        node = min(nodes, key=lambda node: taken[node.id] / places[node.id])
        options = self._resources.options(node, places[node.id])
        place = NodeAffinitySchedulingStrategy(node.id, soft=False)
        handle = self._actor_class.options(scheduling_strategy=place, **options).remote(self._job)
        self._actors.append(_Remote(handle, node, handle.start.remote(), time.monotonic()))

    def _send(self, waiting: deque[_Attempt[Item]], seconds: Callable[[Item], float], *, more: bool) -> None:
        """Hand waiting items to actors that have none, then a second one to each while many wait."""
        ready = [actor for actor in self._actors if actor.starting is None]
        for depth in (1, 2):
            for actor in ready:
                if depth == 2 and not more and len(waiting) <= len(ready):
                    return  # the last ones are better left to whoever is done first
                attempt = next((attempt for attempt in waiting if _may_run(attempt, actor)), None)
                if attempt is None or len(actor.attempts) >= depth:
                    continue
                waiting.remove(attempt)
                files = file_sizes(self._files(attempt.item))
                reference = actor.handle.run.remote(attempt.item, seconds(attempt.item), files)
                actor.attempts[reference] = attempt

    def _finished(self) -> Iterator[tuple[_Attempt[Item], Any]]:
        """Wait a moment for answers; yields what ended, with its result or the error of Ray that lost it."""
        import ray

        actors = {reference: actor for actor in self._actors for reference in actor.attempts}
        starting = {actor.starting: actor for actor in self._actors if actor.starting is not None}
        references = [*actors, *starting]
        if not references:
            time.sleep(0.05)
            return
        for reference in ray.wait(references, num_returns=1, timeout=0.5)[0]:
            if reference in starting:
                self._note_start(starting[reference], reference)
                continue
            actor = actors[reference]
            try:
                outcome = ray.get(reference)
            except ray.exceptions.RayActorError:
                yield from self._lose(actor)
                continue
            except ray.exceptions.RayError as error:
                outcome = error
            attempt = actor.attempts.pop(reference)
            yield attempt, (actor.node, outcome)

    def _note_start(self, actor: _Remote[Item], reference: Any) -> None:
        import ray

        try:
            ray.get(reference)
            actor.starting = None
        except ray.exceptions.RayError:
            self._dismiss(actor)
            time.sleep(0.1)

    def _lose(self, actor: _Remote[Item]) -> Iterator[tuple[_Attempt[Item], Any]]:
        """An actor died: the item that it ran has lost a try, one that waited behind it has not."""
        import ray

        finished = set(ray.wait(list(actor.attempts), num_returns=len(actor.attempts), timeout=0)[0])
        first = True
        for reference, attempt in list(actor.attempts.items()):
            try:
                outcome = ray.get(reference) if reference in finished else None
            except ray.exceptions.RayError as error:
                outcome = error
            if isinstance(outcome, ray.exceptions.RayError) or reference not in finished:
                attempt.lost_at[actor.node.id] = time.monotonic()
                outcome = _Lost(counted=first)
                first = False
            yield attempt, (actor.node, outcome)
        self._dismiss(actor)

    def _dismiss(self, actor: _Remote[Item]) -> None:
        import ray

        actor.attempts.clear()
        if actor in self._actors:
            self._actors.remove(actor)
        if ray.is_initialized():
            ray.kill(actor.handle)

    def _settle(self, attempt: _Attempt[Item], outcome: tuple[Node, Any]) -> Any:
        """The outcome of an item, or _AGAIN where it is to be tried again."""
        node, answer = outcome
        if isinstance(answer, _Lost) and not answer.counted:
            return _AGAIN
        reason = self._retry_reason(attempt, node, answer)
        if reason is None:
            return answer
        attempt.reasons.append(reason)
        return _failure(attempt) if len(attempt.reasons) >= TRIES else _AGAIN

    def _retry_reason(self, attempt: _Attempt[Item], node: Node, answer: Any) -> str | None:
        """Why an answer is none that another try could not change; None where it is final."""
        import ray

        if isinstance(answer, Unreadable):
            attempt.refused.add(node.id)
            return f"node {node.name}: {answer.reason}"
        if isinstance(answer, _Lost):
            attempt.lost += 1
            return f"the worker on node {node.name} died"
        if isinstance(answer, ray.exceptions.RayTaskError):
            return None
        full = isinstance(answer, Exception) and _DISK_FULL in str(answer)
        if full or isinstance(answer, ray.exceptions.OutOfDiskError):
            attempt.refused.add(node.id)
            return f"the disk of node {node.name} is full: {answer}"
        if isinstance(answer, ray.exceptions.RayError):
            return f"node {node.name} lost its result: {str(answer).strip().splitlines()[0]}"
        if (
            isinstance(answer, MediaError)
            and not isinstance(answer, LimitError)
            and str(answer).startswith(WORKER_DIED)
        ):
            return f"on node {node.name} it ended its process{str(answer).removeprefix(WORKER_DIED).partition(';')[0]}"
        return None

    def _give_up(self, waiting: deque[_Attempt[Item]]) -> Iterator[tuple[Item, Exception]]:
        """Fail what every node has refused."""
        for attempt in [attempt for attempt in waiting if attempt.refused]:
            if all(name in attempt.refused for name in self._usable) and not self._checks:
                waiting.remove(attempt)
                yield attempt.item, _failure(attempt)


@dataclass(frozen=True)
class _Lost:
    """The answer of an actor that died; `counted` for the item that it ran."""

    counted: bool


def _may_run(attempt: _Attempt[Any], actor: _Remote[Any]) -> bool:
    if actor.node.id in attempt.refused:
        return False
    return actor.began > attempt.lost_at.get(actor.node.id, 0.0)


def _failure(attempt: _Attempt[Any]) -> Exception:
    """What is said of an item that no try could do. Where only workers were lost, it says nothing of its file."""
    reasons = "; ".join(dict.fromkeys(attempt.reasons))
    tries = len(attempt.reasons)
    if attempt.lost == tries:
        return MediaError(f"{WORKER_DIED} in {tries} tries: {reasons}")
    return MediaError(f"failed in {tries} {'try' if tries == 1 else 'tries'}: {reasons}")
