r"""Predict every sample of a sound from those before it, by experts that learn as they go.

A lossless coder's front end: for each integer sample it gives a prediction, a scale, and *side
information*, numbers that are known before the sample is. All are functions of the integers before
it, so a density of ``(x - m) / s`` given them is one of the sample, and its mass over a cell needs
no Jacobian. The experts are those of the best lossless coders (OptimFROG; S. Lehmann, *Sac*):

    least squares   of three orders, R w = q by QR: R'R <- lambda R'R + c h h', c = 1 / (e + 2),
                    e a running mean of |x - w'h| (so close to least absolute errors)
    cascade         four NLMS filters, long to short, on the residual of least squares; each is
                    taught what the weighted sum of those before it leaves
    stack           least squares of x on the experts' differences gives the prediction m
    scale           log s = sum_i a_i log f_i, of running means f_i of |x - m| + 0.3

Every sum is taken in one written order and exp and log are our own, so that two machines that
follow IEEE 754 agree to the bit: a decoder has to repeat what the encoder predicted.

Conventions:
    Samples are integers in float64, ``(N,)``, from the beginning of a sound; before it all is 0. A
    second channel may stand beside them, ``(N,)``, of which the sample at the same time is known
    as well.
"""

from typing import NamedTuple

import numpy as np

from rnade_lightning.datamodules.sound import exact, panel
from rnade_lightning.datamodules.sound.exact import compiler, dot, exp, log
from rnade_lightning.datamodules.sound.panel import (
    CASCADE,
    CASCADED,
    DECAYS,
    LEAST_SQUARES,
    N_EXPERTS,
    N_PAST,
    N_SIDE,
    SCALE,
)  # fmt: skip

compiled = compiler(exact.__file__, panel.__file__, __file__)

MOST = 2.0**23
"""Size of the largest sample that is made."""
_FLOOR = 0.3  # steps, added to mean errors
_RIDGE = 0.1  # of least squares, in mean absolute errors
_STACK = (0.998, 1e-3)  # forgetting and ridge of the stack
_START = 3.0  # of R, in the place of a ridge before anything is known
_OTHER = 16  # samples of the other channel that least squares read, the present one included
_ROOM = 4096  # samples between two moves of the histories
_RATE, _BETA = 0.005, 0.95  # of the weights of a cascade
_DAMPING = 0.9


class State(NamedTuple):
    """All that the front end knows of a sound, in arrays."""

    at: np.ndarray  # where the next sample stands in the histories
    x: np.ndarray  # history of samples
    other: np.ndarray  # of the other channel; one sample longer
    R: np.ndarray  # (n_ols, n, n + 1), triangular, with the target behind
    w: np.ndarray  # weights of each least squares
    h: np.ndarray  # what each reads
    error: np.ndarray  # their mean absolute errors
    slow_error: np.ndarray  # the same over more samples
    turn: np.ndarray  # weight whose ridge is added next
    work: np.ndarray
    stage_past: np.ndarray  # (n_cascades, n_stages, history)
    stage_square: np.ndarray  # the same, squared
    stage_w: np.ndarray  # (n_cascades, n_stages, longest)
    stage_p: np.ndarray  # predictions of the stages
    mix: np.ndarray  # (n_cascades, 2, n_stages), by the sign of the error and by the error
    mix_v: np.ndarray
    mix_error: np.ndarray  # (n_cascades, 2)
    mixed: np.ndarray  # (n_cascades, 2), predictions
    power: np.ndarray  # (n_stages, longest), weights of a filter's power
    experts: np.ndarray  # predictions (N_EXPERTS,)
    expert_error: np.ndarray
    level: np.ndarray  # running means of |x - m|
    side: np.ndarray  # (N_SIDE,) of the next sample
    m: np.ndarray  # prediction, scale, the last error, bound of predictions


