"""Which passes there are: built-in ones by file name, plugins by entry point or module name."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from typing import TYPE_CHECKING

from graphopt.errors import UsageError

if TYPE_CHECKING:
    from graphopt.rewriting.passes import Pass

ENTRY_POINTS = "graphopt.passes"

_passes: dict[str, type[Pass]] = {}
_builtin_modules: dict[str, str] = {}
_plugins_loaded: set[str] = set()


def register(cls: type[Pass]) -> type[Pass]:
    """Add a pass. Defining a named subclass of Pass calls this.

    Raises:
        UsageError: If another pass has the name.
    """
    known = _passes.get(cls.name)
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise UsageError(f"two passes are called {cls.name!r}: {known.__module__} and {cls.__module__}")
    if cls.name in _modules() and cls.__module__ != _modules()[cls.name]:
        raise UsageError(f"pass {cls.name!r} of {cls.__module__} has the name of a built-in pass")
    _passes[cls.name] = cls
    return cls


def _modules() -> dict[str, str]:
    """Built-in pass names and their modules, found by scanning file names; nothing is imported."""
    if not _builtin_modules:
        import graphopt.passes as package

        for family in pkgutil.iter_modules(package.__path__):
            folder = [f"{path}/{family.name}" for path in package.__path__]
            for module in pkgutil.iter_modules(folder):
                if not module.name.startswith("_"):
                    name = module.name.replace("_", "-")
                    _builtin_modules[name] = f"graphopt.passes.{family.name}.{module.name}"
    return _builtin_modules


def find(name: str) -> type[Pass]:
    """The pass of that name.

    Raises:
        UsageError: If there is none; near names are suggested.
    """
    if name not in _passes and name in _modules():
        importlib.import_module(_modules()[name])
    if name not in _passes:
        load_entry_points()
    if name not in _passes:
        import difflib

        near = difflib.get_close_matches(name, names(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`graphopt passes` lists them"
        raise UsageError(f"there is no pass {name!r}", hint=hint)
    return _passes[name]


def names() -> list[str]:
    """Names of all passes known so far, sorted."""
    return sorted({*_modules(), *_passes})


def every() -> list[type[Pass]]:
    """All passes, imported, sorted by name."""
    return [find(name) for name in names()]


def builtin() -> list[type[Pass]]:
    """The passes that come with graphopt, imported, sorted by name."""
    return [find(name) for name in sorted(_modules())]


def load_plugin(module: str) -> list[type[Pass]]:
    """Import a module that defines passes (`--plugin module`); returns these passes.

    It may lie in the current folder, which the installed command does not search by itself.

    Raises:
        UsageError: If it can't be imported, or a pass has a name that is taken.
    """
    folder = os.getcwd()
    searched = folder in sys.path or "" in sys.path
    if not searched:
        sys.path.append(folder)
    try:
        importlib.import_module(module)
    except UsageError:
        raise
    except Exception as error:  # whatever the module's own code does
        raise UsageError(f"plugin {module!r} can't be imported: {_what(error)}") from error
    finally:
        if not searched:
            sys.path.remove(folder)
    return [cls for cls in _passes.values() if f"{cls.__module__}.".startswith(f"{module}.")]


def _what(error: Exception) -> str:
    is_import = isinstance(error, ImportError | SyntaxError)
    return str(error) if is_import else f"{type(error).__name__}: {error}"


def load_entry_points() -> None:
    """Load what installed packages declare under `graphopt.passes`.

    Raises:
        UsageError: If one can't be imported, or a pass has a name that is taken.
    """
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINTS):
        if point.value not in _plugins_loaded:
            _plugins_loaded.add(point.value)
            try:
                point.load()
            except UsageError:
                raise
            except Exception as error:  # whatever the package's own code does
                package = f" ({point.dist.name})" if point.dist is not None else ""
                raise UsageError(f"plugin {point.name!r}{package} can't be loaded: {_what(error)}") from error
