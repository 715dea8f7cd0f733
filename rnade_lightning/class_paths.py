"""Classes by their path: how a checkpoint, a YAML file and the command line name them.

A path is ``package.module.Class``. A class is named by the shortest path that has it, such as
``rnade_lightning.datamodules.MocapDataModule``, and not by the file that happens to hold it.

Importing a module runs it. What the user names (in Python, on the command line, in a YAML file) is
imported as it is. What is named by a checkpoint alone is data: inside `trusting`, a class from
outside `OWN` is imported only if its package is named there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar

OWN = ("rnade_lightning", "torch", "pytorch_lightning")
"""Packages whose classes any checkpoint may name."""

Trust = Sequence[str] | str
"""Packages, or one, outside this package whose classes a checkpoint may name."""

_CLASS = ("class_path", "init_args")

_trusted: ContextVar[tuple[str, ...] | None] = ContextVar("trusted", default=None)

T = TypeVar("T")


class UntrustedClass(ValueError):
    """A class that only a checkpoint names is of a package that nobody said to trust."""


def public_path(kind: type) -> str:
    """Return the shortest path at which a class can be imported.

    >>> from rnade_lightning import RNADE
    >>> public_path(RNADE)
    'rnade_lightning.RNADE'
    """
    steps = kind.__module__.split(".")
    for n in range(1, len(steps)):
        package = ".".join(steps[:n])
        if getattr(sys.modules.get(package), kind.__qualname__, None) is kind:
            return f"{package}.{kind.__qualname__}"
    return f"{kind.__module__}.{kind.__qualname__}"


def class_and_arguments(given: str | Mapping[str, Any], what: str) -> tuple[str, dict[str, Any]]:
    """Return the name or path of a class, and the arguments beside it.

    Args:
        given: the name or path, or a mapping with it as ``class_path`` and with the arguments as
            ``init_args`` or, as dotted options leave them, beside it.
        what: of what kind the class is, for the message.

    Raises:
        ValueError: arguments stand without a class, or twice.

    >>> class_and_arguments({"class_path": "student_t", "df": 3}, "component")
    ('student_t', {'df': 3})
    """
    if isinstance(given, str):
        return given, {}
    beside = {name: value for name, value in given.items() if name not in _CLASS}
    own = dict(given.get("init_args") or {})
    how = f"{what}: give {{class_path: NAME, init_args: {{NAME: VALUE}}}}"
    if not given.get("class_path"):
        raise ValueError(f"{how}; there is no class_path beside {', '.join(beside | own) or '{}'}")
    if twice := sorted(beside.keys() & own.keys()):
        raise ValueError(f"{how}; {', '.join(twice)} stands in init_args and beside it")
    return str(given["class_path"]), beside | own


def locate(path: str, base: type[T]) -> type[T]:
    """Return the class at a path.

    Args:
        path: ``package.module.Class``.
        base: what it must be a subclass of.

    Raises:
        ValueError: there is no such class, it is of another kind, or its package is not trusted.
    """
    module, _, name = path.rpartition(".")
    trusted, package = _trusted.get(), path.split(".")[0]
    if module not in sys.modules:  # one that is imported already runs nothing
        if trusted is not None and package not in (*OWN, *trusted):
            raise UntrustedClass(
                f"the checkpoint names the class {path}, whose package is not part of this one: "
                f"if you trust that package, give --trust {package} (in Python: trust={package!r})"
            )
        try:
            import_module(module or path)
        except ImportError as error:
            raise ValueError(f"{path}: cannot be imported ({error}); check the path") from error
    found: Any = getattr(sys.modules.get(module), name, None)
    if found is None:
        raise ValueError(f"there is no class {path}; check the path")
    if not isinstance(found, type) or not issubclass(found, base):
        raise ValueError(f"{path} is not a subclass of {public_path(base)}; check the path")
    return found


@contextmanager
def trusting(packages: str | Sequence[str]) -> Iterator[None]:
    """Import by path only what `OWN` or these packages hold, while the block runs.

    Args:
        packages: top-level packages, or one of them, that a checkpoint may name.
    """
    names = (packages,) if isinstance(packages, str) else tuple(packages)
    token = _trusted.set(names)
    try:
        yield
    finally:
        _trusted.reset(token)


def find(name: str, base: type[T], package: str) -> type[T]:
    """Return a class by its short name, or by its path.

    Args:
        name: ``gru`` for the class in the file ``gru.py`` of the package, which is found by itself;
            or a path, as in `locate`.
        base: what it must be a subclass of.
        package: the package that holds one class in each file.

    Raises:
        ValueError: neither; the message lists the short names.
    """
    if "." in name:
        return locate(name, base)
    if name not in (names := short_names(package)):
        kind = package.rpartition(".")[2]
        raise ValueError(
            f"{name!r} is none of the {kind} {', '.join(names)}; give one of these, or the path of "
            "a class of your own"
        )
    module = import_module(f"{package}.{name}")
    (found,) = (
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, base) and kind.__module__ == module.__name__
    )
    return found


def short_names(package: str) -> list[str]:
    """Return the names of the files of a package, each of which holds one class."""
    return sorted(m.name for m in iter_modules(import_module(package).__path__))
