"""Keep the arguments of a module in plain values, from which a checkpoint makes it again.

Conventions:
    Hyperparameters are arguments by name. Those that a class hands on as ``**kwargs`` stand under
    their own names, defaults included. Plain values are numbers, texts, None, and lists and dicts
    of them.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any


def arguments_of(
    kind: type, args: tuple[Any, ...], kwargs: Mapping[str, Any], handed_to: str
) -> dict[str, Any]:
    """Return the arguments that a class is made with, defaults included, by name.

    Args:
        kind: the class.
        args: arguments by place.
        kwargs: arguments by name.
        handed_to: attribute that names, beside an ``__init__``, the class to which that
            ``__init__`` hands its ``*args`` and ``**kwargs``.

    Raises:
        TypeError: the class does not take these arguments.

    Examples:
        >>> class Net:
        ...     def __init__(self, n_features, n_hidden=8, bias=True): ...
        >>> class Module:
        ...     net = Net
        ...     def __init__(self, n_features, *sizes, lr=0.1, **kwargs): ...
        >>> arguments_of(Module, (3, 5), {}, "net")
        {'n_hidden': 5, 'bias': True, 'n_features': 3, 'lr': 0.1}
    """
    maker: Any = next(base for base in kind.__mro__ if "__init__" in vars(base))
    bound = inspect.signature(maker.__init__).bind_partial(None, *args, **kwargs)
    bound.apply_defaults()
    own: dict[str, Any] = {}
    rest: tuple[Any, ...] = ()  # arguments by place behind those that have a name here
    for parameter in list(bound.signature.parameters.values())[1:]:
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = bound.arguments[parameter.name]
        elif parameter.kind is parameter.VAR_KEYWORD:
            own |= bound.arguments[parameter.name]
        elif parameter.name in bound.arguments:
            own[parameter.name] = bound.arguments[parameter.name]
    target = vars(maker).get(handed_to)
    if target is None:
        return own
    names = list(inspect.signature(target).parameters)[len(args) - len(rest) :]
    return _defaults(target) | dict(zip(names, rest, strict=False)) | own


def accepted(kind: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of some arguments that a class takes by name."""
    maker: Any = kind
    parameters = inspect.signature(maker.__init__).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return dict(arguments)
    return {name: value for name, value in arguments.items() if name in parameters}


def plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of some arguments that are plain values, as such.

    >>> plain({"sizes": (3, 5), "rate": 0.5, "net": object()})
    {'sizes': [3, 5], 'rate': 0.5}
    """
    found = {}
    for name, value in arguments.items():
        try:
            found[name] = _plain(value)
        except TypeError:
            continue
    return found


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    raise TypeError(f"{type(value).__name__} is no plain value")


def _defaults(kind: type) -> dict[str, Any]:
    """Return the defaults of a class's arguments, and of those that its ``**kwargs`` hand to its
    bases."""
    found: dict[str, Any] = {}
    for base in kind.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())
        for parameter in parameters:
            if parameter.default is not parameter.empty:
                found.setdefault(parameter.name, parameter.default)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found
