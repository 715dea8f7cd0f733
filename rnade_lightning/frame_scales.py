r"""Common scales of a frame: all features of a frame are far out, or close, together.

A density that goes feature by feature takes each to be as uncertain as its own past says, whatever
the features before it were like. In motion and sound a whole frame is surprising, or none of it is.
So the density is a mixture of J densities that differ in one factor on all scales,

$$p(x) = \sum_j w_j\, \mathrm{RNADE}(x; b^\alpha, b^\mu, b^\sigma + \log s_j), \qquad
w = \mathrm{softmax}(b^w + W_w u)$$

with factors $s_j$ and weights that are learned; the weights follow the state u. It is exact, as any
mixture is. With many factors it could be a multivariate Student t, whose scale is drawn anew for
every frame (Kotz and Nadarajah, *Multivariate t Distributions*, 2004, section 1.2).

Given the features before d, the weights of the mixture are those of the frame times the densities
of these features: what was far out makes what follows wide.

Conventions:
    ``x (..., D)``; J = ``n_scales``; log densities in nats per frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rnade_lightning.density import FrameDensity, full_precision
from rnade_lightning.parameters import StateParams
from rnade_lightning.rnade import RNADE

_SPREAD = 0.35
"""Largest log of a factor at the start."""


class FrameScales(nn.Module):
    """Factors on all scales of a frame, one of which is drawn for every frame.

    Args:
        n_scales: J, how many.
        n_read: numbers of the state, with the context behind them, that set the weights.
    """

    def __init__(self, n_scales: int, n_read: int) -> None:
        super().__init__()
        if n_scales < 2:
            raise ValueError(f"n_scales must be at least 1, got {n_scales}")
        self.log_scales = nn.Parameter(_SPREAD * torch.linspace(-1, 1, n_scales))
        self.b_w = nn.Parameter(torch.zeros(n_scales))
        self.W_w = nn.Parameter(nn.init.normal_(torch.empty(n_scales, n_read), std=0.01))

    def log_weights(self, state: Tensor) -> Tensor:
        """Return the log weights of the factors in states ``(..., R)``, ``(..., J)``."""
        with full_precision(state):
            return torch.log_softmax(self.b_w + state.to(self.b_w.dtype) @ self.W_w.T, -1)

    def log_prob(self, density: FrameDensity, x: Tensor, params: StateParams) -> Tensor:
        """Return the log density ``(...)`` of frames ``x (..., D)``."""
        each = [density.log_prob(x, p) for p in self._each(params)]
        return torch.logsumexp(torch.stack(each, -1) + self.log_weights(params.state), -1)

    def feature_log_prob(self, density: FrameDensity, x: Tensor, params: StateParams) -> Tensor:
        """Return the log density of each feature given those before it, ``(..., D)``."""
        terms, before = self._terms(density, x, params)
        return torch.logsumexp(torch.log_softmax(before, -1) + terms, -1)

    def feature_cdf(self, density: FrameDensity, x: Tensor, params: StateParams) -> Tensor:
        """Return the distribution function of each feature given those before it, ``(..., D)``."""
        before = self._terms(density, x, params)[1]
        each = [density.feature_cdf(x, p) for p in self._each(params)]
        return (torch.softmax(before, -1) * torch.stack(each, -1)).sum(-1)

    def mean(
        self,
        density: FrameDensity,
        params: StateParams,
        n_samples: int,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Return the mean of a frame, ``(..., D)``, from ``n_samples`` draws or a few more, as many
        with every factor."""
        n_samples = -(-n_samples // len(self.log_scales))
        weights = self.log_weights(params.state).exp()
        each = [density.mean(list(p), n_samples, generator) for p in self._each(params)]
        return (weights[..., None, :] * torch.stack(each, -1)).sum(-1)

    def drawn(
        self,
        params: StateParams,
        sample_shape: Sequence[int],
        generator: torch.Generator | None,
        temperature: float,
    ) -> list[Tensor]:
        """Return the parameters of a density, each with a factor drawn for every frame."""
        uniform = self.noise((*sample_shape, *params.state.shape[:-1]), generator)
        return self.chosen(params, uniform, temperature)

    def chosen(
        self, params: StateParams, uniform: Tensor, temperature: float = 1.0
    ) -> list[Tensor]:
        """Return the parameters of a density, each with the factor that a number of `noise`
        chooses for its frame."""
        weights = torch.softmax(self.log_weights(params.state) / temperature, -1)
        above = uniform[..., None] >= weights.cumsum(-1)
        chosen = above.sum(-1).clamp(max=weights.shape[-1] - 1)
        return list(_scaled(params, self.log_scales[chosen][..., None, None]))

    def noise(self, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
        """Return the random numbers of a draw, uniform."""
        how: dict[str, Any] = {"dtype": self.b_w.dtype, "device": self.b_w.device}
        return torch.rand(tuple(shape), generator=generator, **how)

    def mixtures(
        self, density: RNADE, x: Tensor, params: StateParams
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return log weights, means and log scales of each feature given those before it, under
        every factor, ``(..., D, J K)``."""
        of_factors = torch.log_softmax(self._terms(density, x, params)[1], -1).unbind(-1)
        each = [density.conditionals(x, p) for p in self._each(params)]
        log_weights = [w + of[..., None] for (w, *_), of in zip(each, of_factors, strict=True)]
        means, log_scales = ([found[i] for found in each] for i in (1, 2))
        return torch.cat(log_weights, -1), torch.cat(means, -1), torch.cat(log_scales, -1)

    def _each(self, params: StateParams) -> list[StateParams]:
        return [_scaled(params, log_scale) for log_scale in self.log_scales]

    def _terms(
        self, density: FrameDensity, x: Tensor, params: StateParams
    ) -> tuple[Tensor, Tensor]:
        """Return the log density of each feature by factor, and the log weights, up to a constant,
        of the factors given the features before it, both ``(..., D, J)``."""
        each = [density.feature_log_prob(x, p) for p in self._each(params)]
        terms = torch.stack(each, -1)
        before = terms.cumsum(-2) - terms
        return terms, before + self.log_weights(params.state)[..., None, :]


def _scaled(params: StateParams, log_scale: Tensor) -> StateParams:
    """Return parameters (alpha, mu, sigma) with the log of a factor added to sigma."""
    *others, own = params.added
    own = log_scale if own is None else own + log_scale
    return StateParams(params.static, params.weights, params.state, (*others, own))
