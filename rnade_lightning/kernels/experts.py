r"""The distribution of the next sample, one after the other, in compiled code.

Coding, decoding and drawing are one recursion: the front end predicts (see
`datamodules.sound.front_end`), the net of `rnn_experts` and a bank of components that learns from
this sound alone say what comes, and all take in what came. What comes is a mixture

    F(x) = v F_net(x) + (1 - v) F_bank(x)

of logistic distributions. Most of the bank's components lie at the prediction, with scales from
far below to far above its own; their weights, and v, follow from how likely each made the samples
so far: the bank's by the EM algorithm, a step a sample (Cappe and Moulines 2009), and v by Bayes'
rule with forgetting.

A decoder must compute what the encoder computed, to the bit. All sums have one written order, no
multiplication is fused with an addition, exp, log and the logistic function are our own, and the
last is a table with straight lines between whose values are multiples of 2^-40, so that F never
falls where x rises, whatever is rounded.

Conventions:
    Samples are integers in float64; x of F is half an integer. The net's weights are float32.
"""

from typing import Any, NamedTuple

import numpy as np
import torch

from rnade_lightning.datamodules.sound import exact, front_end, panel
from rnade_lightning.datamodules.sound.exact import compiler, exp, log
from rnade_lightning.datamodules.sound.front_end import State
from rnade_lightning.datamodules.sound.panel import (
    BOUND,
    EXPERTS,
    LEVEL,
    N_EXPERTS,
    N_SIDE,
    PER_LEVEL,
    SMALLEST,
)  # fmt: skip

compiled = compiler(exact.__file__, panel.__file__, front_end.__file__, __file__)

BANK = (0.02, 0.08, 0.2, 0.35, 0.6, 0.9, 1.4, 2.5, 6.0, 30.0)
"""Scales of the bank's components, in scales of the front end."""
BEST = (0.1, 0.4, 1.0)
"""Scales of components at the expert that was best lately, in its mean absolute errors."""
NARROW = 0.03
"""Scale, in steps, of two more: at the prediction, for sound that is predicted exactly, and at the
last sample, for sound that stands still. And one is even over all samples so far."""
_RATE = 0.015  # of the bank's weights
_TRUST = 0.998  # of the evidence between net and bank that is kept from sample to sample
_FIRST_EXPERT = EXPERTS.start
_REACH, _PER_UNIT = 24, 256  # of the table of the logistic function


class Weights(NamedTuple):
    """The weights of an `RNNExperts`, as matrices that rows multiply, float32."""

    start: np.ndarray  # u_0 (R,)
    inputs: np.ndarray  # of the GRU (D + C, 3 R)
    recurrent: np.ndarray  # (R, 3 R)
    input_bias: np.ndarray
    recurrent_bias: np.ndarray
    state: np.ndarray  # (R, H)
    sample: np.ndarray  # (L + C, H)
    sample_bias: np.ndarray
    second: np.ndarray  # (H, H)
    second_bias: np.ndarray
    out: np.ndarray  # (H, K (3 + P))
    out_bias: np.ndarray
    sizes: np.ndarray  # D, R, H, K, L


class Net(NamedTuple):
    """All that the net and the bank know of a sound, and the mixture of the next sample."""

    at: np.ndarray  # place in the frame, and samples so far
    u: np.ndarray  # units (R,)
    u_bias: np.ndarray  # what they add to the first layer (H,)
    frame: np.ndarray  # what the GRU reads (D + C,)
    residuals: np.ndarray  # the last L, the oldest first
    read: np.ndarray  # (L + C,)
    first: np.ndarray  # layers
    second: np.ndarray
    out: np.ndarray
    gates: np.ndarray  # (2, 3 R), of inputs and of units
    weight: np.ndarray  # of the mixture, those of the net and of the bank each of sum 1
    mean: np.ndarray
    inverse: np.ndarray  # one over the scales
    inside: np.ndarray  # mass that each of the bank gave the last sample
    span: np.ndarray  # smallest and largest sample so far
    evidence: np.ndarray  # log odds of the net against the bank, and the share that follows
    table: np.ndarray  # of the logistic function
    cells: np.ndarray  # in which it is coded; see `coding.cells`


