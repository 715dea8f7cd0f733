"""Every component of the package keeps its promises. A new one is tested because it is there."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from reference import relative_error, spread, supplement
from scipy import integrate, stats
from torch import Tensor

from rnade_lightning import RNADE
from rnade_lightning.callbacks.gradient_check import gradient_table, require_correct
from rnade_lightning.components import Component, component_names, make_component
from rnade_lightning.gradients import STATEMENTS, rnade_gradients

BOUNDS = (-0.4, 0.7)


def censors(name: str) -> bool:
    try:
        make_component(name, censor_at=BOUNDS)
    except ValueError:
        return False
    return True


COMPONENTS = [make_component(name) for name in component_names()]
COMPONENTS += [make_component(n, censor_at=BOUNDS) for n in component_names() if censors(n)]
every_component = pytest.mark.parametrize("component", COMPONENTS, ids=repr)


def grid(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def scattered(n: int = 40, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return values, means and log scales, none alike."""
    generator = torch.Generator().manual_seed(seed)
    x, mu, log_sigma = torch.randn(3, n, 1, generator=generator, dtype=torch.float64)
    return 2 * x, mu, log_sigma


def test_those_that_are_shipped_are_found() -> None:
    assert {"gaussian", "laplace", "student_t"} <= set(component_names())
    assert [c.name for c in map(make_component, component_names())] == component_names()


@every_component
def test_integrates_to_one_with_its_atoms(component: Component) -> None:
    mu, log_sigma = grid(0.3), grid(-0.2)
    low, high = component.atoms or (-math.inf, math.inf)

    def density(x: float) -> float:
        return float(component.log_prob(grid(x), mu, log_sigma).exp())

    mid = [p for p in (float(mu),) if low < p < high]
    edges = [low, *mid, high]
    total = sum(integrate.quad(density, a, b)[0] for a, b in itertools.pairwise(edges))
    assert total + sum(map(density, component.atoms)) == pytest.approx(1, abs=1e-7)


@every_component
def test_slopes_of_the_density_are_those_of_autograd(component: Component) -> None:
    x, mu, log_sigma = scattered()
    x[:4] = grid(*(component.atoms or (0.1, 0.2)), -5, 5)[:, None]
    mu.requires_grad_(), log_sigma.requires_grad_()
    found = component.log_prob_slopes(component.censor(x), mu, log_sigma)
    log_p = component.log_prob(component.censor(x), mu, log_sigma)
    expected = torch.autograd.grad(log_p.sum(), (mu, log_sigma))
    assert len(found) == 2 + len(component.further)
    for one, two in zip(found, expected, strict=False):
        assert relative_error(one.detach(), two) < 1e-12


INTERVALS = [(-0.3, 0.9), (2.0, 2.001), (-3.0, -2.9), (-math.inf, 0.5), (0.5, math.inf)]
INTERVALS += [(15.0, 16.0), (-16.0, -15.0), (-1e-7, 1e-7)]


@every_component
@pytest.mark.parametrize(("low", "high"), INTERVALS)
def test_mass_is_the_integral_of_the_density(component: Component, low: float, high: float) -> None:
    mu, log_sigma = grid(0.2), grid(0.4)
    uncensored = type(component)()

    def density(x: float) -> float:
        return float(uncensored.log_prob(grid(x), mu, log_sigma).exp())

    points = sorted({low, high, *(p for p in (0.2,) if low < p < high)})
    expected = sum(
        integrate.quad(density, a, b, epsabs=0, epsrel=1e-11)[0]
        for a, b in itertools.pairwise(points)
    )
    found = component.log_mass(grid(low), grid(high), mu, log_sigma).exp()
    assert float(found) == pytest.approx(expected, rel=2e-8)


@every_component
@pytest.mark.parametrize(("low", "high"), INTERVALS)
def test_slopes_of_the_mass_are_its_differences(
    component: Component, low: float, high: float
) -> None:
    mu, log_sigma, step = grid(0.2), grid(0.4), 1e-4
    found = component.log_mass_slopes(grid(low), grid(high), mu, log_sigma)
    assert len(found) == 2 + len(component.further)

    def log_mass(mu: Tensor, log_sigma: Tensor) -> float:
        return float(component.log_mass(grid(low), grid(high), mu, log_sigma))

    by_mu = (log_mass(mu + step, log_sigma) - log_mass(mu - step, log_sigma)) / (2 * step)
    by_scale = (log_mass(mu, log_sigma + step) - log_mass(mu, log_sigma - step)) / (2 * step)
    assert float(found[0]) == pytest.approx(by_mu, abs=2e-5, rel=2e-5)
    assert float(found[1]) == pytest.approx(by_scale, abs=2e-5, rel=2e-5)


