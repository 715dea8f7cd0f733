"""The same model on the torch path and compiled, to be compared."""

from __future__ import annotations

from typing import Any

import torch
from reference import relative_error, spread
from torch import Tensor

from rnade_lightning import RNADE
from rnade_lightning.parameters import StateParams


def randn(*shape: int, n: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(n), dtype=torch.float64)


def seed(n: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(n)


def gradients(model: Any, inputs: list[Tensor], log_p: Tensor, weight: Tensor) -> list[Tensor]:
    inputs = [*model.parameters(), *inputs]
    return list(
        torch.autograd.grad(
            (weight * log_p).sum(), inputs, allow_unused=True, materialize_grads=True
        )
    )


def compare(
    plain: RNADE, x: Tensor, params: Any, tolerance: float = 1e-10, dtype: Any = torch.float64
) -> None:
    """Compare log density and every gradient of the fast path with the plain one in float64."""
    fast = RNADE(
        plain.n_features, plain.n_hidden, plain.n_components, plain.component, plain.activation,
        plain.floor, plain.L is not None, backend="compiled",
    ).to(dtype)  # fmt: skip
    fast.load_state_dict(plain.state_dict())
    weight = randn(len(x), n=9)
    found = []
    for model, kind in ((plain, torch.float64), (fast, dtype)):
        leaves = [t.to(kind).requires_grad_() for t in (x, *params)]
        given = leaves[1:]
        if len(given) == 4:  # a state and its weights
            static = model.static_params()
            biases: Any = StateParams(
                static, [g if g.numel() else None for g in given[1:]], given[0]
            )
        else:
            biases = given or None
        log_p = model.log_prob(leaves[0], biases)
        found.append([log_p, *gradients(model, leaves, log_p, weight.to(kind))])
    for one, two in zip(*found, strict=True):
        assert relative_error(two.double(), one) < tolerance


def rnade(*sizes: int, std: float = 0.5, **options: Any) -> RNADE:
    return spread(RNADE(*sizes, backend="torch", **options).double(), std)


def pair(make: Any, *sizes: int, **options: Any) -> list[Any]:
    """Return the same model twice, plain and fast."""
    return [
        spread(make(*sizes, backend=backend, **options).double())
        for backend in ("torch", "compiled")
    ]