def start(W: Weights) -> Net:
    """Return what is known at the beginning of a sound."""
    D, R, H, K, L = (int(n) for n in W.sizes)
    J = len(BANK) + len(BEST) + 3
    zeros = np.zeros
    net = Net(
        at=zeros(2, np.int64), u=W.start.copy(), u_bias=zeros(H, np.float32),
        frame=zeros(D + N_SIDE, np.float32), residuals=zeros(L), read=zeros(L + N_SIDE, np.float32),
        first=zeros(H, np.float32), second=zeros(H, np.float32),
        out=zeros(K * (3 + N_EXPERTS), np.float32), gates=zeros((2, 3 * R), np.float32),
        weight=zeros(K + J), mean=zeros(K + J), inverse=zeros(K + J), inside=zeros(J),
        span=zeros(2), evidence=zeros(2), table=_logistic_table(), cells=zeros(5),
    )  # fmt: skip
    net.weight[K:] = 1 / J
    if K:
        net.evidence[0] = 3.0
        product(net.u, W.state, net.u_bias, len(net.u))
    return net


_VECTOR, _MATRIX = np.zeros(0, np.float32), np.zeros((0, 0), np.float32)
NO_NET = Weights(
    _VECTOR, _MATRIX, _MATRIX, _VECTOR, _VECTOR, _MATRIX, _MATRIX, _VECTOR, _MATRIX, _VECTOR,
    _MATRIX, _VECTOR, np.zeros(5, np.int64),
)  # fmt: skip
"""In place of weights, for the bank alone."""


@compiled
def _logistic_table() -> np.ndarray:
    """Return 1 / (1 + e^-r) at r = -24, .., 24, rounded to multiples of 2^-40."""
    n = 2 * _REACH * _PER_UNIT
    found = np.empty(n + 1)
    for i in range(n + 1):
        p = 1.0 / (1.0 + exp(-(i / _PER_UNIT - _REACH)))
        found[i] = np.floor(p * 1099511627776.0 + 0.5) / 1099511627776.0
    found[0], found[n] = 0.0, 1.0
    return found


