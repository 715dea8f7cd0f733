r"""Compute log p of frames as one operation whose backward is Algorithm 1, compiled for the CPU.

Nothing of size N D H or N D K is stored: forward keeps its inputs, backward computes again what it
needs, and biases that a recurrent state sets stay a product (`StateParams`). On other devices, and
for components without compiled code, the same operation runs in torch operations on all features
at once (`blocks`). Where a gradient is to be differentiated again (``create_graph``), it is of
`blocks`, by autograd.

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
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnade_lightning.density import on_cpu
from rnade_lightning.kernels import blocks
from rnade_lightning.kernels.again import differentiable_gradients, differentiated_again
from rnade_lightning.kernels.lanes import (
    add_outer,
    add_product,
    add_transposed_product,
    compiled,
)
from rnade_lightning.kernels.mixture import (
    advance,
    from_lanes,
    mixture,
    outputs,
    through_units,
    to_lanes,
    units,
)
from rnade_lightning.kernels.problem import Options, Problem, counted_gradients
from rnade_lightning.parameters import Params, StateParams

STRIDE = 16
"""Features between two values of a that are kept; subtraction alone loses digits. Where frames are
far out it would lose most of them, and a is summed up from the value that is kept."""
WIDTH = 256
"""Frames of a block: many, so that sums over frames pay; few enough for the cache."""
ROWS = 8
"""Units that go through all steps of a feature together, in the nearest cache."""
SHARE = 64
"""Frames below which a run is not worth a thread of its own."""
_IS_LAPLACE = {"gaussian": False, "laplace": True}  # the compiled components
_IS_RELU = {"sigmoid": False, "relu": True}  # the compiled units


# ------------------------------------------------------------------ compiled


@compiled
def _log_prob(  # type: ignore[no-untyped-def]
    x, y, u, W, c, rho, P, b, biases, K, first, last, laplace, relu, floor, low, high, out, width
):
    """Write log p of frames ``(N,)`` into ``out``.

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
            outputs(z, b[d], P[d], u_, K, first, last)
            for i in range(0, H, ROWS):
                rows = slice(i, min(i + ROWS, H))
                units(h[: rows.stop - i], a[rows], rho[d], relu)
                add_product(z[: 3 * K], P[d, : 3 * K, rows], h[: rows.stop - i])
                advance(a[rows], W[d, rows], x_[d], one)
            if biases.shape[0]:
                for n in range(min(width, N - start)):
                    for k in range(3 * K):
                        z[k, n] += biases[start + n, d, k]
            mixture(
                z, x_[d], y_[d], q, row, K, floor, low, high, laplace, log_p, log_p, False
            )  # fmt: skip
        for n in range(min(width, N - start)):
            out[start + n] = log_p[n]


