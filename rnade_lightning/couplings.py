r"""Couplings: features of a frame move together in ways that the state sets.

Whitening takes one correlation out of what past frames leave unexplained, the same one for all
frames. But a leg that stands moves with the body, and one that swings does not. So of the white
$x$ the density models

$$z = x - \sum_j g_j M_j s(x), \qquad g = \tanh(b^g + W_g u), \qquad s(x) = 3 \tanh(x / 3)$$

with $M_j$ strictly lower triangular. Each $z_d$ is $x_d$ less a sum over the features before it, so
the Jacobian is 1 and the density stays exact. It is the modified Cholesky decomposition of a
covariance (Pourahmadi 1999, *Joint mean-covariance models with applications to longitudinal
data*), with regressions of each feature on those before it that follow the state. What a feature
says of others is bounded: in a pose that is far from all data, regressions on outliers would add
up from feature to feature.

Conventions:
    ``x (..., D)`` in the order of visits; J = ``n_couplings``. ``M (J, D, D)``, of which only what
    is below the diagonal is read; it starts at 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from rnade_lightning.density import full_precision, side_by_side

BOUND = 3.0
"""What a feature says of others is at most this, in white units. Algorithm 2 and the compiled
sampler have the number once more; tests hold them together."""


def bounded(x: Tensor) -> Tensor:
    """Return s(x) of ``x (...)``: about x where x is small, and never beyond `BOUND`."""
    return BOUND * torch.tanh(x / BOUND)


class Couplings(nn.Module):
    """Take from each feature what the features before it say of it in a state, and give it back.

    Args:
        n_couplings: J, how many patterns.
        n_features: D, features of a frame.
        n_read: numbers of the state, with the context behind them, that set how strong each is.
    """

    def __init__(self, n_couplings: int, n_features: int, n_read: int) -> None:
        super().__init__()
        self.M = nn.Parameter(torch.zeros(n_couplings, n_features, n_features))
        self.b = nn.Parameter(torch.zeros(n_couplings))
        W = torch.empty(n_couplings, n_read)
        self.W = nn.Parameter(nn.init.normal_(W, std=n_read**-0.5))

    def strengths(self, state: Tensor) -> Tensor:
        """Return g in states ``(..., n_read)``, ``(..., J)``."""
        with full_precision(state):
            return torch.tanh(self.b + state.to(self.b.dtype) @ self.W.T)

    def taken(self, x: Tensor, state: Tensor) -> Tensor:
        """Return z of ``x (..., D)`` in states ``(..., n_read)``."""
        with full_precision(x):
            x, g = x.to(self.M.dtype), self.strengths(state)
            each = (g[..., None] * bounded(x)[..., None, :]).flatten(-2)  # (..., J D)
            return x - each @ self.M.tril(-1).mT.flatten(0, 1)

    def given_back(self, z: Tensor, state: Tensor) -> Tensor:
        """Return the x of which ``taken`` makes ``z (..., D)``; the state's batch is the last
        dimensions of that of z."""
        with full_precision(z):
            M, x, g = self.M.tril(-1), z.to(self.M.dtype), self.strengths(state)
            for d in range(x.shape[-1] - 1):  # feature d is whole: what it says of those behind it
                x = x + bounded(x[..., d, None]) * (g @ M[:, :, d])
            return x

    def mean(
        self, z: Tensor, draw: Callable[[Sequence[int]], Tensor], n_samples: int, state: Tensor
    ) -> Tensor:
        """Return the mean ``(..., D)`` of what is given back of a density whose mean is z: s is not
        linear, so that what is added to z is averaged over draws."""
        added = torch.zeros_like(z)
        for n in side_by_side(n_samples, z.shape, z):
            drawn = draw((n,))
            added += (self.given_back(drawn, state) - drawn).sum(0)
        return z + added / n_samples