@compiled
def product(a: np.ndarray, W: np.ndarray, out: np.ndarray, n: int) -> None:
    """Add a W to a vector, four rows at a time."""
    for i in range(0, n // 4 * 4, 4):
        a0, a1, a2, a3 = a[i], a[i + 1], a[i + 2], a[i + 3]
        r0, r1, r2, r3 = W[i], W[i + 1], W[i + 2], W[i + 3]
        for j in range(len(out)):
            out[j] += (a0 * r0[j] + a1 * r1[j]) + (a2 * r2[j] + a3 * r3[j])
    for i in range(n // 4 * 4, n):
        a0, r0 = a[i], W[i]
        for j in range(len(out)):
            out[j] += a0 * r0[j]


@compiled
def _bounded(a: float) -> float:
    """Return a / sqrt(1 + (a / 8)^2)."""
    return a / np.sqrt(1.0 + 1.0 / (BOUND * BOUND) * a * a)


@compiled
def _units(a: np.ndarray) -> None:
    """Replace a by a (1 + a / sqrt(1 + a^2)) / 2."""
    half, one = np.float32(0.5), np.float32(1.0)
    for i in range(len(a)):
        a[i] = half * a[i] * (one + a[i] / np.sqrt(one + a[i] * a[i]))


@compiled
def _read_side(S: State, out: np.ndarray, first: int) -> None:
    """Put side information where a layer reads it, as `rnn_experts` scales it."""
    out[first] = np.float32(_bounded((S.side[0] - LEVEL) * PER_LEVEL))
    for i in range(1, N_SIDE):
        out[first + i] = np.float32(_bounded(S.side[i]))


@compiled
def predict(S: State, N: Net, W: Weights, other: float) -> None:
    """Fill in the mixture of the next sample."""
    front_end.predict(S, other)
    m, s = S.m[0], S.m[1]
    H, K, L = W.sizes[2], W.sizes[3], W.sizes[4]
    if K:
        for j in range(L):
            N.read[j] = np.float32(_bounded(N.residuals[j] / s))
        _read_side(S, N.read, L)
        for i in range(H):
            N.first[i] = W.sample_bias[i] + N.u_bias[i]
            N.second[i] = W.second_bias[i]
        product(N.read, W.sample, N.first, L + N_SIDE)
        _units(N.first)
        product(N.first, W.second, N.second, H)
        _units(N.second)
        for i in range(len(N.out)):
            N.out[i] = W.out_bias[i]
        product(N.second, W.out, N.out, H)
        top, total = N.out[0], 0.0
        for k in range(1, K):
            top = max(top, N.out[k])
        for k in range(K):
            N.weight[k] = exp(float(N.out[k]) - float(top))
            total += N.weight[k]
            sigma = exp(min(max(float(N.out[2 * K + k]), SMALLEST), -SMALLEST))
            mu = N.out[K + k] * sigma
            for p in range(N_EXPERTS):
                mu += N.out[3 * K + k * N_EXPERTS + p] * float(N.read[L + _FIRST_EXPERT + p])
            N.mean[k] = m + s * mu
            N.inverse[k] = 1.0 / (s * sigma)
        for k in range(K):
            N.weight[k] /= total
    N.evidence[1] = 1.0 / (1.0 + exp(-N.evidence[0])) if K else 0.0
    for j in range(len(BANK)):
        N.mean[K + j] = m
        N.inverse[K + j] = 1.0 / (s * BANK[j])
    best = np.argmin(S.expert_error)
    j = K + len(BANK)
    for i in range(len(BEST)):
        N.mean[j] = S.experts[best]
        N.inverse[j] = 1.0 / (BEST[i] * (S.expert_error[best] + 0.1))
        j += 1
    N.mean[j], N.mean[j + 1] = np.floor(m + 0.5), S.x[S.at[0] - 1]
    N.inverse[j], N.inverse[j + 1] = 1.0 / NARROW, 1.0 / NARROW
    N.mean[j + 2] = N.span[0] - 0.5
    N.inverse[j + 2] = 1.0 / (N.span[1] - N.span[0] + 1.0)


@compiled
def _logistic(r: float, table: np.ndarray) -> float:
    """Return 1 / (1 + e^-r), from the table."""
    at = (r + _REACH) * _PER_UNIT
    if not at > 0.0:
        return 0.0
    if at >= len(table) - 1:
        return 1.0
    i = int(at)
    return table[i] + (at - i) * (table[i + 1] - table[i])


@compiled
def mixture(
    x: float, share: float, weight: np.ndarray, mean: np.ndarray, inverse: np.ndarray,
    table: np.ndarray, K: int,
) -> float:  # fmt: skip
    """Return F(x) of a net's first K components, whose share is given, and a bank's others."""
    net, n = 0.0, len(weight) - 1
    bank = weight[n] * min(max((x - mean[n]) * inverse[n], 0.0), 1.0)
    for k in range(K):
        net += weight[k] * _logistic((x - mean[k]) * inverse[k], table)
    for k in range(K, n):
        bank += weight[k] * _logistic((x - mean[k]) * inverse[k], table)
    return share * net + (1.0 - share) * bank


@compiled
def cdf(N: Net, x: float, K: int) -> float:
    """Return F(x) of the next sample."""
    return mixture(x, N.evidence[1], N.weight, N.mean, N.inverse, N.table, K)


@compiled
def learn(S: State, N: Net, W: Weights, x: float) -> None:
    """Take in the sample that `predict` predicted."""
    D, R, K, L = W.sizes[0], W.sizes[1], W.sizes[3], W.sizes[4]
    net = bank = 1e-300
    n = len(N.weight)
    for k in range(n):
        scaled = N.inverse[k]
        if k < n - 1:
            mass = _logistic((x + 0.5 - N.mean[k]) * scaled, N.table) - _logistic(
                (x - 0.5 - N.mean[k]) * scaled, N.table
            )
        else:
            mass = scaled if N.span[0] <= x <= N.span[1] else 0.0
        if k < K:
            net += N.weight[k] * mass
        else:
            N.inside[k - K] = N.weight[k] * (mass + 1e-9)
            bank += N.inside[k - K]
    N.evidence[0] = min(
        max(_TRUST * N.evidence[0] + log(net + 1e-12) - log(bank + 1e-12), -12.0), 12.0
    )
    N.span[0], N.span[1] = min(N.span[0], x), max(N.span[1], x)
    N.at[1] += 1
    rate = max(_RATE, 1.0 / (N.at[1] + 20.0))
    for k in range(K, n):
        N.weight[k] = (1.0 - rate) * N.weight[k] + rate * N.inside[k - K] / bank
    if K:
        residual = x - S.m[0]
        for j in range(L - 1):
            N.residuals[j] = N.residuals[j + 1]
        N.residuals[L - 1] = residual
        d = N.at[0]
        N.frame[d] = np.float32(_bounded(residual / S.m[1]))
        N.at[0] = d + 1
        if d + 1 == D:
            _read_side(S, N.frame, D)
            _next_units(N, W, R)
    front_end.learn(S, x)


@compiled
def _next_units(N: Net, W: Weights, R: int) -> None:
    """Let the GRU read a frame."""
    of_inputs, of_units = N.gates[0], N.gates[1]
    for i in range(3 * R):
        of_inputs[i] = W.input_bias[i]
        of_units[i] = W.recurrent_bias[i]
    product(N.frame, W.inputs, of_inputs, len(N.frame))
    product(N.u, W.recurrent, of_units, R)
    for i in range(R):
        r = 1.0 / (1.0 + exp(-float(of_inputs[i] + of_units[i])))
        z = 1.0 / (1.0 + exp(-float(of_inputs[R + i] + of_units[R + i])))
        n = 2.0 / (1.0 + exp(-2.0 * (of_inputs[2 * R + i] + r * of_units[2 * R + i]))) - 1.0
        N.u[i] = np.float32((1.0 - z) * n + z * N.u[i])
    for i in range(len(N.u_bias)):
        N.u_bias[i] = np.float32(0.0)
    product(N.u, W.state, N.u_bias, R)
    N.at[0] = 0


@compiled
def quantile(N: Net, K: int, q: float, low: float, high: float) -> float:
    """Return the integer from low to high in whose cell F passes q."""
    while low < high:
        middle = np.floor(0.5 * (low + high))
        if cdf(N, middle + 0.5, K) > q:
            high = middle
        else:
            low = middle + 1.0
    return low


@compiled
def _draw(
    S: State, N: Net, W: Weights, uniform: np.ndarray, temperature: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the next samples ``(N,)`` of the net alone, and return them and their innovations."""
    samples, z = np.empty(len(uniform)), np.empty(len(uniform))
    for t in range(len(uniform)):
        predict(S, N, W, 0.0)
        N.evidence[1] = 1.0
        for k in range(W.sizes[3]):
            N.inverse[k] /= temperature
        samples[t] = quantile(N, W.sizes[3], uniform[t], -front_end.MOST, front_end.MOST)
        z[t] = (samples[t] - S.m[0]) / S.m[1]
        learn(S, N, W, samples[t])
    return samples, z


@compiled
def _resume(S: State, N: Net, W: Weights, z: np.ndarray) -> None:
    """Take in the samples whose innovations come next."""
    for t in range(len(z)):
        predict(S, N, W, 0.0)
        learn(S, N, W, np.floor(S.m[0] + z[t] * S.m[1] + 0.5))


class Stream:
    """Draws one sound, piece by piece.

    Args:
        weights: of the net.
        innovations: ``(N,)`` of its beginning; None for none.
    """

    def __init__(self, weights: Weights, innovations: np.ndarray | None = None) -> None:
        self._state = front_end.start(), start(weights), weights
        if innovations is not None:
            _resume(*self._state, innovations)

    def draw(self, uniform: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """Return the next innovations ``(N,)``, one for each uniform number."""
        return _draw(*self._state, uniform, temperature)[1]


def weights_of(model: Any) -> Weights:
    """Return the weights of an `RNNExperts` as compiled code takes them."""

    def of(tensor: torch.Tensor) -> np.ndarray:
        return np.ascontiguousarray(tensor.detach().cpu().float().numpy())

    sizes = (model.n_features, model.n_recurrent, model.n_hidden, model.n_components, model.n_lags)
    gru = dict(model.cell.named_parameters())
    return Weights(
        of(model.u_0), of(gru["weight_ih_l0"].T), of(gru["weight_hh_l0"].T), of(gru["bias_ih_l0"]),
        of(gru["bias_hh_l0"]), of(model.of_state.weight.T), of(model.of_sample.weight.T),
        of(model.of_sample.bias), of(model.second.weight.T), of(model.second.bias),
        of(model.out.weight.T), of(model.out.bias), np.array(sizes, np.int64),
    )  # fmt: skip
