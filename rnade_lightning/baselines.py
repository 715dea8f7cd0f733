r"""Baselines, which the model has to beat: linear predictors with Gaussian or Student errors.

$$x_t = A\,[x_{t-1}; ..; x_{t-p}; 1] + e_t, \qquad e_t \sim t_\nu(0, \Sigma)$$

A baseline gets the tuning that a model gets: `VAR.tuned` chooses all its `Options` on validation
sequences. A multivariate Student t is a Gaussian whose scale changes from frame to frame, so all
features of a frame are far out together; $\nu = \infty$ is the Gaussian. With $r = L^{-1} e$ for
$\Sigma = L L^\top$ and $q_d = \sum_{e < d} r_e^2$, the density of feature d given those before it
is a Student t with $\nu + d - 1$ degrees of freedom (Kotz and Nadarajah, *Multivariate t
Distributions*, 2004, section 1.11).

Conventions:
    Sequences ``(T, D)`` in the model's standardised units; log densities in nats per frame, squared
    errors summed over features, both averaged over frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

RIDGES = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4)
SHRINKAGES = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
DEGREES = (math.inf, 50.0, 20.0, 10.0, 7.0, 5.0, 4.0, 3.0)
FACTORS = tuple(2.0 ** (i / 4) for i in range(-8, 13))  # 1/4 to 8


class Options(NamedTuple):
    """Options of a linear predictor, all of which `VAR.tuned` chooses."""

    n_lags: int = 3  # p
    ridge: float = 0.1  # penalty on the coefficients, the intercept aside
    towards_copying: bool = False  # the penalty draws A to copying the last frame, not to 0
    shrinkage: float = 0.0  # share of the covariance's diagonal in it
    factor: float = 1.0  # on the covariance
    df: float = math.inf  # degrees of freedom of the errors

    def __str__(self) -> str:
        lags = f"{self.n_lags} lag{'s' * (self.n_lags > 1)}"
        ridge = ""
        if math.isfinite(self.ridge):
            ridge = f", ridge {self.ridge:g} towards {'copying' if self.towards_copying else '0'}"
        tails = "Gaussian" if math.isinf(self.df) else f"Student {self.df:g}"
        return (
            f"{lags}{ridge}, covariance shrunk by {self.shrinkage:g} and times {self.factor:.3g}, "
            f"{tails}"
        )


@dataclass(frozen=True)
class VAR:
    """A vector autoregression, x_t = A [x_{t-1}; ..; x_{t-p}; c_t; 1] + e_t. The context c_t, if
    there is one, stands behind the features of a frame in all that it is given.

    Attributes:
        A: coefficients ``(D, p D + C + 1)``.
        covariance: ``(D, D)``; of Student errors their scale matrix, df / (df - 2) times smaller.
        options: what it was fitted with.
    """

    A: Tensor
    covariance: Tensor
    options: Options

    @property
    def n_lags(self) -> int:
        """Return p."""
        return self.options.n_lags

    @property
    def n_given(self) -> int:
        """Return C."""
        D, P = self.A.shape
        return P - self.n_lags * D - 1

    @property
    def df(self) -> float:
        """Return the degrees of freedom of the errors, infinite for Gaussian ones."""
        return self.options.df

    @classmethod
    def fit(
        cls,
        sequences: Sequence[Tensor],
        n_lags: int = 3,
        ridge: float = 0.1,
        towards_copying: bool = False,
        shrinkage: float = 0.0,
        factor: float = 1.0,
        df: float = math.inf,
        n_given: int = 0,
    ) -> VAR:
        """Fit by ridge regression, with the covariance of its residuals; see `Options`. An infinite
        ridge leaves what it draws to. ``n_given`` is C, numbers of the context.

        Raises:
            ValueError: no sequence is longer than the n_lags, or an option is out of its range.
        """
        options = Options(n_lags, ridge, towards_copying, shrinkage, factor, df)
        return _Regression(sequences, n_lags, n_given).fit(options)

    @classmethod
    def copy_last(cls, sequences: Sequence[Tensor]) -> VAR:
        """Return the model that copies the last frame, with a full Gaussian fitted to its
        residuals."""
        return cls.fit(sequences, 1, math.inf, towards_copying=True)

    @classmethod
    def tuned(
        cls,
        sequences: Sequence[Tensor],
        validation: Sequence[Tensor],
        max_lags: int = 3,
        copy: bool = False,
        n_given: int = 0,
    ) -> VAR:
        """Fit to sequences, with all options chosen by the log density of validation sequences.

        The coefficients' options are searched on a grid, then those of the errors; then both once
        more, with that number of lags. Every candidate is scored on the same frames, those after
        ``max_lags``.

        Args:
            sequences: to fit to, each ``(T, D)``; what is too short for ``max_lags`` is left out.
            validation: to choose on, likewise.
            max_lags: most lags that are tried.
            copy: copy the last frame; only the errors are tuned.
            n_given: C, numbers of the context.

        Raises:
            ValueError: a part has no sequence longer than ``max_lags``.
        """
        lags = (1,) if copy else range(1, max_lags + 1)
        fits = {p: _Regression(sequences, p, n_given) for p in lags}
        held_out = [s.double() for s in validation if len(s) > max_lags]
        if not held_out:
            raise ValueError(f"no validation sequence is longer than {max_lags} frames")
        best = Options(1, math.inf, True, 0.01) if copy else Options(shrinkage=0.01, df=7.0)
        for tried in (lags, None):
            scored = []
            for choice in [best] if copy else _coefficients(best, tried or [best.n_lags]):
                var = fits[choice.n_lags].fit(choice)
                scored.append(_best_errors(var, held_out, max_lags, [choice.shrinkage]))
            best = max(scored)[1]
            var = fits[best.n_lags].fit(best)
            best = _best_errors(var, held_out, max_lags, SHRINKAGES)[1]
        return fits[best.n_lags].fit(best)

    def refitted(self, sequences: Sequence[Tensor]) -> VAR:
        """Return the same kind of model, fitted to other sequences."""
        return _Regression(sequences, self.n_lags, self.n_given).fit(self.options)

    def mean(self, frames: Tensor) -> Tensor:
        """Return the predictive mean of frames p+1 .. T of a sequence, ``(T - p, D)``."""
        return _stack([frames], self.n_lags, self.n_given)[0] @ self.A.T

    def log_prob(self, frames: Tensor) -> Tensor:
        """Return the log density of frames p+1 .. T given the frames before them, ``(T - p,)``,
        nats."""
        return self.feature_log_prob(frames).sum(-1)

    def feature_log_prob(self, frames: Tensor) -> Tensor:
        """Return the terms of `log_prob`, ``(T - p, D)``: the log density of every feature given
        the features before it and the frames before."""
        error = self._errors(frames)
        return _log_density(_whitened(error, self.covariance), self.covariance, self.df)

    def _errors(self, frames: Tensor) -> Tensor:
        return frames[self.n_lags :, : len(self.A)].double() - self.mean(frames)

    def squared_errors(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return the exact expected squared error of a draw, and that of the mean, each ``(T -
        p,)``. The first is infinite for 2 degrees of freedom and below."""
        of_mean = self._errors(frames).square().sum(-1)
        return of_mean + _variance(self.df) * self.covariance.trace(), of_mean

    def draws(self, frames: Tensor, n_samples: int, seed: int = 0) -> Tensor:
        """Draw every frame given the true frames before it, ``(n_samples, T - p, D)``."""
        mean = self.mean(frames)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            noise = torch.randn(n_samples, *mean.shape, dtype=mean.dtype)
            if math.isfinite(self.df):
                chi2 = torch.distributions.Chi2(torch.tensor(self.df, dtype=mean.dtype))
                noise *= (self.df / chi2.sample(noise.shape[:-1])).sqrt()[..., None]
        return mean + noise @ torch.linalg.cholesky(self.covariance).T