@every_component
def test_mass_is_finite_far_away_and_cells_add_up_to_one(component: Component) -> None:
    mu, log_sigma = grid(0.0), grid(-1.0)
    for at in (-300.0, 300.0):
        assert component.log_mass(grid(at), grid(at + 1), mu, log_sigma).isfinite().all()
    edges = torch.linspace(-5, 5, 201, dtype=torch.float64)
    low = torch.cat((grid(-math.inf), edges))
    high = torch.cat((edges, grid(math.inf)))
    total = component.log_mass(low, high, mu, log_sigma).exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-12)


@every_component
def test_draws_follow_the_distribution_function(component: Component) -> None:
    noise = component.noise((4000,), torch.Generator().manual_seed(0), grid(0.0))
    x = 0.3 + math.exp(-0.2) * noise
    u = component.cdf(x, grid(0.3), grid(-0.2)).numpy()
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    assert stats.kstest(u**1.1, "uniform").pvalue < 1e-3  # the fault, were it there
    seen = component.censor(x)
    uniform = component.in_jumps(component.cdf(seen, grid(0.3), grid(-0.2)), seen)
    assert stats.kstest(uniform.numpy(), "uniform").pvalue > 1e-3


@every_component
def test_the_mean_is_that_of_the_draws(component: Component) -> None:
    noise = component.noise((400_000,), torch.Generator().manual_seed(1), grid(0.0))
    draws = component.censor(0.3 + math.exp(-0.5) * noise)
    mean = component.mean(grid(0.3), grid(-0.5))
    assert float(mean) == pytest.approx(float(draws.mean()), abs=0.01)


@every_component
@pytest.mark.parametrize("mu", [0.3, -0.4, 1.6, -5.0])
@pytest.mark.parametrize("log_sigma", [-2.0, 0.4, 5.0])
def test_the_variance_is_that_of_the_density(
    component: Component, mu: float, log_sigma: float
) -> None:
    at, scale = grid(mu), grid(log_sigma)
    sigma, mean = math.exp(log_sigma), float(component.mean(at, scale))

    def spread_at(x: float) -> float:
        return (x - mean) ** 2 * float(component.log_prob(grid(x), at, scale).exp())

    if component.atoms:
        low, high = component.atoms
        edges = sorted({low, high, *(p for p in (mu,) if low < p < high)})
    else:
        edges = [-math.inf, mu - 3 * sigma, mu, mu + 3 * sigma, math.inf]
    expected = sum(
        integrate.quad(spread_at, a, b, epsabs=0, epsrel=1e-11)[0]
        for a, b in itertools.pairwise(edges)
    ) + sum(map(spread_at, component.atoms))
    assert float(component.variance(at, scale)) == pytest.approx(expected, rel=1e-7)


def test_the_variance_of_student_t_ends_at_two_degrees_of_freedom() -> None:
    for df, expected in ((2.5, 5.0), (2.0, math.inf), (1.5, math.inf), (1.0, math.nan)):
        component = make_component({"class_path": "student_t", "init_args": {"df": df}})
        found = float(component.variance(grid(0.0), grid(0.0)))
        assert found == pytest.approx(expected, nan_ok=True)


@every_component
def test_algorithm_1_is_its_gradient(component: Component) -> None:
    model = spread(RNADE(4, 3, 2, component, linear=True, floor=0.2).double())
    x = scattered(20)[0].view(5, 4).requires_grad_()
    parameters = {name: t.detach() for name, t in model.named_parameters()}
    found, d_x = rnade_gradients(parameters, x.detach(), component=component, floor=0.2)
    for backend in ("torch", "compiled"):
        model.backend = backend
        named = dict(model.named_parameters())
        expected = torch.autograd.grad(model.log_prob(x).sum(), (*named.values(), x))
        for name, t in zip((*named, "x"), expected, strict=True):
            assert relative_error({**found, "x": d_x}[name], t) < 1e-9, (backend, name)


@pytest.mark.parametrize("name", STATEMENTS)
def test_the_algorithm_states_the_shipped_ones_by_itself(name: str) -> None:
    """It does not use the class under test, whose slopes are wrong here."""
    component = make_component(name)
    component.log_prob_slopes = None  # type: ignore[assignment,method-assign]
    parameters = {n: t.detach() for n, t in RNADE(2, 2, 1, name).double().named_parameters()}
    rnade_gradients(parameters, scattered(4)[0].view(2, 2), component=component)


