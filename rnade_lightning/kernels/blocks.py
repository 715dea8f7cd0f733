r"""Compute log p of frames and its gradient in torch operations, on any device: Algorithm 1 over
blocks of features.

Inside a block of features the running sums $a_d$ are one cumulative sum, all outputs one
batched product, and the densities one elementwise pass: about 20 operations a block of 16 features
and up to some thousand frames, none of which the host waits for. Backward keeps a at the start of
every block, computes the block again, and goes through it with a reversed cumulative sum in place
of delta.

Conventions:
    Tensors of a block are ``(d, n, ..)``: features, then frames. Symbols as in
    `gradients`, sizes as in `cpu`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rnade_lightning.kernels.problem import Problem

N_FEATURES = 16
N_NUMBERS = 1 << 24
"""Numbers in the units and outputs of a block, which bounds its frames."""


def log_prob(problem: Problem) -> Tensor:
    """Return the log density ``(N,)`` of the frames of a `Problem`."""
    out = [problem.x.new_zeros(0)]
    lowest = torch.finfo(problem.x.dtype).min  # below it, logsumexp has no gradient
    for part in _parts(problem):
        log_p, a = problem.x.new_zeros(part.stop - part.start), _start(problem, part)
        for features in _feature_blocks(problem):
            block = _block(problem, part, features, a)
            log_q = block.log_alpha + _log_phi(problem, block)
            log_p = log_p + torch.logsumexp(log_q.clamp(min=lowest), -1).sum(0)
            a = block.a_next
        out.append(log_p.masked_fill(log_p <= lowest, -math.inf))
    return torch.cat(out)


def gradients(problem: Problem, weight: Tensor) -> list[Tensor]:
    """Return the gradients of ``sum_n weight_n log p(x_n)``, in the order of `Gradients`."""
    total = [torch.zeros_like(t, memory_format=torch.contiguous_format) for t in problem[:9]]
    for part in _parts(problem):
        starts, a = [], _start(problem, part)
        for features in _feature_blocks(problem):
            starts.append(a)
            steps = problem.x[part, features] @ problem.W[features]
            a = a + steps
        delta = torch.zeros_like(a)  # d log p / d a behind the block
        for features, a in zip(reversed(_feature_blocks(problem)), reversed(starts), strict=True):
            delta = _block_gradients(problem, weight[part], part, features, a, delta, total)
        total[4] += delta.sum(0)
    return total


class _Block(NamedTuple):
    """The mixtures that are predicted for the features of a block."""

    a: Tensor  # (d, n, H)
    a_next: Tensor  # (n, H), behind the block
    h: Tensor  # (d, n, H)
    log_alpha: Tensor  # (d, n, K), likewise
    mu: Tensor
    z_sigma: Tensor
    log_sigma: Tensor
    value: Tensor  # (d, n, 1), what the mixtures are evaluated at


def _parts(problem: Problem) -> Iterator[slice]:
    N, (H, K) = len(problem.x), (problem.W.shape[1], problem.K)
    size = max(N_NUMBERS // (N_FEATURES * (H + 3 * K)), 1)
    return (slice(start, min(start + size, N)) for start in range(0, N, size))


def _feature_blocks(problem: Problem) -> list[slice]:
    D = len(problem.rho)
    return [slice(d, min(d + N_FEATURES, D)) for d in range(0, D, N_FEATURES)]


def _start(problem: Problem, part: slice) -> Tensor:
    return problem.c.expand(part.stop - part.start, -1)


def _block(p: Problem, part: slice, features: slice, a: Tensor) -> _Block:
    H, K = p.W.shape[1], p.K
    steps = p.x[part, features].T[..., None] * p.W[features, None]  # (d, n, H)
    sums = torch.cat((a[None], steps)).cumsum(0)
    a, a_next = sums[:-1], sums[-1]
    psi = p.rho[features, None, None] * a
    h = torch.relu(psi) if p.options.relu else torch.sigmoid(psi)
    P = p.P[features]
    z = torch.baddbmm(p.b[features, None, : 3 * K], h, P[:, : 3 * K, :H].mT)  # (d, n, 3 K)
    if p.u.shape[1]:
        reached = slice(p.first, min(p.last, 3 * K))
        U = P[:, reached, H : H + p.u.shape[1]]  # (d, C', R)
        from_state = p.u[part] @ U.flatten(0, 1).T
        z[..., reached] += from_state.unflatten(1, U.shape[:2]).transpose(0, 1)
    if len(p.biases):
        z += p.biases[part, features].transpose(0, 1)
    z_alpha, mu, z_sigma = z.split(K, -1)
    log_sigma = z_sigma
    if p.options.floor:
        log_sigma = torch.logaddexp(z_sigma, z_sigma.new_full((), math.log(p.options.floor)))
    value = p.y[part, features].T[..., None]
    if p.options.component.atoms:  # bounds are those of x: the means move instead
        x = p.x[part, features].T[..., None]
        mu, value = mu + (x - value), x
    log_alpha = torch.log_softmax(z_alpha, -1)
    return _Block(a, a_next, h, log_alpha, mu, z_sigma, log_sigma, value)


def _log_phi(p: Problem, block: _Block) -> Tensor:
    return p.options.component.log_prob(block.value, block.mu, block.log_sigma)


def _block_gradients(
    p: Problem, weight: Tensor, part: slice, features: slice, a: Tensor, delta: Tensor,
    total: list[Tensor],
) -> Tensor:  # fmt: skip
    """Add the block's gradients to ``total``; return delta in front of the block."""
    d_x, d_y, d_u, d_W, _, d_rho, d_P, d_b, d_biases = total
    H, K, w = p.W.shape[1], p.K, weight[:, None]
    block = _block(p, part, features, a)
    log_q = block.log_alpha + _log_phi(p, block)
    lost = log_q == -math.inf  # what is out of reach has gradient 0, but may lie at infinity
    pi = torch.softmax(log_q, -1)
    pi = (w * pi).masked_fill(lost, 0.0)  # responsibility times weight
    given = block.value, block.mu, block.log_sigma
    slope, spread, *_ = p.options.component.log_prob_slopes(*given)
    d_alpha = torch.addcmul(pi, block.log_alpha.exp(), pi.sum(-1, keepdim=True), value=-1)
    d_mu = (pi * slope).masked_fill(lost, 0.0)
    d_sigma = (pi * spread).masked_fill(lost, 0.0) * torch.exp(block.z_sigma - block.log_sigma)
    d_z = torch.cat((d_alpha, d_mu, d_sigma), -1)  # (d, n, 3 K)
    d_y[part, features] = -d_mu.sum(-1).T
    d_b[features, : 3 * K] += d_z.sum(1)
    if len(p.biases):
        d_biases[part, features] = d_z.transpose(0, 1)

    P = p.P[features]
    d_P[features, : 3 * K, :H] += d_z.mT @ block.h
    if R := p.u.shape[1]:
        reached = slice(p.first, min(p.last, 3 * K))
        flat = d_z[..., reached].transpose(0, 1).flatten(1)  # (n, d C')
        d_U = (flat.T @ p.u[part]).unflatten(0, (len(P), -1))
        d_P[features, reached, H : H + R] += d_U
        d_u[part] += flat @ P[:, reached, H : H + R].flatten(0, 1)

    d_h = d_z @ P[:, : 3 * K, :H]  # (d, n, H)
    d_psi = d_h * (block.h > 0) if p.options.relu else d_h * block.h * (1 - block.h)
    d_rho[features] += (d_psi * block.a).sum((1, 2))
    d_a = p.rho[features, None, None] * d_psi
    later = torch.cat((d_a[1:], delta[None])).flip(0).cumsum(0).flip(0)  # d log p / d a_{d+1}
    d_W[features] += (p.x[part, features].T[:, None] @ later)[:, 0]
    d_x[part, features] = (later @ p.W[features, :, None])[..., 0].T
    return later[0] + d_a[0]
