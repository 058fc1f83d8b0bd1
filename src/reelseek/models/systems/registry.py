"""The mapping behind `SYSTEMS`: packaged systems, those of installed packages, and those that a script adds."""

import sys
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import is_dataclass
from typing import Any, TypeVar

from reelseek.errors import ModelError
from reelseek.plugins import Plugins, describe_error, find_plugins

__all__ = ["GROUP", "Systems"]

GROUP = "reelseek.systems"
Entry = TypeVar("Entry")


class Systems(MutableMapping[str, Entry]):
    """Systems by name. A plug-in is imported when it is asked for by name, or when all systems are listed.

    A faulty plug-in is not listed; asking for it by name raises ModelError with the reason, and `faults` has one line
    for each.

    Args:
        packaged: Reelseek's own systems.
        kind: the class of an entry; what a plug-in names has to be an instance of it.
    """

    def __init__(self, packaged: Mapping[str, Entry], kind: type[Entry]) -> None:
        self._entries = dict(packaged)
        self._packaged = frozenset(packaged)
        self._kind = kind
        self._plugins = Plugins()
        self._read_path: list[str] | None = None
        self._loaded: dict[str, Entry | str] = {}

    @property
    def plugins(self) -> Plugins:
        """Entry points of installed packages, read once, and again where sys.path has changed."""
        if self._read_path != sys.path:
            self._read_path = list(sys.path)
            self._plugins = find_plugins(GROUP, self._packaged)
            self._loaded.clear()
        return self._plugins

    def refresh(self) -> None:
        """Read the entry points again, after a package was installed or removed in this process."""
        self._read_path = None

    def faults(self) -> dict[str, str]:
        """Why each plug-in that cannot be used cannot, in one line; all of them are imported."""
        loaded = {name: self._load(name) for name in self.plugins.usable}
        return self.plugins.faults | {name: entry for name, entry in loaded.items() if isinstance(entry, str)}

    def package(self, name: str) -> str:
        """The distribution that registers a system, such as `my-package==1.0`; '' for Reelseek's and a script's."""
        plugin = None if name in self._entries else self.plugins.usable.get(name)
        return plugin.package if plugin else ""

    def of_saved(self, name: str, package: str) -> Entry:
        """The system that a saved model names.

        Args:
            package: what `package` said of it when the model was saved.

        Raises:
            ModelError: it is not installed, or does not load; names the system and, if one was saved, its package.
        """
        if name in self:
            return self[name]
        if package:
            raise ModelError(
                f"its system {name!r} belongs to the package {package}, which is not installed here; install it: "
                f"pip install {package}"
            )
        raise ModelError(
            f"its system {name!r} is none of Reelseek's, and no package is recorded for it; install the package that "
            f"registers it, or put it into reelseek.SYSTEMS first. `reelseek models list` names the systems here"
        )

    def _load(self, name: str) -> Entry | str:
        """A plug-in's system, or why there is none."""
        if name not in self._loaded:
            try:
                entry = self.plugins.usable[name].load()
                self._loaded[name] = self._check(entry)
            except (Exception, SystemExit) as error:  # foreign code: whatever it raises is its own failure
                package = self.plugins.usable[name].package
                self._loaded[name] = f"the system {name!r} of {package} does not load: {describe_error(error)}"
        return self._loaded[name]

    def _check(self, entry: Any) -> Entry:
        if not isinstance(entry, self._kind):
            raise TypeError(f"its entry point names a {type(entry).__name__}; name a reelseek.models.System")
        config, create = getattr(entry, "config", None), getattr(entry, "create", None)
        if not (isinstance(config, type) and is_dataclass(config)):
            raise TypeError(f"its config is {config!r}; give a pydantic dataclass, such as a SystemConfig of your own")
        if not callable(create):
            raise TypeError(f"its create is {create!r}; give the model's class")
        return entry

    def __getitem__(self, name: str) -> Entry:
        if name in self._entries:
            return self._entries[name]
        if name in self.plugins.faults:
            raise ModelError(self.plugins.faults[name])
        if name not in self.plugins.usable:
            raise KeyError(name)
        entry = self._load(name)
        if isinstance(entry, str):
            raise ModelError(entry)
        return entry

    def __setitem__(self, name: str, entry: Entry) -> None:
        """Add a system for this process.

        Raises:
            ModelError: the name is Reelseek's own, or the entry is no System.
        """
        if name in self._packaged:
            raise ModelError(f"{name!r} is a system of Reelseek's own; give yours another name")
        try:
            self._entries[name] = self._check(entry)
        except TypeError as error:
            raise ModelError(f"the system {name!r} cannot be added: {error}") from error

    def __delitem__(self, name: str) -> None:
        if name in self._packaged:
            raise ModelError(f"{name!r} is a system of Reelseek's own, and stays")
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._entries
        for name in self.plugins.usable:
            if name not in self._entries and not isinstance(self._load(name), str):
                yield name

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"Systems({', '.join(self)})"
