"""The parameters of a frame's density: static, one set for each frame, or set by a state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rnade_lightning import arguments

Params = Sequence[Tensor]
"""One tensor per entry of ``param_shapes``, in that order, each ``(..., *shape)``."""


class StateParams(Sequence[Tensor]):
    """Parameters that a state sets, ``b + W u``, each computed when it is asked for: a density that
    needs only their products with something never holds them for all frames.

    Args:
        static: b of each parameter, of its own shape.
        weights: W of each, ``(prod(shape), R)``; None for one that the state does not reach.
        state: u ``(..., R)``.
        added: what is added to each beside, broadcast to it; None for nothing.
        expands: each has the batch shape of all, also where the state does not reach it.
    """

    def __init__(
        self,
        static: Sequence[Tensor],
        weights: Sequence[Tensor | None],
        state: Tensor,
        added: Sequence[Tensor | None] | None = None,
        expands: bool = False,
    ) -> None:
        self.static, self.weights, self.state = tuple(static), tuple(weights), state
        self.added = (None,) * len(self.static) if added is None else tuple(added)
        self.expands = expands

    def checked(self, shapes: Mapping[str, tuple[int, ...]], like: Tensor) -> StateParams:
        """Return the same in the dtype of ``like``, checked against the parameters' shapes."""
        R = self.state.shape[-1]
        static = arguments.params(shapes, self.static, like)
        sizes = (math.prod(shape) for shape in shapes.values())
        weights = [
            None if W is None else arguments.tensor(f"W_{name}", W, like, n, R)
            for name, n, W in zip(shapes, sizes, self.weights, strict=True)
        ]
        state = arguments.tensor("state", self.state, like, ..., R)
        return StateParams(static, weights, state, self.added, self.expands)

    def expanded(self) -> StateParams:
        """Return the same, each with the batch shape of all."""
        return StateParams(self.static, self.weights, self.state, self.added, expands=True)

    def plus(self, i: int, more: Tensor) -> StateParams:
        """Return the same, with ``more`` added to parameter i."""
        own = self.added[i]
        added = list(self.added)
        added[i] = more if own is None else own + more
        return StateParams(self.static, self.weights, self.state, added, self.expands)

    @property
    def batch(self) -> torch.Size:
        """The batch shape that they broadcast to, found without computing any."""
        more = [
            t.shape[: t.dim() - b.dim()]
            for t, b in zip(self.added, self.static, strict=True)
            if t is not None
        ]
        return torch.broadcast_shapes(self.state.shape[:-1], batch_of(self.static), *more)

    def __len__(self) -> int:
        return len(self.static)

    def __getitem__(self, i: Any) -> Any:
        b, W, more = self.static[i], self.weights[i], self.added[i]
        whole = b if W is None else b + (self.state @ W.T).unflatten(-1, b.shape)
        whole = whole if more is None else whole + more
        return whole.expand(*self.batch, *b.shape) if self.expands else whole


def batch_of(params: Params, event_dim: int = 2) -> torch.Size:
    """The batch shape that parameters with ``event_dim`` dimensions of their own broadcast to."""
    shapes = {p.shape[: p.dim() - event_dim] for p in params}
    return shapes.pop() if len(shapes) == 1 else torch.broadcast_shapes(*shapes)
