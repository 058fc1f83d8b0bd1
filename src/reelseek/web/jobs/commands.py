"""From a job to the command that a user would type, after the checks that can be made before it begins."""

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reelseek.errors import UsageError, suggest
from reelseek.library import Library
from reelseek.models.systems import SYSTEMS
from reelseek.training import read_recipe
from reelseek.web.jobs.made import scan_file
from reelseek.web.jobs.queue import Job, Kind
from reelseek.web.jobs.roots import Roots, outermost
from reelseek.web.media import opaque_id
from reelseek.web.models import ModelNames

__all__ = ["Commands", "NothingToDo"]


class NothingToDo(Exception):
    """A job has nothing left to do; its text says why."""


class Commands:
    """Makes commands of jobs.

    Args:
        state: folder for what jobs make: `models/NAME`, `scans/JOB.jsonl`, `recipes/JOB.toml`.
        roots: what they may read.
    """

    def __init__(self, state: Path, roots: Roots) -> None:
        self.state, self.roots = state, roots
        self._names = ModelNames(state)

    def check(self, kind: Kind, arguments: Mapping[str, Any], library: Library) -> None:
        """Refuse a job that cannot succeed, before it waits for its turn.

        Raises:
            ReelseekError: says what is wrong with it.
        """
        if kind == "add":
            self._added(arguments, library)
        elif kind == "train":
            self._check_training(arguments, library)
        elif kind == "scan":
            for name in (arguments["test"], arguments["train"]):
                _check_split(library, name)
        elif kind == "evaluate" and arguments.get("split"):
            _check_split(library, arguments["split"])
        if kind in ("remove", "caption") and arguments.get("videos"):
            names = _video_names(library, arguments["videos"])
            unknown = [opaque for opaque in arguments["videos"] if opaque not in names]
            if unknown:
                raise UsageError(f"the library has no video {unknown[0]}" + _more(unknown))
        if arguments.get("expert") and kind == "remove" and arguments["expert"] not in library.experts():
            raise UsageError(f"the library has nothing of the expert {arguments['expert']}")
        if arguments.get("model"):
            self._model(arguments, kind)

    def command(self, job: Job, library: Library) -> list[str]:
        """The arguments after `reelseek`; checked again, as the world may have changed while the job waited.

        Raises:
            NothingToDo: what it asks for is done.
            ReelseekError: it cannot be done any more.
        """
        arguments, folder = job.arguments, str(library.path)
        self.check(job.kind, arguments if job.kind != "remove" else {}, library)
        if job.kind == "add":
            return self._add(arguments, library)
        if job.kind == "remove":
            return self._remove(arguments, library)
        if job.kind == "index":
            return self._index(arguments, folder)
        if job.kind == "scan":
            out = scan_file(self._subfolder("scans").parent, job.id)
            options = _options(arguments, "test", "train", "expert", "window", "top", "device")
            return ["overlap", "scan", f"--pairs={out}", *options, "--", folder]
        if job.kind == "caption":
            ids = list(_video_names(library, arguments["videos"]).values())
            options = [f"--model={self._model(arguments, job.kind)}", *_options(arguments, "beam", "device")]
            options.append("--index" if arguments["index"] else "--no-index")
            return ["caption", "--json", *options, "--", folder, *ids]
        if job.kind == "train":
            return self._train(job, library)
        model = self._model(arguments, job.kind)
        options = _options(arguments, "split", "protocol", "device")
        return ["evaluate", "--json", f"--library={folder}", *options, "--", model]

    def _index(self, arguments: Mapping[str, Any], folder: str) -> list[str]:
        action = str(arguments["action"])
        if action == "verify":
            return ["index", action, "--", folder]
        device = _options(arguments, "device") if action in ("build", "rebuild") else []
        return ["index", action, *device, "--", folder, self._model(arguments, "index")]

    # Adding and removing

    def _added(self, arguments: Mapping[str, Any], library: Library) -> tuple[list[Path], list[Path]]:
        """The paths of an add job, and the folders that they and all that they lead to must lie in."""
        watched = [Path(folder) for folder in arguments.get("watched", ())]
        allowed = outermost([*self.roots.allowed(library), *watched])
        if arguments.get("table"):  # written by the watch over folders, not named by anybody
            return [Path(arguments["table"])], allowed
        names = list(arguments.get("paths", ()))
        if not names and arguments.get("retry_failed"):
            return _failed_files(library), allowed
        captions = arguments.get("captions")
        paths = self.roots.check([*names, *([captions] if captions else [])], allowed)
        return paths[: len(names)], allowed

    def _add(self, arguments: Mapping[str, Any], library: Library) -> list[str]:
        paths, allowed = self._added(arguments, library)
        if not paths and not arguments.get("captions"):
            raise NothingToDo("no file failed before; there is nothing to try again")
        options = _options(arguments, "captions", "preset", "device")
        if arguments.get("experts"):
            options.append(f"--experts={','.join(arguments['experts'])}")
        if arguments.get("retry_failed"):
            options.append("--retry-failed")
        options += [f"--within={folder}" for folder in allowed]
        return ["add", *options, "--", str(library.path), *map(str, paths)]

    def _remove(self, arguments: Mapping[str, Any], library: Library) -> list[str]:
        if arguments.get("expert"):
            if arguments["expert"] not in library.experts():
                raise NothingToDo(f"the library has nothing of the expert {arguments['expert']} any more")
            return ["remove", f"--expert={arguments['expert']}", "--", str(library.path)]
        ids = list(_video_names(library, arguments["videos"]).values())
        if not ids:
            raise NothingToDo("these videos are no longer in the library")
        return ["remove", "--", str(library.path), *ids]

    # Models

    def _model(self, arguments: Mapping[str, Any], kind: str) -> str:
        return self._names.path(str(arguments["model"]), kind, captioners=kind == "caption")

    def _subfolder(self, name: str) -> Path:
        folder = self.state / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _check_training(self, arguments: Mapping[str, Any], library: Library) -> None:
        """Read the recipe and see whether there is something to learn from, before anything is trained."""
        try:
            settings = tomllib.loads(arguments["recipe"])
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"the recipe is no TOML: {error}") from error
        recipe = read_recipe(settings, arguments.get("set", ()))
        system = str(recipe.model.get("system"))
        if system not in SYSTEMS or not SYSTEMS[system].trained:
            trained = ", ".join(name for name, entry in SYSTEMS.items() if entry.trained)
            raise UsageError(f"model.system is {system!r}; systems that can be trained are: {trained}")
        paths = [text for text in _texts(asdict(recipe)) if text.startswith(("/", "~", ".")) or "\\" in text]
        if paths:
            raise UsageError(f"{paths[0]!r} in the recipe is a path on the server; a recipe of a job names none")
        if not library.splits():
            raise UsageError("the library has no captions to learn from; add a table of captions first")
        if not any(facts["present"] for facts in library.experts().values()):
            raise UsageError("the library has no features to learn from; add videos first")

    def _train(self, job: Job, library: Library) -> list[str]:
        recipe = self._subfolder("recipes") / f"{job.id}.toml"
        recipe.write_text(job.arguments["recipe"], "utf-8")
        changes = [f"--set={change}" for change in job.arguments["set"]]
        out = self._subfolder("models") / job.arguments["name"]
        options = [f"--library={library.path}", f"--out={out}", *changes, *_options(job.arguments, "device")]
        return ["train", *options, "--", str(recipe)]


