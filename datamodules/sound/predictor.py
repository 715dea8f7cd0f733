"""Turn sound into residuals of an adaptive linear predictor, and back: recursive least squares.

The prediction of a sample is a function of the samples before it, so residuals are a triangular
function of samples with ones on the diagonal: the Jacobian is 1, and a density of residuals is one
of samples. With h the last p samples, w weights, lambda the forgetting, alpha a gain and gamma_i =
0.97^i, sample t is predicted, then learnt from:

    prediction   m = sum_i gamma_i w_i x_{t-i}, at most full scale;    e_t = x_t - m
    gain         g = P h;    alpha = 1 / (lambda + h'g)
    weights      w <- w + alpha g (x_t - w'h)
    covariance   P <- (P - alpha g g') / lambda

(Haykin, *Adaptive Filter Theory*, RLS). Where innovations are wanted, the residual is divided by a
scale s_t that follows those before it (see `gain`).

An adaptive filter that is driven by what it made before is chaotic on much sound (clipped speech,
tones): a rounding error of 1e-16 becomes full scale within a sentence. So, as in a lossless coder,
prediction and scale are functions of *integers*: of the past samples, each rounded to the nearest
step of 16 bits. They are integers again on the way back as long as a rounding error moves no
sample over the edge of its cell, and then the way back is exact, whatever the sound. A sample that
float32 could move over an edge is moved away from it by as much (`settled`): one in 10,000 of
speech, by less than a ten-thousandth of a step.

Three more things keep the recursion in bounds:

- gamma, the bandwidth expansion of speech coders (ITU-T G.728), moves the poles of the synthesis
  filter inwards, so that what a model draws does not ring.
- A ridge keeps P bounded in silence. Added whole it would cost p steps of the recursion; so one
  weight a step, in turn, takes in the pseudo-sample ``sqrt(c) w_i = 0``, c = (1 - lambda) p ridge,
  which sums to ``ridge |w|^2``.
- The bound of full scale on a prediction, in both directions, keeps what is synthesised from any
  finite residuals finite. Where rounding or overflow leaves no covariance, the predictor starts
  anew.

Conventions:
    Samples ``(N,)``, float64, full scale 1, from the beginning of a sound; before it all is 0.
    Numbers are residuals or, of a predictor with a scale, innovations.
"""

import numba
import numpy as np

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.sound.gain import REFERENCE, followed, log_scale_of, mean_size

_EXPANSION = 0.97  # gamma
_RIDGE = 1e-6  # in squares of full scale: 60 dB below it over the predictor's memory
_BOUND = 1.0
_STEP = 2.0**-15  # of what the predictor sees of the past
_ROUNDING = 2.0**-21
"""Of a number that is stored, standardised and turned back in float32, relative to the number and
the mean of all: four times what it can be."""


class Predictor:
    """An adaptive predictor, which goes on from piece to piece of a sound.

    Args:
        order: number of samples that predict the next, p.
        forgetting: weight of a sample relative to that of the next, lambda, in (0, 1).
        scaled: divide residuals by the scale of those before them.
    """

    def __init__(self, order: int, forgetting: float, scaled: bool = False) -> None:
        self.order, self.forgetting, self.scaled = order, forgetting, scaled
        self._gamma = _EXPANSION ** np.arange(order, 0.0, -1.0)
        self._P, self._vectors = np.eye(order) / _RIDGE, np.zeros((3, order))
        self._past, self._levels, self._n = np.zeros(order), np.full(2, REFERENCE), 0

    def predict(self, samples: Array) -> tuple[Array, Array]:
        """Return the prediction of each of the next samples ``(N,)``, and the log scale of its
        residual ``(N,)``, which is 0 without scales."""
        return self._run(np.zeros(len(samples)), samples.astype(np.float64), False)

    def synthesise(self, numbers: Array) -> tuple[Array, Array]:
        """Return the next samples ``(N,)``, whose numbers are these ``(N,)``, and the log scale of
        each residual ``(N,)``."""
        samples = np.zeros(len(numbers))
        return samples, self._run(np.asarray(numbers, np.float64), samples, True)[1]

    def _run(self, numbers: Array, samples: Array, synthesis: bool) -> tuple[Array, Array]:
        x = np.concatenate([self._past, np.zeros(len(samples))])
        predictions, log_scale = np.zeros((2, len(samples)))
        _recursion(
            x, numbers, samples, predictions, log_scale, self._P, self._vectors, self._levels,
            self._gamma, self.forgetting, self._n, self.scaled, synthesis,
        )  # fmt: skip
        self._past, self._n = x[len(samples) :].copy(), self._n + len(samples)
        return predictions, log_scale


