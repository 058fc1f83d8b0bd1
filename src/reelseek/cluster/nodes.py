"""The nodes of a cluster: what they lend, and whether they would compute what the driver computes."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from reelseek.errors import ClusterError

__all__ = ["Agreement", "Node", "list_nodes", "software_agreement"]

_PACKAGES = ("av", "faiss-cpu", "numpy", "onnxruntime", "opencv-python-headless", "torch", "transformers")
"""Packages whose other versions may compute other numbers."""
_CHECK_SECONDS = 120.0
_GONE_SECONDS = 6.0
Facts = Mapping[str, str]
Reader = Callable[[], Facts]


@dataclass(frozen=True)
class Node:
    """A machine of the cluster, or a part of one.

    Attributes:
        name: its host's name and the begin of its id, for messages; several nodes may share a host.
        memory_bytes: what Ray lends to tasks.
    """

    id: str
    name: str
    cpus: int
    gpus: float
    memory_bytes: int


def list_nodes() -> list[Node]:
    """List the living nodes that lend processors, in order of name."""
    import ray

    nodes = []
    for row in ray.nodes():
        resources = row["Resources"]
        if row["Alive"] and resources.get("CPU", 0) >= 1:
            nodes.append(
                Node(
                    row["NodeID"],
                    f"{row['NodeManagerHostname']} ({row['NodeID'][:8]})",
                    int(resources["CPU"]),
                    float(resources.get("GPU", 0)),
                    int(resources.get("memory", 0)),
                )
            )
    return sorted(nodes, key=lambda node: (node.name, node.id))


@dataclass(frozen=True)
class Agreement:
    """What every node has to have as the driver has it.

    Attributes:
        readers: run on a node; each returns facts by name.
        expected: the same facts on the driver.
    """

    readers: tuple[Reader, ...]
    expected: Facts

    @classmethod
    def on(cls, *readers: Reader) -> Self:
        """Read the facts of this machine."""
        return cls(readers, _all_of(readers)())

    def extended(self, other: "Agreement") -> "Agreement":
        """Return an agreement on the facts of both."""
        return Agreement((*self.readers, *other.readers), {**self.expected, **other.expected})

    def start(self, node: Node) -> Any:
        """Begin to read a node's facts; returns the reference of the answer."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        place = NodeAffinitySchedulingStrategy(node.id, soft=False)
        task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=place)(_all_of(self.readers))
        return task.remote()

    def problem(self, node: Node, answer: Any) -> str:
        """Say how a node differs from the driver; empty if it does not, or is gone.

        Args:
            answer: the reference that `start` returned, ready.
        """
        import ray

        try:
            facts: Facts = ray.get(answer)
        except ray.exceptions.RayTaskError as error:
            return f"node {node.name} cannot run a task: {str(error).strip().splitlines()[-1]}"
        except ray.exceptions.RayError as error:
            return "" if _is_gone(node) else f"node {node.name} cannot run a task: {error}"
        differences = [
            f"{name} {facts.get(name, 'none')} where the driver has {value}"
            for name, value in self.expected.items()
            if facts.get(name, "none") != value
        ]
        return f"node {node.name} has {', '.join(differences)}" if differences else ""

    def check(self, nodes: Sequence[Node]) -> None:
        """Ask every node, before any work begins.

        Raises:
            ClusterError: nodes differ from the driver, or do not answer; names them.
        """
        import ray

        answers = {self.start(node): node for node in nodes}
        done, silent = ray.wait(list(answers), num_returns=len(answers), timeout=_CHECK_SECONDS)
        problems = [f"node {answers[answer].name} did not answer within {_CHECK_SECONDS:.0f} s" for answer in silent]
        problems += [problem for answer in done if (problem := self.problem(answers[answer], answer))]
        if problems:
            raise ClusterError(f"{'; '.join(sorted(problems))}; make the nodes alike and start them anew")


def _is_gone(node: Node) -> bool:
    """Whether a node is gone, or is so within the seconds that Ray takes to notice."""
    end = time.monotonic() + _GONE_SECONDS
    while any(row.id == node.id for row in list_nodes()):
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def software_agreement() -> Agreement:
    """Return the agreement on versions of Python, Reelseek (and its code), and what computes."""
    return Agreement.on(_software_reader(_PACKAGES))


def _all_of(readers: Sequence[Reader]) -> Reader:
    """One reader of all facts; it is sent by its code, as the next one is."""

    def read() -> dict[str, str]:
        facts: dict[str, str] = {}
        for reader in readers:
            facts.update(reader())
        return facts

    return read


def _software_reader(packages: Sequence[str]) -> Reader:
    """A function that is sent by its code, not by its name, so that a node without Reelseek can run it too."""

    def read() -> dict[str, str]:
        import hashlib
        import importlib.metadata
        import importlib.util
        import pathlib
        import platform
        import re

        facts = {"Python": platform.python_version(), "Reelseek": "none"}
        spec = importlib.util.find_spec("reelseek")
        if spec is not None and spec.origin is not None:
            code = hashlib.sha256()
            folder = pathlib.Path(spec.origin).parent
            for file in sorted(folder.rglob("*.py")):
                code.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
            version = re.search(r'__version__ = "([^"]*)"', (folder / "__init__.py").read_text("utf-8"))
            facts["Reelseek"] = f"{version[1] if version else '?'} (code {code.hexdigest()[:8]})"
        for package in packages:
            try:  # without the build: a node with an accelerator has another one of the same version
                facts[package] = importlib.metadata.version(package).partition("+")[0]
            except importlib.metadata.PackageNotFoundError:
                facts[package] = "none"
        return facts

    return read
