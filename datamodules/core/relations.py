"""Find features that are linear functions of others on a sample of frames.

A sample of n frames says little about a function of nearly n others: any feature is one, on those
frames. So what others leave of a feature is judged by the degrees of freedom that they leave, and
of all functions that explain it the one of the fewest others is taken.

Conventions:
    Features are columns of any matrix X whose ``X'X`` is their correlation matrix, such as the R of
    standardised frames over the root of their number. Residuals are in deviations of the feature.
"""

from functools import lru_cache

import numpy as np
from scipy.stats import chi2

from rnade_lightning.datamodules.core import Array

_LEVEL = 1e-3  # probability that a feature that leaves more is taken for a function of others
_EXACT = 1e-9  # residual that is rounding of the sums, whatever the others are


@lru_cache(maxsize=4096)
def _inflation(n: int, n_others: int) -> float:
    freedom = n - 1 - n_others
    return float(np.sqrt(n / chi2.ppf(_LEVEL, freedom))) if freedom > 0 else np.inf


def largest_residual(residual: float, n: int, n_others: int) -> float:
    """Return what a feature may leave in truth, where it leaves ``residual`` on a sample.

    It is the upper end of the confidence interval of a Gaussian's deviation, at the level 0.001.

    Args:
        residual: root mean square over the sample, after a fit.
        n: frames of the sample.
        n_others: features that were fitted to it, besides a constant.

    Returns:
        The bound; infinite where the fit left no degree of freedom.

    >>> largest_residual(0.0, 10, 9), round(largest_residual(1.0, 1000, 5), 2)
    (inf, 1.08)
    """
    return residual * _inflation(n, n_others) if n - 1 > n_others else np.inf


def function_of(others: Array, feature: Array, n: int, tolerance: float) -> dict[int, float] | None:
    """Return the linear function of the fewest others that is a feature, if there is one.

    Others are taken one by one, each time the one that explains the most, until the residual is as
    small as it gets (twice that of the best choice).

    Args:
        others: columns of other features ``(M, K)``.
        feature: column of the feature ``(M,)``.
        n: frames of the sample.
        tolerance: `largest_residual` of a feature that is a function.

    Returns:
        Weights by column of ``others``, in standardised units; None where there is no function.
    """
    rest, free, chosen = feature.copy(), others.copy(), list[int]()
    bounds = list[float]()
    for _ in range(min(others.shape[1], n - 2)):
        length = np.linalg.norm(free, axis=0)
        open_ = length > _EXACT
        open_[chosen] = False
        if not open_.any():
            break
        gain = np.abs(free.T @ rest) / np.where(open_, length, 1.0)
        best = int(np.where(open_, gain, -1.0).argmax())
        direction = free[:, best] / length[best]
        rest = rest - direction * (direction @ rest)
        free -= np.outer(direction, direction @ free)
        chosen.append(best)
        bounds.append(largest_residual(float(np.linalg.norm(rest)), n, len(chosen)))
        if bounds[-1] <= _EXACT:
            break
    if not bounds or min(bounds) > tolerance:
        return None
    enough = max(2 * min(bounds), _EXACT)
    n_chosen = 1 + next(i for i, bound in enumerate(bounds) if bound <= enough)
    chosen = chosen[:n_chosen]
    weights = np.linalg.lstsq(others[:, chosen], feature, rcond=None)[0]
    return dict(zip(chosen, weights.tolist(), strict=True))
