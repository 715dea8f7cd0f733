"""Differentiate gradients: where a backward pass of compiled code is itself to be differentiated,
it is taken through torch operations instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def differentiated_again(weight: Tensor) -> bool:
    """Return whether a backward pass is itself recorded, as ``create_graph`` asks.

    Raises:
        NotImplementedError: The pass is vectorised over several ``weight`` at once.
    """
    if torch._C._functorch.is_legacy_batchedtensor(weight):
        raise NotImplementedError(
            "compiled code has no vectorised backward (is_grads_batched, vectorize=True): "
            'use torch.func.jacrev, or a model with backend="torch"'
        )
    return torch.is_grad_enabled()


def differentiable_gradients(
    function: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor | None],
    weights: Sequence[Tensor],
) -> list[Tensor | None]:
    """Return the gradients of ``sum weights function(*inputs)`` by each input, in torch operations
    that can be differentiated again; None for an input that is None or that needs none.

    Each input stands in by a view of its own: where one input was computed from another, the path
    between them is the caller's.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        views = [None if t is None else t.view_as(t) for t in inputs]
        wanted = [v for v in views if v is not None and v.requires_grad]
        how = {"create_graph": again, "allow_unused": True}
        found = iter(torch.autograd.grad(function(*views), wanted, weights, **how))
    return [next(found) if v is not None and v.requires_grad else None for v in views]