@compiled
def _gradients(  # type: ignore[no-untyped-def]
    x, y, u, W, c, rho, P, b, biases, K, first, last, laplace, relu, floor, low, high, far,
    weight, width, d_x, d_y, d_u, d_W, d_c, d_rho, d_P, d_b, d_biases,
):  # fmt: skip
    """Compute the gradients of sum_n weight_n log p(x_n) by Algorithm 1, and sum those of
    parameters.

    Arguments as in `_log_prob`; ``far``: subtraction would lose digits; ``weight`` (N,); gradients
    in the shape of what they are of.
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
            outputs(z, b[d], P[d], u_, K, first, last)
            for i in range(0, H, ROWS):
                rows = slice(i, min(i + ROWS, H))
                if far or d % STRIDE == 0:  # a_d as it was
                    a[rows] = kept[d // STRIDE, rows]
                    for e in range(d - d % STRIDE, d):
                        advance(a[rows], W[e, rows], x_[e], one)
                else:
                    advance(a[rows], W[d, rows], x_[d], -one)
                units(h[rows], a[rows], rho[d], relu)
                add_product(z[: 3 * K], P[d, : 3 * K, rows], h[rows])
            if biases.shape[0]:
                for n in range(n_rows):
                    for k in range(3 * K):
                        z[k, n] += biases[start + n, d, k]
            mixture(z, x_[d], y_[d], q, row, K, floor, low, high, laplace, w_, w_, True)
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
                d_rho[d] += through_units(
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


# ------------------------------------------------------------------ from torch


def log_prob(problem: Any) -> Tensor:
    """Return the log density ``(N,)`` of the frames of a `Problem`."""
    frames, shared, options = _arguments(problem)
    out = problem.x.new_empty(len(problem.x))

    def run(some: slice, width: int) -> None:
        arrays = [as_array(t[some]) for t in frames]
        _log_prob(*arrays[:3], *shared, arrays[3], *options, as_array(out[some]), width)

    in_parts(len(out), run)
    return out


def gradients(problem: Any, weight: Tensor) -> list[Tensor]:
    """Return the gradients of ``sum_n weight_n log p(x_n)``, in the order of `Gradients`."""
    frames, shared, options = _arguments(problem)
    by_frame = [torch.empty_like(t, memory_format=torch.contiguous_format) for t in frames]
    by_part: dict[int, list[Tensor]] = {}
    limit = torch.finfo(problem.x.dtype).eps ** -0.5
    far = not bool((problem.x.abs() <= limit).all())

    def run(some: slice, width: int) -> None:
        arrays, outs = ([as_array(t[some]) for t in ts] for ts in (frames, by_frame))
        sums = by_part[some.start] = [torch.zeros(a.shape, dtype=weight.dtype) for a in shared]
        totals = [as_array(t) for t in sums]
        _gradients(
            *arrays[:3], *shared, arrays[3], *options, far, as_array(weight[some]),
            width, *outs[:3], *totals, outs[3],
        )  # fmt: skip

    in_parts(len(weight), run)
    first, *others = (by_part[start] for start in sorted(by_part))
    for other in others:
        for total, more in zip(first, other, strict=True):
            total += more
    return [*by_frame[:3], *first, by_frame[3]]


def _arguments(problem: Any) -> tuple[list[Tensor], list[np.ndarray], tuple[Any, ...]]:
    """Return the arguments of the compiled code: by frame, shared by all frames, and plain
    numbers."""
    shared = [as_array(t) for t in problem[3:8]]
    component, relu, floor = problem.options
    low, high = component.atoms or (-math.inf, math.inf)
    numbers = [shared[0].dtype.type(number) for number in (floor, low, high)]
    kind = _IS_LAPLACE[component.kernel]
    options = (problem.K, problem.first, problem.last, kind, relu, *numbers)
    return [problem.x, problem.y, problem.u, problem.biases], shared, options


def as_array(t: Tensor) -> np.ndarray:
    """Return the tensor's numbers in one piece; the same memory where they already are."""
    return np.ascontiguousarray(t.numpy(force=True))


def in_parts(n: int, run: Callable[[slice, int], None], share: int = SHARE) -> None:
    """Call ``run`` with runs of the n frames, one a thread and none below ``share`` frames, and
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
    """Return the threads of this process. A parent's threads do not survive a fork."""
    return ThreadPoolExecutor(n, thread_name_prefix="rnade")


# ------------------------------------------------------------------ the operation


def frame_log_prob(rnade: Any, x: Tensor, y: Tensor, params: Params) -> Tensor:
    """Return the log density ``(...)`` of frames, as `RNADE.log_prob`.

    Args:
        rnade: the density.
        x: frames ``(..., D)`` as its hidden units read them.
        y: frames less what a linear path adds to the means, ``(..., D)``.
        params: (alpha, mu, sigma), each ``(D, K)`` or ``(..., D, K)``, or a `StateParams`.
    """
    state: Tensor | None = None
    weights: list[Tensor | None] = [None] * 3
    if isinstance(params, StateParams):
        state, weights, biases = params.state, list(params.weights), list(params.static)
        added = list(params.added)
        if added[1] is not None and added[1].shape[-1] == 1:  # shared by the components
            y, added[1] = y - added[1][..., 0], None
        biases = [b if a is None else b + a for b, a in zip(biases, added, strict=True)]
    else:
        biases = list(params)
    shapes = [x.shape[:-1], *(b.shape[:-2] for b in biases)]
    batch = torch.broadcast_shapes(*shapes, *([] if state is None else [state.shape[:-1]]))

    def flat(t: Tensor, n: int) -> Tensor:
        return t.expand(*batch, *t.shape[-n:]).reshape(-1, *t.shape[-n:])

    biases = [b if b.dim() == 2 else flat(b, 2) for b in biases]
    x, y = flat(x, 1), flat(y, 1)
    state = x.new_zeros(len(x), 0) if state is None else flat(state, 1)
    options = Options(rnade.component, _IS_RELU[rnade.activation], rnade.floor)
    V = (rnade.V_alpha, rnade.V_mu, rnade.V_sigma)
    out = _LogProb.apply(
        options, rnade.n_components, x, y, state, rnade.W, rnade.c, rnade.rho, *V, *biases, *weights
    )
    return out.view(batch)


