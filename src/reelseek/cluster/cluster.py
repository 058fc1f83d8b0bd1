"""A cluster as the rooms above use it: pools over files, plain maps, and values that every node reads."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from reelseek.cluster.actor import Job
from reelseek.cluster.nodes import Agreement, Node, list_nodes
from reelseek.cluster.pool import ActorPool, Resources
from reelseek.errors import UsageError

__all__ = ["Cluster", "Shared"]

Item = TypeVar("Item")
Result = TypeVar("Result")
Value = TypeVar("Value")
_VARIABLES = ("REELSEEK_", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "TOKENIZERS_PARALLELISM")


class Shared(Generic[Value]):
    """A value in the object store; nodes fetch it once. It goes when nobody holds this any more."""

    def __init__(self, value: Value) -> None:
        import ray

        self._reference = ray.put(value)

    def get(self) -> Value:
        """Return the value, on any node."""
        import ray

        value: Value = ray.get(self._reference)
        return value


class Cluster:
    """An open connection; `connect` makes it.

    Attributes:
        address: for messages.
    """

    def __init__(self, address: str, agreement: Agreement) -> None:
        self.address = address
        self._agreement = agreement

    def nodes(self) -> list[Node]:
        """The living nodes that lend processors."""
        return list_nodes()

    def slots(self, resources: Resources = Resources()) -> int:
        """How many actors the nodes take."""
        return sum(map(resources.slots, self.nodes()))

    def require(self, read: Callable[[], Mapping[str, str]]) -> None:
        """Check that facts are the same on every node as here, such as the content of a folder.

        Args:
            read: picklable; returns facts by name.

        Raises:
            ClusterError: they differ; names the nodes.
        """
        agreement = Agreement.on(read)
        agreement.check(self.nodes())
        self._agreement = self._agreement.extended(agreement)

    def device(self, name: str | None) -> str:
        """Resolve a device's name for the nodes: `cpu` or `cuda`.

        Args:
            name: as `--device` takes it; None takes REELSEEK_DEVICE, else an accelerator where a node lends one.

        Raises:
            UsageError: no node lends such a device.
        """
        requested = (name or os.environ.get("REELSEEK_DEVICE") or "auto").strip().lower()
        has_gpus = any(node.gpus for node in self.nodes())
        if requested == "auto":
            return "cuda" if has_gpus else "cpu"
        if requested == "cpu" or (requested == "cuda" and has_gpus):
            return requested
        offered = "cuda and cpu" if has_gpus else "cpu"
        raise UsageError(f"the device is {requested!r}, and the nodes of the cluster lend {offered}")

    def workers(
        self,
        function: Callable[[Item], Result],
        *,
        memory_bytes: int,
        workers: int | None = None,
        prepare: Callable[..., None] | None = None,
        arguments: tuple[Any, ...] = (),
        resources: Resources = Resources(),
        files: Callable[[Item], Sequence[Path]] = lambda _: (),
    ) -> ActorPool[Item, Result]:
        """Open a pool whose calls run in guarded processes, as those of `media.guard.Workers` do.

        Args:
            function, memory_bytes, prepare, arguments: as there.
            workers: at most so many actors; None takes as many as the nodes lend.
            resources: what an actor asks for.
            files: what an item reads.
        """
        job = Job(function, memory_bytes, partial(prepare, *arguments) if prepare else None, _environment())
        return ActorPool(job, agreement=self._agreement, resources=resources, most=workers, files=files)

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        workers: int | None = None,
        prepare: Callable[[], None] | None = None,
        resources: Resources = Resources(),
    ) -> Iterator[tuple[Item, Result]]:
        """Run a function over items in the actors themselves; yields each with its result as they finish.

        Args:
            items: read a little ahead of the actors.
            workers: at most so many actors; None takes as many as the nodes lend.

        Raises:
            Exception: the error of the first item that failed.
        """
        with self.mapping(function, workers=workers, prepare=prepare, resources=resources) as run:
            yield from run(items)

    @contextmanager
    def mapping(
        self,
        function: Callable[[Item], Result],
        *,
        workers: int | None = None,
        prepare: Callable[[], None] | None = None,
        resources: Resources = Resources(),
    ) -> "Iterator[Callable[[Iterable[Item]], Iterator[tuple[Item, Result]]]]":
        """Open what `map` does, for several calls that share the actors: starting one takes seconds."""
        job = Job(function, None, prepare, _environment())
        pool: ActorPool[Item, Result] = ActorPool(
            job, agreement=self._agreement, resources=resources, most=workers, files=lambda _: ()
        )

        def run(items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
            for item, outcome in pool.map(items):
                if isinstance(outcome, Exception):
                    raise outcome
                yield item, outcome

        with pool:
            yield run


def _environment() -> dict[str, str]:
    """The driver's variables that decide what is computed."""
    return {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)}
