"""The logistic cell, that of the supplement."""

from __future__ import annotations

import torch
from torch import Tensor

from rnade_lightning.cells import Plain


class Sigmoid(Plain):
    r"""$u_t = s(W_{in} x_t + W_{rec} u_{t-1} + b_h)$ with s the logistic function."""

    kernel = "sigmoid"

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        return torch.sigmoid(self.drive(x, u))

    def forward(self, inputs: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Run as a hyperbolic tangent cell of v = 2 u - 1, since s(z) = (1 + tanh(z / 2)) / 2."""
        W_in, W_rec, b_h, b_rec = (getattr(self, name) for name in self.kernel_weights)
        weights = (W_in / 2, W_rec / 4, b_h / 2 + W_rec.sum(1) / 4, b_rec)
        after, last = self.by_tanh(inputs, 2 * u - 1, weights)
        return (after + 1) / 2, (last + 1) / 2
