"""Inputs and outputs of the kernels of log p."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from rnade_lightning.components import Component


class Options(NamedTuple):
    """The options of the density, beside its numbers."""

    component: Component
    relu: bool
    floor: float


class Problem(NamedTuple):
    """N frames and the weights, packed for the kernels.

    H and R are padded to multiples of 4 with zeros. The 3 K outputs of a feature are alpha, mu,
    sigma; the state reaches those from ``first`` to ``last`` (a multiple of 3 apart), where
    ``last`` may lie beyond 3 K, and rows are added for that.
    """

    x: Tensor  # (N, D), what the hidden units read
    y: Tensor  # (N, D), what the mixtures are evaluated at
    u: Tensor  # (N, R), R = 0 without a state
    W: Tensor  # (D, H)
    c: Tensor  # (H,)
    rho: Tensor  # (D,)
    P: Tensor  # (D, C, H + R), weights of the outputs on [h_d; u]
    b: Tensor  # (D, C)
    biases: Tensor  # (N, D, 3 K), added to b; N = 0 without
    K: int
    first: int
    last: int
    options: Options


class Gradients(NamedTuple):
    """The gradients of ``sum weight log p``, each in the shape of its input."""

    x: Tensor
    y: Tensor
    u: Tensor
    W: Tensor
    c: Tensor
    rho: Tensor
    P: Tensor
    b: Tensor
    biases: Tensor


def counted_gradients(
    gradients: Callable[[Problem, Tensor], Sequence[Tensor]], problem: Problem, weight: Tensor
) -> Gradients:
    """Return what a kernel's ``gradients`` gives. Frames of weight 0, as infinite ones have, go
    through it as zeros: they add nothing, whatever they hold."""
    nothing = weight == 0

    def counted(t: Tensor) -> Tensor:
        return t.masked_fill(nothing.view(-1, *[1] * (t.dim() - 1)), 0.0) if len(t) else t

    x, y, u, biases = map(counted, (problem.x, problem.y, problem.u, problem.biases))
    return Gradients(*gradients(problem._replace(x=x, y=y, u=u, biases=biases), weight))
