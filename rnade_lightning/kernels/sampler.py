r"""Draw from RNADE and RNN-RNADE, compiled for the CPU: one sequence after another on each thread,
feature by feature, the recurrent step included.

The randomness is drawn by torch and handed over, so that the same generator gives the same
components and, to rounding, the same values as the torch path.

Conventions:
    Sizes as in `cpu`. Arrays keep the layout of the model's parameters. A state is laid out as in
    `rnn_rnade`: R units, the last p frames, the LSTM's cell.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnade_lightning.kernels.cpu import as_array, in_parts
from rnade_lightning.kernels.lanes import add_product, compiled, exp, subroutine
from rnade_lightning.kernels.mixture import (
    advance,
    censored_mean,
    clamp,
    from_lanes,
    pick,
    to_lanes,
    units,
)
from rnade_lightning.kernels.recurrent import (
    CELLS,
    add_combination,
    add_rows,
    logistic,
    next_state,
)
from rnade_lightning.parameters import batch_of

LANES = 16
"""Frames from which on they are drawn side by side."""


@subroutine
def _frame(  # type: ignore[no-untyped-def]
    x, mean, uniform, value, n_given, b_alpha, b_mu, b_sigma, W, c, rho, V_alpha, V_mu, V_sigma, L,
    floor, relu, low, high, temperature, a, h, z,
):  # fmt: skip
    """Draw one frame ``x (D,)``, whose first ``n_given`` features are given, and each feature's
    mean given those before it. ``z`` (3, K) and ``a``, ``h`` (H,) are for work."""
    K, zero, half, bounded = z.shape[1], x.dtype.type(0), x.dtype.type(0.5), low > -np.inf
    a[:] = c
    for d in range(len(x)):
        for i in range(len(a)):
            h[i] = rho[d] * a[i]
        if relu:
            for i in range(len(a)):
                h[i] = zero if h[i] < zero else h[i]
        else:
            logistic(h)
        z[0], z[1], z[2] = b_alpha[d], b_mu[d], b_sigma[d]
        add_combination(z[0], h, V_alpha[d])
        add_combination(z[1], h, V_mu[d])
        add_combination(z[2], h, V_sigma[d])
        if len(L):
            shift = zero
            for e in range(d):
                shift += L[d, e] * x[e]
            for k in range(K):
                z[1, k] += shift
        top, total, centre = z[0].max(), zero, zero
        for k in range(K):
            z[0, k] = exp((z[0, k] - top) / temperature)
            total += z[0, k]
            mu = z[1, k]
            if bounded:
                mu = censored_mean(mu, temperature * (floor + exp(z[2, k])), low, high, half)
            centre += z[0, k] * mu
        if d < n_given:
            mean[d] = x[d]
        else:
            mean[d] = centre / total
            k = pick(z[0], total, uniform[d])
            sigma = floor + exp(z[2, k])
            x[d] = clamp(z[1, k] + temperature * sigma * value[d], low, high)
        for i in range(len(a)):
            a[i] += x[d] * W[d, i]


@compiled
def _frames(  # type: ignore[no-untyped-def]
    x, mean, uniform, value, n_given, b_alpha, b_mu, b_sigma, first, W, c, rho, V_alpha, V_mu,
    V_sigma, L, floor, relu, low, high, temperature,
):  # fmt: skip
    """Draw frames ``x (N, D)`` one by one. Biases ``(B, D, K)`` are taken in turn, beginning with
    that of frame ``first``."""
    a, h = np.empty_like(c), np.empty_like(c)
    z = np.empty((3, b_mu.shape[2]), x.dtype)
    for n in range(len(x)):
        i = first + n
        _frame(
            x[n], mean[n], uniform[n], value[n], n_given, b_alpha[i % len(b_alpha)],
            b_mu[i % len(b_mu)], b_sigma[i % len(b_sigma)], W, c, rho, V_alpha, V_mu, V_sigma, L,
            floor, relu, low, high, temperature, a, h, z,
        )  # fmt: skip


@compiled
def _pack(P, V_alpha, V_mu, V_sigma):  # type: ignore[no-untyped-def]
    D, H, K = V_mu.shape
    for d in range(D):
        for k in range(K):
            for i in range(H):
                P[d, k, i] = V_alpha[d, i, k]
                P[d, K + k, i] = V_mu[d, i, k]
                P[d, 2 * K + k, i] = V_sigma[d, i, k]


@compiled
def _frames_in_lanes(  # type: ignore[no-untyped-def]
    x, mean, uniform, value, n_given, b_alpha, b_mu, b_sigma, first, W, c, rho, P, L, floor, relu,
    low, high, temperature, width,
):  # fmt: skip
    """Draw as `_frames`, many at once: blocks of frames in lanes, the units' weights ``P (D, 3 K,
    H)``, H a multiple of 4."""
    N, D = x.shape
    H, K, kind = W.shape[1], b_mu.shape[2], x.dtype
    x_, mean_ = np.empty((D, width), kind), np.empty((D, width), kind)
    uniform_, value_ = np.empty((D, width), kind), np.empty((D, width), kind)
    a, h, z = np.empty((H, width), kind), np.empty((H, width), kind), np.empty((3 * K, width), kind)
    shift, top, total = np.empty(width, kind), np.empty(width, kind), np.empty(width, kind)
    one, half, bounded = kind.type(1), kind.type(0.5), low > -np.inf
    for start in range(0, N, width):
        n_rows = min(width, N - start)
        to_lanes(x_, x, start)
        to_lanes(uniform_, uniform, start)
        to_lanes(value_, value, start)
        for i in range(H):
            a[i] = c[i]
        for d in range(D):
            z[:, n_rows:] = 0
            for n in range(n_rows):
                i = first + start + n
                alpha, mu = b_alpha[i % len(b_alpha), d], b_mu[i % len(b_mu), d]
                sigma = b_sigma[i % len(b_sigma), d]
                for k in range(K):
                    z[k, n], z[K + k, n], z[2 * K + k, n] = alpha[k], mu[k], sigma[k]
            units(h, a, rho[d], relu)
            add_product(z, P[d], h)
            shift[:] = 0
            if len(L):
                for e in range(d):
                    for n in range(width):
                        shift[n] += L[d, e] * x_[e, n]
            top[:] = z[0]
            for k in range(1, K):
                for n in range(width):
                    top[n] = max(top[n], z[k, n])
            total[:] = 0
            mean_[d] = 0
            for k in range(K):
                for n in range(width):
                    z[k, n] = exp((z[k, n] - top[n]) / temperature)
                    total[n] += z[k, n]
                    z[K + k, n] += shift[n]
                    mu = z[K + k, n]
                    if bounded:
                        sigma_k = temperature * (floor + exp(z[2 * K + k, n]))
                        mu = censored_mean(mu, sigma_k, low, high, half)
                    mean_[d, n] += z[k, n] * mu
            for n in range(width):
                total[n] = one / total[n]
                mean_[d, n] *= total[n]
            if d < n_given:
                mean_[d] = x_[d]
            else:
                for n in range(width):
                    k, below = 0, z[0, n] * total[n]
                    while uniform_[d, n] >= below and k < K - 1:
                        k += 1
                        below += z[k, n] * total[n]
                    sigma_k = temperature * (floor + exp(z[2 * K + k, n]))
                    x_[d, n] = clamp(z[K + k, n] + sigma_k * value_[d, n], low, high)
            advance(a, W[d], x_[d], one)
        from_lanes(x, x_, start)
        from_lanes(mean, mean_, start)


@compiled
def _next_frames(  # type: ignore[no-untyped-def]
    frames, u, uniform, value, scale, given, b_alpha, b_mu, b_sigma, U_alpha, U_mu, U_sigma,
    log_scales, b_w, W_w, A, E, order, root, M, b_g, W_g, cell, W_in, W_up, W_rec, b_in, b_rec, W,
    c, rho, V_alpha, V_mu, V_sigma, L, floor, relu, low, high, temperature,
):  # fmt: skip
    """Draw the next frames of N sequences, ``frames (N, T, D)``, in their states ``u (N, S)``;
    these become the states after them.

    ``scale`` (N, T), uniforms, and ``log_scales``, ``b_w`` (J,), ``W_w`` (J, R + C); ``given`` (N,
    T, C), the context; ``U_alpha`` (D K, R + C), and so on; ``E`` (D, C); ``order`` (D,), the
    feature that is drawn d-th; ``root`` (D, D); couplings ``M`` (I, D, D), ``b_g`` (I,), ``W_g``
    (I, R + C); ``W_in`` (G, D + C) of the first layer, or (G, D) if it reads no context; ``W_up``
    (layers - 1, G, R) of those above; ``W_rec`` (layers, G, R), ``b_in`` and ``b_rec`` (layers, G).
    What the model lacks is empty.
    """
    N, T, D = frames.shape
    n_layers, R, C = len(W_rec), W_rec.shape[2], given.shape[2]
    kind, bounded = frames.dtype, low > -np.inf
    n_history, n_memory = R + len(A) * D, R if cell == 3 else 0
    a, h, mean, shift = np.empty_like(c), np.empty_like(c), np.empty(D, kind), np.empty(D, kind)
    G = b_in.shape[1]
    z, g, g_rec = np.empty((3, b_mu.shape[1]), kind), np.empty(G, kind), np.empty(G, kind)
    alpha, mu, sigma = np.empty_like(b_alpha), np.empty_like(b_mu), np.empty_like(b_sigma)
    x, told, read = np.empty(D, kind), np.empty(D, kind), np.empty(W_in.shape[1], kind)
    w, strength, seen = np.empty_like(b_w), np.empty_like(b_g), np.empty(R + C, kind)
    for step in range(N * T):
        n, t = step // T, step % T
        seen[:R], seen[R:], read[D:] = u[n, :R], given[n, t], given[n, t, : len(read) - D]
        alpha[:], mu[:], sigma[:] = b_alpha, b_mu, b_sigma
        if len(U_alpha):
            add_rows(alpha.reshape(-1), U_alpha, seen)
        if len(U_mu):
            add_rows(mu.reshape(-1), U_mu, seen)
        if len(U_sigma):
            add_rows(sigma.reshape(-1), U_sigma, seen)
        if len(log_scales):
            w[:] = b_w
            add_rows(w, W_w, seen)
            w -= w.max()
            total = kind.type(0)
            for j in range(len(w)):
                w[j] = exp(w[j] / temperature)
                total += w[j]
            sigma += log_scales[pick(w, total, scale[n, t])]
        shift[:] = 0
        for i in range(len(A)):
            add_rows(shift, A[i], u[n, R + i * D : R + (i + 1) * D])
        if len(E):
            add_rows(shift, E, given[n, t])
        if bounded:
            for d in range(D):
                mu[d] += shift[order[d]]
        _frame(
            x, mean, uniform[n, t], value[n, t], 0, alpha, mu, sigma, W, c, rho, V_alpha, V_mu,
            V_sigma, L, floor, relu, low, high, temperature, a, h, z,
        )  # fmt: skip
        if len(M):
            strength[:] = b_g
            add_rows(strength, W_g, seen)
            strength[:] = np.tanh(strength)
            for d in range(D):
                for j in range(len(M)):
                    x[d] += strength[j] * np.dot(M[j, d, :d], told[:d])
                told[d] = 3 * np.tanh(x[d] / 3)  # couplings.bounded
        for d in range(D):
            read[order[d]] = x[d]
        if len(root):
            for d in range(D):
                read[order[d]] = np.dot(root[d, : d + 1], x[: d + 1])
        if not bounded:
            for d in range(D):
                read[d] += shift[d]
        frames[n, t] = read[:D]
        g[:] = b_in[0]
        add_rows(g, W_in, read)
        for layer in range(n_layers):  # the last one's state stands first, then from the top down
            at = n_history + n_memory + (n_layers - 2 - layer) * (R + n_memory)
            hidden, memory = u[n, at : at + R], u[n, at + R : at + R + n_memory]
            if layer == n_layers - 1:
                hidden, memory = u[n, :R], u[n, n_history : n_history + n_memory]
            if layer:
                g[:] = b_in[layer]
                add_rows(g, W_up[layer - 1], seen[:R])
            g_rec[:] = b_rec[layer]
            add_rows(g_rec, W_rec[layer], hidden)
            next_state(hidden, memory, g, g_rec, cell)
            seen[:R] = hidden
        for i in range(n_history - 1, R + D - 1, -1):  # past frames, the latest first
            u[n, i] = u[n, i - D]
        if n_history > R:
            u[n, R : R + D] = read[:D]


# ------------------------------------------------------------------ from torch


def draw(
    rnade: Any, noise: tuple[Tensor, Tensor], biases: Any, given: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor]:
    """Draw ``(..., D)`` and each feature's conditional mean, as the torch path makes them.

    Args:
        rnade: The density, on the CPU.
        noise: Uniforms and standard draws ``(..., D)``.
        biases: (alpha, mu, sigma), each ``(*batch, D, K)``; the last dimensions of the noise before
            D are those that the three batches broadcast to.
        given: First features ``(..., d)``.
        temperature: As in `RNADE.sample`.
    """
    uniform, value = (as_array(t.flatten(0, -2) if t.dim() > 1 else t[None]) for t in noise)
    x = torch.empty(noise[0].shape, dtype=noise[0].dtype)
    n_given = 0
    if given is not None:
        n_given = given.shape[-1]
        x[..., :n_given] = given
    mean = torch.empty_like(x)
    outs = [t.view(-1, t.shape[-1]).numpy() for t in (x, mean)]
    batch = batch_of(biases)
    b = [
        as_array(t[None] if t.dim() == 2 else t.expand(*batch, -1, -1).reshape(-1, *t.shape[-2:]))
        for t in biases
    ]
    weights, options = _weights(rnade), _options(rnade, temperature)
    in_lanes = len(uniform) >= LANES
    if in_lanes:
        weights = _packed(rnade)

    def run(some: slice, width: int) -> None:
        rows = [array[some] for array in (*outs, uniform, value)]
        if in_lanes:
            _frames_in_lanes(*rows, n_given, *b, some.start, *weights, *options, width)
        else:
            _frames(*rows, n_given, *b, some.start, *weights, *options)

    in_parts(len(uniform), run, share=LANES)
    return x, mean


def next_frames(
    model: Any, u: Tensor, noise: tuple[Tensor, ...], temperature: float, given: Tensor
) -> Tensor:
    """Draw frames ``(N, T, D)`` in states ``u (N, S)``; these become, in place, the states after
    them.

    Args:
        model: RNN-RNADE; weights elsewhere than on the CPU are copied.
        u: States, contiguous, on the CPU.
        noise: Uniforms and standard draws, each ``(N, T, D)``, and uniforms ``(N, T)`` for the
            common scale of each frame, or ``(N, 0)``.
        temperature: As in `RNADE.sample`.
        given: Context ``(N, T, C)``, nothing absent.
    """
    rnade, (uniform, value, scale) = model.rnade, map(as_array, noise)
    frames = torch.empty(uniform.shape, dtype=u.dtype)
    out, states, context = frames.numpy(), u.numpy(), as_array(given)
    names = ("alpha", "mu", "sigma")
    none, nothing = np.empty(0, out.dtype), np.empty((0, 0), out.dtype)
    paths = [as_array(model.weights_of(n)) if n in model.conditioned else nothing for n in names]
    linear = as_array(model.past_weights()), as_array(getattr(model, "E", u.new_empty(0, 0)))
    order = np.arange(out.shape[2]) if model.feature_order is None else model.feature_order
    root = nothing if model.root is None else as_array(model.root)
    scales, couplings = [none, none, nothing], [nothing[:, :, None], none, nothing]
    if (of := model.scales) is not None:
        scales = [as_array(t) for t in (of.log_scales, of.b_w, of.W_w)]
    if (of := model.couplings) is not None:
        couplings = [as_array(t) for t in (of.M, of.b, of.W)]
    own_paths = (*paths, *scales, *linear, np.asarray(order), root, *couplings)
    shared = (*map(as_array, rnade.static_params()), *own_paths, *_layers(model.layers))
    of_rnade = (*_weights(rnade), *_options(rnade, temperature))

    def run(some: slice, width: int) -> None:
        own = (out[some], states[some], uniform[some], value[some], scale[some], context[some])
        _next_frames(*own, *shared, *of_rnade)

    in_parts(len(out), run, share=1)
    return frames


def _layers(layers: Any) -> tuple[Any, ...]:
    """Return the number of the cell and the weights of all layers, as `_next_frames` takes them."""
    arrays = [[as_array(getattr(layer, n)) for n in layer.kernel_weights] for layer in layers]
    W_in, *others = zip(*arrays, strict=True)
    cell = CELLS.index(layers[0].kernel)
    if len(arrays) == 1:  # the usual case, which copies nothing
        up = np.empty((0, *others[0][0].shape), W_in[0].dtype)
        return cell, W_in[0], up, *(one[0][None] for one in others)
    return cell, W_in[0], np.stack(W_in[1:]), *map(np.stack, others)


def _weights(rnade: Any) -> list[np.ndarray]:
    L = rnade.W.new_empty(0, 0) if rnade.L is None else rnade.L
    own = (rnade.W, rnade.c, rnade.rho, rnade.V_alpha, rnade.V_mu, rnade.V_sigma, L)
    return [as_array(t) for t in own]


def _packed(rnade: Any) -> list[np.ndarray]:
    """Return W, c, rho, the weights of all outputs ``(D, 3 K, H)``, and L; H padded to a multiple
    of 4."""
    W, c, rho, *V, L = _weights(rnade)
    D, H, K = V[0].shape
    wider = (0, -H % 4)
    P = np.zeros((D, 3 * K, H + wider[1]), c.dtype)
    _pack(P, *V)
    return [np.pad(W, ((0, 0), wider)), np.pad(c, wider), rho, P, L]


def _options(rnade: Any, temperature: float) -> tuple[Any, ...]:
    number = np.float32 if rnade.c.dtype == torch.float32 else np.float64
    bounds = map(number, rnade.component.atoms or (-np.inf, np.inf))
    relu = {"sigmoid": False, "relu": True}[rnade.activation]
    return number(rnade.floor), relu, *bounds, number(temperature)
