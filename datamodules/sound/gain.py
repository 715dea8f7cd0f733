"""Turn residuals into innovations and back, by a causal gain.

The level of speech changes within milliseconds, and a unit that sums a frame's samples does not see
it. So each residual is divided by a scale of the residuals before it. The scale comes from two
exponential averages of their absolute values, one with a fast and one with a slow memory:

    innovation   e_t = r_t / s_t
    scale        log s_t = a log(fast_t + floor) + b log(slow_t + floor) + (1 - a - b) log ref
    averages     fast_{t+1} = phi fast_t + (1 - phi) |r_t|,    slow_t likewise

s_t is a function of residuals before t, so innovations are a triangular function of residuals, with
1 / s_t on the diagonal: log p of residuals is log p of innovations less sum_t log s_t, exactly.

- The floor is the deviation of noise that is uniform over one step of 16 bits: no residual of
  dequantised samples is more certain.
- a + b < 1 leaves some of the level in the innovations. A model of innovations does not see the
  absolute level; what it draws comes back to ``ref`` instead of drifting without limit.
- An average counts no residual above full scale, so that finite innovations give finite sound.
- Where a sound is turned back (see `predictor`), |r_t| is the mean over the noise of dequantising,
  given the integer: the scale is then a function of integers.

Conventions:
    Residuals and innovations ``(N,)``, float64, full scale 1, from the beginning of a sound.
"""

import numba
import numpy as np
from scipy.optimize import minimize
from scipy.stats import t as student

from rnade_lightning.datamodules.core import Array

_FAST, _SLOW = 0.8, 0.98  # phi: memories of 5 and 50 samples
_A, _B = 0.6, 0.3  # by maximum likelihood 0.65 and 0.35, on training files of docs/audio.md
REFERENCE = 2.0**-10  # 32 steps of 16 bits
_FLOOR = 2.0**-15 / np.sqrt(12)
_BOUND = 1.0


def to_innovations(residuals: Array) -> tuple[Array, Array]:
    """Return the innovations of residuals ``(N,)``, and the log scales of the division ``(N,)``."""
    innovations, log_scale = np.empty_like(residuals), np.empty_like(residuals)
    _recursion(residuals, innovations, log_scale)
    return innovations, log_scale


@numba.njit
def log_scale_of(levels: Array) -> float:
    """Return the log scale of the next residual.

    Args:
        levels: The fast and the slow average, ``(2,)``.
    """
    rest = (1 - _A - _B) * np.log(REFERENCE)
    return float(_A * np.log(levels[0] + _FLOOR) + _B * np.log(levels[1] + _FLOOR) + rest)


@numba.njit
def followed(levels: Array, size: float) -> None:
    """Take the absolute value of a residual into both averages ``(2,)``, in place."""
    size = min(size, _BOUND)
    levels[0] = _FAST * levels[0] + (1 - _FAST) * size
    levels[1] = _SLOW * levels[1] + (1 - _SLOW) * size


@numba.njit
def mean_size(residual: float, step: float) -> float:
    """Return the mean absolute value of a residual with noise that is uniform over one step."""
    size = abs(residual)
    return size if size >= step / 2 else step / 4 + size * size / step


@numba.njit
def _recursion(residuals: Array, innovations: Array, log_scale: Array) -> None:
    """Run the recursion of the module's docstring, in place."""
    levels = np.full(2, REFERENCE)
    for t in range(len(residuals)):
        log_scale[t] = log_scale_of(levels)
        innovations[t] = residuals[t] / np.exp(log_scale[t])
        followed(levels, abs(residuals[t]))


class AdaptiveStudent:
    """A density of residuals without a net: Student's t of an adaptive scale, ``r_t = s_t c z_t``.

    Degrees of freedom and c are fitted by maximum likelihood.

    Args:
        residuals: residuals ``(N,)`` of each sound to fit to.
    """

    def __init__(self, residuals: list[Array]) -> None:
        e = np.concatenate([to_innovations(r)[0] for r in residuals])
        e = e[:: max(len(e) // 100_000, 1)]

        def nll(logs: Array) -> float:
            return float(-student.logpdf(e, *np.exp(logs[:1]), 0, np.exp(logs[1])).mean())

        start = np.log([8.0, e.std()])
        self.freedom, self.scale = np.exp(minimize(nll, start, method="Nelder-Mead").x)

    def log_prob(self, residuals: Array) -> Array:
        """Return the log density of each residual given those before it, ``(N,)``, in nats."""
        e, log_scale = to_innovations(residuals)
        found: Array = student.logpdf(e, self.freedom, 0, self.scale) - log_scale
        return found
