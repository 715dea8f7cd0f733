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
_REFERENCE = 2.0**-10  # 32 steps of 16 bits
_FLOOR = 2.0**-15 / np.sqrt(12)
_BOUND = 1.0


def to_innovations(residuals: Array) -> tuple[Array, Array]:
    """Return the innovations of residuals ``(N,)``, and the log scales of the division ``(N,)``."""
    innovations, log_scale = np.empty_like(residuals), np.empty_like(residuals)
    _recursion(residuals, innovations, log_scale, False)
    return innovations, log_scale


def to_residuals(innovations: Array) -> Array:
    """Return the residuals ``(N,)`` of innovations ``(N,)``: the inverse of `to_innovations`."""
    residuals, log_scale = np.empty_like(innovations), np.empty_like(innovations)
    _recursion(innovations, residuals, log_scale, True)
    return residuals


@numba.njit
def _recursion(source: Array, out: Array, log_scale: Array, synthesis: bool) -> None:
    """Run the recursion of the module's docstring, in place; one loop for both ways."""
    fast, slow, rest = _REFERENCE, _REFERENCE, (1 - _A - _B) * np.log(_REFERENCE)
    for t in range(len(source)):
        log_scale[t] = _A * np.log(fast + _FLOOR) + _B * np.log(slow + _FLOOR) + rest
        s = np.exp(log_scale[t])
        out[t] = source[t] * s if synthesis else source[t] / s
        size = min(abs(out[t] if synthesis else source[t]), _BOUND)
        fast = _FAST * fast + (1 - _FAST) * size
        slow = _SLOW * slow + (1 - _SLOW) * size


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