def _texts(settings: object) -> Iterator[str]:
    """Every text in nested settings."""
    if isinstance(settings, str):
        yield settings
    elif isinstance(settings, Mapping):
        for value in settings.values():
            yield from _texts(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _texts(value)


def _options(arguments: Mapping[str, Any], *names: str) -> list[str]:
    """`--name=value` of those that are set; a value can never be taken for another option."""
    return [f"--{name}={arguments[name]}" for name in names if arguments.get(name) is not None]


def _video_names(library: Library, opaque: Sequence[str]) -> dict[str, str]:
    """Ids of videos by their opaque ids, of those that there are."""
    requested = set(opaque)
    pairs = ((opaque_id(video.id), video.id) for video in library.videos())
    return {key: identifier for key, identifier in pairs if key in requested}


def _check_split(library: Library, name: str) -> None:
    names = sorted({*library.splits(), *library.memberships(), *(v.split for v in library.videos() if v.split)})
    if name not in names and name != "all":
        raise UsageError(
            f"the library has no split {name!r}{suggest(name, names)}; "
            f"splits are: {', '.join(map(str, names)) or 'none'}"
        )


def _failed_files(library: Library) -> list[Path]:
    """Files that could not be read, or whose experts failed, where they are at hand."""
    ids = {str(failure["video"]) for failure in library.failures()}
    paths = {path for path in library.catalog.failures.paths() if isinstance(path, Path)}
    paths |= {video.path for video in library.catalog.videos.with_ids(ids) if isinstance(video.path, Path)}
    return sorted(path for path in paths if os.path.exists(path))


def _more(names: Sequence[object]) -> str:
    return f" (nor {len(names) - 1} others of these)" if len(names) > 1 else ""
