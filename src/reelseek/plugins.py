"""What installed packages register with Reelseek by entry points; a faulty one is one line of text, and harms nobody.

A package names its systems and experts in its pyproject.toml:

    [project.entry-points."reelseek.systems"]
    my_system = "my_package.model:SYSTEM"
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import Distribution, EntryPoints, distributions

__all__ = ["Plugin", "Plugins", "describe_error", "find_plugins"]


@dataclass(frozen=True)
class Plugin:
    """One entry point.

    Attributes:
        target: `package.module:object`.
        package: the distribution that registers it, with its version, as pip takes it: `my-package==1.0`.
    """

    name: str
    target: str
    package: str

    def load(self) -> object:
        """The object that `target` names; foreign code runs, and may raise anything.

        Raises:
            ValueError: `target` is not of the form `package.module:object`.
        """
        module, _, path = self.target.partition(":")
        if not module.strip() or not path.strip():
            raise ValueError(f"{self.target!r} is no entry point; write package.module:object")
        loaded: object = import_module(module.strip())
        for attribute in path.strip().split("."):
            loaded = getattr(loaded, attribute)
        return loaded


@dataclass(frozen=True)
class Plugins:
    """Entry points of one group by name, and for each that cannot be used the reason, in one line."""

    usable: dict[str, Plugin] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)


def find_plugins(group: str, reserved: Collection[str]) -> Plugins:
    """Read the entry points of a group; nothing is imported.

    Args:
        group: such as `reelseek.systems`.
        reserved: names that are Reelseek's own, and that no package can take.
    """
    plugins = Plugins()
    visited: set[str] = set()
    for distribution in distributions():
        if group not in (distribution.read_text("entry_points.txt") or ""):
            continue
        package = _requirement(distribution)
        if package.partition("==")[0] in visited:  # the first on sys.path is the one that Python imports
            continue
        visited.add(package.partition("==")[0])
        try:
            points = EntryPoints(distribution.entry_points).select(group=group)
            entries = [(point.name, point.value) for point in points]
        except Exception as error:  # a line without "=" is a TypeError of importlib's
            plugins.faults[package] = f"the entry points of {package} cannot be read: {describe_error(error)}"
            continue
        for name, target in entries:
            _register(plugins, Plugin(name, target, package), reserved)
    return plugins


def _register(plugins: Plugins, plugin: Plugin, reserved: Collection[str]) -> None:
    name = plugin.name
    if name in reserved:
        plugins.faults[f"{name} of {plugin.package}"] = (
            f"{plugin.package} registers {name!r}, which is Reelseek's own name; its entry is ignored: rename it"
        )
    elif name in plugins.faults or (name in plugins.usable and plugins.usable[name] != plugin):
        packages = {plugin.package} | ({plugins.usable.pop(name).package} if name in plugins.usable else set())
        plugins.faults[name] = f"{' and '.join(sorted(packages))} register {name!r} too; uninstall one of them"
    else:
        plugins.usable[name] = plugin


def _requirement(distribution: Distribution) -> str:
    """`name==version`, with a name of the folder's where the package says none."""
    try:
        name, version = distribution.metadata["Name"], distribution.version
    except Exception:  # METADATA is absent or damaged
        name, version = None, None
    name = name or str(getattr(distribution, "_path", "unnamed package")).rpartition("/")[2].partition("-")[0]
    return f"{name}=={version}" if version else name


def describe_error(error: BaseException) -> str:
    """An error of foreign code in one line: its type and its text."""
    return " ".join(f"{type(error).__name__}: {error}".split())
