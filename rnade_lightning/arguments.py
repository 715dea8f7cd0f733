"""Check what public entries accept. Every tensor is checked before anything is computed.

A tensor that does not fit is refused with one message for each kind of mistake, the same on every
backend. What fits is handed back in the dtype of the model, with batches that broadcast as in
torch.

Conventions:
    Shapes are given as sizes: a number for that size, a letter for any, ``...`` for any batch in
    front. Every tensor is strided, on the device of the model, and of a floating dtype. A mistake
    of kind or dtype is a `TypeError`, one of shape, device or value a `ValueError`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import EllipsisType
from typing import Any, Protocol, SupportsFloat

import torch
from torch import Tensor

Size = int | str | EllipsisType


class Sequences(Protocol):
    """A model of sequences, as far as its arguments depend on it."""

    n_features: int
    n_context: int

    @property
    def n_read(self) -> int: ...

    def initial_state(self, batch_size: int) -> Tensor: ...


SMALLEST_FLOOR = torch.finfo(torch.float32).tiny
"""Below it float32 loses digits, and compiled logarithms are wrong."""


def between(least: float, below: float = math.inf, **named: float) -> None:
    """Require that numbers are at least ``least`` and below ``below``.

    Raises:
        ValueError: one is not; the message names it.
    """
    for name, value in named.items():
        if not least <= value < below:
            bound = "" if below == math.inf else f" and below {below:g}"
            raise ValueError(f"{name} must be at least {least:g}{bound}, got {value}")


def folder_to_write(out: str, **given: str | None) -> None:
    """Require a folder to write to, or a free name for one, and that no path beside it is empty, as
    an unset variable of a shell is.

    Raises:
        ValueError: a path is not; the message names its option.
    """
    for name, path in ({"out": out} | given).items():
        if path == "":
            raise ValueError(f"--{name} is empty: give a path, or leave it out")
    if Path(out).exists() and not Path(out).is_dir():
        raise ValueError(f"--out {out}: is no folder; give one, or a name that is free")


def tensor(name: str, value: Any, like: Tensor, *shape: Size) -> Tensor:
    """Return a tensor of real numbers in the dtype of ``like``.

    Args:
        name: of the argument, for the message.
        value: what was given.
        like: a tensor of the model.
        *shape: sizes that the tensor must have; see *Conventions*.

    Raises:
        TypeError: it is no strided tensor of a floating dtype.
        ValueError: it is on another device, or of another shape.
    """
    _strided(name, value)
    if not value.is_floating_point():
        hint = f"take {name}.real" if value.is_complex() else f"use {name}.to({like.dtype})"
        raise TypeError(
            f"{name} must be of a floating dtype such as {like.dtype}, got {value.dtype}; {hint}"
        )
    _placed(name, value, like, shape)
    return value.to(like.dtype)


def timed(**given: Any) -> None:
    """Check that what is given, where it is, are strided tensors ``(B, T, ..)``.

    Raises:
        TypeError: one is none.
        ValueError: it has fewer dimensions.
    """
    for name, value in given.items():
        if value is not None:
            _strided(name, value)
            if value.dim() < 2:
                raise ValueError(f"{name} has shape {_text(value.shape)}, expected (B, T, ..)")


def as_many(context: Tensor, n_given: int, n_frames: int) -> None:
    """Check that there is a context ``(B, T0 + T, C)`` for the frames of a prefix and of a draw.

    Raises:
        ValueError: there are more or fewer.
    """
    if context.shape[1] != n_given + n_frames:
        raise ValueError(
            f"context has {context.shape[1]} frames, expected {n_given + n_frames}: those of the "
            "prefix and of what is drawn"
        )


def mask_of(mask: Any, like: Tensor, n_frames: int) -> Tensor:
    """Return a mask ``(B, T)`` of valid frames.

    Raises:
        TypeError: it is no tensor of bools.
        ValueError: it is of another shape or device, or padding stands before a valid frame.
    """
    _strided("mask", mask)
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be of dtype torch.bool, got {mask.dtype}; use mask.bool()")
    _placed("mask", mask, like, ("B", n_frames))
    if not _values_are_known():
        return mask
    ordered = (mask[:, 1:] <= mask[:, :-1]).all()
    message = "mask has padding before a valid frame; pad on the right only"
    if mask.device.type == "cpu":
        if not ordered:
            raise ValueError(message)
    else:  # no read by the host
        torch._assert_async(ordered, message)
    return mask


def batch(**shapes: Sequence[int]) -> torch.Size:
    """Return the shape that batch shapes broadcast to.

    Raises:
        ValueError: they do not; the message has them by name.
    """
    try:
        return torch.broadcast_shapes(*shapes.values())
    except RuntimeError:
        said = ", ".join(f"{name} {_text(shape)}" for name, shape in shapes.items())
        raise ValueError(f"the batches do not broadcast: {said}") from None


def fits(name: str, shape: Sequence[int], into: Sequence[int]) -> None:
    """Check that a batch shape broadcasts to another.

    Raises:
        ValueError: it does not.
    """
    if batch(**{name: shape, "draws": into}) != tuple(into):
        raise ValueError(f"the batch of {name} {_text(shape)} is larger than {_text(into)}")


def params(shapes: Mapping[str, tuple[int, ...]], given: Any, like: Tensor) -> tuple[Tensor, ...]:
    """Return a frame's parameters, each ``(..., *shape)``, whose batches broadcast.

    Args:
        shapes: name and shape of each.
        given: the parameters, in that order.
        like: a tensor of the model.
    """
    names = ", ".join(shapes)
    if isinstance(given, Tensor) or not isinstance(given, Sequence):
        raise TypeError(f"the parameters are {_kind(given)}, not a sequence of {names}")
    if len(given) != len(shapes):
        raise ValueError(f"{len(given)} parameters were given, expected {len(shapes)}: {names}")
    pairs = zip(shapes.items(), given, strict=True)
    checked = tuple(tensor(name, t, like, ..., *shape) for (name, shape), t in pairs)
    own = zip(shapes.items(), checked, strict=True)
    batch(**{name: t.shape[: t.dim() - len(shape)] for (name, shape), t in own})
    return checked


def prefix(name: str, value: Any, like: Tensor, n_features: int, least: int = 1) -> Tensor:
    """Return frames ``(..., d)`` of the first d features, from ``least`` to all of them."""
    x = tensor(name, value, like, ..., "d")
    if not least <= x.shape[-1] <= n_features:
        raise ValueError(f"{name} has {x.shape[-1]} features, the model {n_features}")
    return x


def sequences(
    model: Sequences, frames: Any, u: Any = None, mask: Any = None, context: Any = None
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Return frames ``(B, T, D)``, the state ``(B, S)``, the mask ``(B, T)`` and the context ``(B,
    T, C)`` of sequences."""
    like = _state(model)
    frames = tensor("frames", frames, like, "B", "T", model.n_features)
    u = None if u is None else state(model, u)
    mask = None if mask is None else mask_of(mask, like, frames.shape[1])
    context = _context(model, context, like, ("B", frames.shape[1]))
    frames, u, mask, context = _one_batch(frames=frames, u=u, mask=mask, context=context)
    assert frames is not None
    return frames, u, mask, context


