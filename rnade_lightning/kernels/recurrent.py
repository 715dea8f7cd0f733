r"""Compute the recurrent states of sequences and their gradients, compiled for the CPU: Algorithm
2's recursion in time, for the cells that name it.

One sequence after another on each thread. What the frames add to the gates is one product for
many frames at once; only $W_{rec} u_{t-1}$ is left for the loop. Nothing but the states (and
the LSTM's cell) is kept for backward, which computes the gates again and leaves the sums over
frames to one product as well; both go through time in pieces, so that their gates never exist for
all frames.

Conventions:
    ``frames (B, T, D)``, states ``(B, T, R)``; gates in torch's order, G = R, 3 R (GRU: reset,
    update, new) or 4 R (LSTM: input, forget, cell, output). ``CELLS`` numbers the cells.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnade_lightning.cells import Cell
from rnade_lightning.kernels.again import differentiable_gradients, differentiated_again
from rnade_lightning.kernels.cpu import as_array, in_parts
from rnade_lightning.kernels.lanes import compiled, exp, subroutine

CELLS = ("sigmoid", "tanh", "gru", "lstm")
PIECE = 1 << 12
"""Frames, of all sequences together, whose gates exist at a time."""


@subroutine
def add_rows(out, M, s):  # type: ignore[no-untyped-def]
    """Add out (r,) += M (r, m) s (m,), one row at a time, as fast as memory gives it."""
    for i in range(len(out)):
        total = out[i]
        for m in range(len(s)):
            total += M[i, m] * s[m]
        out[i] = total


@subroutine
def add_combination(out, s, M):  # type: ignore[no-untyped-def]
    """Add out (m,) += s (r,) M (r, m)."""
    r = len(s)
    for i in range(0, r - r % 4, 4):
        s0, s1, s2, s3 = s[i], s[i + 1], s[i + 2], s[i + 3]
        for m in range(len(out)):
            out[m] += s0 * M[i, m] + s1 * M[i + 1, m] + s2 * M[i + 2, m] + s3 * M[i + 3, m]
    for i in range(r - r % 4, r):
        for m in range(len(out)):
            out[m] += s[i] * M[i, m]


@subroutine
def logistic(x):  # type: ignore[no-untyped-def]
    one = x.dtype.type(1)
    for i in range(len(x)):
        x[i] = one / (one + exp(-x[i]))


@subroutine
def _tanh(x):  # type: ignore[no-untyped-def]
    one, two = x.dtype.type(1), x.dtype.type(2)
    for i in range(len(x)):
        x[i] = two / (one + exp(-two * x[i])) - one


@subroutine
def _gates(g, g_rec, cell):  # type: ignore[no-untyped-def]
    """Turn g, the frame's part, into the gates' values; ``g_rec`` is the state's part."""
    R = len(g) // (3 if cell == 2 else 4)
    if cell == 2:
        for i in range(2 * R):
            g[i] += g_rec[i]
        logistic(g[: 2 * R])
        for i in range(R):
            g[2 * R + i] += g[i] * g_rec[2 * R + i]
        _tanh(g[2 * R :])
        return
    for i in range(len(g)):
        g[i] += g_rec[i]
    if cell == 3:
        logistic(g[: 2 * R])
        _tanh(g[2 * R : 3 * R])
        logistic(g[3 * R :])
    elif cell == 0:
        logistic(g)
    else:
        _tanh(g)


@subroutine
def next_state(hidden, memory, g, g_rec, cell):  # type: ignore[no-untyped-def]
    """Move ``hidden (R,)`` and the LSTM's ``memory (R,)`` on by a frame; arguments of `_gates`."""
    R, one = len(hidden), hidden.dtype.type(1)
    _gates(g, g_rec, cell)
    if cell == 2:
        for i in range(R):
            hidden[i] = (one - g[R + i]) * g[2 * R + i] + g[R + i] * hidden[i]
    elif cell == 3:
        for i in range(R):
            memory[i] = g[R + i] * memory[i] + g[i] * g[2 * R + i]
            hidden[i] = memory[i]
        _tanh(hidden)
        for i in range(R):
            hidden[i] *= g[3 * R + i]
    else:
        hidden[:] = g