def analyse(samples: Array, order: int, forgetting: float) -> Array:
    """Return the residuals ``(N,)`` of samples ``(N,)``; see `Predictor`."""
    return samples - Predictor(order, forgetting).predict(samples)[0]


def synthesise(residuals: Array, order: int, forgetting: float) -> Array:
    """Return the samples ``(N,)`` of residuals ``(N,)``: the inverse of `analyse`."""
    return Predictor(order, forgetting).synthesise(residuals)[0]


def settled(samples: Array, predictions: Array, log_scale: Array) -> tuple[Array, int | None]:
    """Return the samples ``(N,)``, each as far from the edge of its cell as rounding may move it.

    Args:
        samples: ``(N,)``.
        predictions: of the samples, ``(N,)``.
        log_scale: of their residuals, ``(N,)``.

    Returns:
        The samples, and the index of the first that rounding may move over an edge all the same,
        since its residual is too large for float32 to hold; None if there is none.
    """
    size, scale = np.abs(samples - predictions), np.exp(log_scale)
    margin = _ROUNDING * (size + scale * np.mean(size / scale)) / _STEP
    steps = samples / _STEP
    at = np.floor(steps + 0.5)
    room = 0.5 - margin
    moved = np.clip(steps - at, -room, np.maximum(room, -room)) + at
    lost = np.flatnonzero(room <= 0)
    kept = np.abs(steps - at) <= room
    return np.where(kept, samples, moved * _STEP), int(lost[0]) if len(lost) else None


@numba.njit
def _recursion(
    x: Array, numbers: Array, samples: Array, predictions: Array, log_scale: Array, P: Array,
    vectors: Array, levels: Array, gamma: Array, forgetting: float, start: int, scaled: bool,
    synthesis: bool,
) -> None:  # fmt: skip
    """Run the recursion of the module's docstring, in place; one loop for both ways, so that both
    round alike.

    Vectors of p have the oldest sample first. x has the last p rounded samples and then room for
    those to come. ``vectors`` holds w and work space, ``levels`` the averages of the scale. Of
    numbers and samples, synthesis fills in samples; without it samples are given and numbers are
    not looked at."""
    w, g, q = vectors[0], vectors[1], vectors[2]
    order = len(w)
    c = (1 - forgetting) * order * _RIDGE
    for t in range(len(samples)):
        h = x[t : t + order]
        expected, m = 0.0, 0.0
        for i in range(order):
            expected += w[i] * h[i]
            m += gamma[i] * w[i] * h[i]
        m = min(max(m, -_BOUND), _BOUND)
        predictions[t] = m
        if scaled:
            log_scale[t] = log_scale_of(levels)
        if synthesis:
            samples[t] = m + (numbers[t] * np.exp(log_scale[t]) if scaled else numbers[t])
        x[t + order] = np.floor(samples[t] / _STEP + 0.5) * _STEP
        if scaled:
            followed(levels, mean_size(x[t + order] - m, _STEP))
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
        k = (start + t) % order  # the weight whose pseudo-sample it is
        for i in range(order):
            q[i] = growth * (P[k, i] - alpha * (g[k] * g[i]))
        beta = c / (1 + c * q[k])
        error = -w[k]
        for i in range(order):
            w[i] += beta * error * q[i]
        for j in range(order):
            for i in range(order):
                P[j, i] = growth * (P[j, i] - alpha * (g[j] * g[i])) - beta * (q[j] * q[i])
