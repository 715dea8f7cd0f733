r"""Student's t as a component, for heavy tails.

$$\phi(r) = C \Big(1 + \frac{r^2}{\nu}\Big)^{-\frac{\nu + 1}2}, \qquad
C = \frac{\Gamma(\frac{\nu + 1}2)}{\sqrt{\nu \pi}\,\Gamma(\frac\nu 2)}$$

The tail is an integral. With $r = \sqrt\nu \cot s$,

$$\bar F(r) = \sqrt\nu\, C \int_0^S \sin^{\nu - 1} s \, ds
= \sqrt\nu\, C\, S^\nu \int_0^1 q^{\nu - 1} \Big(\frac{\sin S q}{S q}\Big)^{\nu - 1} dq,
\qquad S = \mathrm{atan2}(\sqrt\nu, r)$$

The bracket is analytic in q, so a Gauss-Jacobi rule for the weight $q^{\nu - 1}$ (Golub and Welsch
1969) has all digits with few nodes, in the far tail too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rnade_lightning.components import Component

_N_NODES = 24


class StudentT(Component):
    """Student's t of location mu and scale sigma.

    Args:
        df: degrees of freedom nu, above 0; the mean exists above 1.
    """

    def __init__(self, df: float = 4.0) -> None:
        super().__init__()
        if not 0 < df < 1e4:
            raise ValueError(f"df must be above 0 and below 1e4 (use gaussian there), got {df}")
        self.df = float(df)
        self._log_C = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
        self._nodes, self._weights = _gauss_jacobi(_N_NODES, self.df - 1)

    def __repr__(self) -> str:
        return f"StudentT(df={self.df:g})"

    @property
    def standard_variance(self) -> float:
        """Return nu / (nu - 2) above 2 degrees of freedom; inf above 1, nan at 1 and below."""
        if self.df > 2:
            return self.df / (self.df - 2)
        return math.inf if self.df > 1 else math.nan

    def log_standard(self, r: Tensor) -> Tensor:
        return self._log_C - (self.df + 1) / 2 * torch.log1p(r.square() / self.df)

    def slope(self, r: Tensor) -> Tensor:
        return -(self.df + 1) * r / (self.df + r.square())

    def log_tail(self, r: Tensor) -> Tensor:
        upper = self._log_upper_tail(r.abs())
        return torch.where(r > 0, upper, torch.log1p(-torch.exp(upper)))

    def _log_upper_tail(self, r: Tensor) -> Tensor:
        root = math.sqrt(self.df)
        S = torch.atan2(torch.full_like(r, root), r)  # in (0, pi / 2]
        q, w = self._nodes.to(r), self._weights.to(r)
        sinc = torch.special.sinc(S[..., None] * q / math.pi)  # of the normalised kind
        integral = (w * torch.exp((self.df - 1) * torch.log(sinc))).sum(-1)
        return math.log(root) + self._log_C + self.df * torch.log(S) + torch.log(integral)

    def noise(
        self, shape: Sequence[int], generator: torch.Generator | None, like: Tensor
    ) -> Tensor:
        """Return standard draws, by the polar method of Bailey (1994)."""
        u, v = (
            torch.rand(tuple(shape), generator=generator, dtype=like.dtype, device=like.device)
            for _ in range(2)
        )
        radius = torch.sqrt(self.df * torch.expm1(-2 / self.df * torch.log1p(-u)))
        return radius * torch.cos(2 * math.pi * v)


def _gauss_jacobi(n: int, exponent: float) -> tuple[Tensor, Tensor]:
    """Return nodes and weights ``(n,)`` of the Gauss rule for q^exponent on (0, 1), float64."""
    b, k = exponent, torch.arange(1, n, dtype=torch.float64)
    # recurrence of the Jacobi polynomials of (1 + t)^b on (-1, 1)
    diagonal = torch.cat(
        (
            torch.tensor([b / (b + 2)], dtype=torch.float64),
            b * b / ((2 * k + b) * (2 * k + b + 2)),
        )
    )
    squares = 4 * k**2 * (k + b) ** 2 / ((2 * k + b) ** 2 * ((2 * k + b) ** 2 - 1))
    J = torch.diag(diagonal) + torch.diag(squares.sqrt(), 1) + torch.diag(squares.sqrt(), -1)
    t, vectors = torch.linalg.eigh(J)
    return (1 + t) / 2, vectors[0].square() / (b + 1)
