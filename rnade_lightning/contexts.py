"""Hand contexts on: to a model as an argument, and to sequences that last longer.

Conventions:
    ``context (..., T, C)``, NaN where a number is absent; None for a model that is given nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def argument(context: Tensor | None) -> dict[str, Any]:
    """Return a context as an argument of a model; one that has none need not know of it."""
    return {} if context is None else {"context": context}


def lasting(context: Tensor, n_frames: int) -> Tensor:
    """Return a context ``(T, C)`` that lasts for so many frames; one that is shorter begins again.

    >>> lasting(torch.tensor([[1.0], [2.0]]), 3)[:, 0]
    tensor([1., 2., 1.])
    """
    return context[torch.arange(n_frames, device=context.device) % len(context)]


def of_sequences(sequences: Sequence[Any], n_frames: int, like: Tensor) -> Tensor | None:
    """Return the contexts of sequences for so many frames, ``(N, n_frames, C)``; None where they
    have none."""
    found = [s.context for s in sequences if s.context is not None]
    if not found:
        return None
    return torch.stack([lasting(context.to(like), n_frames) for context in found])


def dropped(context: Tensor, parts: Sequence[int], share: float) -> Tensor:
    """Return which numbers of contexts ``(B, ..., C)`` are left out: of a share of the sequences
    every part of the context, each by itself, drawn anew; to be broadcast to them."""
    drop = torch.rand((len(context), len(parts)), device=context.device) < share
    n_each = torch.tensor(list(parts), device=context.device)
    drop = drop.repeat_interleave(n_each, 1, output_size=sum(parts))
    drop = drop.repeat(1, context.shape[-1] // drop.shape[1])
    return drop.view(len(drop), *[1] * (context.dim() - 2), -1)


def filled(
    context: Tensor, absent: Tensor, parts: Sequence[int] = (), share: float = 0.0
) -> Tensor:
    """Return contexts ``(B, ..., C)`` with the numbers ``absent (C,)`` in place of those that are
    missing, and, in a share of the sequences, of whole parts."""
    missing = context.isnan()
    if share:
        missing = missing | dropped(context, parts, share)
    return torch.where(missing, absent, context.nan_to_num(0.0))


def behind(history: Tensor, context: Tensor | None) -> Tensor:
    """Return histories ``(..., n)`` with their context, if there is one, behind them."""
    return history if context is None else torch.cat((history, context.to(history.dtype)), -1)


def by_feature(context: Tensor, C: Tensor, order: Sequence[int] | None) -> Tensor:
    """Return what contexts by feature, ``(..., D C)`` in the order of the data, add to a parameter
    by its weights ``C (D, K, C)``, ``(..., D, K)`` in the order of visits."""
    c = context.to(C.dtype).unflatten(-1, (len(C), -1))
    return torch.einsum("...dc,dkc->...dk", c if order is None else c[..., list(order), :], C)
