r"""RNADE as a `torch.distributions.Distribution`: its moments, entropy and support.

The mean and variance of a feature given those before it are exact, $m_d(x_{<d})$ and
$v_d(x_{<d})$: those of a mixture. They are averaged over drawn prefixes (laws of total mean and
variance):

$$E\,x_d = E\,m_d, \qquad \mathrm{var}\,x_d = E\,v_d + \mathrm{var}\,m_d, \qquad
\mathrm H = -E \log p(x)$$

Conventions:
    As in `rnade`. Figures of the whole frame carry no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from rnade_lightning import arguments
from rnade_lightning.parameters import Params, batch_of

if TYPE_CHECKING:
    from rnade_lightning.rnade import RNADE

_NUMBERS_AT_ONCE = 2**22
"""How many activations and parameters of mixtures are held at a time."""


class RNADEDistribution(Distribution):
    """RNADE at given biases: batch shape that of the biases, event shape ``(D,)``.

    ``mean``, ``variance``, ``stddev`` and ``entropy()`` are Monte Carlo estimates but for what
    their docstrings call exact. The draws come from torch's global source of randomness, so
    ``torch.manual_seed`` repeats them.

    Args:
        rnade: the density.
        biases: (alpha, mu, sigma), each ``(*batch, D, K)``.
        n_samples: draws behind each estimate, at least 2; its error falls with their square root.
        validate_args: refuse values outside of the support; None for torch's default.

    Raises:
        ValueError: fewer than 2 draws.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = False

    def __init__(
        self,
        rnade: RNADE,
        biases: Params,
        n_samples: int = 100,
        validate_args: bool | None = None,
    ) -> None:
        arguments.draws(rnade.W, n_samples=(n_samples, 2))
        self.rnade, self.biases, self.n_samples = rnade, tuple(rnade.given(biases)), n_samples
        batch = batch_of(self.biases)
        super().__init__(batch, torch.Size((rnade.n_features,)), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> constraints.Constraint:
        """Return where frames lie: all real vectors or, if the density is censored, those between
        the bounds, with the bounds."""
        atoms = self.rnade.component.atoms
        return constraints.independent(
            constraints.interval(*atoms) if atoms else constraints.real, 1
        )

    def expand(
        self, batch_shape: Sequence[int], _instance: RNADEDistribution | None = None
    ) -> RNADEDistribution:
        """Return the distribution at biases expanded to a batch shape."""
        biases = [b.expand(*batch_shape, *b.shape[-2:]) for b in self.biases]
        return RNADEDistribution(self.rnade, biases, self.n_samples, self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the exact log density ``(...)`` of frames ``(..., D)``, in nats. Where the density
        is censored, values beyond a bound are read as the bound.

        Raises:
            ValueError: a frame that is not a number, or of the wrong shape.
        """
        self._check(value)
        return self.rnade.log_prob(value, self.biases)

    def feature_cdf(self, value: Tensor) -> Tensor:
        """Return the exact distribution function of each feature given those before it.

        Args:
            value: frames ``(..., D)``.

        Returns:
            ``(..., D)``, in [0, 1]; on a bound of a censored density, a point of its jump (see
            `RNADE.feature_cdf`).

        Raises:
            ValueError: a frame that is not a number, or of the wrong shape.
        """
        self._check(value)
        return self.rnade.feature_cdf(value, self.biases)

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """Draw frames ``(*sample_shape, *batch, D)``."""
        return self.rnade.sample(sample_shape, self.biases)

    @property
    def mean(self) -> Tensor:
        """Return the mean ``(*batch, D)``. It is exact for the first feature, and for all features
        where one component does not depend on its prefix; else it is estimated from ``n_samples``
        draws."""
        return self.rnade.mean(self.biases, self.n_samples)

    @property
    def variance(self) -> Tensor:
        """Return the variance of every feature ``(*batch, D)``. It is exact for the first feature,
        and for all where no mixture depends on its prefix; else it is a Monte Carlo estimate
        without bias, from ``n_samples`` draws of the prefix. For a censored density, it is that of
        the censored values.

        Raises:
            NotImplementedError: a component of your own that does not say its variance.
        """
        means, within = [], torch.zeros_like(self.biases[0][..., 0]).expand(self._shape)
        with torch.no_grad():
            for x in self._draws():
                log_weights, mu, log_sigma = self.rnade.conditionals(x, self.biases)
                weights = log_weights.exp()
                of_each = self.rnade.component.mean(mu, log_sigma)
                mean = (weights * of_each).sum(-1)
                spread = self.rnade.component.variance(mu, log_sigma)
                spread = spread + (of_each - mean[..., None]).square()
                spread = spread.where(weights > 0, 0.0)  # a weight of 0 times inf
                within = within + (weights * spread).sum(-1).sum(0)
                means.append(mean)
            return within / self.n_samples + torch.cat(means).var(0)

    def entropy(self) -> Tensor:
        """Return a Monte Carlo estimate of the entropy ``(*batch)`` in nats, without bias: the mean
        of the exact ``-log_prob`` over ``n_samples`` draws. That of a censored density is relative
        to the Lebesgue measure between the bounds plus an atom on each."""
        with torch.no_grad():
            log_p = [self.rnade.log_prob(x, self.biases) for x in self._draws()]
            return -torch.cat(log_p).mean(0)

    @property
    def _shape(self) -> torch.Size:
        return self.batch_shape + self.event_shape

    def _draws(self) -> Iterator[Tensor]:
        """Yield the ``n_samples`` draws, some ``(n, *batch, D)`` at a time."""
        size = self._shape.numel() * (self.rnade.n_hidden + 3 * self.rnade.n_components)
        at_once = max(1, _NUMBERS_AT_ONCE // max(1, size))
        for start in range(0, self.n_samples, at_once):
            yield self.sample((min(at_once, self.n_samples - start),))

    def _check(self, value: Tensor) -> None:
        if self._validate_args and value.numel() and not value.is_meta:  # torch cannot check these
            self._validate_sample(self.rnade.censor(value))
