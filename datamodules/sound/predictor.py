"""Turn sound into residuals of an adaptive linear predictor, and back: recursive least squares.

The prediction of a sample is a function of the samples before it, so residuals are a triangular
function of samples with ones on the diagonal: the Jacobian is 1, and a density of residuals is one
of samples. With h the last p samples, w weights, lambda the forgetting, alpha a gain and gamma_i =
0.97^i, sample t is predicted, then learnt from:

    prediction   m = sum_i gamma_i w_i x_{t-i}, at most full scale;    e_t = x_t - m
    gain         g = P h;    alpha = 1 / (lambda + h'g)
    weights      w <- w + alpha g (x_t - w'h)
    covariance   P <- (P - alpha g g') / lambda

(Haykin, *Adaptive Filter Theory*, RLS). Three things make it safe to run backwards:

- gamma, the bandwidth expansion of speech coders (ITU-T G.728), moves the poles of the synthesis
  filter inwards. Without it the inverse is chaotic: a rounding error of 1e-16 becomes full scale
  within a sentence.
- A ridge keeps P bounded in silence. Added whole it would cost p steps of the recursion; so one
  weight a step, in turn, takes in the pseudo-sample ``sqrt(c) w_i = 0``, c = (1 - lambda) p ridge,
  which sums to ``ridge |w|^2``.
- The bound of full scale on a prediction, in both directions, keeps what is synthesised from any
  finite residuals finite. Where rounding or overflow leaves no covariance, the predictor starts
  anew.

Conventions:
    Samples ``(N,)``, float64, full scale 1, from the beginning of a sound; before it all is 0.
"""

import numba
import numpy as np

from rnade_lightning.datamodules.core import Array

_EXPANSION = 0.97  # gamma
_RIDGE = 1e-6  # in squares of full scale: 60 dB below it over the predictor's memory
_BOUND = 1.0


def analyse(samples: Array, order: int, forgetting: float) -> Array:
    """Return the residuals ``(N,)`` of samples ``(N,)``.

    Args:
        samples: a sound from its beginning.
        order: number of samples that predict the next, p.
        forgetting: weight of a sample relative to that of the next, lambda, in (0, 1).
    """
    return samples - _predictions(samples, order, forgetting, False)


def synthesise(residuals: Array, order: int, forgetting: float) -> Array:
    """Return the samples ``(N,)`` of residuals ``(N,)``: the inverse of `analyse`."""
    return residuals + _predictions(residuals, order, forgetting, True)


def _predictions(source: Array, order: int, forgetting: float, synthesis: bool) -> Array:
    """Return the predictions ``(N,)`` of samples, from samples or, in synthesis, from residuals."""
    x, gamma = np.zeros(order + len(source)), _EXPANSION ** np.arange(order, 0.0, -1.0)
    P, (w, g, q) = np.eye(order) / _RIDGE, np.zeros((3, order))
    x[order:] = source
    predictions = np.zeros(len(source))
    _recursion(x, predictions, P, w, g, q, gamma, forgetting, synthesis)
    return predictions


@numba.njit
def _recursion(
    x: Array, predictions: Array, P: Array, w: Array, g: Array, q: Array, gamma: Array,
    forgetting: float, synthesis: bool,
) -> None:  # fmt: skip
    """Run the recursion of the module's docstring, in place; one loop for both ways, so that both
    round alike.

    Vectors of p have the oldest sample first. x has p zeros before the first sample; in synthesis
    it holds residuals and becomes samples. g and q are work space."""
    order = len(w)
    c = (1 - forgetting) * order * _RIDGE
    for t in range(len(predictions)):
        h = x[t : t + order]
        expected, m = 0.0, 0.0
        for i in range(order):
            expected += w[i] * h[i]
            m += gamma[i] * w[i] * h[i]
        m = min(max(m, -_BOUND), _BOUND)
        predictions[t] = m
        if synthesis:
            x[t + order] += m
        error = x[t + order] - expected

        for i in range(order):
            g[i] = 0.0
        for j in range(order):
            for i in range(order):
                g[i] += P[j, i] * h[j]
        scale = forgetting
        for i in range(order):
            scale += g[i] * h[i]
        if not 0.5 * forgetting < scale < 1e100:  # it is above forgetting while P is a covariance
            for j in range(order):
                w[j] = 0.0
                for i in range(order):
                    P[j, i] = 1 / _RIDGE if i == j else 0.0
            continue
        alpha, growth = 1 / scale, 1 / forgetting
        for i in range(order):
            w[i] += alpha * error * g[i]
        k = t % order  # the weight whose pseudo-sample it is
        for i in range(order):
            q[i] = growth * (P[k, i] - alpha * (g[k] * g[i]))
        beta = c / (1 + c * q[k])
        error = -w[k]
        for i in range(order):
            w[i] += beta * error * q[i]
        for j in range(order):
            for i in range(order):
                P[j, i] = growth * (P[j, i] - alpha * (g[j] * g[i])) - beta * (q[j] * q[i])
