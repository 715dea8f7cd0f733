r"""Components of a mixture over one number, one class in each file of this package.

A component has a location $\mu$ and a scale $\sigma$: with $r = (x - \mu) / \sigma$, its density is
$\phi(r) / \sigma$, where the standard density $\phi$ is symmetric. All else follows from three
functions of r, which a class writes down: $\log \phi$, its slope, and the log of the tail
$\bar F(r) = \int_r^\infty \phi$.

$$\log p(x) = \log \phi(r) - \log \sigma, \qquad
\frac{\partial}{\partial \mu} = -\frac{\phi'}{\phi}(r)\,\frac1\sigma, \qquad
\frac{\partial}{\partial \log \sigma} = -r\,\frac{\phi'}{\phi}(r) - 1$$

**Mass.** The probability of an interval (l, h), with a and b its ends in units of r, is
$P = \bar F(a) - \bar F(b)$; its log has the derivatives

$$\frac{\partial \log P}{\partial \mu} = \frac{\phi(a) - \phi(b)}{\sigma P}, \qquad
\frac{\partial \log P}{\partial \log \sigma} = \frac{a \phi(a) - b \phi(b)}{P}$$

**Censoring.** Features that often lie exactly on a bound (a black pixel) make any density
unbounded. With bounds ``censor_at`` (l, u) the model is of $\min(\max(x, l), u)$. A feature on a
bound is known to lie there or beyond, so its term is the log probability of that,
$\log \bar F((\mu - l) / \sigma)$ at l and $\log \bar F((u - \mu) / \sigma)$ at u: an exact density
with respect to the Lebesgue measure between the bounds plus an atom on each.

To add a component, write a class of your own (`Component` says what it needs) and name it by its
path, or put it into a file of this package and name it by the file. It then runs everywhere on the
torch path. The tests of every component (``tests/components``) find it by themselves.

Conventions:
    ``x (..., 1)`` or ``(..., K)`` broadcasts with means and log scales ``(..., K)``. Logs are
    natural, probabilities in nats.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from rnade_lightning.class_paths import class_and_arguments, find, public_path, short_names

_SEED = 8_415_233
"""Of the points in the jumps of distribution functions: one that no sampler is likely to have."""


class Component(ABC):
    """A component of location mu and scale sigma.

    Args:
        censor_at: bounds (l, u) at which values are censored; None for none.
    """

    kernel: ClassVar[str | None] = None
    """Name of the compiled code for it; None runs it on torch operations. A subclass that changes
    nothing the code computes may name it again; it is not inherited."""
    further: ClassVar[tuple[str, ...]] = ()
    """Names of parameters beside mean and log scale; their derivatives follow those two."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "kernel" not in vars(cls):
            cls.kernel = None

    def __init__(self, censor_at: Sequence[float] | None = None) -> None:
        if censor_at is not None:
            if len(censor_at) != 2 or not -math.inf < censor_at[0] < censor_at[1] < math.inf:
                raise ValueError(f"censor_at must be two finite numbers in order, got {censor_at}")
            if type(self).censored_mean is Component.censored_mean:
                raise ValueError(f"the component {self.name} cannot be censored; use laplace")
            censor_at = (float(censor_at[0]), float(censor_at[1]))
        self.atoms: tuple[float, ...] = censor_at or ()
        """Values of positive probability: the two bounds, or none."""

    # ------------------------------------------------------------------ what a class writes down

    @abstractmethod
    def log_standard(self, r: Tensor) -> Tensor:
        """Return the log of the standard density, symmetric in ``r``."""

    @abstractmethod
    def slope(self, r: Tensor) -> Tensor:
        """Return the derivative of `log_standard` by ``r``."""

    @abstractmethod
    def log_tail(self, r: Tensor) -> Tensor:
        """Return the log probability that a standard draw is above ``r``, of either sign."""

    @abstractmethod
    def noise(
        self, shape: Sequence[int], generator: torch.Generator | None, like: Tensor
    ) -> Tensor:
        """Return standard draws, in the dtype and on the device of ``like``."""

    def tilted(self, noise: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return standard draws ``r`` of the density proportional to $\phi(r) e^{a r}$, made of
        those of $\phi$, and the log of $\phi(r)$ over that density. A class may go without: then
        the draws stay as they are.

        Args:
            noise: what `noise` returned.
            slope: a, which broadcasts with it.
        """
        return noise, torch.zeros_like(noise)

    def censored_mean(self, mu: Tensor, log_sigma: Tensor) -> Tensor:
        """Return the mean of censored values; a class without it cannot be censored."""
        raise NotImplementedError

    @property
    def standard_variance(self) -> float:
        """Return the variance of the standard density, inf or nan where it has none. A class may go
        without; then the variance of a mixture of it is refused."""
        raise NotImplementedError(
            f"the component {self.name} does not define its variance: add "
            "standard_variance to its class"
        )

    def censored_variance(self, mu: Tensor, log_sigma: Tensor) -> Tensor:
        """Return the variance of censored values. A class may go without, as above."""
        raise NotImplementedError(
            f"the component {self.name} does not define its variance when it is censored: add "
            "censored_variance to its class"
        )

    # ------------------------------------------------------------------ what follows

    @property
    def name(self) -> str:
        """Return the short name of a component of this package, or the path of any other."""
        package, _, name = type(self).__module__.rpartition(".")
        return name if package == __name__ else public_path(type(self))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}()" if not self.atoms else f"{type(self).__name__}({self.atoms})"
        )

    def log_prob(self, x: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
        """Return the log density of censored values; on a bound, the log probability."""
        r = (x - mu) * torch.exp(-log_sigma)
        inside = self.log_standard(r) - log_sigma
        if not self.atoms:
            return inside
        low, high = self._on_bounds(x)
        return torch.where(low | high, self.log_tail(torch.where(high, r, -r)), inside)

    def log_prob_slopes(self, x: Tensor, mu: Tensor, log_sigma: Tensor) -> tuple[Tensor, ...]:
        """Return the derivatives of `log_prob` by mu, by log sigma, and by each of `further`."""
        inverse = torch.exp(-log_sigma)
        r = (x - mu) * inverse
        slope = self.slope(r)
        by_mu, by_log_sigma = -slope * inverse, -r * slope - 1
        if not self.atoms:
            return by_mu, by_log_sigma
        low, high = self._on_bounds(x)
        t = torch.where(high, r, -r)  # the tail is above t
        by_t = -torch.exp(self.log_standard(t) - self.log_tail(t))
        on_bound = low | high
        toward = torch.where(high, -by_t, by_t) * inverse
        return (
            torch.where(on_bound, toward, by_mu),
            torch.where(on_bound, -t * by_t, by_log_sigma),
        )

    def log_mass(self, low: Tensor, high: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
        """Return the log probability that a value that is not censored lies in (low, high).

        Args:
            low: lower end of the interval, finite or -inf.
            high: upper end, above ``low``, finite or inf.
            mu: means.
            log_sigma: log scales.
        """
        a, b = self._ends(low, high, mu, log_sigma)
        near, far = self.log_tail(a), self.log_tail(b)
        return near + log1mexp(far - near)

    def log_mass_slopes(
        self, low: Tensor, high: Tensor, mu: Tensor, log_sigma: Tensor
    ) -> tuple[Tensor, ...]:
        """Return the derivatives of `log_mass` by mu, by log sigma, and by each of `further`."""
        log_mass = self.log_mass(low, high, mu, log_sigma)
        inverse = torch.exp(-log_sigma)
        ends = ((low - mu) * inverse, (high - mu) * inverse)
        at = [torch.exp(self.log_standard(r) - log_mass) for r in ends]
        weighted = [torch.where(p > 0, r * p, 0.0) for r, p in zip(ends, at, strict=True)]
        return (at[0] - at[1]) * inverse, weighted[0] - weighted[1]

    def _ends(
        self, low: Tensor, high: Tensor, mu: Tensor, log_sigma: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the interval in units of r, turned into the upper half where it lies below the
        mean. Differences of small tails keep their digits; those of numbers near 1 do not."""
        inverse = torch.exp(-log_sigma)
        a, b = (low - mu) * inverse, (high - mu) * inverse
        turned = a + b < 0
        return torch.where(turned, -b, a), torch.where(turned, -a, b)

    def cdf(self, x: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
        """Return the distribution function of values that are not censored."""
        r = (x - mu) * torch.exp(-log_sigma)
        tail = torch.exp(self.log_tail(r.abs()))
        return torch.where(r < 0, tail, 1 - tail)

    def in_jumps(self, cdf: Tensor, x: Tensor) -> Tensor:
        """Return a distribution function ``(...)`` at values ``x (...)``, uniform for the density's
        own draws. On a bound, where it jumps, take a point of the jump, from a fixed seed."""
        if not self.atoms:
            return cdf
        low, high = self._on_bounds(x)
        generator = torch.Generator(cdf.device).manual_seed(_SEED)
        uniform = torch.rand(cdf.shape, generator=generator, dtype=cdf.dtype, device=cdf.device)
        return torch.where(low, cdf * uniform, torch.where(high, 1 - (1 - cdf) * uniform, cdf))

    def censor(self, x: Tensor) -> Tensor:
        """Return values with those beyond a bound replaced by the bound."""
        return x.clamp(*self.atoms) if self.atoms else x

    def mean(self, mu: Tensor, log_sigma: Tensor) -> Tensor:
        """Return the means of censored values."""
        return self.censored_mean(mu, log_sigma) if self.atoms else mu

    def variance(self, mu: Tensor, log_sigma: Tensor) -> Tensor:
        """Return the variances of censored values, of the shape of ``log_sigma``.

        Raises:
            NotImplementedError: the class does not define its variance.
        """
        if self.atoms:
            return self.censored_variance(mu, log_sigma)
        return self.standard_variance * torch.exp(2 * log_sigma)

    def _on_bounds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x <= self.atoms[0], x >= self.atoms[1]


def component_class(name: str) -> type[Component]:
    """Return a component by its short name (the files of this package) or by its path.

    Raises:
        ValueError: there is no such component; the message lists the short names.
    """
    return find(name, Component, __name__)  # type: ignore[type-abstract]


def make_component(component: str | dict[str, Any] | Component, **arguments: Any) -> Component:
    """Return a component.

    Args:
        component: a short name (``gaussian``, ``laplace``, ``logistic``, ``student_t``, the files
            of this package), the path of a class, a component itself, or, to give arguments,
            ``{"class_path": name or path, "init_args": {...}}``.
        **arguments: more arguments of the class.

    Raises:
        ValueError: there is no such component, or it does not take these arguments.
    """
    if isinstance(component, Component):
        if arguments:
            raise ValueError(f"give {', '.join(arguments)} to the component {component} itself")
        return component
    path, given = class_and_arguments(component, "component")
    kind = component_class(path)
    try:
        return kind(**given, **arguments)
    except TypeError as error:
        raise ValueError(f"component {path}: {error}") from None


def component_names() -> list[str]:
    """Return the short names of the components of this package."""
    return short_names(__name__)


def log1mexp(x: Tensor) -> Tensor:
    """Return log(1 - e^x) for x below 0 (Maechler 2012, *Accurately computing log(1 -
    exp(-|a|))*)."""
    return torch.where(x > -math.log(2), torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))
