"""The predictive distribution functions are those of the density."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import reference
import torch
from reference import parameters, spread
from scipy import stats

from rnade_lightning import RNADE, RNNRNADE
from rnade_lightning.density import FrameDensity

OPTIONS = [
    {"component": component, "activation": activation, "floor": floor}
    for component, activation, floor in itertools.product(
        ("gaussian", "laplace"), ("sigmoid", "relu"), (0.0, 0.3)
    )
]
every_option = pytest.mark.parametrize(
    "options", OPTIONS, ids=lambda o: "-".join(str(value) for value in o.values())
)


def frames(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@every_option
def test_cdf_equals_the_loop(options: dict[str, Any]) -> None:
    model, x = spread(RNADE(4, 5, 3, **options).double()), 2 * frames(6, 4)
    for row, found in zip(x, model.feature_cdf(x), strict=True):
        expected = reference.cdf(parameters(model), row.numpy(), **options)
        torch.testing.assert_close(found.detach(), torch.as_tensor(expected), rtol=0, atol=1e-12)


@every_option
def test_the_derivative_of_the_cdf_is_the_density(options: dict[str, Any]) -> None:
    model = spread(RNNRNADE(3, 5, 4, 2, linear=True, n_past=1, **options).double())
    x = frames(2, 5, 3).requires_grad_(True)
    cdf = model.feature_cdf(x)
    for t, d in itertools.product(range(5), range(3)):
        (slope,) = torch.autograd.grad(cdf[:, t, d].sum(), x, retain_graph=True)
        density = model.feature_log_prob(x)[:, t, d].exp()
        torch.testing.assert_close(slope[:, t, d], density, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("component", ["gaussian", "laplace"])
def test_the_cdf_of_the_models_own_samples_is_uniform(component: Any) -> None:
    model = spread(RNNRNADE(3, 5, 4, 2, component=component, linear=True, n_past=1).double())
    drawn = model.sample(4, 500, generator=torch.Generator().manual_seed(0))[0]
    with torch.no_grad():
        pit = model.feature_cdf(drawn).numpy()
        off = model.feature_cdf(1.2 * drawn).numpy()
    assert stats.kstest(pit.ravel(), "uniform").pvalue > 0.01
    assert stats.kstest(off.ravel(), "uniform").pvalue < 1e-6  # the test sees a wrong scale


def test_a_density_may_go_without() -> None:
    with pytest.raises(NotImplementedError, match="RNADE has no feature_cdf"):
        FrameDensity.feature_cdf(RNADE(2, 1, 1), torch.zeros(2))