@pytest.mark.slow
@every_component
@pytest.mark.parametrize("cell", ["sigmoid", "gru"])
def test_sequences_of_it_pass_the_gradient_check(component: Component, cell: str) -> None:
    options: dict[str, Any] = {"component": component.name}
    if component.atoms:
        options["censor_at"] = component.atoms
    model = spread(supplement(3, 4, 5, 2, cell, n_past=1, linear=True, **options).double(), 0.4)
    frames = scattered(24, seed=3)[0].view(2, 4, 3)
    require_correct(gradient_table(model, frames))
    torch.testing.assert_close(
        torch.stack(list(model.stream(5, generator=torch.Generator().manual_seed(0))), 2),
        model.sample(5, generator=torch.Generator().manual_seed(0)),
    )


def test_a_wrong_slope_is_seen() -> None:
    class Wrong(type(make_component("student_t"))):  # type: ignore[misc]
        def slope(self, r: Tensor) -> Tensor:
            return 1.001 * super().slope(r)

    model = spread(RNADE(3, 3, 2, Wrong()).double())
    x = scattered(12)[0].view(4, 3)
    parameters = {name: t.detach() for name, t in model.named_parameters()}
    found = rnade_gradients(parameters, x, component=Wrong())[0]
    model.backend = "torch"
    expected = torch.autograd.grad(model.log_prob(x).sum(), model.b_mu)[0]
    assert relative_error(found["b_mu"], expected) > 1e-6


def test_student_t_is_that_of_scipy() -> None:
    r = np.array([0, 1e-3, 0.5, 1, 3, 10, 100, 1e4, -0.5, -3, -100])
    for df in (0.5, 1, 2, 3.7, 10, 60):
        component = make_component({"class_path": "student_t", "init_args": {"df": df}})
        log_tail = component.log_tail(torch.from_numpy(r)).numpy()
        np.testing.assert_allclose(log_tail, stats.t.logsf(r, df), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    ("component", "message"),
    [
        ("cauchy", r"'cauchy' is none of the components gaussian, laplace, logistic, student_t"),
        ("torch.nn.Linear", r"torch.nn.Linear is not a subclass of .*Component"),
        ("nowhere.Component", r"nowhere.Component: cannot be imported"),
        ({"class_path": "student_t", "init_args": {"nu": 3}}, r"component student_t: .*nu"),
        ({"class_path": "student_t", "init_args": {"df": 0}}, r"df must be above 0"),
    ],
)
def test_what_is_none_is_refused(component: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RNADE(3, 4, 2, component)


def test_a_kernel_that_there_is_not_is_refused() -> None:
    class Odd(type(make_component("gaussian"))):  # type: ignore[misc]
        kernel = "odd"

    with pytest.raises(ValueError, match=r"component kernel 'odd' is none of gaussian, laplace"):
        RNADE(3, 4, 2, Odd()).log_prob(torch.zeros(2, 3))


@every_component
@pytest.mark.parametrize("slope", [-0.6, 0.0, 0.3])
def test_tilted_draws_have_the_density_that_they_are_weighed_by(
    component: Component, slope: float
) -> None:
    """By quantiles, so that what is measured is exact but for the steps between them."""
    p = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    noise = torch.from_numpy(stats.laplace.ppf(p.numpy()))
    if component.name == "gaussian":
        noise = torch.special.ndtri(p)
    r, log_ratio = component.tilted(noise, torch.tensor(slope).double())
    if not log_ratio.any():  # it draws as it always does
        torch.testing.assert_close(r, noise)
        return
    log_density = component.log_standard(r) - log_ratio
    steps = r.diff()
    assert (steps > 0).all()
    torch.testing.assert_close(  # of every interval, the part of the draws that lie in it
        (0.5 * (log_density[1:].exp() + log_density[:-1].exp()) * steps)[2000:-2000],
        torch.full_like(steps, 5e-6)[2000:-2000], rtol=1e-3, atol=0.0,
    )  # fmt: skip
    assert float(log_ratio.exp().mean()) == pytest.approx(1, abs=2e-3)
    assert float((r * log_ratio.exp()).mean()) == pytest.approx(0, abs=0.02)


def test_too_steep_a_slope_is_cut() -> None:
    laplace = make_component("laplace")
    noise = torch.linspace(-9, 9, 7, dtype=torch.float64)
    steep = torch.tensor(5.0).double()
    for found, expected in zip(
        laplace.tilted(noise, steep), laplace.tilted(noise, steep * 0.14), strict=True
    ):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@every_component
def test_distribution_functions_stand_in_sixteen_bits_too(
    component: Component, dtype: torch.dtype
) -> None:
    x, mu, log_sigma = scattered()
    narrow = component.cdf(*(v.to(dtype) for v in (x, mu, log_sigma)))
    assert narrow.dtype == dtype
    assert (narrow.double() - component.cdf(x, mu, log_sigma)).abs().max() < 0.03
