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

from rnade_lightning import arguments
from rnade_lightning.density import FrameDensity, full_precision, log_mixed
from rnade_lightning.parameters import Params, StateParams
from rnade_lightning.rnade import RNADE

_SPREAD = 0.35
"""Largest log of a factor at the start."""


class FrameScales(FrameDensity):
    """RNADE with factors on all scales of a frame, one of which is drawn for every frame.

    Args:
        rnade: RNADE, which stays a part of the model that it belongs to.
        n_scales: J, how many.
        n_read: numbers of the state, with the context behind them, that set the weights.
    """

    rnade: RNADE

    def __init__(self, rnade: RNADE, n_scales: int, n_read: int) -> None:
        super().__init__()
        if n_scales < 2:
            raise ValueError(f"n_scales must be at least 1, got {n_scales}")
        self.__dict__["rnade"] = rnade  # no part of this module: its parameters are the model's
        self.n_features, self.param_shapes = rnade.n_features, rnade.param_shapes
        self.shift_means = rnade.shift_means
        self.log_scales = nn.Parameter(_SPREAD * torch.linspace(-1, 1, n_scales))
        self.b_w = nn.Parameter(torch.zeros(n_scales))
        self.W_w = nn.Parameter(nn.init.normal_(torch.empty(n_scales, n_read), std=0.01))

    @property
    def floor(self) -> float:  # type: ignore[override]
        return self.rnade.floor

    def static_params(self) -> tuple[Tensor, ...]:
        return self.rnade.static_params()

    def given(self, params: Params | None) -> StateParams:
        """Return parameters as given, whose state sets the weights of the factors; the static ones
        and a state of zeros for None.

        Raises:
            TypeError: they have no state.
        """
        if params is None:
            static = self.static_params()
            params = StateParams(
                static, [None] * len(static), self.W_w.new_zeros(self.W_w.shape[1])
            )
        if not isinstance(params, StateParams):
            raise TypeError("the weights of common scales follow a state: give StateParams")
        return params.checked(self.param_shapes, self.b_w)

    def censor(self, x: Tensor) -> Tensor:
        return self.rnade.censor(x)

    def start_at(self, covariance: Tensor) -> None:
        self.rnade.start_at(covariance)

    def log_weights(self, state: Tensor) -> Tensor:
        """Return the log weights of the factors in states ``(..., R)``, ``(..., J)``."""
        with full_precision(state):
            return torch.log_softmax(self.b_w + state.to(self.b_w.dtype) @ self.W_w.T, -1)

    def log_prob(self, x: Tensor, params: Params | None = None) -> Tensor:
        given = self.given(params)
        each = [self.rnade.log_prob(x, p) for p in self._each(given)]
        return log_mixed(torch.stack(each, -1) + self.log_weights(given.state))

    def feature_log_prob(self, x: Tensor, params: Params | None = None) -> Tensor:
        terms, before = self._terms(x, self.given(params))
        return log_mixed(torch.log_softmax(before, -1) + terms)

    def feature_cdf(self, x: Tensor, params: Params | None = None) -> Tensor:
        given = self.given(params)
        before = self._terms(x, given)[1]
        each = [self.rnade.feature_cdf(x, p) for p in self._each(given)]
        return (torch.softmax(before, -1) * torch.stack(each, -1)).sum(-1)

    def conditionals(self, x: Tensor, params: Params | None = None) -> tuple[Tensor, ...]:
        """Return log weights, means and log scales of each feature given those before it, under
        every factor, ``(..., D, J K)``; see `RNADE.conditionals`."""
        given = self.given(params)
        of_factors = torch.log_softmax(self._terms(x, given)[1], -1).unbind(-1)
        each = [self.rnade.conditionals(x, p) for p in self._each(given)]
        log_weights = [w + of[..., None] for (w, *_), of in zip(each, of_factors, strict=True)]
        means, log_scales = ([found[i] for found in each] for i in (1, 2))
        return torch.cat(log_weights, -1), torch.cat(means, -1), torch.cat(log_scales, -1)

    def sample(
        self,
        sample_shape: Sequence[int] = (),
        params: Params | None = None,
        given: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        arguments.draws(self.b_w, generator, temperature)
        with torch.no_grad():
            own = self.given(params).expanded()
            log_weights = self.log_weights(own.state)
            if given is not None:  # what is known of the frame tells of its factor
                each = [self.rnade.log_prob(given, p) for p in self._each(own)]
                log_weights = log_weights + torch.stack(each, -1)
            uniform = self.noise((*sample_shape, *own.batch), generator)
            chosen = self._chosen(own, log_weights, uniform, temperature)
            return self.rnade.sample((), chosen, given, generator, temperature)

    def mean(
        self,
        params: Params | None = None,
        n_samples: int = 100,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the mean of a frame, ``(*batch, D)``, from ``n_samples`` draws or a few more, as
        many with every factor."""
        arguments.draws(self.b_w, generator, n_samples=(n_samples, 1))
        with torch.no_grad():
            given, n = self.given(params).expanded(), -(-n_samples // len(self.log_scales))
            weights = self.log_weights(given.state).exp()
            each = [self.rnade.mean(p, n, generator) for p in self._each(given)]
            return (weights[..., None, :] * torch.stack(each, -1)).sum(-1)

    def chosen(self, params: StateParams, uniform: Tensor, temperature: float = 1.0) -> StateParams:
        """Return the parameters of RNADE, each with the factor that a number of `noise` chooses for
        its frame."""
        return self._chosen(params, self.log_weights(params.state), uniform, temperature)

    def noise(self, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
        """Return the random numbers of a draw, uniform."""
        how: dict[str, Any] = {"dtype": self.b_w.dtype, "device": self.b_w.device}
        return torch.rand(tuple(shape), generator=generator, **how)

    def _chosen(
        self, params: StateParams, log_weights: Tensor, uniform: Tensor, temperature: float
    ) -> StateParams:
        weights = torch.softmax(log_weights / temperature, -1)
        above = uniform[..., None] >= weights.cumsum(-1)
        chosen = above.sum(-1).clamp(max=weights.shape[-1] - 1)
        return params.plus(-1, self.log_scales[chosen][..., None, None])

    def _each(self, params: StateParams) -> list[StateParams]:
        return [params.plus(-1, log_scale) for log_scale in self.log_scales]

    def _terms(self, x: Tensor, params: StateParams) -> tuple[Tensor, Tensor]:
        """Return the log density of each feature by factor, and the log weights, up to a constant,
        of the factors given the features before it, both ``(..., D, J)``."""
        each = [self.rnade.feature_log_prob(x, p) for p in self._each(params)]
        terms = torch.stack(each, -1)
        before = torch.cat((torch.zeros_like(terms[..., :1, :]), terms.cumsum(-2)[..., :-1, :]), -2)
        before = before.clamp(min=torch.finfo(terms.dtype).min)  # none more likely where none is
        return terms, before + self.log_weights(params.state)[..., None, :]
