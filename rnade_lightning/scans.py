"""Loops as one operation, which an exported graph holds whatever their length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def scanned(one: Callable[[Any, Any], tuple[Any, Any]], carry: Any, given: Any) -> tuple[Any, Any]:
    """Return what is carried out of a loop, and the outputs of all turns in front of each other.

    Args:
        one: takes what is carried and the turn's part of ``given``; returns what is carried on and
            the turn's output. It changes nothing in place, and no output is an input.
        carry: what is carried into the first turn: a tensor, or a tuple of tensors.
        given: likewise, each with the turns as its first dimension.
    """
    from torch._higher_order_ops.scan import scan  # torch has no public name for it yet

    return scan(one, carry, given)


def draw(rnade: Any, noise: tuple[Tensor, Tensor], biases: tuple[Tensor, ...]) -> Tensor:
    """Return the frames ``(B, D)`` that `RNADE.ancestral` makes of noise, each ``(B, D)``, with
    biases ``(B, D, K)``."""
    D, K = rnade.n_features, rnade.n_components

    def one(
        carry: tuple[Tensor, Tensor], given: tuple[Tensor, ...]
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        a, x = carry  # (B, H), (B, D) with 0 for what is not drawn yet
        uniform, value, here, W, L, *own = given  # (B,), (B,), (D,), (H,), (D,)
        own = [w[None] for w in own[:4]] + [b[:, None] for b in own[4:]]
        found = rnade.mixtures(a[:, None], own, (x @ L)[:, None])
        log_weights, mu, log_sigma = (p[:, 0] for p in found)  # (B, K)
        above = uniform[:, None] >= torch.softmax(log_weights, -1).cumsum(-1)
        k = above.sum(-1, keepdim=True).clamp(max=K - 1)
        mu, log_sigma = (p.gather(-1, k)[:, 0] for p in (mu, log_sigma))
        x_d = rnade.censor(mu + log_sigma.exp() * value)
        return (a + x_d[:, None] * W, x + x_d[:, None] * here), x_d.clone()

    B, none = noise[0].shape[0], torch.zeros_like(rnade.rho)
    L = none.expand(D, -1) if rnade.L is None else rnade.L.tril(-1)
    own = rnade.of_features(slice(None), biases)
    each = *(n.T for n in noise), torch.ones_like(none).diag(), rnade.W, L, *own[:4]
    each = *each, *(b.transpose(0, 1) for b in own[4:])
    units = rnade.c.expand(B, -1).clone(memory_format=torch.contiguous_format)  # also of no unit
    start = units, none.expand(B, -1).contiguous()
    (_, x), _ = scanned(one, start, tuple(t.contiguous() for t in each))
    return x


def solved(L: Tensor, x: Tensor) -> Tensor:
    """Return L^{-1} x of frames ``x (..., D)``, with L ``(D, D)`` lower triangular."""

    def one(y: Tensor, given: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        x_d, L_d, here = given  # (N,), (D,), (D,)
        y_d = (x_d - y @ L_d) / (L_d @ here)  # y is 0 from feature d on
        return y + y_d[:, None] * here, y_d.clone()

    flat = x.flatten(0, -2)
    each = flat.T.contiguous(), L, torch.ones_like(L[0]).diag()
    return scanned(one, torch.zeros_like(flat), each)[0].unflatten(0, x.shape[:-1])
