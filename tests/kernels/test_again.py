"""Second derivatives and torch's transforms on the default path are those of the torch path."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kernel_pairs import randn, seed
from reference import spread
from torch import Tensor
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

from rnade_lightning import RNADE, RNNRNADE
from rnade_lightning.cells import cell_names
from rnade_lightning.components import component_names
from rnade_lightning.kernels import again


def pair(kind: Any, *sizes: int, **options: Any) -> list[Any]:
    """Return the same weights on the default path and on the torch path."""
    torch_path = spread(kind(*sizes, backend="torch", **options).double(), 0.5)
    default = kind(*sizes, **options).double()
    default.load_state_dict(torch_path.state_dict())
    return [default, torch_path]


def penalty_gradients(model: Any, x: Tensor) -> list[Tensor]:
    """Return the gradients of a gradient penalty, by x and by every weight."""
    x = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(model.log_prob(x).sum(), x, create_graph=True)
    leaves = [x, *model.parameters()]
    return list(
        torch.autograd.grad(g.square().sum(), leaves, allow_unused=True, materialize_grads=True)
    )


def assert_same(found: Any, expected: Any) -> None:
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
@pytest.mark.parametrize("component", component_names())
def test_second_derivatives_of_every_component(component: str, activation: str) -> None:
    how = {"component": component, "activation": activation, "floor": 0.1, "linear": True}
    models, x = pair(RNADE, 4, 5, 2, **how), randn(3, 4)
    assert_same(*(penalty_gradients(model, x) for model in models))
    hessians = [
        torch.autograd.functional.hessian(lambda x, m=model: m.log_prob(x).sum(), x)
        for model in models
    ]
    assert hessians[0].abs().max() > 1e-3
    assert_same(*([h] for h in hessians))


@pytest.mark.parametrize("cell", cell_names())
def test_second_derivatives_of_every_cell(cell: str) -> None:
    how = {"cell": cell, "feature_order": 1, "n_layers": 2}
    assert_same(
        *(penalty_gradients(model, randn(2, 4, 3)) for model in pair(RNNRNADE, 3, 5, 4, 2, **how))
    )


def test_a_fault_in_them_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    models, x = pair(RNADE, 3, 4, 2), randn(2, 3)
    right = again.differentiable_gradients

    def planted(*arguments: Any) -> Any:
        return [None if g is None else g.detach() for g in right(*arguments)]

    monkeypatch.setattr("rnade_lightning.kernels.cpu.differentiable_gradients", planted)
    with pytest.raises((AssertionError, RuntimeError)):
        assert_same(*(penalty_gradients(model, x) for model in models))


@pytest.mark.parametrize("cell", cell_names())
def test_function_transforms(cell: str) -> None:
    default, torch_path = pair(RNNRNADE, 3, 5, 4, 2, cell=cell)
    x, v = randn(3, 4, 3), torch.randn(3, 4, 3, generator=seed(), dtype=torch.float64)
    weights = dict(default.named_parameters())

    def one(weights: Any, x: Tensor) -> Tensor:
        return torch.func.functional_call(default, weights, (x[None],)).sum()

    each = torch.vmap(torch.func.grad(one), (None, 0))(weights, x)
    for i, row in enumerate(x):
        names, leaves = zip(*torch_path.named_parameters(), strict=True)
        log_p = torch_path.log_prob(row[None]).sum()
        expected = torch.autograd.grad(log_p, leaves, allow_unused=True, materialize_grads=True)
        assert_same([each[name][i] for name in names], expected)
    y = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(torch_path.log_prob(y).sum(), y)
    tangent = torch.func.jvp(lambda x: default.log_prob(x).sum(), (x,), (v,))[1]
    assert_same([tangent], [(slope * v).sum()])
    assert_same([torch.func.jacrev(lambda x: default.log_prob(x).sum())(x)], [slope])


@pytest.mark.parametrize("kind", [RNADE, RNNRNADE])
def test_modes_that_see_every_operation_see_those_of_log_p(kind: Any) -> None:
    """A traced graph computes numbers; compiled code would leave them out of it."""
    (model, _), x = pair(kind, 3, 4, 2), randn(2, 2, 3)
    graph = make_fx(lambda x: model.log_prob(x))(torch.zeros_like(x))
    assert_same([graph(x)], [model.log_prob(x)])


@pytest.mark.parametrize("kind", [RNADE, RNNRNADE])
def test_forward_mode_differentiation(kind: Any) -> None:
    (model, torch_path), x, v = pair(kind, 3, 4, 2), randn(2, 2, 3), randn(2, 2, 3)
    with forward_ad.dual_level():
        log_p = model.log_prob(forward_ad.make_dual(x, v))
        tangent = forward_ad.unpack_dual(log_p).tangent
    (slope,) = torch.autograd.grad(torch_path.log_prob(x.requires_grad_()).sum(), x)
    assert_same([tangent.sum()], [(slope * v).sum()])


def test_a_mask_goes_through_export_and_vmap() -> None:
    (model, _), x = pair(RNNRNADE, 3, 4, 2), randn(2, 4, 3)
    masks = torch.arange(4) < torch.tensor([[[4], [2]], [[1], [3]]])
    expected = [model.log_prob(x, mask) for mask in masks]
    exported = torch.export.export(model, (x, masks[0]), strict=False).module()
    assert_same([exported(x, mask) for mask in masks], expected)
    assert_same([*torch.vmap(lambda mask: model.log_prob(x, mask))(masks)], expected)


def test_what_cannot_be_had_names_the_remedy() -> None:
    model, x = RNADE(3, 4, 2), randn(2, 3).float()
    with pytest.raises(NotImplementedError, match='backend="torch"'):
        torch.autograd.functional.jacobian(model.log_prob, x, vectorize=True)


@pytest.mark.slow
@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_model_gives_the_same_numbers(strict: bool) -> None:
    model, x = pair(RNNRNADE, 3, 5, 4, 2)[0].eval(), randn(2, 4, 3)

    class LogProb(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            return self.model.log_prob(x)

    exported = torch.export.export(LogProb(), (x,), strict=strict).module()
    other = randn(2, 4, 3, n=2)
    assert_same([exported(other)], [model.log_prob(other)])
