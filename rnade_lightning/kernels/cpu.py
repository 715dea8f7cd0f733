r"""log p of many frames and its gradient, compiled for the CPU: Algorithm 1 over lanes of frames.

Per feature d: $z_d = P_d\,[h_d; u] + b_d$ with $P_d = [V_d^\top, U_d]$, the weights of
RNADE's units and of the recurrent state side by side, so that biases that change by the frame are
never stored. Frames go through in blocks of lanes that stay in the cache from the first feature to
the last. Backward recomputes what forward threw away; of the running sum a it keeps the value
before every 16th feature of one block, and subtracts in between.

Every thread takes a run of frames and adds to gradients of its own, which are summed in order: for
a given number of threads the numbers are the same every time.

Conventions:
    As in `lanes`. N frames, D features, H units, R state units, K components; 3 K outputs a
    feature: alpha, mu, sigma. ``x`` feeds the units, ``y`` is what the mixtures are evaluated at:
    x itself, less what a linear path inside the frame adds to the means.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnade_lightning.kernels.lanes import (
    add_outer,
    add_product,
    add_transposed_product,
    censored,
    compiled,
    exp,
    log,
    part,
)

STRIDE = 16
"""Features between two values of a that are kept; subtraction alone loses digits."""
WIDTH = 256
"""Frames of a block: many, so that sums over frames pay; few enough for the cache."""
ROWS = 8
"""Units that go through all steps of a feature together, in the nearest cache."""
SHARE = 64
"""Frames below which a run is not worth a thread of its own."""
_HALF_LOG_2PI, _LOG_2 = 0.5 * math.log(2 * math.pi), math.log(2)


@part
def to_lanes(lanes, rows, first):  # type: ignore[no-untyped-def]
    """Frames ``rows (N, M)`` from ``first`` on into ``lanes (M, n)``; 0 beyond the last."""
    n_rows = min(lanes.shape[1], rows.shape[0] - first)
    for n in range(n_rows):
        for m in range(rows.shape[1]):
            lanes[m, n] = rows[first + n, m]
    lanes[:, n_rows:] = 0


@part
def from_lanes(rows, lanes, first):  # type: ignore[no-untyped-def]
    n_rows = min(lanes.shape[1], rows.shape[0] - first)
    for n in range(n_rows):
        for m in range(rows.shape[1]):
            rows[first + n, m] = lanes[m, n]


@part
def advance(a, w, x, sign):  # type: ignore[no-untyped-def]
    """a += sign x_d W_d."""
    for i in range(a.shape[0]):
        w_i = sign * w[i]
        for n in range(a.shape[1]):
            a[i, n] += w_i * x[n]


@part
def units(h, a, rho, relu):  # type: ignore[no-untyped-def]
    """h = s(rho a)."""
    one, zero = a.dtype.type(1), a.dtype.type(0)
    for i in range(a.shape[0]):
        if relu:
            for n in range(a.shape[1]):
                psi = rho * a[i, n]
                h[i, n] = zero if psi < zero else psi
        else:
            for n in range(a.shape[1]):
                h[i, n] = one / (one + exp(-rho * a[i, n]))


@part
def _outputs(z, b, P, u, K, first, last):  # type: ignore[no-untyped-def]
    """z = P_u u + b; the state reaches the outputs from ``first`` to ``last``."""
    for k in range(z.shape[0]):
        z[k] = b[k]
    if u.shape[0]:
        add_product(z[first:last], P[first:last, P.shape[1] - u.shape[0] :], u)


@part
def _log_sigma(z, floor, K):  # type: ignore[no-untyped-def]
    """The outputs of sigma become log(f + exp z)."""
    for k in range(2 * K, 3 * K):
        for n in range(z.shape[1]):
            v = z[k, n]
            z[k, n] = v if v > 80 else log(floor + exp(v))


@part
def _normalise(q, total, top, K):  # type: ignore[no-untyped-def]
    """q_k become exp(q_k - max q), ``total`` their sum, ``top`` the maximum."""
    for n in range(q.shape[1]):
        top[n] = q[0, n]
        total[n] = 0
    for k in range(1, K):
        for n in range(q.shape[1]):
            top[n] = top[n] if top[n] > q[k, n] else q[k, n]
    for k in range(K):
        for n in range(q.shape[1]):
            q[k, n] = exp(q[k, n] - top[n])
            total[n] += q[k, n]


@part
def _mixture(  # type: ignore[no-untyped-def]
    z, x, y, q, row, K, floor, low, high, laplace, log_p, weight, derive
):
    """Adds log p(y_d) to ``log_p (n,)``, or (``derive``) turns the outputs z into the gradient of
    weight log p(y_d) by them, and ``row[0]`` into its gradient by y. Frames whose ``x`` lies on a
    bound are censored there."""
    one, half, bounded = z.dtype.type(1), z.dtype.type(0.5), low > -np.inf
    log_2, constant = z.dtype.type(_LOG_2), z.dtype.type(_HALF_LOG_2PI)
    if floor > 0:
        if derive:  # d log sigma / d z, of which the product below makes use
            for k in range(2 * K, 3 * K):
                for n in range(z.shape[1]):
                    q[k - K, n] = z[k, n]
        _log_sigma(z, floor, K)
    for k in range(K):
        for n in range(z.shape[1]):
            log_sigma = z[2 * K + k, n]
            inverse = exp(-log_sigma)
            r = (y[n] - z[K + k, n]) * inverse
            if bounded:
                below, above = x[n] <= low, x[n] >= high
                log_phi, slope, spread = censored(r, log_sigma, below, above, one, half, log_2)
            elif laplace:
                size = abs(r)
                log_phi, spread = -size - log_sigma - log_2, size - one
                slope = one if r > 0 else (-one if r < 0 else r)
            else:
                log_phi, slope, spread = -half * r * r - log_sigma - constant, r, r * r - one
            q[k, n] = z[k, n] + log_phi
            if derive:
                z[K + k, n], z[2 * K + k, n] = slope * inverse, spread
                if floor > 0:
                    z[2 * K + k, n] = spread * exp(q[K + k, n] - log_sigma)
    total, top, total_q, top_q = row[0], row[1], row[2], row[3]
    _normalise(z, total, top, K)
    _normalise(q, total_q, top_q, K)
    if not derive:
        for n in range(z.shape[1]):
            log_p[n] += top_q[n] - top[n] + log(total_q[n] / total[n])
        return
    for n in range(z.shape[1]):
        total[n], total_q[n] = weight[n] / total[n], weight[n] / total_q[n]
        top[n] = 0
    for k in range(K):
        for n in range(z.shape[1]):
            pi = q[k, n] * total_q[n]  # responsibility times weight
            z[k, n] = pi - z[k, n] * total[n]
            z[K + k, n] *= pi
            z[2 * K + k, n] *= pi
            top[n] -= z[K + k, n]
    row[0] = top


@compiled
def _log_prob(  # type: ignore[no-untyped-def]
    x, y, u, W, c, rho, P, b, biases, K, first, last, laplace, relu, floor, low, high, out, width
):
    """log p of frames ``(N,)`` into ``out``.

    ``x``, ``y`` (N, D); ``u`` (N, R); ``W`` (D, H); ``P`` (D, C, H + R), C at least 3 K; ``b``
    (D, C); ``biases`` (N, D, 3 K), added to b, or empty; the state reaches the outputs from
    ``first`` to ``last``; ``width`` of a block.
    """
    N, D = x.shape
    H, C, kind = W.shape[1], P.shape[1], x.dtype
    x_, y_ = np.empty((D, width), kind), np.empty((D, width), kind)
    u_, z = np.zeros((P.shape[2] - H, width), kind), np.zeros((C, width), kind)
    a, h = np.empty((H, width), kind), np.empty((ROWS, width), kind)
    q, row, log_p = np.empty((K, width), kind), np.empty((4, width), kind), np.empty(width, kind)
    one = kind.type(1)
    for start in range(0, N, width):
        to_lanes(x_, x, start)
        to_lanes(y_, y, start)
        to_lanes(u_[: u.shape[1]], u, start)
        log_p[:] = 0
        for i in range(H):
            a[i] = c[i]
        for d in range(D):
            _outputs(z, b[d], P[d], u_, K, first, last)
            for i in range(0, H, ROWS):
                rows = slice(i, min(i + ROWS, H))
                units(h[: rows.stop - i], a[rows], rho[d], relu)
                add_product(z[: 3 * K], P[d, : 3 * K, rows], h[: rows.stop - i])
                advance(a[rows], W[d, rows], x_[d], one)
            if biases.shape[0]:
                for n in range(min(width, N - start)):
                    for k in range(3 * K):
                        z[k, n] += biases[start + n, d, k]
            _mixture(
                z, x_[d], y_[d], q, row, K, floor, low, high, laplace, log_p, log_p, False
            )  # fmt: skip
        for n in range(min(width, N - start)):
            out[start + n] = log_p[n]


@part
def _through_units(delta, d_h, h, a, w, d_w, x, d_x, rho, relu):  # type: ignore[no-untyped-def]
    """From the gradient by h_d to those by W_d, x_d (through the later features) and rho_d, which
    is returned; delta goes on to a_d."""
    one, zero = a.dtype.type(1), a.dtype.type(0)
    d_rho = zero
    for i in range(a.shape[0]):
        w_i, to_w, to_rho = w[i], zero, zero
        for n in range(a.shape[1]):
            v = delta[i, n]
            to_w += v * x[n]
            d_x[n] += v * w_i
            if relu:
                d_psi = d_h[i, n] if h[i, n] > zero else zero
            else:
                d_psi = d_h[i, n] * h[i, n] * (one - h[i, n])
            to_rho += d_psi * a[i, n]
            delta[i, n] = v + rho * d_psi
        d_w[i] += to_w
        d_rho += to_rho
    return d_rho


@compiled
def _gradients(  # type: ignore[no-untyped-def]
    x, y, u, W, c, rho, P, b, biases, K, first, last, laplace, relu, floor, low, high, weight,
    width, d_x, d_y, d_u, d_W, d_c, d_rho, d_P, d_b, d_biases,
):  # fmt: skip
    """Algorithm 1: gradients of sum_n weight_n log p(x_n), those of parameters added up.

    Arguments as in `_log_prob`; ``weight`` (N,); gradients in the shape of what they are of.
    """
    N, D = x.shape
    H, C, kind = W.shape[1], P.shape[1], x.dtype
    R = P.shape[2] - H
    x_, y_ = np.empty((D, width), kind), np.empty((D, width), kind)
    d_x_, d_y_ = np.empty((D, width), kind), np.empty((D, width), kind)
    u_, d_u_ = np.zeros((R, width), kind), np.empty((R, width), kind)
    a, h = np.empty((H, width), kind), np.empty((H, width), kind)
    d_h, delta = np.empty((ROWS, width), kind), np.empty((H, width), kind)
    kept = np.empty(((D + STRIDE - 1) // STRIDE, H, width), kind)
    z, q = np.zeros((C, width), kind), np.empty((2 * K if floor > 0 else K, width), kind)
    row, w_ = np.empty((4, width), kind), np.empty(width, kind)
    one = kind.type(1)
    for start in range(0, N, width):
        n_rows = min(width, N - start)
        to_lanes(x_, x, start)
        to_lanes(y_, y, start)
        to_lanes(u_[: u.shape[1]], u, start)
        w_[:] = 0
        w_[:n_rows] = weight[start : start + n_rows]
        delta[:] = 0
        d_x_[:] = 0
        d_u_[:] = 0
        for i in range(H):
            a[i] = c[i]
        for d in range(D):
            if d % STRIDE == 0:
                kept[d // STRIDE] = a
            advance(a, W[d], x_[d], one)
        for d in range(D - 1, -1, -1):
            _outputs(z, b[d], P[d], u_, K, first, last)
            for i in range(0, H, ROWS):
                rows = slice(i, min(i + ROWS, H))
                if d % STRIDE == 0:  # a_d as it was
                    a[rows] = kept[d // STRIDE, rows]
                else:
                    advance(a[rows], W[d, rows], x_[d], -one)
                units(h[rows], a[rows], rho[d], relu)
                add_product(z[: 3 * K], P[d, : 3 * K, rows], h[rows])
            if biases.shape[0]:
                for n in range(n_rows):
                    for k in range(3 * K):
                        z[k, n] += biases[start + n, d, k]
            _mixture(z, x_[d], y_[d], q, row, K, floor, low, high, laplace, w_, w_, True)
            d_y_[d] = row[0]
            for k in range(3 * K):
                total = one - one
                for n in range(width):
                    total += z[k, n]
                d_b[d, k] += total
            if biases.shape[0]:
                for n in range(n_rows):
                    for k in range(3 * K):
                        d_biases[start + n, d, k] = z[k, n]
            if R:
                add_outer(d_P[d, first:last, H:], z[first:last], u_)
                add_transposed_product(d_u_, P[d, first:last, H:], z[first:last])
            for i in range(0, H, ROWS):
                rows = slice(i, min(i + ROWS, H))
                d_h[:] = 0
                add_transposed_product(d_h[: rows.stop - i], P[d, : 3 * K, rows], z[: 3 * K])
                add_outer(d_P[d, : 3 * K, rows], z[: 3 * K], h[rows])
                d_rho[d] += _through_units(
                    delta[rows], d_h, h[rows], a[rows], W[d, rows], d_W[d, rows], x_[d], d_x_[d],
                    rho[d], relu,
                )  # fmt: skip
        for i in range(H):
            total = one - one
            for n in range(width):
                total += delta[i, n]
            d_c[i] += total
        from_lanes(d_x, d_x_, start)
        from_lanes(d_y, d_y_, start)
        from_lanes(d_u, d_u_[: u.shape[1]], start)


def log_prob(problem: Any) -> Tensor:
    """Log density ``(N,)`` of the frames of a `Problem`."""
    frames, shared, options = _arguments(problem)
    out = problem.x.new_empty(len(problem.x))

    def run(some: slice, width: int) -> None:
        arrays = [as_array(t[some]) for t in frames]
        _log_prob(*arrays[:3], *shared, arrays[3], *options, as_array(out[some]), width)

    in_parts(len(out), run)
    return out


def gradients(problem: Any, weight: Tensor) -> list[Tensor]:
    """Gradients of ``sum_n weight_n log p(x_n)``, in the order of
    `Gradients`."""
    frames, shared, options = _arguments(problem)
    by_frame = [torch.empty_like(t, memory_format=torch.contiguous_format) for t in frames]
    by_part: dict[int, list[Tensor]] = {}

    def run(some: slice, width: int) -> None:
        arrays, outs = ([as_array(t[some]) for t in ts] for ts in (frames, by_frame))
        sums = by_part[some.start] = [torch.zeros(a.shape, dtype=weight.dtype) for a in shared]
        totals = [as_array(t) for t in sums]
        _gradients(
            *arrays[:3], *shared, arrays[3], *options, as_array(weight[some]), width,
            *outs[:3], *totals, outs[3],
        )  # fmt: skip

    in_parts(len(weight), run)
    first, *others = (by_part[start] for start in sorted(by_part))
    for other in others:
        for total, more in zip(first, other, strict=True):
            total += more
    return [*by_frame[:3], *first, by_frame[3]]


def _arguments(problem: Any) -> tuple[list[Tensor], list[np.ndarray], tuple[Any, ...]]:
    """What is by frame, what all frames share, and plain numbers, as the compiled code takes it."""
    shared = [as_array(t) for t in problem[3:8]]
    laplace, relu, *numbers = problem.options
    numbers = [shared[0].dtype.type(number) for number in numbers]
    options = (problem.K, problem.first, problem.last, laplace, relu, *numbers)
    return [problem.x, problem.y, problem.u, problem.biases], shared, options


def as_array(t: Tensor) -> np.ndarray:
    """The tensor's numbers, contiguous; the same memory where they are so already."""
    return t.detach().contiguous().numpy()


def in_parts(n: int, run: Callable[[slice, int], None], share: int = SHARE) -> None:
    """Calls ``run`` with runs of the n frames, one a thread and none below ``share`` frames, and
    with the width of their blocks."""
    n_parts = min(torch.get_num_threads(), max(n // share, 1))
    size = -(-n // n_parts)
    n_blocks = max(-(-size // WIDTH), 1)
    width = 16 * max(-(-size // (16 * n_blocks)), 1)
    parts = [slice(start, min(start + size, n)) for start in range(0, n, max(size, 1))]
    first, *others = parts or [slice(0, 0)]
    waiting = [_threads(os.getpid(), n_parts).submit(run, some, width) for some in others]
    run(first, width)
    for each in waiting:
        each.result()


@cache
def _threads(pid: int, n: int) -> ThreadPoolExecutor:
    """Threads of this process; those of a parent are not there after a fork."""
    return ThreadPoolExecutor(n, thread_name_prefix="rnade")
