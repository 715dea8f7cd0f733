r"""The Laplace component (RNADE-MoL), which may be censored at bounds.

$$\phi(r) = \tfrac12 e^{-|r|}, \qquad
\bar F(r) = \begin{cases} e^{-r} / 2 & r > 0 \\ 1 - e^r / 2 & r \le 0 \end{cases}$$
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rnade_lightning.components import Component

_STEEPEST = 0.7


class Laplace(Component):
    """A Laplace density of mean mu and scale sigma; its deviation is sqrt(2) sigma.

    Args:
        censor_at: bounds (l, u) at which values are censored; None for none.
    """

    kernel = "laplace"
    standard_variance = 2.0

    def log_standard(self, r: Tensor) -> Tensor:
        return -r.abs() - math.log(2)

    def slope(self, r: Tensor) -> Tensor:
        return -torch.sign(r)

    def log_tail(self, r: Tensor) -> Tensor:
        below = torch.log1p(-0.5 * torch.exp(-r.abs()))
        return torch.where(r > 0, -r - math.log(2), below)

    def noise(
        self, shape: Sequence[int], generator: torch.Generator | None, like: Tensor
    ) -> Tensor:
        sign = torch.rand(tuple(shape), generator=generator, dtype=like.dtype, device=like.device)
        return torch.copysign(torch.empty_like(sign).exponential_(generator=generator), sign - 0.5)

    def tilted(self, noise: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return, by its distribution function, draws of a density that falls as $e^{(1 + a) r}$
        below 0 and as $e^{-(1 - a) r}$ above. Beyond a slope of 1 there is none: slopes are cut at
        0.7, where the mean is 2.7."""
        a = slope.clamp(-_STEEPEST, _STEEPEST)
        below = (self.log_tail(-noise) - torch.log((1 - a) / 2)) / (1 + a)
        above = (torch.log((1 + a) / 2) - self.log_tail(noise)) / (1 - a)
        r = torch.where(below < 0, below, above)
        return r, -a * r - torch.log1p(-a.square())

    def censored_mean(self, mu: Tensor, log_sigma: Tensor) -> Tensor:
        r"""Return $\mu' + \frac\sigma 2 (e^{-|\mu - l| / \sigma} - e^{-|\mu - u| / \sigma})$ with
        $\mu'$ the nearest of $\mu$ in [l, u]."""
        sigma = log_sigma.exp()
        at_low, at_high = (torch.exp(-(mu - bound).abs() / sigma) for bound in self.atoms)
        return self.censor(mu) + 0.5 * sigma * (at_low - at_high)

    def censored_variance(self, mu: Tensor, log_sigma: Tensor) -> Tensor:
        r"""Return $E (y - \mu')^2 - (E\,y - \mu')^2$ of censored values y. With $a = (u - \mu') /
        \sigma$, $b = (\mu' - l) / \sigma$ and $q = e^{-|\mu - \mu'| / \sigma}$, the integrals of
        $2 t P(|y - \mu'| > t)$ and of $\pm P$ give

        $$E (y - \mu')^2 = \sigma^2 q\,(g(a) + g(b)), \quad
        E\,y - \mu' = \tfrac\sigma 2 q\,(e^{-b} - e^{-a}), \quad g(t) = 1 - (1 + t) e^{-t}$$
        """
        sigma, near = log_sigma.exp(), self.censor(mu)
        a, b = ((bound - near).abs() / sigma for bound in (self.atoms[1], self.atoms[0]))
        q = torch.exp(-(mu - near).abs() / sigma)
        two = torch.full_like(a, 2.0)  # g is the incomplete gamma function of order 2
        square = torch.special.gammainc(two, a) + torch.special.gammainc(two, b)
        offset = 0.5 * q * (torch.expm1(-b) - torch.expm1(-a))
        return sigma.square() * (q * square - offset.square())