def start(two_channels: bool = False) -> State:
    """Return the state at the beginning of a sound."""
    orders = [n for n, _ in LEAST_SQUARES]
    n_other = _OTHER if two_channels else 0
    n_ols, n = len(orders) + 1, max(max(orders) + n_other, N_EXPERTS + 1)
    n_cascades, n_stages = len(CASCADED), len(CASCADE)
    longest = max(length for length, _ in CASCADE)
    zeros = np.zeros
    R = zeros((n_ols, n, n + 1))
    for i in range(n):
        R[:, i, i] = _START
    return State(
        at=np.array([longest, n_other]), x=zeros(longest + _ROOM), other=zeros(longest + _ROOM + 1),
        R=R, w=zeros((n_ols, n)), h=zeros((n_ols, n)), error=zeros(n_ols),
        slow_error=zeros(n_ols), turn=np.zeros(n_ols, np.int64), work=zeros(n + 1),
        stage_past=zeros((n_cascades, n_stages, longest + _ROOM)),
        stage_square=zeros((n_cascades, n_stages, longest + _ROOM)),
        stage_w=zeros((n_cascades, n_stages, longest)), stage_p=zeros((n_cascades, n_stages)),
        mix=np.full((n_cascades, 2, n_stages), 1 / (n_stages + 1)),
        mix_v=zeros((n_cascades, 2, n_stages)), mix_error=zeros((n_cascades, 2)),
        mixed=zeros((n_cascades, 2)), power=_power(),
        experts=zeros(N_EXPERTS), expert_error=zeros(N_EXPERTS), level=zeros(len(DECAYS)),
        side=zeros(N_SIDE), m=zeros(4),
    )  # fmt: skip


@compiled
def _power() -> np.ndarray:
    """Return how much each sample counts in the power of a filter of a cascade, the oldest first:
    age^-0.8, of sum 1, ``(n_stages, longest)``."""
    found = np.zeros((len(CASCADE), CASCADE[0][0]))
    for k in range(len(CASCADE)):
        n = CASCADE[k][0]
        total = 0.0
        for i in range(n):
            total += exp(-0.8 * log(float(n - i)))
        for i in range(n):
            found[k, i] = exp(-0.8 * log(float(n - i))) / total
    return found


@compiled
def _rotate(R: np.ndarray, v: np.ndarray, first: int, n: int, root: float) -> None:
    """Take a row v of weights and target into R, whose rows shrink by a factor: R'R <- root^2 R'R +
    v v', by Givens rotations (Golub and Van Loan, *Matrix Computations*, 5.1.8)."""
    for i in range(first, n):
        row = R[i]
        a, b = row[i] * root, v[i]
        r = np.sqrt(a * a + b * b)
        if r == 0.0:
            continue
        inverse = 1.0 / r
        c, s = a * inverse, b * inverse
        d, e = c * root, s * root
        row[i] = r
        for j in range(i + 1, n + 1):
            x, y = row[j], v[j]
            row[j] = d * x + s * y
            v[j] = c * y - e * x


@compiled
def _learn(S: State, k: int, n: int, target: float, forgetting: float, ridge: float) -> None:
    """Let least squares k, of n weights, learn what came of that which it read. Its ridge is in
    mean absolute errors: what a prior of the weights is worth where errors are that large."""
    R, w, h, v = S.R[k], S.w[k], S.h[k], S.work
    error = abs(target - dot(w, h, n))
    S.error[k] = 0.5 * S.error[k] + 0.5 * error
    S.slow_error[k] = 0.95 * S.slow_error[k] + 0.05 * error
    c = 1.0 / (S.error[k] + 2.0)
    root = np.sqrt(c)
    for i in range(n):
        v[i] = root * h[i]
    v[n] = root * target
    _rotate(R, v, 0, n, np.sqrt(forgetting))
    i = S.turn[k]  # the weight that is drawn to 0 now
    S.turn[k] = i + 1 if i + 1 < n else 0
    for j in range(i, n + 1):
        v[j] = 0.0
    v[i] = np.sqrt(n * ridge * (S.slow_error[k] + 1e-3))
    _rotate(R, v, i, n, 1.0)
    for i in range(n - 1, -1, -1):
        row = R[i]
        v[i] = (row[n] - dot(row[i + 1 :], v[i + 1 :], n - i - 1)) / row[i] if row[i] > 0.0 else 0.0
    for i in range(n):
        if not abs(v[i]) < 1e9:
            return
    for i in range(n):
        w[i] = v[i]