@compiled
def _forward(from_frames, hidden, memory, W_rec, b_rec, cell, history, cells):  # type: ignore[no-untyped-def]
    """Write the states after each frame into ``history (B, T, R)``, the LSTM's cells into
    ``cells``."""
    B, T, G = from_frames.shape
    g, g_rec = np.empty(G, history.dtype), np.empty(G, history.dtype)
    for b in range(B):
        for t in range(T):
            g[:], g_rec[:] = from_frames[b, t], b_rec
            add_rows(g_rec, W_rec, hidden[b])
            next_state(hidden[b], memory[b], g, g_rec, cell)
            history[b, t] = hidden[b]
            if cell == 3:
                cells[b, t] = memory[b]


@compiled
def _backward(  # type: ignore[no-untyped-def]
    gates, before, cells_before, cells, W_rec, b_rec, cell, d_history, d_hidden, d_memory, d_rec
):
    """Turn gradients by the states into gradients by what is added to the gates. Given are those by
    the states, ``d_history (B, T, R)``, and by the last ones, ``d_hidden`` and ``d_memory (B, R)``,
    which become those before the first. The gradients by the frames' part replace that part in
    ``gates``; those by the states' part go to ``d_rec``."""
    B, T, G = gates.shape
    R, one, two = before.shape[2], before.dtype.type(1), before.dtype.type(2)
    g_rec, d = np.empty(G, before.dtype), np.empty(R, before.dtype)
    for b in range(B):
        for t in range(T - 1, -1, -1):
            g, u = gates[b, t], before[b, t]
            g_rec[:] = b_rec
            add_rows(g_rec, W_rec, u)
            _gates(g, g_rec, cell)
            for i in range(R):
                d[i] = d_hidden[b, i] + d_history[b, t, i]
                d_hidden[b, i] = 0
            if cell == 2:
                for i in range(R):
                    r, z, n = g[i], g[R + i], g[2 * R + i]
                    d_n = d[i] * (one - z) * (one - n * n)
                    g[i] = d_n * g_rec[2 * R + i] * r * (one - r)
                    g[R + i] = d[i] * (u[i] - n) * z * (one - z)
                    g[2 * R + i] = d_n
                    d_rec[b, t, i], d_rec[b, t, R + i] = g[i], g[R + i]
                    d_rec[b, t, 2 * R + i] = d_n * r
                    d_hidden[b, i] = d[i] * z
            elif cell == 3:
                for i in range(R):
                    i_, f, c, o = g[i], g[R + i], g[2 * R + i], g[3 * R + i]
                    m = two / (one + exp(-two * cells[b, t, i])) - one
                    d_m = d_memory[b, i] + d[i] * o * (one - m * m)
                    g[i] = d_m * c * i_ * (one - i_)
                    g[R + i] = d_m * cells_before[b, t, i] * f * (one - f)
                    g[2 * R + i] = d_m * i_ * (one - c * c)
                    g[3 * R + i] = d[i] * m * o * (one - o)
                    d_memory[b, i] = d_m * f
                d_rec[b, t] = g
            else:
                for i in range(R):
                    g[i] = d[i] * (g[i] * (one - g[i]) if cell == 0 else one - g[i] * g[i])
                d_rec[b, t] = g
            add_combination(d_hidden[b], d_rec[b, t], W_rec)


# ------------------------------------------------------------------ from torch


