r"""Compute log p of frames and its gradient in torch operations, on any device: Algorithm 1, all
features at once.

For some thousand frames at a time, the running sums $a_d$ are one cumulative sum, all outputs one
batched product, and the densities one elementwise pass: under 200 operations forward and backward,
whatever the number of features, none of which the host waits for. Backward computes the frames
again, and goes through them with a reversed cumulative sum in place of delta.

Conventions:
    Tensors are ``(D, n, ..)``: features, then frames. Symbols as in `gradients`, sizes as in `cpu`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rnade_lightning.kernels.problem import Problem

N_NUMBERS = {"cpu": 1 << 24}
N_NUMBERS_ELSEWHERE = 1 << 27
"""Numbers in the units and outputs of the frames that are computed at a time."""


def log_prob(problem: Problem) -> Tensor:
    """Return the log density ``(N,)`` of the frames of a `Problem`."""
    out = [problem.x.new_zeros(0)]
    lowest = torch.finfo(problem.x.dtype).min  # below it, logsumexp has no gradient
    for part in _parts(problem):
        found = _mixtures(problem, part)
        log_q = found.log_alpha + _log_phi(problem, found)
        log_p = torch.logsumexp(log_q.clamp(min=lowest), -1).sum(0)
        out.append(log_p.masked_fill(log_p <= lowest, -math.inf))
    return torch.cat(out)


def gradients(problem: Problem, weight: Tensor) -> list[Tensor]:
    """Return the gradients of ``sum_n weight_n log p(x_n)``, in the order of `Gradients`."""
    total = [torch.zeros_like(t, memory_format=torch.contiguous_format) for t in problem[:9]]
    for part in _parts(problem):
        _add_gradients(problem, weight[part], part, total)
    return total


class _Mixtures(NamedTuple):
    """The mixtures that are predicted for all features of some frames."""

    a: Tensor  # (D, n, H)
    h: Tensor  # (D, n, H)
    log_alpha: Tensor  # (D, n, K), likewise
    mu: Tensor
    z_sigma: Tensor
    log_sigma: Tensor
    value: Tensor  # (D, n, 1), what the mixtures are evaluated at


def _parts(problem: Problem) -> Iterator[slice]:
    N, (D, H), K = len(problem.x), problem.W.shape, problem.K
    numbers = N_NUMBERS.get(problem.x.device.type, N_NUMBERS_ELSEWHERE)
    size = max(numbers // (max(D, 1) * (H + 3 * K)), 1)
    return (slice(start, min(start + size, N)) for start in range(0, N, size))


def _mixtures(p: Problem, part: slice) -> _Mixtures:
    H, K, x = p.W.shape[1], p.K, p.x[part]
    before = torch.cat((torch.ones_like(x[:, :1]), x[:, :-1]), 1)  # of c, then of W
    steps = before.T[..., None] * torch.cat((p.c[None], p.W[:-1]))[:, None]  # (D, n, H)
    a = steps.cumsum_(0)
    h = p.rho[:, None, None] * a
    h = h.relu_() if p.options.relu else h.sigmoid_()
    z = torch.baddbmm(p.b[:, None, : 3 * K], h, p.P[:, : 3 * K, :H].mT)  # (D, n, 3 K)
    if p.u.shape[1]:
        reached, U = _from_state(p)
        z[..., reached] += (p.u[part] @ U.flatten(0, 1).T).unflatten(1, U.shape[:2]).transpose(0, 1)
    if len(p.biases):
        z += p.biases[part].transpose(0, 1)
    z_alpha, mu, z_sigma = z.split(K, -1)
    log_sigma = z_sigma
    if p.options.floor:
        log_sigma = torch.logaddexp(z_sigma, z_sigma.new_full((), math.log(p.options.floor)))
    value = p.y[part].T[..., None]
    if p.options.component.atoms:  # bounds are those of x: the means move instead
        mu, value = mu + (x.T[..., None] - value), x.T[..., None]
    log_alpha = torch.log_softmax(z_alpha, -1)
    return _Mixtures(a, h, log_alpha, mu, z_sigma, log_sigma, value)


def _from_state(p: Problem) -> tuple[slice, Tensor]:
    """The outputs that the state reaches, and its weights ``(D, C', R)``."""
    reached, (H, R) = slice(p.first, min(p.last, 3 * p.K)), (p.W.shape[1], p.u.shape[1])
    return reached, p.P[:, reached, H : H + R]


def _log_phi(p: Problem, found: _Mixtures) -> Tensor:
    return p.options.component.log_prob(found.value, found.mu, found.log_sigma)


def _add_gradients(p: Problem, weight: Tensor, part: slice, total: list[Tensor]) -> None:
    """Add the gradients of some frames to ``total``."""
    d_x, d_y, d_u, d_W, d_c, d_rho, d_P, d_b, d_biases = total
    (D, H), K, w = p.W.shape, p.K, weight[:, None]
    found = _mixtures(p, part)
    log_q = found.log_alpha + _log_phi(p, found)
    pi = w * torch.softmax(log_q, -1)  # responsibility times weight
    pi = pi.masked_fill(log_q == -math.inf, 0.0)
    lost = pi == 0  # what is out of reach has gradient 0, but may lie at infinity
    given = found.value, found.mu, found.log_sigma
    slope, spread, *_ = p.options.component.log_prob_slopes(*given)
    d_alpha = torch.addcmul(pi, found.log_alpha.exp(), pi.sum(-1, keepdim=True), value=-1)
    d_mu = (pi * slope).masked_fill(lost, 0.0)
    d_sigma = pi * spread * torch.exp(found.z_sigma - found.log_sigma)
    d_sigma = d_sigma.masked_fill(lost, 0.0)
    d_z = torch.cat((d_alpha, d_mu, d_sigma), -1)  # (D, n, 3 K)
    d_y[part] = -d_mu.sum(-1).T
    d_b[:, : 3 * K] += d_z.sum(1)
    if len(p.biases):
        d_biases[part] = d_z.transpose(0, 1)

    d_P[:, : 3 * K, :H] += d_z.mT @ found.h
    if R := p.u.shape[1]:
        reached, U = _from_state(p)
        flat = d_z[..., reached].transpose(0, 1).flatten(1)  # (n, D C')
        d_P[:, reached, H : H + R] += (flat.T @ p.u[part]).unflatten(0, (D, -1))
        d_u[part] = flat @ U.flatten(0, 1)

    d_h = d_z @ p.P[:, : 3 * K, :H]  # (D, n, H)
    d_psi = _through(p, d_h, found.h)
    d_rho += found.a.mul_(d_psi).flatten(1).sum(1)
    behind = d_psi.mul_(p.rho[:, None, None]).flip(0).cumsum_(0)  # d log p / d a_d, last one first
    d_c += behind[-1].sum(0)
    behind, W, x = behind[:-1], p.W[:-1].flip(0), p.x[part, :-1].flip(1)
    d_W[:-1] += (x.T[:, None] @ behind)[:, 0].flip(0)
    d_x[part, :-1] = (behind @ W[..., None])[..., 0].flip(0).T


def _through(p: Problem, d_h: Tensor, h: Tensor) -> Tensor:
    """The gradients of what the units are a function of, in place of their own."""
    of_units = torch.ops.aten
    if p.options.relu:
        return of_units.threshold_backward.grad_input(d_h, h, 0, grad_input=d_h)
    return of_units.sigmoid_backward.grad_input(d_h, h, grad_input=d_h)
