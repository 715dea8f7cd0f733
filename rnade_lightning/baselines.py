"""Baselines, which the model has to beat: linear predictors with a full Gaussian error.

Conventions:
    Sequences ``(T, D)`` in the model's standardised units; log densities in nats per frame, squared
    errors summed over features, both averaged over frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class VAR:
    """A vector autoregression, x_t = A [x_{t-1}; ..; x_{t-p}; 1] + e_t with e_t ~ N(0, covariance).

    Attributes:
        A: coefficients ``(D, p D + 1)``.
        covariance: ``(D, D)``.
        n_lags: p.
    """

    A: Tensor
    covariance: Tensor
    n_lags: int

    @classmethod
    def fit(cls, sequences: Sequence[Tensor], n_lags: int = 3, ridge: float = 0.1) -> VAR:
        """Fit by ridge regression (the intercept is not shrunk), with the covariance of its
        residuals.

        Raises:
            ValueError: no sequence is longer than the n_lags.
        """
        past, now = _stack(sequences, n_lags)
        penalty = torch.full((past.shape[1],), float(ridge), dtype=past.dtype)
        penalty[-1] = 0
        A = torch.linalg.solve(past.T @ past + penalty.diag(), past.T @ now).T
        return cls(A, _covariance(now - past @ A.T), n_lags)

    @classmethod
    def copy_last(cls, sequences: Sequence[Tensor]) -> VAR:
        """Return the model that copies the last frame, with a full Gaussian fitted to its
        residuals."""
        past, now = _stack(sequences, 1)
        D = now.shape[1]
        A = torch.eye(D, D + 1, dtype=past.dtype)
        return cls(A, _covariance(now - past @ A.T), 1)

    def mean(self, frames: Tensor) -> Tensor:
        """Return the predictive mean of frames p+1 .. T of a sequence, ``(T - p, D)``."""
        return _stack([frames], self.n_lags)[0] @ self.A.T

    def log_prob(self, frames: Tensor) -> Tensor:
        """Return the log density of frames p+1 .. T given the frames before them, ``(T - p,)``,
        nats."""
        return self.feature_log_prob(frames).sum(-1)

    def feature_log_prob(self, frames: Tensor) -> Tensor:
        """Return the terms of `log_prob`, ``(T - p, D)``: the log density of every feature given
        the features before it and the frames before."""
        L = torch.linalg.cholesky(self.covariance)  # L_dd: deviation of d given those before
        error = (frames[self.n_lags :].double() - self.mean(frames)).T
        r = torch.linalg.solve_triangular(L, error, upper=False).T
        return -0.5 * r.square() - L.diagonal().log() - 0.5 * math.log(2 * math.pi)

    def squared_errors(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return the exact expected squared error of a draw, and that of the mean, each ``(T -
        p,)``."""
        of_mean = (frames[self.n_lags :] - self.mean(frames)).square().sum(-1)
        return of_mean + self.covariance.trace(), of_mean


def _stack(sequences: Sequence[Tensor], n_lags: int) -> tuple[Tensor, Tensor]:
    """Return regressors [x_{t-1}; ..; x_{t-p}; 1] and targets x_t of all frames with p before
    them."""
    sequences = [s.double() for s in sequences if len(s) > n_lags]
    if not sequences:
        raise ValueError(f"no sequence is longer than {n_lags} frames")
    past = [
        torch.cat(
            [s[n_lags - i : len(s) - i] for i in range(1, n_lags + 1)] + [s[n_lags:, :1] * 0 + 1], 1
        )
        for s in sequences
    ]
    return torch.cat(past), torch.cat([s[n_lags:] for s in sequences])


def _covariance(residuals: Tensor) -> Tensor:
    """Return the second moments, with a millionth of their mean on the diagonal: they can be
    inverted."""
    S = residuals.T @ residuals / len(residuals)
    return S + 1e-6 * S.diagonal().mean() * torch.eye(len(S), dtype=S.dtype)
