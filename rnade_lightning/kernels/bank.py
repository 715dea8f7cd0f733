r"""A bank of components that learns what comes next from one sound alone, in compiled code.

Most components lie at the front end's prediction, with scales from far below to far above its own.
Others are for sound that the front end follows badly: at the expert that was best lately; at the
polynomial through the last samples that was best lately; at the last sample; and one is even over
all values that a sound has. Their weights follow from how likely each made the samples so far: the
EM algorithm, a step a sample (Cappe and Moulines 2009), with a small share for each component, so
that none is forgotten (Herbster and Warmuth 1998).

The polynomials are FLAC's fixed predictors: 0, and those of degree 0 to 3 through the last 1 to 4
samples. Lines are exact where a sound is straight in pieces, as sawtooth waves are, and its jumps
throw least squares off. Their errors count up to a few times the mean, so that jumps do not.

Sound whose last bits are 0 for a while lies on multiples of a *step*, which a decoder is told.

Conventions:
    As in `experts`. The bank's components stand behind the net's K in the mixture; the even one is
    the last.
"""

from typing import NamedTuple

import numpy as np

from rnade_lightning.datamodules.sound import exact, front_end, panel
from rnade_lightning.datamodules.sound.exact import compiler
from rnade_lightning.datamodules.sound.front_end import State
from rnade_lightning.kernels import logistic
from rnade_lightning.kernels.logistic import between

compiled = compiler(exact.__file__, panel.__file__, front_end.__file__, logistic.__file__, __file__)

AHEAD = (0.02, 0.08, 0.2, 0.35, 0.6, 0.9, 1.4, 2.5, 6.0, 30.0)
"""Scales of the components at the prediction, in scales of the front end."""
BEST = (0.1, 0.4, 1.0)
"""Scales of components at the expert that was best lately, in its mean absolute errors."""
POLYNOMIALS = ((0, 0, 0, 0), (1, 0, 0, 0), (2, -1, 0, 0), (3, -3, 1, 0), (4, -6, 4, -1))
"""Weights of the last samples, the last first."""
STRAIGHT = (0.2, 0.7)
"""Scales of components at the polynomial that was best lately, in its mean absolute errors."""
NARROW = 0.03
"""Scale, in steps, of two more: at the prediction, for sound that is predicted exactly, and at the
last sample, for sound that stands still."""
SIZE = len(AHEAD) + len(BEST) + len(STRAIGHT) + 3
"""Components, J."""
_RATE = 0.015  # of the weights
_SHARE = 1e-4  # of the weights that is for all alike
_SLOWNESS = 0.05  # of the polynomials' mean errors
_LARGEST = 4.0  # error that counts, in mean errors


class Bank(NamedTuple):
    """All that the bank knows of a sound."""

    inside: np.ndarray  # mass that each gave the last sample, with its weight (J,)
    span: np.ndarray  # smallest and largest sample: what was said, and so far
    straight: np.ndarray  # what the polynomials predict
    error: np.ndarray  # their mean absolute errors
    step: np.ndarray  # of which samples are multiples now
    n: np.ndarray  # samples so far


def start(low: float, high: float) -> Bank:
    """Return what is known at the beginning of a sound, whose samples are said to lie between."""
    n, zeros = len(POLYNOMIALS), np.zeros
    return Bank(zeros(SIZE), np.array([low, high]), zeros(n), zeros(n), np.ones(1), zeros(1))


@compiled
def predict(S: State, B: Bank, mean: np.ndarray, inverse: np.ndarray, K: int) -> None:
    """Put the components of the next sample in their places."""
    m, s, t = S.m[0], S.m[1], S.at[0] - 1
    j = K
    for i in range(len(AHEAD)):
        mean[j] = m
        inverse[j] = 1.0 / (s * AHEAD[i])
        j += 1
    best = np.argmin(S.expert_error)
    for i in range(len(BEST)):
        mean[j] = S.experts[best]
        inverse[j] = 1.0 / (BEST[i] * (S.expert_error[best] + 0.1))
        j += 1
    for i in range(len(POLYNOMIALS)):
        a, b, c, d = POLYNOMIALS[i]
        B.straight[i] = (a * S.x[t] + b * S.x[t - 1]) + (c * S.x[t - 2] + d * S.x[t - 3])
    best = np.argmin(B.error)
    for i in range(len(STRAIGHT)):
        mean[j] = B.straight[best]
        inverse[j] = 1.0 / (STRAIGHT[i] * (B.error[best] + 0.1))
        j += 1
    mean[j], mean[j + 1] = np.floor(m + 0.5), S.x[t]
    inverse[j], inverse[j + 1] = 1.0 / NARROW, 1.0 / NARROW
    mean[j + 2] = B.span[0] - 0.5 * B.step[0]
    inverse[j + 2] = 1.0 / (B.span[1] - B.span[0] + B.step[0])


@compiled
def learn(
    B: Bank, weight: np.ndarray, mean: np.ndarray, inverse: np.ndarray, table: np.ndarray, K: int,
    x: float,
) -> float:  # fmt: skip
    """Take in a sample, and return the mass that the bank gave it."""
    total, half, n = 1e-300, 0.5 * B.step[0], len(weight)
    for k in range(K, n):
        if k < n - 1:
            low, high = (x - half - mean[k]) * inverse[k], (x + half - mean[k]) * inverse[k]
            mass = between(low, high, table)
        else:
            mass = B.step[0] * inverse[k] if B.span[0] <= x <= B.span[1] else 0.0
        B.inside[k - K] = weight[k] * (mass + 1e-9)
        total += B.inside[k - K]
    B.n[0] += 1.0
    rate = max(_RATE, 1.0 / (B.n[0] + 2.0))
    for k in range(K, n):
        own = (1.0 - rate) * weight[k] + rate * B.inside[k - K] / total
        weight[k] = (1.0 - _SHARE) * own + _SHARE / SIZE
    B.span[0], B.span[1] = min(B.span[0], x), max(B.span[1], x)
    rate = max(_SLOWNESS, 1.0 / B.n[0])
    for i in range(len(POLYNOMIALS)):
        error = min(abs(x - B.straight[i]), _LARGEST * B.error[i] + 1.0)
        B.error[i] += rate * (error - B.error[i])
    return total
