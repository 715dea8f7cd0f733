r"""The distribution of the next sample, one after the other, in compiled code.

Coding, decoding and drawing are one recursion: the front end predicts (see
`datamodules.sound.front_end`), the net of `rnn_experts` and a bank of components that learns from
this sound alone say what comes, and all take in what came. What comes is a mixture

    F(x) = v F_net(x) + (1 - v) F_bank(x)

of logistic distributions; `bank` has the second part. v follows from how likely each made the
samples so far, by Bayes' rule with forgetting.

A decoder must compute what the encoder computed, to the bit. All sums have one written order, no
multiplication is fused with an addition, and exp, log and the logistic function are our own; see
`logistic`.

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
from rnade_lightning.kernels import bank, logistic
from rnade_lightning.kernels.bank import Bank
from rnade_lightning.kernels.logistic import below, between

compiled = compiler(
    exact.__file__, panel.__file__, front_end.__file__, logistic.__file__, bank.__file__, __file__
)

_TRUST = 0.998  # of the evidence between net and bank that is kept from sample to sample
_FIRST_EXPERT = EXPERTS.start


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

    at: np.ndarray  # place in the frame
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
    bank: Bank
    evidence: np.ndarray  # log odds of the net against the bank, and the share that follows
    table: np.ndarray  # of the logistic function
    cells: np.ndarray  # in which it is coded; see `coding.cells`


def start(W: Weights, low: float = 0.0, high: float = 0.0) -> Net:
    """Return what is known at the beginning of a sound, whose samples are said to lie between."""
    D, R, H, K, L = (int(n) for n in W.sizes)
    J = bank.SIZE
    zeros = np.zeros
    net = Net(
        at=zeros(1, np.int64), u=W.start.copy(), u_bias=zeros(H, np.float32),
        frame=zeros(D + N_SIDE, np.float32), residuals=zeros(L), read=zeros(L + N_SIDE, np.float32),
        first=zeros(H, np.float32), second=zeros(H, np.float32),
        out=zeros(K * (3 + N_EXPERTS), np.float32), gates=zeros((2, 3 * R), np.float32),
        weight=zeros(K + J), mean=zeros(K + J), inverse=zeros(K + J), bank=bank.start(low, high),
        evidence=zeros(2), table=logistic.table(), cells=zeros(6),
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
    bank.predict(S, N.bank, N.mean, N.inverse, K)


@compiled
def mixture(
    x: float, share: float, weight: np.ndarray, mean: np.ndarray, inverse: np.ndarray,
    table: np.ndarray, K: int,
) -> float:  # fmt: skip
    """Return F(x) of a net's first K components, whose share is given, and a bank's others."""
    net, n = 0.0, len(weight) - 1
    of_bank = weight[n] * min(max((x - mean[n]) * inverse[n], 0.0), 1.0)
    for k in range(K):
        net += weight[k] * below((x - mean[k]) * inverse[k], table)
    for k in range(K, n):
        of_bank += weight[k] * below((x - mean[k]) * inverse[k], table)
    return share * net + (1.0 - share) * of_bank


@compiled
def cdf(N: Net, x: float, K: int) -> float:
    """Return F(x) of the next sample."""
    return mixture(x, N.evidence[1], N.weight, N.mean, N.inverse, N.table, K)


@compiled
def learn(S: State, N: Net, W: Weights, x: float) -> None:
    """Take in the sample that `predict` predicted."""
    D, R, K, L = W.sizes[0], W.sizes[1], W.sizes[3], W.sizes[4]
    net, half = 1e-300, 0.5 * N.bank.step[0]
    for k in range(K):
        low, high = (x - half - N.mean[k]) * N.inverse[k], (x + half - N.mean[k]) * N.inverse[k]
        net += N.weight[k] * between(low, high, N.table)
    of_bank = bank.learn(N.bank, N.weight, N.mean, N.inverse, N.table, K, x)
    N.evidence[0] = min(
        max(_TRUST * N.evidence[0] + log(net + 1e-12) - log(of_bank + 1e-12), -12.0), 12.0
    )
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