class _Regression:
    """Fits linear predictors with one number of lags, from sums of products of the frames."""

    def __init__(self, sequences: Sequence[Tensor], n_lags: int, n_given: int = 0) -> None:
        past, now = _stack(sequences, n_lags, n_given)
        self.n = len(now)
        self.of_past, self.of_both, self.of_now = past.T @ past, past.T @ now, now.T @ now

    def fit(self, options: Options) -> VAR:
        for name, low, high in (("ridge", 0, math.inf), ("shrinkage", 0, 1)):
            if not low <= getattr(options, name) <= high:
                raise ValueError(f"{name} {getattr(options, name)}: it is between {low} and {high}")
        if options.n_lags < 1 or not 0 < options.factor < math.inf:
            raise ValueError(
                f"n_lags {options.n_lags} and factor {options.factor}: give 1 lag or more, and a"
                " finite factor above 0"
            )
        if not options.df > 2:
            raise ValueError(
                f"df {options.df:g}: the residuals have a covariance, which Student errors have"
                " above 2 degrees of freedom"
            )
        P, D = self.of_both.shape
        A = torch.zeros(D, P, dtype=torch.float64)
        if options.towards_copying:
            A[:, :D] = torch.eye(D, dtype=torch.float64)
        if math.isfinite(options.ridge):
            penalty = torch.full((P,), options.ridge, dtype=torch.float64)
            penalty[-1] = 0
            left = self.of_both - self.of_past @ A.T
            A += torch.linalg.solve(self.of_past + penalty.diag(), left).T
        products = A @ self.of_both  # of the residuals x_t - A [..], over all frames
        S = (self.of_now - products - products.T + A @ self.of_past @ A.T) / self.n
        S += 1e-6 * S.diagonal().mean() * torch.eye(D, dtype=S.dtype)  # it can be inverted
        S = options.factor * torch.lerp(S, S.diagonal().diag(), options.shrinkage)
        return VAR(A, S / _variance(options.df), options)


