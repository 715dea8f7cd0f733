"""The hyperbolic tangent cell, that of the authors' experiments."""

from __future__ import annotations

import torch
from torch import Tensor

from rnade_lightning.cells import Plain


class Tanh(Plain):
    r"""$u_t = \tanh(W_{in} x_t + W_{rec} u_{t-1} + b_h)$."""

    kernel = "tanh"

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        return torch.tanh(self.drive(x, u))

    def forward(self, inputs: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        return self.by_tanh(inputs, u, [getattr(self, name) for name in self.kernel_weights])