class _LogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx, options, K, x, y, u, W, c, rho, *rest):  # type: ignore[no-untyped-def]
        biases, U = rest[3:6], rest[6:]
        problem = _pack(options, K, x, y, u, W, c, rho, *rest)
        inputs = x, y, u, W, c, rho, *rest
        ctx.save_for_backward(*problem[:9], *inputs)
        ctx.sizes = problem[9:]
        ctx.shapes = [b.shape for b in biases], [w is not None for w in U], W.shape[1], u.shape[1]
        return _kernel(problem).log_prob(problem)

    @staticmethod
    def backward(ctx, weight):  # type: ignore[no-untyped-def]
        packed, inputs = (saved := ctx.saved_tensors)[:9], saved[9:]  # unpacked once
        if differentiated_again(weight):
            K, _, _, options = ctx.sizes

            def log_prob(*tensors):  # type: ignore[no-untyped-def]
                return (blocks.log_prob(_pack(options, K, *tensors)),)

            return None, None, *differentiable_gradients(log_prob, inputs, [weight])
        problem = Problem(*packed, *ctx.sizes)
        g = counted_gradients(_kernel(problem).gradients, problem, weight)
        bias_shapes, has_state, H, R = ctx.shapes
        D, K = len(problem.rho), problem.K
        outputs = [slice(i * K, (i + 1) * K) for i in range(3)]  # alpha, mu, sigma
        d_V = [g.P[:, o, :H].transpose(1, 2) for o in outputs]
        d_b = [
            g.b[:, o] if len(shape) == 2 else g.biases[..., o]
            for o, shape in zip(outputs, bias_shapes, strict=True)
        ]
        H_padded = problem.W.shape[1]
        d_U = [
            g.P[:, o, H_padded : H_padded + R].reshape(D * K, R) if has else None
            for o, has in zip(outputs, has_state, strict=True)
        ]
        return None, None, g.x, g.y, g.u, g.W[:, :H], g.c[:H], g.rho, *d_V, *d_b, *d_U


def _kernel(problem: Problem) -> Any:
    """Return this file, or `blocks` on other devices and for components without compiled code."""
    kernel = problem.options.component.kernel
    if kernel is None or not on_cpu(problem.x):
        return blocks
    if kernel not in _IS_LAPLACE:
        raise ValueError(f"component kernel {kernel!r} is none of {', '.join(_IS_LAPLACE)}")
    return sys.modules[__name__]


def _pack(
    options: Options, K: int, x: Tensor, y: Tensor, u: Tensor, W: Tensor, c: Tensor, rho: Tensor,
    *rest: Any,
) -> Problem:  # fmt: skip
    """Pack the inputs of `_LogProb`. ``rest`` is V, biases and U of alpha, mu and sigma; U is None
    where the state does not reach."""
    V, biases, U = rest[:3], rest[3:6], rest[6:]
    D, H = W.shape
    R = u.shape[1]
    reached = [i for i, weight in enumerate(U) if weight is not None]
    first, last = (K * reached[0], K * (reached[-1] + 1)) if reached else (0, 0)
    last += (first - last) % 3
    H_padded, R_padded = H + -H % 4, R + -R % 4
    P = W.new_zeros(D, max(3 * K, last), H_padded + R_padded)
    b = W.new_zeros(D, P.shape[1])
    by_frame = any(bias.dim() == 3 for bias in biases)
    full = x.new_zeros(len(x) if by_frame else 0, D, 3 * K)
    for i in range(3):
        o = slice(i * K, (i + 1) * K)
        P[:, o, :H] = V[i].transpose(1, 2)
        if (weight := U[i]) is not None:
            P[:, o, H_padded : H_padded + R] = weight.view(D, K, R)
        if biases[i].dim() == 2:
            b[:, o] = biases[i]
        else:
            full[..., o] = biases[i]
    pad = torch.nn.functional.pad
    W, c = pad(W, (0, H_padded - H)), pad(c, (0, H_padded - H))
    return Problem(x, y, u, W, c, rho, P, b, full, K, first, last, options)