@compiled
def predict(S: State, other: float) -> None:
    """Predict the next sample: fill in `State.m`, `State.side` and `State.experts`.

    Args:
        S: state.
        other: the sample of the other channel at the same time, if there is one.
    """
    t, n_other = S.at[0], S.at[1]
    n_ols, n_stages = len(LEAST_SQUARES), len(CASCADE)
    if n_other:
        S.other[t] = other
    for k in range(n_ols):
        order = LEAST_SQUARES[k][0]
        h = S.h[k]
        for i in range(order):
            h[i] = S.x[t - order + i]
        for i in range(n_other):
            h[order + i] = S.other[t - n_other + 1 + i]
        S.experts[k] = _bounded(dot(S.w[k], h, order + n_other), S.m[3])
    mean = 0.0
    at = n_ols
    for c in range(len(CASCADED)):
        base = S.experts[CASCADED[c]]
        S.mixed[c, 0] = 0.0
        S.mixed[c, 1] = 0.0
        for i in range(n_stages):
            n = CASCADE[i][0]
            p = _bounded(dot(S.stage_w[c, i], S.stage_past[c, i, t - n :], n), S.m[3])
            S.stage_p[c, i] = p
            S.mixed[c, 0] += S.mix[c, 0, i] * p
            S.mixed[c, 1] += S.mix[c, 1, i] * p
        share = _share(S, c)
        partial = base
        for i in range(n_stages):
            weight = share * S.mix[c, 0, i] + (1.0 - share) * S.mix[c, 1, i]
            partial += weight * S.stage_p[c, i]
            S.experts[at] = _bounded(partial, S.m[3])
            at += 1
        mean += S.experts[at - 1] / len(CASCADED)
    S.experts[at] = mean

    h, k = S.h[n_ols], n_ols
    for i in range(N_EXPERTS - 1):
        h[i] = S.experts[i] - mean
    h[N_EXPERTS - 1] = S.m[2]
    m = _bounded(mean + dot(S.w[k], h, N_EXPERTS), S.m[3])

    log_s = 0.0
    for i in range(len(SCALE)):
        log_s += SCALE[i] * log(S.level[i] + _FLOOR)
    s = exp(log_s)
    S.m[0], S.m[1] = m, s
    side = S.side
    side[0] = log_s
    at = 1
    for i in range(len(DECAYS)):
        side[at] = log(S.level[i] + _FLOOR) - log_s
        at += 1
    for i in range(N_PAST):
        side[at] = _squashed((S.x[t - 1 - i] - m) / s)
        at += 1
    for i in range(N_EXPERTS):
        side[at] = (S.experts[i] - m) / s
        side[at + N_EXPERTS] = log(S.expert_error[i] + _FLOOR) - log_s
        at += 1


@compiled
def _bounded(x: float, bound: float) -> float:
    """Return a prediction that is no larger than a bound; 0 where it is no number."""
    if not abs(x) <= bound:
        return bound if x > bound else (-bound if x < -bound else 0.0)
    return x


@compiled
def _squashed(x: float) -> float:
    """Return sign(x) log(1 + |x|)."""
    return log(1.0 + x) if x > 0 else -log(1.0 - x)


@compiled
def _share(S: State, c: int) -> float:
    """Return the share of the weights of a cascade that follow the sign of the error."""
    return 1.0 / (1.0 + exp(S.mix_error[c, 0] - S.mix_error[c, 1]))