def run(cell: Cell, frames: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Return the units after every frame ``(B, T, R)``, and the state after the last ``(B, S)``.

    Args:
        cell: A cell whose ``kernel`` is one of `CELLS`. Its ``kernel_weights`` are the weights of
            the gates on the frame, ``(G, D)``, and on the state, ``(G, R)``, and both biases,
            ``(G,)``.
        frames: ``(B, T, D)``, on the CPU.
        u: State before the first frame, ``(B, R)``, with the LSTM's cell ``(B, 2 R)``.

    Raises:
        ValueError: There is no compiled code of that name.
    """
    if cell.kernel not in CELLS:
        raise ValueError(f"cell kernel {cell.kernel!r} is none of {', '.join(CELLS)}")
    weights = [getattr(cell, name) for name in cell.kernel_weights]
    return _States.apply(cell, frames, u, *weights)


class _States(torch.autograd.Function):
    @staticmethod
    def forward(ctx, layer, frames, u, W_in, W_rec, b_in, b_rec):  # type: ignore[no-untyped-def]
        (B, T, _), cell = frames.shape, CELLS.index(layer.kernel)
        R = W_rec.shape[1]
        history = frames.new_empty(B, T, R)
        cells = frames.new_empty(B, T if cell == 3 else 0, R)
        hidden, memory = (_own(part) for part in (u[:, :R], u[:, R:]))
        for piece in _pieces(B, T):
            gates = torch.nn.functional.linear(frames[:, piece], W_in, b_in)
            outs = [frames.new_empty(B, gates.shape[1], R) for _ in range(2)]
            shared = (as_array(W_rec), as_array(b_rec), cell)
            _each(B, _forward, (gates, hidden, memory), shared, outs)
            history[:, piece] = outs[0]
            if cell == 3:
                cells[:, piece] = outs[1]
        ctx.layer, ctx.cell = layer, cell
        ctx.save_for_backward(frames, u, W_in, W_rec, b_in, b_rec, history, cells)
        return history, torch.cat((hidden, memory), 1)

    @staticmethod
    def backward(ctx, d_history, d_last):  # type: ignore[no-untyped-def]
        if differentiated_again(d_history):
            names = ctx.layer.kernel_weights

            def states(frames, u, *weights):  # type: ignore[no-untyped-def]
                named = dict(zip(names, weights, strict=True))
                return torch.func.functional_call(ctx.layer, named, (frames, u))

            inputs = ctx.saved_tensors[:6]
            return None, *differentiable_gradients(states, inputs, (d_history, d_last))
        frames, u, W_in, W_rec, b_in, b_rec, history, cells = ctx.saved_tensors
        (B, T, _), R = frames.shape, W_rec.shape[1]
        d_hidden, d_memory = (_own(part) for part in (d_last[:, :R], d_last[:, R:]))
        totals = [torch.zeros_like(t) for t in (frames, W_in, W_rec, b_in, b_rec)]
        d_frames, d_W_in, d_W_rec, d_b_in, d_b_rec = totals
        for piece in reversed(_pieces(B, T)):
            x = frames[:, piece]
            gates = torch.nn.functional.linear(x, W_in, b_in).contiguous()
            before, cells_before = (_shifted(s, start, piece) for s, start in (
                (history, u[:, :R]), (cells, u[:, R:])))  # fmt: skip
            d_rec = torch.empty_like(gates)
            own = (gates, before, cells_before, cells[:, piece])
            shared = (as_array(W_rec), as_array(b_rec), ctx.cell)
            _each(B, _backward, own, shared, (d_history[:, piece], d_hidden, d_memory, d_rec))
            if ctx.needs_input_grad[1]:
                d_frames[:, piece] = gates @ W_in
            d_W_in += gates.flatten(0, 1).T @ x.flatten(0, 1)
            d_W_rec += d_rec.flatten(0, 1).T @ before.flatten(0, 1)
            d_b_in += gates.sum((0, 1))
            d_b_rec += d_rec.sum((0, 1))
        return None, d_frames, torch.cat((d_hidden, d_memory), 1), d_W_in, d_W_rec, d_b_in, d_b_rec


def _own(t: Tensor) -> Tensor:
    """A copy that compiled code changes in place: of any strides, it is contiguous."""
    return t.resolve_neg().clone(memory_format=torch.contiguous_format)


def _pieces(B: int, T: int) -> list[slice]:
    size = max(PIECE // max(B, 1), 1)
    return [slice(t, min(t + size, T)) for t in range(0, T, size)]


def _shifted(states: Tensor, start: Tensor, piece: slice) -> Tensor:
    """Return the states before the frames of a piece."""
    if not states.shape[1]:
        return states
    first = start if piece.start == 0 else states[:, piece.start - 1]
    return torch.cat((first[:, None], states[:, piece.start : piece.stop - 1]), 1)


def _each(B: int, function: Any, own: Any, shared: Any, outs: Any) -> None:
    """Call compiled code with runs of the sequences on threads."""
    arrays = [as_array(t) for t in own], [as_array(t) for t in outs]

    def run_some(some: slice, width: int) -> None:
        function(*(a[some] for a in arrays[0]), *shared, *(a[some] for a in arrays[1]))

    in_parts(B, run_some, share=1)
