r"""Pieces of Algorithm 1 over lanes of frames: hidden units, and the mixture of a feature.

Compiled into the operations of `cpu` and `sampler`. Symbols are as in `gradients`, the layout is as
in `lanes`.
"""

from __future__ import annotations

import math

import numpy as np

from rnade_lightning.kernels.lanes import add_product, exp, log, subroutine

_LARGE = 64.0
_HALF_LOG_2PI, _LOG_2 = 0.5 * math.log(2 * math.pi), math.log(2)


@subroutine
def to_lanes(lanes, rows, first):  # type: ignore[no-untyped-def]
    """Copy frames ``rows (N, M)`` from ``first`` on into ``lanes (M, n)``; 0 beyond the last."""
    n_rows = min(lanes.shape[1], rows.shape[0] - first)
    for n in range(n_rows):
        for m in range(rows.shape[1]):
            lanes[m, n] = rows[first + n, m]
    lanes[:, n_rows:] = 0


@subroutine
def from_lanes(rows, lanes, first):  # type: ignore[no-untyped-def]
    n_rows = min(lanes.shape[1], rows.shape[0] - first)
    for n in range(n_rows):
        for m in range(rows.shape[1]):
            rows[first + n, m] = lanes[m, n]


@subroutine
def advance(a, w, x, sign):  # type: ignore[no-untyped-def]
    """Move a on by a feature: a += sign x_d W_d."""
    for i in range(a.shape[0]):
        w_i = sign * w[i]
        for n in range(a.shape[1]):
            a[i, n] += w_i * x[n]


@subroutine
def units(h, a, rho, relu):  # type: ignore[no-untyped-def]
    """Compute the hidden units, h = s(rho a)."""
    one, zero = a.dtype.type(1), a.dtype.type(0)
    for i in range(a.shape[0]):
        if relu:
            for n in range(a.shape[1]):
                psi = rho * a[i, n]
                h[i, n] = zero if psi < zero else psi
        else:
            for n in range(a.shape[1]):
                h[i, n] = one / (one + exp(-rho * a[i, n]))


@subroutine
def outputs(z, b, P, u, K, first, last):  # type: ignore[no-untyped-def]
    """Compute z = P_u u + b; the state reaches the outputs from ``first`` to ``last``."""
    for k in range(z.shape[0]):
        z[k] = b[k]
    if u.shape[0]:
        add_product(z[first:last], P[first:last, P.shape[1] - u.shape[0] :], u)


@subroutine
def floored_log_scales(z, floor, K):  # type: ignore[no-untyped-def]
    """Replace the outputs of sigma by log(f + exp z)."""
    for k in range(2 * K, 3 * K):
        for n in range(z.shape[1]):
            v = z[k, n]
            z[k, n] = v if v > 80 else log(floor + exp(v))


@subroutine
def shift_large(z, top):  # type: ignore[no-untyped-def]
    """Outputs of alpha so large that they would swallow what is added to them lose their maximum,
    which changes no weight. ``top (n,)`` is for work."""
    large = z.dtype.type(_LARGE)
    top[:] = z[0]
    for k in range(1, z.shape[0]):
        for n in range(z.shape[1]):
            top[n] = top[n] if top[n] > z[k, n] else z[k, n]
    for n in range(z.shape[1]):
        top[n] = top[n] if abs(top[n]) > large else 0
    for k in range(z.shape[0]):
        for n in range(z.shape[1]):
            z[k, n] -= top[n]


@subroutine
def normalise(q, total, top, K):  # type: ignore[no-untyped-def]
    """Replace q_k by exp(q_k - max q); ``total`` becomes their sum, ``top`` the maximum. Where the
    maximum is -inf, all become 0."""
    for n in range(q.shape[1]):
        top[n] = q[0, n]
        total[n] = 0
    for k in range(1, K):
        for n in range(q.shape[1]):
            top[n] = top[n] if top[n] > q[k, n] else q[k, n]
    for k in range(K):
        for n in range(q.shape[1]):
            from_top = q[k, n] - top[n]
            q[k, n] = exp(q[k, n] if top[n] == -np.inf else from_top)
            total[n] += q[k, n]