def context_of_frame(model: Sequences, context: Any, batch_size: int) -> Any:
    """Return the context of one frame ``(B, C)``, or None for a model without any.

    Raises:
        TypeError, ValueError: it does not fit, is missing, or the model has none.
    """
    context = _context(model, context, _state(model), ("B",))
    if context is None or context.shape[0] >= batch_size:
        return context
    return context.expand(batch_size, -1)


def ahead(model: Sequences, u: Tensor, context: Any, n_frames: int) -> tuple[Tensor, Tensor | None]:
    """Return states ``(B, S)``, and the context ``(B, T, C)`` of the frames after them, or None for
    a model without any."""
    context = _context(model, context, _state(model), ("B", n_frames))
    u_, context = _one_batch(u=u, context=context)
    assert u_ is not None
    return u_, context


def state(model: Sequences, u: Any) -> Tensor:
    """Return states ``(B, S)``."""
    like = _state(model)
    return tensor("u", u, like, "B", like.shape[1])


def one_frame(
    model: Sequences, x: Any, u: Any, context: Any = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return frames ``(B, D)``, the states ``(B, S)`` before them, and their context ``(B, C)``."""
    like = _state(model)
    x = tensor("x", x, like, "B", model.n_features)
    context = _context(model, context, like, ("B",))
    x, u, context = _one_batch(x=x, u=state(model, u), context=context)
    assert x is not None
    assert u is not None
    return x, u, context


def history_of(model: Sequences, history: Any) -> Tensor:
    """Return histories ``(..., n_read)``."""
    return tensor("history", history, _state(model), ..., model.n_read)


def after_history(model: Sequences, history: Any, frames: Any) -> tuple[Tensor, Tensor]:
    """Return histories ``(..., n_read)`` and frames ``(..., D)`` whose batches broadcast."""
    history = history_of(model, history)
    frames = tensor("frames", frames, history, ..., model.n_features)
    batch(history=history.shape[:-1], frames=frames.shape[:-1])
    return history, frames


def draws(
    like: Tensor, generator: Any = None, temperature: float = 1.0, **at_least: tuple[int, int]
) -> None:
    """Check what draws are made from.

    Args:
        like: a tensor of the model.
        generator: source of randomness, None for torch's.
        temperature: above 0.
        **at_least: numbers by name, each with the smallest that it may be.

    Raises:
        TypeError: the source is none, or a number is not whole.
        ValueError: it is on another device; a number is out of its range.
    """
    for name, (n, least) in at_least.items():
        if not hasattr(n, "__index__"):
            raise TypeError(f"{name} must be a whole number, got {n!r}")
        if n < least:
            raise ValueError(f"{name} must be at least {least}, got {n}")
    if not isinstance(temperature, SupportsFloat) or isinstance(temperature, str):
        raise TypeError(f"temperature must be a number, got {temperature!r}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    limits = torch.finfo(like.dtype)
    if not limits.tiny <= temperature <= limits.max:
        raise ValueError(f"temperature {temperature} is out of the range of {like.dtype}")
    if generator is None:
        return
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator is {_kind(generator)}, not a torch.Generator")
    if generator.device.type != like.device.type:
        raise ValueError(f"generator is on {generator.device}, the model on {like.device}")


def smallest_scale(floor: float) -> float:
    """Return a floor of scales.

    Raises:
        ValueError: it is negative, infinite, or so small that float32 cannot hold it.
    """
    if not 0 <= floor < torch.inf:
        raise ValueError(f"floor must be at least 0, got {floor}")
    if 0 < floor < SMALLEST_FLOOR or floor > torch.finfo(torch.float32).max:
        raise ValueError(
            f"floor must be 0 or from {SMALLEST_FLOOR:.1e} to 3.4e+38, the range of float32, "
            f"got {floor}"
        )
    return float(floor)


def order_of(order: int | Sequence[int] | None, n_features: int) -> list[int] | None:
    """Return the features in the order of visits; None for the order of the data.

    Raises:
        ValueError: it does not hold each feature once.
    """
    if order is None:
        return None
    if isinstance(order, int):
        generator = torch.Generator().manual_seed(order)
        return torch.randperm(n_features, generator=generator).tolist()
    found = [int(d) for d in order]
    if sorted(found) != list(range(n_features)):
        raise ValueError(f"feature_order must hold each of 0 to {n_features - 1} once")
    return found


# ------------------------------------------------------------------ one message for each kind


def _strided(name: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} is {_kind(value)}, not a tensor; use torch.as_tensor({name})")
    if value.layout != torch.strided:
        raise TypeError(f"{name} is {value.layout}, not strided; use {name}.to_dense()")


def _placed(name: str, value: Tensor, like: Tensor, shape: Sequence[Size]) -> None:
    if value.device != like.device:
        raise ValueError(
            f"{name} is on {value.device}, the model on {like.device}; "
            f"use {name}.to({str(like.device)!r})"
        )
    own = shape[1:] if shape[0] is ... else shape
    last = value.shape[max(value.dim() - len(own), 0) :]
    fits = len(last) == len(own) if shape[0] is ... else value.dim() == len(own)
    if not fits or any(isinstance(n, int) and n != m for n, m in zip(own, last, strict=True)):
        raise ValueError(f"{name} has shape {_text(value.shape)}, expected {_text(shape)}")


def _context(model: Sequences, context: Any, like: Tensor, batch: Sequence[Size]) -> Tensor | None:
    C = getattr(model, "n_context", 0)
    if context is None:
        if C:
            raise ValueError(
                f"the model is given a context of {C} numbers a frame: give context, with nan where"
                " a number is absent"
            )
        return None
    if not C:
        raise ValueError("the model has no context: leave context out")
    by_feature = getattr(model, "context_by_feature", False)
    if by_feature and isinstance(context, Tensor) and context.dim() == len(batch) + 2:
        D = model.n_features
        context = tensor("context", context, like, *batch, D, C // D).flatten(-2)
    context = tensor("context", context, like, *batch, C)
    if context.device.type == "cpu" and _values_are_known() and context.isinf().any():
        raise ValueError("context holds infinite numbers; use nan where a number is absent")
    return context


def _values_are_known() -> bool:
    """Return whether a tensor holds numbers now, and not where torch records or transforms."""
    return not (torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active())


def _one_batch(**tensors: Tensor | None) -> list[Tensor | None]:
    """The tensors with the batch, their first dimension, that they broadcast to."""
    there = {name: t.shape[:1] for name, t in tensors.items() if t is not None}
    (B,) = batch(**there)
    return [
        t if t is None or t.shape[0] == B else t.expand(B, *t.shape[1:]) for t in tensors.values()
    ]


def _state(model: Sequences) -> Tensor:
    return model.initial_state(1)


def _kind(value: Any) -> str:
    return f"of type {type(value).__name__}"


def _text(shape: Sequence[Size]) -> str:
    sizes = ["..." if n is ... else str(n) for n in shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
