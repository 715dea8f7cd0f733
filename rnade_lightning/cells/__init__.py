"""Recurrent cells, one class in each file of this package.

A cell of R units carries a state of one or more vectors of R numbers; the first is its units, which
are what a frame's density and the layer above see. It writes down one elementary step. Where torch
has a fused operation for all steps, `Cell.forward` may call that instead; where there is compiled
code, `Cell.kernel` names it.

To add a cell, write a class of your own and name it by its path, or put it into a file of this
package and name it by the file. It then runs everywhere on the torch path. The tests of every cell
(``tests/cells``) find it by themselves.

Conventions:
    ``inputs (B, T, N)``, state ``u (B, S)`` with S = ``n_states`` R.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from rnade_lightning.class_paths import find, short_names
from rnade_lightning.scans import scanned


class Cell(nn.Module, ABC):
    """A recurrent cell; a class takes ``n_inputs``, ``n_recurrent`` and ``batch_first=True``."""

    n_states: ClassVar[int] = 1
    """Vectors of R numbers that the state consists of."""
    kernel: ClassVar[str | None] = None
    """Name of the compiled code for it; None runs it on torch operations. A subclass that changes
    nothing the code computes may name it again; it is not inherited."""
    kernel_weights: ClassVar[tuple[str, ...]] = ()
    """Names of the parameters that compiled code takes: weights of the gates on what is read and on
    the state, ``(G, N)`` and ``(G, R)``, and the biases of both, ``(G,)``."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "kernel" not in vars(cls):
            cls.kernel = None
        if "step" in vars(cls) and "forward" not in vars(cls):  # no fused operation of another step
            cls.forward = Cell.forward  # type: ignore[method-assign]

    @property
    def has_kernel(self) -> bool:
        """Return whether compiled code may run: there is some, and no hooks, which it would not
        call."""
        hooks = self._forward_pre_hooks or self._forward_hooks or self._backward_hooks
        return self.kernel is not None and not (hooks or self._backward_pre_hooks)

    @abstractmethod
    def step(self, x: Tensor, u: Tensor) -> Tensor:
        """Return the state ``(B, S)`` after inputs ``x (B, N)`` in state ``u (B, S)``, in
        elementary torch operations."""

    def forward(self, inputs: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return the units after every input ``(B, T, R)``, and the state after the last."""
        if isinstance(inputs.shape[1], torch.SymInt):  # of any length: an export
            return self._scanned(inputs, u)
        R, after = u.shape[-1] // self.n_states, []
        for x in inputs.unbind(1):
            u = self.step(x, u)
            after.append(u[:, :R])
        return torch.stack(after, 1), u

    def _scanned(self, inputs: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same as one operation over time, whose length torch.export leaves open."""

        def one(u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            u = self.step(x, u)
            return u, u[:, : u.shape[1] // self.n_states].clone()

        last, after = scanned(one, u.contiguous(), inputs.transpose(0, 1).contiguous())
        return after.transpose(0, 1), last


class Fused(Cell):
    """A cell that runs torch's operation for all steps. cuDNN keeps what a gradient needs in
    training mode only, by which no number of it changes: the cell is always in that mode, so that a
    model in evaluation has gradients on a GPU too."""

    def train(self, mode: bool = True) -> Self:
        return super().train(True)


def cell_class(name: str) -> type[Cell]:
    """Return a cell by its short name (the files of this package) or by its path.

    Raises:
        ValueError: there is no such cell; the message lists the short names.
    """
    return find(name, Cell, __name__)  # type: ignore[type-abstract]


def cell_names() -> list[str]:
    """Return the short names of the cells of this package."""
    return short_names(__name__)


class Plain(Fused):
    """One layer of units, $u_t = s(W_{in} x_t + W_{rec} u_{t-1} + b_h)$; a subclass says what s
    is."""

    kernel_weights = ("W_in", "W_rec", "b_h", "b_rec")
    W_in: Tensor  # (R, N)
    W_rec: Tensor  # (R, R)
    b_rec: Tensor  # zeros: the state's part of the gates has no bias of its own

    def __init__(self, n_inputs: int, n_recurrent: int, batch_first: bool = True) -> None:
        super().__init__()
        bound = n_recurrent**-0.5
        for name, n in (("W_in", n_inputs), ("W_rec", n_recurrent)):
            weight = torch.empty(n_recurrent, n).uniform_(-bound, bound)
            self.register_parameter(name, nn.Parameter(weight))
        self.b_h = nn.Parameter(torch.zeros(n_recurrent))
        self.register_buffer("b_rec", torch.zeros(n_recurrent), persistent=False)

    def by_tanh(
        self, inputs: Tensor, u: Tensor, weights: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return what `forward` returns, of units with weights in the order of ``kernel_weights``
        and s = tanh."""
        flat = torch.cat([w.flatten() for w in weights])  # as cuDNN reads them
        own = [
            part.view_as(w)
            for part, w in zip(flat.split([w.numel() for w in weights]), weights, strict=True)
        ]
        after, last = torch.rnn_tanh(
            inputs, u[None].contiguous(), own, True, 1, 0.0, self.training, False, True
        )
        return after, last[0]

    def drive(self, x: Tensor, u: Tensor) -> Tensor:
        """Return the number that s is applied to, ``(B, R)``."""
        return x @ self.W_in.T + u @ self.W_rec.T + self.b_h
