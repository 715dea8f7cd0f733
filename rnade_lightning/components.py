r"""Components of a mixture over one number: Gaussian, Laplace, and Laplace censored at bounds.

**Censoring.** Features that often lie exactly on a bound (a black pixel) make any density without
bound. With bounds ``censor_at`` [l, u] the model is of $\min(\max(x, l), u)$: its components are
those of a value that is cut off, and a feature on a bound is known to lie there or beyond it. Its
term is

$$\log \phi_k = \log F\Big(\frac{l - \mu_k}{\sigma_k}\Big) \text{ at } l, \quad
\log F\Big(\frac{\mu_k - u}{\sigma_k}\Big) \text{ at } u, \quad
F(t) = \begin{cases} e^t / 2 & t < 0 \\ 1 - e^{-t} / 2 & t \ge 0 \end{cases}$$

This is an exact density with respect to the Lebesgue measure between the bounds plus an atom on
each: the two probabilities and the integral between add up to one, and a frame's log density is a
sum of log probabilities and log densities.

Conventions:
    ``x (...)`` broadcasts with means and log scales ``(..., K)``; what is asked of x by component
    is given ``x (..., 1)``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_SEED = 8_415_233
"""Of the points in the jumps of distribution functions: one that no sampler is likely to have."""


class Components(NamedTuple):
    """What the components of a mixture are."""

    kind: str
    """``gaussian`` or ``laplace``."""
    censor_at: tuple[float, float] | None = None
    """Bounds (l, u) at which values are censored, for Laplace components; None for none."""

    def censor(self, x: Tensor) -> Tensor:
        """What is seen of values: those beyond a bound are taken for the bound."""
        return x if self.censor_at is None else x.clamp(*self.censor_at)

    def log_prob(self, x: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
        """Log density of observed values, on a bound log probability, ``(..., K)``."""
        r = (x - mu) * torch.exp(-log_sigma)
        if self.kind == "gaussian":
            return -0.5 * r.square() - log_sigma - 0.5 * math.log(2 * math.pi)
        inside = -r.abs() - log_sigma - math.log(2)
        if self.censor_at is None:
            return inside
        low, high = self._on_bounds(x)
        t = torch.where(high, -r, r)
        half_exp = 0.5 * torch.exp(-t.abs())
        log_F = torch.where(t < 0, t - math.log(2), torch.log1p(-half_exp))
        return torch.where(low | high, log_F, inside)

    def cdf(self, x: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
        """Distribution function of values that are not cut off, ``(..., K)``."""
        r = (x - mu) * torch.exp(-log_sigma)
        if self.kind == "gaussian":
            return torch.special.ndtr(r)
        half_exp = 0.5 * torch.exp(-r.abs())
        return torch.where(r < 0, half_exp, 1 - half_exp)

    def in_jumps(self, cdf: Tensor, x: Tensor) -> Tensor:
        """A distribution function ``(...)`` of observed values ``x (...)``; on a bound, where it
        jumps, a point of the jump, drawn evenly from a fixed seed: uniform for the density's own
        draws all the same."""
        if self.censor_at is None:
            return cdf
        low, high = self._on_bounds(x)
        generator = torch.Generator(cdf.device).manual_seed(_SEED)
        uniform = torch.rand(cdf.shape, generator=generator, dtype=cdf.dtype, device=cdf.device)
        return torch.where(low, cdf * uniform, torch.where(high, 1 - (1 - cdf) * uniform, cdf))

    def mean(self, mu: Tensor, log_sigma: Tensor) -> Tensor:
        r"""Means of observed values,
        $\mu' + \frac\sigma 2 (e^{-|\mu - l| / \sigma} - e^{-|\mu - u| / \sigma})$ with $\mu'$ the
        nearest of $\mu$ in [l, u]."""
        if self.censor_at is None:
            return mu
        sigma = log_sigma.exp()
        at_low, at_high = (torch.exp(-(mu - bound).abs() / sigma) for bound in self.censor_at)
        return self.censor(mu) + 0.5 * sigma * (at_low - at_high)

    def _on_bounds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        assert self.censor_at is not None
        return x <= self.censor_at[0], x >= self.censor_at[1]
