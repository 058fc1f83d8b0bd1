"""All that a server has to do with jobs, in one object: the queue, what runs it, and the watched folders."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reelseek.errors import UsageError
from reelseek.library import Library
from reelseek.web.jobs.commands import Commands
from reelseek.web.jobs.queue import Job, JobQueue, Kind
from reelseek.web.jobs.roots import Roots
from reelseek.web.jobs.runner import JobRunner
from reelseek.web.jobs.watch import FolderWatch, WatchedFolder, WatchList
from reelseek.web.state import StateFolder

__all__ = ["Jobs"]

WATCH = "watched folders"
"""By whom jobs are that no person asked for."""


class Jobs:
    """The jobs of a server.

    Args:
        state: folder that holds the queue.
        roots: what jobs may read.
        runs: False only puts jobs into the queue, for the server that has the folder to run.
    """

    def __init__(
        self,
        state: StateFolder,
        roots: Roots,
        *,
        runs: bool = True,
        most_running: int = 2,
        settle_seconds: float = 10.0,
    ) -> None:
        self.commands = Commands(state.path, roots)
        self.roots = roots
        self.queue = JobQueue(state.path / "jobs.db")
        self._runner = (
            JobRunner(self.queue, self.commands, most_running=most_running, ended=self._ended) if runs else None
        )
        self._watched = WatchList(state.path / "watched.db")
        self._watch = FolderWatch(
            self._watched, self._add_watched, state.subfolder("tables"), settle_seconds=settle_seconds,
            seconds=min(10.0, settle_seconds),
        )  # fmt: skip
        self._libraries: dict[Path, str] = {}
        self._open_begun: Callable[[Path, str], bool] | None = None

    def start(self, libraries: Mapping[Path, str], open_begun: Callable[[Path, str], bool] | None = None) -> None:
        """Run what waits, and watch folders.

        Args:
            libraries: names by folder.
            open_begun: serves a library that was begun here, if there is something to search in it.
        """
        self._open_begun = open_begun
        self._libraries = dict(libraries)
        for name, folder in self.begun().items():
            self._libraries.setdefault(folder, name)
            if open_begun is not None:
                open_begun(folder, name)
        if self._runner is not None:
            self._runner.start()
            self._watch.start(lambda: [folder for folder in list(self._libraries) if (folder / "library.db").is_file()])

    def begun(self) -> dict[str, Path]:
        """Folders of the libraries that were begun by the server, by name."""
        return self._watched.libraries()

    def begin_library(self, name: str, *, by: str) -> Path:
        """Note a library of a new name, whose folder an add job begins.

        Raises:
            UsageError: the name is taken.
        """
        folder = self.commands.state / "libraries" / name
        if name in self._libraries.values() or not self._watched.add_library(name, folder, by):
            raise UsageError(f"there is a library {name!r} already; choose another name")
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        self._libraries[folder] = name
        return folder

    def forget_library(self, name: str) -> None:
        """Take back that a library was begun, whose folder could not be made."""
        folder = self._watched.remove_library(name)
        if folder is not None:
            self._libraries.pop(folder, None)

    def close(self) -> None:
        """End what runs; the next server goes on with it."""
        self._watch.close()
        if self._runner is not None:
            self._runner.close()
        self._watched.close()
        self.queue.close()

    def submit(self, kind: Kind, library: Library, name: str, arguments: Mapping[str, Any], *, by: str) -> Job:
        """Check a job and put it into the queue.

        Raises:
            ReelseekError: it cannot succeed; says why.
        """
        self.commands.check(kind, arguments, library)
        if kind == "train":
            self._check_name(str(arguments["name"]))
        job = self.queue.add(kind, name, library.path, arguments, by=by)
        self._wake()
        return job

    def _check_name(self, name: str) -> None:
        for _, job in self.queue.jobs(limit=1000):
            if job.kind == "train" and not job.is_over and job.arguments["name"] == name:
                raise UsageError(f"the job {job.id} trains a model {name!r} already; choose another name")

    def cancel(self, identifier: str) -> Job | None:
        """Cancel a job; None where there is none."""
        return self._runner.cancel(identifier) if self._runner is not None else self.queue.cancel(identifier)

    def retry(self, identifier: str) -> Job | None:
        """Let a job that is over and did not succeed run again; None where it is not such a job.

        Raises:
            UsageError: another job trains a model of the same name.
        """
        before = self.queue.get(identifier)
        if before is not None and before.kind == "train":
            self._check_name(before.arguments["name"])
        job = self.queue.retry(identifier)
        self._wake()
        return job

    def _wake(self) -> None:
        if self._runner is not None:
            self._runner.wake()

    # Watched folders

    def watched(self, library: Path) -> list[WatchedFolder]:
        """The watched folders of a library."""
        return self._watch.folders(library)

    def watch(self, library: Library, names: Sequence[str], *, by: str) -> list[WatchedFolder]:
        """Watch these folders and no others.

        Raises:
            UsageError: one is no folder, or may not be read.
        """
        folders = self.roots.check(names, self.roots.allowed(library))
        for folder in folders:
            if not folder.is_dir():
                raise UsageError(f"{folder} is no folder; name the folder that holds it")
        self._watched.put(library.path, folders, by)
        self._watch.wake()
        return self.watched(library.path)

    def _add_watched(self, library: Path, arguments: Mapping[str, Any]) -> bool:
        if self.queue.has_open("add", library, WATCH):
            return False
        self.queue.add("add", self._libraries.get(library, library.name), library, arguments, by=WATCH)
        self._wake()
        return True

    def _ended(self, job: Job) -> None:
        """Delete the table of a job over watched folders once it is read; serve a library that was begun."""
        table = job.arguments.get("table")
        if table and job.state == "succeeded":
            Path(table).unlink(missing_ok=True)
        if job.kind == "add" and self._open_begun is not None and job.folder in self.begun().values():
            self._open_begun(job.folder, job.library)