@subroutine
def mixture(  # type: ignore[no-untyped-def]
    z, x, y, q, row, K, floor, low, high, laplace, log_p, weight, derive
):
    """Add log p(y_d) to ``log_p (n,)``. With ``derive``, replace the outputs z by the gradient of
    weight log p(y_d) by them, and ``row[0]`` by its gradient by y. Frames whose ``x`` lies on a
    bound are censored there."""
    zero, one, half = z.dtype.type(0), z.dtype.type(1), z.dtype.type(0.5)
    bounded = low > -np.inf
    log_2, constant = z.dtype.type(_LOG_2), z.dtype.type(_HALF_LOG_2PI)
    if floor > 0:
        if derive:  # d log sigma / d z, of which the product below makes use
            for k in range(2 * K, 3 * K):
                for n in range(z.shape[1]):
                    q[k - K, n] = z[k, n]
        floored_log_scales(z, floor, K)
    shift_large(z[:K], row[0])
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
    normalise(z, total, top, K)
    normalise(q, total_q, top_q, K)
    if not derive:
        for n in range(z.shape[1]):
            log_p[n] += top_q[n] - top[n] + log(total_q[n] / total[n])
        return
    for n in range(z.shape[1]):
        lost = top_q[n] == -np.inf  # no component reaches: log p is -inf, its gradient 0
        total[n] = zero if lost else weight[n] / total[n]
        total_q[n] = zero if lost else weight[n] / total_q[n]
        top[n] = 0
    for k in range(K):
        for n in range(z.shape[1]):
            pi = q[k, n] * total_q[n]  # responsibility times weight
            reached = pi != zero  # what is out of reach may lie at infinity
            z[k, n] = pi - z[k, n] * total[n]
            z[K + k, n] = pi * z[K + k, n] if reached else zero
            z[2 * K + k, n] = pi * z[2 * K + k, n] if reached else zero
            top[n] -= z[K + k, n]
    row[0] = top


@subroutine
def censored(r, log_sigma, below, above, one, half, log_2):  # type: ignore[no-untyped-def]
    """Return the log density of a Laplace component at r = (y - mu) / sigma and its derivatives by
    mu / sigma and log sigma; ``below`` or ``above`` the support, log F(r) or log F(-r), the log
    probability. All are computed and one chosen, which keeps lanes together."""
    size, t = abs(r), -r if above else r
    half_exp = half * exp(-size)
    inside, tail, ratio = (
        -size - log_sigma - log_2,
        log(one - half_exp),
        half_exp / (one - half_exp),
    )
    log_F, by_t = (t - log_2 if t < 0 else tail), (one if t < 0 else ratio)
    slope = one if r > 0 else (-one if r < 0 else r)
    slope = -by_t if below else (by_t if above else slope)
    outside = below | above
    return log_F if outside else inside, slope, -t * by_t if outside else size - one


@subroutine
def through_units(delta, d_h, h, a, w, d_w, x, d_x, rho, relu):  # type: ignore[no-untyped-def]
    """Turn the gradient by h_d into those by W_d, x_d (through the later features) and rho_d, which
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


@subroutine
def clamp(v, low, high):  # type: ignore[no-untyped-def]
    """Return the nearest value between the bounds."""
    return low if v < low else (high if v > high else v)


@subroutine
def pick(weights, total, uniform):  # type: ignore[no-untyped-def]
    """Return the number that a uniform draw picks, by weights that add up to the total."""
    k, below = 0, weights[0] / total
    while uniform >= below and k < len(weights) - 1:
        k += 1
        below += weights[k] / total
    return k


@subroutine
def censored_mean(mu, sigma, low, high, half):  # type: ignore[no-untyped-def]
    """Return the mean of a Laplace component that is cut off at the bounds."""
    at_low, at_high = exp(-abs(mu - low) / sigma), exp(-abs(mu - high) / sigma)
    return clamp(mu, low, high) + half * sigma * (at_low - at_high)
