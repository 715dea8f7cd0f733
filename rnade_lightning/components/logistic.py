r"""The logistic component, whose mass of an interval has a closed form.

$$\phi(r) = \frac{e^{-r}}{(1 + e^{-r})^2}, \qquad \bar F(r) = \frac 1 {1 + e^r}$$

The mass of a cell of half width w around x, with $c = (x - \mu) / \sigma$ and $v = w / \sigma$, is
$(1 - e^{-2 v}) / ((1 + e^{-c - v}) (1 + e^{c - v}))$, which loses no digits in narrow cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from rnade_lightning.components import Component, log1mexp


class Logistic(Component):
    """A logistic density of mean mu and scale sigma; its deviation is pi / sqrt(3) sigma.

    Args:
        censor_at: None; it cannot be censored.
    """

    standard_variance = math.pi**2 / 3

    def log_standard(self, r: Tensor) -> Tensor:
        size = r.abs()
        return -size - 2 * torch.log1p(torch.exp(-size))

    def slope(self, r: Tensor) -> Tensor:
        return -torch.tanh(0.5 * r)

    def log_tail(self, r: Tensor) -> Tensor:
        return -softplus(r)

    def log_mass(self, low: Tensor, high: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
        inverse = torch.exp(-log_sigma)
        a, b = (low - mu) * inverse, (high - mu) * inverse
        return -softplus(-b) - softplus(a) + log1mexp(-(high - low) * inverse)

    def noise(
        self, shape: Sequence[int], generator: torch.Generator | None, like: Tensor
    ) -> Tensor:
        uniform = torch.rand(
            tuple(shape), generator=generator, dtype=like.dtype, device=like.device
        )
        tiny = torch.finfo(like.dtype).tiny
        return torch.log(uniform.clamp(min=tiny)) - torch.log1p(-uniform)
