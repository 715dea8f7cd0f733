"""log p of frames as one operation whose backward is Algorithm 1, on any device.

Nothing of size N D H or N D K is stored: forward keeps its inputs, backward computes again what it
needs, and biases that a recurrent state sets stay a product (`StateParams`). It can be
differentiated once; for derivatives of gradients use ``backend="torch"``.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnade_lightning.density import Params, StateParams, on_cpu
from rnade_lightning.kernels import blocks


class Options(NamedTuple):
    """What the density is, besides its numbers."""

    laplace: bool
    relu: bool
    floor: float
    low: float  # the bounds of the support, where frames are censored; infinite without
    high: float


class Problem(NamedTuple):
    """N frames and the weights, packed for the kernels.

    H and R are padded to multiples of 4 with zeros. The 3 K outputs of a feature are alpha, mu,
    sigma; the state reaches those from ``first`` to ``last`` (a multiple of 3 apart), where
    ``last`` may lie beyond 3 K, and rows are added for that.
    """

    x: Tensor  # (N, D), what the hidden units read
    y: Tensor  # (N, D), what the mixtures are evaluated at
    u: Tensor  # (N, R), R = 0 without a state
    W: Tensor  # (D, H)
    c: Tensor  # (H,)
    rho: Tensor  # (D,)
    P: Tensor  # (D, C, H + R), weights of the outputs on [h_d; u]
    b: Tensor  # (D, C)
    biases: Tensor  # (N, D, 3 K), added to b; N = 0 without
    K: int
    first: int
    last: int
    options: Options


class Gradients(NamedTuple):
    """Of ``sum weight log p``, each in the shape of what it is the gradient of."""

    x: Tensor
    y: Tensor
    u: Tensor
    W: Tensor
    c: Tensor
    rho: Tensor
    P: Tensor
    b: Tensor
    biases: Tensor


def log_prob(rnade: Any, x: Tensor, y: Tensor, params: Params) -> Tensor:
    """Log density ``(...)`` of frames, as `RNADE.log_prob`.

    Args:
        rnade: The density.
        x: Frames ``(..., D)`` as its hidden units read them.
        y: Frames less what a linear path adds to the means, ``(..., D)``.
        params: (alpha, mu, sigma), each ``(D, K)`` or ``(..., D, K)``, or a `StateParams`.
    """
    state: Tensor | None = None
    weights: list[Tensor | None] = [None] * 3
    if isinstance(params, StateParams):
        state, weights, biases = params.state, list(params.weights), list(params.static)
        alpha, mu, sigma = params.added
        assert alpha is sigma is None
        y = y if mu is None else y - mu[..., 0]  # shared by the components
    else:
        biases = list(params)
    shapes = [x.shape[:-1], *(b.shape[:-2] for b in biases)]
    batch = torch.broadcast_shapes(*shapes, *([] if state is None else [state.shape[:-1]]))

    def flat(t: Tensor, n: int) -> Tensor:
        return t.expand(*batch, *t.shape[-n:]).reshape(-1, *t.shape[-n:])

    biases = [b if b.dim() == 2 else flat(b, 2) for b in biases]
    x, y = flat(x, 1), flat(y, 1)
    state = x.new_zeros(len(x), 0) if state is None else flat(state, 1)
    low, high = rnade.censor_at or (-math.inf, math.inf)
    options = Options(
        rnade.component == "laplace", rnade.activation == "relu", rnade.floor, low, high
    )
    V = (rnade.V_alpha, rnade.V_mu, rnade.V_sigma)
    out = _LogProb.apply(
        options, rnade.n_components, x, y, state, rnade.W, rnade.c, rnade.rho, *V, *biases, *weights
    )
    return out.view(batch)


class _LogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx, options, K, x, y, u, W, c, rho, *rest):  # type: ignore[no-untyped-def]
        V, biases, U = rest[:3], rest[3:6], rest[6:]
        problem = _pack(options, K, x, y, u, W, c, rho, V, biases, U)
        ctx.save_for_backward(*problem[:9])
        ctx.sizes = problem[9:]
        ctx.shapes = [b.shape for b in biases], [w is not None for w in U], W.shape[1], u.shape[1]
        return _kernel(x).log_prob(problem)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, weight):  # type: ignore[no-untyped-def]
        problem = Problem(*ctx.saved_tensors, *ctx.sizes)
        g = Gradients(*_kernel(weight).gradients(problem, weight))
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


def _kernel(x: Tensor) -> Any:
    if not on_cpu(x):
        return blocks
    from rnade_lightning.kernels import cpu  # half a second, for those who compute there

    return cpu


def _pack(
    options: Options, K: int, x: Tensor, y: Tensor, u: Tensor, W: Tensor, c: Tensor, rho: Tensor,
    V: tuple[Tensor, ...], biases: tuple[Tensor, ...], U: tuple[Tensor | None, ...],
) -> Problem:  # fmt: skip
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
