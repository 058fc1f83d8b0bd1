"""Models by the names that requests give them, and libraries searched by another model than the server's own."""

import re
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reelseek.errors import ModelError, ReelseekError
from reelseek.library import Library
from reelseek.models.device import device_of
from reelseek.models.joint import load_for
from reelseek.models.model import load_model
from reelseek.models.systems import SYSTEMS
from reelseek.search import Searcher
from reelseek.search.index import describe_index
from reelseek.web.decoding import busy
from reelseek.web.problems import Problem
from reelseek.web.searching import SideBySide

if TYPE_CHECKING:
    from reelseek.web.service import ServedLibrary

__all__ = ["ModelFacts", "ModelNames", "OtherModels"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MOST_OPEN = 4  # models beside the server's own that are held for all libraries together
_WAITING_SEARCHES = 64  # for each of them
Stamp = tuple[int, int]


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a trained model without a library.

    Args:
        error: why it cannot be loaded; '' where it can.
    """

    name: str
    system: str = ""
    fingerprint: str = ""
    pairwise: bool = False
    error: str = ""


class ModelNames:
    """Names of models: systems that need no training, and what `train` jobs wrote.

    Args:
        state: the folder in which jobs write `models/NAME`; None where there are no jobs.
    """

    def __init__(self, state: Path | None) -> None:
        self._folder = None if state is None else state / "models"
        self._facts: dict[str, tuple[Stamp, ModelFacts]] = {}

    def trained(self) -> list[str]:
        """Names of the models that jobs trained, in their order."""
        if self._folder is None or not self._folder.is_dir():
            return []
        return sorted(path.parent.name for path in self._folder.glob("*/config.json"))

    def path(self, name: str, purpose: str, *, captioners: bool = False) -> str:
        """What the command line and `load_model` call a model of a name.

        Args:
            purpose: what it is wanted for, as a verb.
            captioners: whether it may be one that writes captions.

        Raises:
            ModelError: there is none.
        """
        if name in SYSTEMS and not SYSTEMS[name].trained:
            return name
        if self._folder is not None and _NAME.fullmatch(name):
            for file in ("config.json", *(["writer.json"] if captioners else [])):
                if (self._folder / name / file).is_file():
                    return str(self._folder / name)
        names = ["concepts", *self.trained()]
        raise ModelError(f"there is no model {name!r} to {purpose} with; models are: {', '.join(names)}")

    def stamp(self, name: str) -> Stamp:
        """What changes when a model is trained anew under its name."""
        if self._folder is None or not (file := self._folder / name / "config.json").is_file():
            return (0, 0)
        status = file.stat()
        return status.st_mtime_ns, status.st_ino

    def facts(self, name: str) -> ModelFacts:
        """Describe a trained model; it is loaded once for that, and again when it has been trained anew."""
        stamp = self.stamp(name)
        stored = self._facts.get(name)
        if stored is None or stored[0] != stamp:
            stored = self._facts[name] = (stamp, self._read(name))
        return stored[1]

    def _read(self, name: str) -> ModelFacts:
        try:
            model = load_model(self.path(name, "search"))
        except (ReelseekError, OSError) as error:
            return ModelFacts(name, error=str(error))
        return ModelFacts(name, model.system, model.fingerprint, model.pairwise)


class OtherModels:
    """Libraries as they are searched by models that requests name, each opened when it is first asked for.

    The one that was not asked for longest makes room, as soon as no search of it is under way.

    Args:
        names: where models of a name lie.
    """

    def __init__(self, names: ModelNames) -> None:
        self.names = names
        self._open: OrderedDict[tuple[str, str, Stamp], ServedLibrary] = OrderedDict()
        self._lock, self._opening = threading.Lock(), threading.Lock()

    def library(self, served: "ServedLibrary", name: str) -> "ServedLibrary":
        """A library with a searcher of another model. It may take seconds the first time.

        Raises:
            ModelError: there is no such model.
            Problem: the library has no index of it, or all that may be open are in use.
        """
        key = (served.name, name, self.names.stamp(name))
        path = self.names.path(name, "search")
        if (opened := self._get(key)) is not None:
            return opened
        with self._opening:  # one at a time; those that are open are searched meanwhile
            if (opened := self._get(key)) is not None:
                return opened
            self._make_room()
            opened = _searched_by(served, name, path)
            with self._lock:
                self._open[key] = opened
            return opened

    def _get(self, key: tuple[str, str, Stamp]) -> "ServedLibrary | None":
        with self._lock:
            if key in self._open:
                self._open.move_to_end(key)
            return self._open.get(key)

    def _make_room(self) -> None:
        """Close what was not asked for longest.

        Raises:
            Problem: every one is searched at the moment.
        """
        with self._lock:
            idle = [key for key, served in self._open.items() if not served.turns.callers]
            excess = max(0, len(self._open) - _MOST_OPEN + 1)
            if len(idle) < excess:
                raise busy("searches by other models are under way", 5)
            closing = [self._open.pop(key) for key in idle[:excess]]
        for served in closing:
            _close(served)

    def close(self) -> None:
        """End all searches."""
        with self._lock:
            for served in self._open.values():
                _close(served)
            self._open.clear()


def _close(served: "ServedLibrary") -> None:
    served.turns.close()
    served.searcher.library.close()


def _searched_by(served: "ServedLibrary", name: str, path: str) -> "ServedLibrary":
    library = Library.open(served.library.path)
    try:
        model = load_for(library, path, device_of(served.searcher.model)).model
        if describe_index(library, model.fingerprint) is None:
            message = (
                f"{served.name} has no index of the model {name!r}; start a job of the kind `index` with it, and "
                "search then"
            )
            raise Problem(409, "not indexed", message)
        searcher = Searcher(library, model, update=False)
        turns = SideBySide(searcher, _WAITING_SEARCHES, served.turns.threads)
    except BaseException:
        library.close()
        raise
    return replace(served, searcher=searcher, turns=turns, model=name)