@compiled
def learn(S: State, x: float) -> None:
    """Take in the sample that `predict` predicted."""
    t, n_other = S.at[0], S.at[1]
    n_ols, n_stages = len(LEAST_SQUARES), len(CASCADE)
    for k in range(n_ols):
        order, forgetting = LEAST_SQUARES[k]
        _learn(S, k, order + n_other, x, forgetting, _RIDGE)
    mean = S.experts[N_EXPERTS - 1]
    _learn(S, n_ols, N_EXPERTS, x - mean, _STACK[0], _STACK[1])
    for c in range(len(CASCADED)):
        y = x - S.experts[CASCADED[c]]
        share = _share(S, c)
        total = share * S.mixed[c, 0] + (1.0 - share) * S.mixed[c, 1]
        before = 0.0
        for i in range(n_stages):
            n, mu = CASCADE[i]
            past, w, p = S.stage_past[c, i], S.stage_w[c, i], S.stage_p[c, i]
            target = y - (_DAMPING * before + (1.0 - _DAMPING) * total)
            power = dot(S.power[i], S.stage_square[c, i, t - n :], n)
            _adapt(w, past[t - n :], power, n, mu * (target - p))
            past[t], S.stage_square[c, i, t] = target, target * target
            before += (share * S.mix[c, 0, i] + (1.0 - share) * S.mix[c, 1, i]) * p
        for j in range(2):
            error = y - S.mixed[c, j]
            S.mix_error[c, j] = _BETA * S.mix_error[c, j] + (1.0 - _BETA) * abs(error)
            if j == 0:
                error = 1.0 if error > 0 else (-1.0 if error < 0 else 0.0)
            for i in range(n_stages):
                g = error * S.stage_p[c, i]
                v = _BETA * S.mix_v[c, j, i] + (1.0 - _BETA) * g * g
                S.mix_v[c, j, i] = v
                S.mix[c, j, i] += _RATE * g / (np.sqrt(v) + 1e-3)
    for i in range(N_EXPERTS):
        S.expert_error[i] = 0.95 * S.expert_error[i] + 0.05 * abs(x - S.experts[i])
    error = x - S.m[0]
    S.m[2] = error
    S.m[3] = max(S.m[3], 2.0 * abs(x))
    for i in range(len(DECAYS)):
        S.level[i] = DECAYS[i] * S.level[i] + (1.0 - DECAYS[i]) * abs(error)
    S.x[t] = x
    S.at[0] = t + 1
    if t + 1 == len(S.x):
        _move(S)


@compiled
def _adapt(w: np.ndarray, h: np.ndarray, power: float, n: int, error: float) -> None:
    """Take a step of NLMS: the error over the weighted mean square of what the filter read."""
    step = error / (n * (power + 1e-3))
    if not abs(step) < 1e9:
        return
    for i in range(n):
        w[i] += step * h[i]


@compiled
def _move(S: State) -> None:
    """Make room in the histories."""
    longest = S.power.shape[1]
    first = S.at[0] - longest
    for i in range(longest):
        S.x[i] = S.x[first + i]
        S.other[i] = S.other[first + i]
        for c in range(len(CASCADED)):
            for k in range(len(CASCADE)):
                S.stage_past[c, k, i] = S.stage_past[c, k, first + i]
                S.stage_square[c, k, i] = S.stage_square[c, k, first + i]
    S.at[0] = longest


@compiled
def analyse(
    S: State, samples: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return innovations ``(N,)`` and side information ``(N, N_SIDE)`` of the next samples, and the
    samples ``(N,)`` that `synthesise` makes of the same innovations in float32, as frames are
    kept: the same integers, but for sound of more than 16 bits that jumps by most of full scale."""
    n = len(samples)
    z, side, again = np.empty(n), np.empty((n, N_SIDE), np.float32), np.empty(n)
    for t in range(n):
        predict(S, other[t] if len(other) else 0.0)
        z[t] = (samples[t] - S.m[0]) / S.m[1]
        again[t] = _nearest(S, np.float64(np.float32(z[t])))
        for i in range(N_SIDE):
            side[t, i] = S.side[i]
        learn(S, samples[t])
    return z, side, again


@compiled
def _nearest(S: State, z: float) -> float:
    """Return the integer whose cell an innovation lies in."""
    return _bounded(np.floor(S.m[0] + z * S.m[1] + 0.5), MOST)


@compiled
def synthesise(S: State, z: np.ndarray) -> np.ndarray:
    """Return the samples ``(N,)`` whose innovations come next: the inverse of `analyse`, where
    innovations are those of integers."""
    samples = np.empty(len(z))
    for t in range(len(z)):
        predict(S, 0.0)
        samples[t] = _nearest(S, z[t])
        learn(S, samples[t])
    return samples