def _coefficients(best: Options, lags: Iterable[int]) -> list[Options]:
    """Return the candidates for the coefficients, beside the options of the errors so far."""
    return [
        best._replace(n_lags=p, ridge=ridge, towards_copying=copying)
        for p in lags
        for ridge in RIDGES
        for copying in (False, True)
    ]


def _best_errors(
    var: VAR, sequences: Sequence[Tensor], skip: int, shrinkages: Iterable[float]
) -> tuple[float, Options]:
    """Return the best log density of sequences over options of the errors, and these options.

    Args:
        var: the predictor whose errors are meant.
        sequences: each longer than ``skip``.
        skip: first frames of each that are not scored.
        shrinkages: to choose from; degrees of freedom and the factor are always chosen.
    """
    errors = torch.cat([
        var._errors(s)[skip - var.n_lags :] for s in sequences
    ])  # fmt: skip
    options = var.options
    whole = var.covariance * _variance(var.df) / options.factor
    own = whole.diagonal().diag()
    if options.shrinkage < 1:  # what the residuals alone say, without the shrinkage so far
        whole = own + (whole - own) / (1 - options.shrinkage)
    df = torch.tensor(DEGREES, dtype=torch.float64)[:, None, None]
    factor = torch.tensor(FACTORS, dtype=torch.float64)[:, None]
    found: list[tuple[float, Options]] = []
    for shrinkage in shrinkages:
        S = torch.lerp(whole, own, shrinkage)
        q = _whitened(errors, S).square().sum(-1)
        D, log_det = S.shape[0], 2 * torch.linalg.cholesky(S).diagonal().log().sum()
        variances = torch.tensor([_variance(n) for n in DEGREES], dtype=torch.float64)
        scale = factor / variances[:, None, None]
        gaussian = -0.5 * (q / scale + D * math.log(2 * math.pi))
        student = (
            torch.lgamma((df + D) / 2) - torch.lgamma(df / 2) - D / 2 * (df * math.pi).log()
            - (df + D) / 2 * torch.log1p(q / scale / df)
        )  # fmt: skip
        log_p = torch.where(df.isinf(), gaussian, student).mean(-1)
        log_p = log_p - 0.5 * (log_det + D * scale[..., 0].log())  # (degrees, factors)
        i, j = divmod(int(log_p.argmax()), len(FACTORS))
        choice = options._replace(shrinkage=shrinkage, df=DEGREES[i], factor=FACTORS[j])
        found.append((float(log_p.max()), choice))
    return max(found)


def _variance(df: float) -> float:
    """Return the variance of a Student t of scale 1."""
    if math.isinf(df):
        return 1.0
    return df / (df - 2) if df > 2 else math.inf


def _whitened(error: Tensor, covariance: Tensor) -> Tensor:
    """Return L^{-1} e of errors ``(T, D)``."""
    L = torch.linalg.cholesky(covariance)
    return torch.linalg.solve_triangular(L, error.T, upper=False).T


def _log_density(r: Tensor, covariance: Tensor, df: float) -> Tensor:
    """Return the log density of each feature given those before it, ``(T, D)``, from whitened
    errors ``r (T, D)``."""
    log_scale = torch.linalg.cholesky(covariance).diagonal().log()
    if math.isinf(df):
        return -0.5 * r.square() - log_scale - 0.5 * math.log(2 * math.pi)
    before = torch.cumsum(r.square(), -1) - r.square() + df
    n = df + torch.arange(r.shape[-1], dtype=r.dtype)  # degrees of freedom, feature by feature
    constant = torch.lgamma((n + 1) / 2) - torch.lgamma(n / 2)
    own = -0.5 * (math.pi * before).log() - (n + 1) / 2 * torch.log1p(r.square() / before)
    return constant + own - log_scale


def _stack(sequences: Sequence[Tensor], n_lags: int, n_given: int = 0) -> tuple[Tensor, Tensor]:
    """Return regressors [x_{t-1}; ..; x_{t-p}; c_t; 1] and targets x_t of all frames with p before
    them."""
    both = [s.double() for s in sequences if len(s) > n_lags]
    if not both:
        raise ValueError(f"no sequence is longer than {n_lags} frames")
    past, now = [], []
    for s in both:
        x, c = s.tensor_split([s.shape[1] - n_given], 1)
        lags = [x[n_lags - i : len(x) - i] for i in range(1, n_lags + 1)]
        past.append(torch.cat([*lags, c[n_lags:], torch.ones_like(x[n_lags:, :1])], 1))
        now.append(x[n_lags:])
    return torch.cat(past), torch.cat(now)
