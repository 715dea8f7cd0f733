"""Keep the arguments of a module in plain values, from which a checkpoint makes it again.

Conventions:
    Hyperparameters are arguments by name. Those that a class hands on as ``**kwargs`` stand under
    their own names, defaults included. Plain values are numbers, texts, None, and lists and dicts
    of them.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from rnade_lightning.class_paths import UntrustedClass, public_path
from rnade_lightning.messages import listed

T = TypeVar("T")


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


def remade(kind: type[T], arguments: Mapping[str, Any], handed_to: str = "") -> T:
    """Return an object of a class, made with the arguments that another of its kind recorded.

    An argument that the class records today and that is missing is never taken to be its default:
    it may have been another one.

    Args:
        kind: the class, whose objects record their arguments as ``hparams``.
        arguments: by name.
        handed_to: see `arguments_of`.

    Raises:
        ValueError: one is missing, surplus or of another type, or the class refuses them.
    """
    name = public_path(kind)
    hints = _hints(kind, handed_to)
    for argument, value in arguments.items():
        if argument in hints and not _fits(value, hints[argument]):
            hint: Any = hints[argument]
            wanted = getattr(hint, "__name__", None) if not get_args(hint) else None
            raise ValueError(
                f"the argument {argument} of {name} is {str(value)[:60]!r}, which is not "
                f"{wanted or str(hint).replace('typing.', '')}"
            )
    try:
        made: Any = kind(**{k: v for k, v in arguments.items() if k in hints or "" in hints})
    except UntrustedClass:
        raise
    except Exception as error:  # whatever a class says of arguments that are not its own
        told = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{name} cannot be made from the checkpoint: {told}") from error
    known = {argument for argument in plain(made.hparams) if argument[0] != "_"}
    if missing := sorted(known - arguments.keys()):
        raise ValueError(
            f"the arguments of {name} lack {listed(missing)} (kept are plain values only)"
        )
    if surplus := sorted(plain(arguments).keys() - set(made.hparams)):
        raise ValueError(f"{name} takes no argument {listed(surplus)}")
    return made


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
    if getattr(value, "ndim", 0) == 1 and hasattr(value, "tolist"):  # an order of features, say
        return value.tolist()
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


def _hints(kind: type, handed_to: str) -> dict[str, Any]:
    """Types of a class's arguments, and of those that its ``**kwargs`` hand on; "" stands for any
    further ones."""
    found: dict[str, Any] = {}
    for base in kind.__mro__:
        if "__init__" not in vars(base):
            continue
        if base is object:
            break
        maker = vars(base)["__init__"]
        try:
            own = get_type_hints(maker)
        except (NameError, TypeError):  # names that are imported for a type checker alone
            own = {}
        parameters = list(inspect.signature(maker).parameters.values())[1:]
        named = (p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
        found = {name: own.get(name, Any) for name in named} | found
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return found
        if target := vars(base).get(handed_to):
            return _hints(target, handed_to) | found
    return found | {"": Any}


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value may be of a type; true of types that are not looked into."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if hint is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, Real) and not isinstance(value, bool)
    if hint in (bool, str, NoneType):
        return isinstance(value, hint)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        each = inner[0] if origin is not tuple and inner else Any
        return isinstance(value, list | tuple) and all(_fits(one, each) for one in value)
    return True
