"""RNADE is the density it says it is, and its sampler draws from it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import reference
import torch
from reference import every_option, parameters, spread
from scipy import stats
from torch import distributions as D

from rnade_lightning import RNADE
from rnade_lightning.components.laplace import Laplace

both_components = pytest.mark.parametrize("component", ["gaussian", "laplace"])
with_and_without_linear_path = pytest.mark.parametrize("linear", [False, True], ids=["", "linear"])
both_backends = pytest.mark.parametrize("backend", ["torch", "compiled"])


def seed(n: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(n)


def randn(*shape: int, n: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=seed(n), dtype=torch.float64)


def rnade(n_features: int = 3, n_hidden: int = 4, n_components: int = 2, **options: Any) -> RNADE:
    return spread(RNADE(n_features, n_hidden, n_components, **options).double())


def pit(model: RNADE, x: torch.Tensor, **options: Any) -> np.ndarray:
    """Return each drawn feature's conditional CDF: independent uniforms if x came from the
    model."""
    u = np.array([reference.cdf(parameters(model), row, **options) for row in x.numpy()])
    if support := options.get("censor_at"):  # on a bound anywhere in the jump
        v = np.random.default_rng(0).uniform(size=u.shape)
        low, high = (x <= support[0]).numpy(), (x >= support[1]).numpy()
        u = np.where(low, u * v, np.where(high, 1 - (1 - u) * v, u))
    return u


def mesh(n_features: int, half_width: float, n: int) -> tuple[torch.Tensor, float]:
    """Return points ``(n^D, D)`` of a square lattice, and the volume of a cell."""
    axis = torch.linspace(-half_width, half_width, n, dtype=torch.float64)
    points = torch.cartesian_prod(*[axis] * n_features).view(-1, n_features)
    return points, float(axis[1] - axis[0]) ** n_features


# ------------------------------------------------------------------ density


@with_and_without_linear_path
@both_backends
@every_option
def test_log_prob_equals_the_loop(options: dict[str, Any], backend: str, linear: bool) -> None:
    model, x = rnade(5, 4, 3, backend=backend, linear=linear, **options), 2 * randn(2, 4, 5)
    biases = [randn(2, 4, 5, 3, n=n) for n in range(3)]
    p = parameters(model)
    for i, j in itertools.product(range(2), range(4)):
        static = reference.log_prob(p, x[i, j].numpy(), **options)
        own = reference.log_prob(p, x[i, j].numpy(), [b[i, j].numpy() for b in biases], **options)
        torch.testing.assert_close(model.log_prob(x)[i, j].item(), static, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            model.log_prob(x, biases)[i, j].item(), own, rtol=1e-12, atol=1e-12
        )


@every_option
def test_conditionals_equal_the_loop(options: dict[str, Any]) -> None:
    model = rnade(**options)
    x = model.censor(randn(3))
    log_weights, means, log_scales = model.conditionals(x)
    for d in range(3):
        expected = reference.conditional(
            parameters(model), x[:d].numpy(), None, options["activation"], options["floor"]
        )
        for found, value in zip(
            (log_weights[d], means[d], log_scales[d].exp()), expected, strict=True
        ):
            np.testing.assert_allclose(found.detach().numpy(), value, rtol=1e-12)


@both_backends
def test_static_and_own_biases_mix_and_broadcast(backend: str) -> None:
    model, x = rnade(backend=backend), randn(4, 1, 3)
    own = randn(2, 3, 2)
    mixed = model.log_prob(x, (model.b_alpha, own, model.b_sigma))
    assert mixed.shape == (4, 2)
    for i, j in itertools.product(range(4), range(2)):
        with torch.no_grad():
            model.b_mu.copy_(own[j])
        torch.testing.assert_close(mixed[i, j], model.log_prob(x[i, 0]))


@pytest.mark.parametrize("floor", [0.0, 0.3])
@both_components
def test_integrates_to_one(component: str, floor: float) -> None:
    # Laplace has kinks, where the trapezoid rule errs by the step squared
    tolerance = 1e-9 if component == "gaussian" else 1e-3
    for n_features, half_width, n in ((1, 60, 12001), (2, 36, 801)):
        model = spread(RNADE(n_features, 3, 2, component, floor=floor).double(), std=0.3)
        with torch.no_grad():
            model.b_sigma += 0.4  # scales of about 1.5: wide against the lattice
            points, cell = mesh(n_features, half_width, n)
            total = model.log_prob(points).exp().sum() * cell
        assert abs(total.item() - 1) < tolerance


@both_components
def test_prefix_log_prob_is_the_exact_marginal(component: str) -> None:
    model = spread(RNADE(3, 3, 2, component, linear=True).double(), std=0.3)
    tolerance = 1e-9 if component == "gaussian" else 1e-3
    x = randn(3)
    with torch.no_grad():
        model.b_sigma += 0.4
        for missing, half_width, n in ((1, 60, 12001), (2, 36, 601)):
            points, cell = mesh(missing, half_width, n)
            prefix = x[: 3 - missing].expand(len(points), -1)
            marginal = (model.log_prob(torch.cat((prefix, points), -1)).exp().sum() * cell).log()
            assert abs((model.log_prob(x[: 3 - missing]) - marginal).item()) < tolerance


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_autoregressive(activation: str) -> None:
    model = rnade(5, 16, 3, activation=activation)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: torch.stack(model.conditionals(x)), randn(5)
    )  # (3, D, K, D)
    depends = (jacobian != 0).any(2)  # (3, D, D): on which feature each of alpha, mu, sigma depends
    assert torch.equal(depends, torch.ones(3, 5, 5).tril(-1).bool())


@both_backends
def test_features_add_up_to_their_frame(backend: str) -> None:
    model, x = rnade(5, backend=backend), randn(4, 5)
    terms = model.feature_log_prob(x)
    prefixes = torch.stack([model.log_prob(x[:, : d + 1]) for d in range(5)], -1)
    torch.testing.assert_close(terms.cumsum(-1), prefixes)
    torch.testing.assert_close(model.feature_log_prob(x[:, :2]), terms[:, :2])


def test_one_component_without_hidden_units_is_a_diagonal_gaussian() -> None:
    model, x = rnade(4, 0, 1), randn(6, 4)
    normal = D.Independent(D.Normal(model.b_mu[:, 0], model.b_sigma[:, 0].exp()), 1)
    torch.testing.assert_close(model.log_prob(x), normal.log_prob(x))
    torch.testing.assert_close(model.mean(), normal.mean)


def test_permuting_components_changes_nothing() -> None:
    model, x = rnade(3, 4, 3), randn(5, 3)
    before = model.log_prob(x)
    with torch.no_grad():
        for name, t in model.named_parameters():
            if name[:2] in ("V_", "b_"):
                t.copy_(t.roll(1, -1))
    torch.testing.assert_close(model.log_prob(x), before)


# ------------------------------------------------------------------ sampler


@pytest.mark.slow
@pytest.mark.parametrize("log_sigma", [0.0, 1.5])
@with_and_without_linear_path
@every_option
def test_samples_follow_the_conditional_cdfs(
    options: dict[str, Any], linear: bool, log_sigma: float
) -> None:
    model = rnade(linear=linear, **options)
    with torch.no_grad():
        model.b_sigma += log_sigma  # 1.5: scales from about 2 to 15
    u = pit(model, model.sample((800,), generator=seed()), **options)
    for d in range(3):
        assert stats.kstest(u[:, d], "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(u.T) - np.eye(3)).max() < 0.12  # and independent


@both_components
def test_the_sampler_test_sees_a_wrong_scale(component: str) -> None:
    model, wrong = rnade(component=component), rnade(component=component)
    with torch.no_grad():
        wrong.b_sigma += 0.4
    u = pit(model, wrong.sample((800,), generator=seed()), component=component)
    assert min(stats.kstest(u[:, d], "uniform").pvalue for d in range(3)) < 1e-3


@pytest.mark.slow
@with_and_without_linear_path
@both_components
def test_given_features_are_kept_and_the_rest_follow_their_conditionals(
    component: str, linear: bool
) -> None:
    model = rnade(component=component, linear=linear)
    for n_given in range(4):
        given = 2 * randn(800, n_given)
        x = model.sample((800,), given=given, generator=seed())
        assert torch.equal(x[:, :n_given], given)
        u = pit(model, x, component=component)
        for d in range(n_given, 3):
            assert stats.kstest(u[:, d], "uniform").pvalue > 1e-3


def test_sample_shapes() -> None:
    model, own = rnade(), [randn(5, 1, 3, 2, n=n) for n in range(3)]
    own[1] = own[1].expand(5, 4, 3, 2)
    assert model.sample().shape == (3,)
    assert model.sample((2, 7)).shape == (2, 7, 3)
    assert model.sample((6,), own).shape == (6, 5, 4, 3)
    assert model.sample((6,), own, given=randn(4, 2)).shape == (6, 5, 4, 3)
    assert model.mean(own, n_samples=2).shape == (5, 4, 3)


@pytest.mark.slow
def test_samples_with_own_biases_follow_them() -> None:
    model, own = rnade(), [randn(2, 3, 2, n=n) for n in range(3)]
    x = model.sample((1000,), own, generator=seed())  # (1000, 2, D)
    p = parameters(model)
    for j in range(2):
        biases = [b[j].numpy() for b in own]
        u = np.array([reference.cdf(p, row, biases) for row in x[:, j].numpy()])
        assert min(stats.kstest(u[:, d], "uniform").pvalue for d in range(3)) > 1e-3


@both_components
def test_generator_reproduces_the_draws(component: str) -> None:
    model = rnade(component=component)
    state = torch.get_rng_state()
    first, again, other = (model.sample((4,), generator=seed(n)) for n in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    means = [model.mean(generator=seed(n), n_samples=3) for n in (0, 0, 1)]
    assert torch.equal(means[0], means[1])
    assert not torch.equal(means[0], means[2])
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is not touched


@both_components
def test_mean_equals_the_long_run_average(component: str) -> None:
    model = rnade(component=component)
    x = model.sample((40_000,), generator=seed(0))
    mean = model.mean(n_samples=900, generator=seed(1))
    error = x.std(0) * (1 / 200 + 1 / 30)  # of the average, and of the Rao-Blackwell mean at most
    assert ((mean - x.mean(0)).abs() < 3 * error).all()
    log_weights, means, _ = reference.conditional(parameters(model), [])
    assert mean[0].item() == pytest.approx(np.exp(log_weights) @ means, rel=1e-12)


# ------------------------------------------------------------------ numbers and devices


@pytest.mark.parametrize(("activation", "floor"), [("sigmoid", 0.0), ("relu", 0.1)])
@both_backends
@both_components
def test_finite_in_float32_far_from_the_data(
    component: str, backend: str, activation: str, floor: float
) -> None:
    model = spread(RNADE(6, 8, 3, component, activation, floor, backend=backend))
    x = torch.tensor([1e4, -1e4]).repeat(20, 3)[:, torch.arange(6)]
    x = (x * torch.sign(randn(20, 6)).float()).requires_grad_()
    log_p = model.log_prob(x)
    log_p.sum().backward()
    assert log_p.dtype == torch.float32
    assert log_p.isfinite().all()
    for t in (x, *model.parameters()):
        assert t.grad is not None
        assert t.grad.isfinite().all()


@both_backends
@both_components
def test_component_of_vanishing_weight(component: str, backend: str) -> None:
    model, x = spread(RNADE(3, 4, 3, component, backend=backend)), randn(5, 3)
    with torch.no_grad():
        model.b_alpha[:, 0] = -1e4
    log_p = model.log_prob(x.float())
    log_p.sum().backward()
    expected = [reference.log_prob(parameters(model), row, None, component) for row in x.numpy()]
    np.testing.assert_allclose(log_p.detach().numpy(), expected, rtol=1e-4, atol=1e-4)
    assert all(t.grad is not None and t.grad.isfinite().all() for t in model.parameters())
    assert model.sample((1000,), generator=seed()).isfinite().all()


@both_backends
def test_bf16_autocast_keeps_the_density_in_float32(backend: str) -> None:
    model, x = spread(RNADE(6, 8, 3, backend=backend)), randn(10, 6).float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = model.log_prob(x)
        draws = model.sample((4,), generator=seed())
        from_bf16 = model.log_prob(x.bfloat16())
    assert inside.dtype == draws.dtype == from_bf16.dtype == torch.float32
    assert torch.equal(inside, model.log_prob(x))
    torch.testing.assert_close(from_bf16, model.log_prob(x.bfloat16().float()))


@pytest.mark.slow
@both_backends
@every_option
def test_runs_on_the_meta_device(options: dict[str, Any], backend: str) -> None:
    model = RNADE(3, 4, 2, backend=backend, **options).to("meta")
    x = torch.empty(5, 3, device="meta", requires_grad=True)
    own = [torch.empty(5, 3, 2, device="meta", requires_grad=True) for _ in range(3)]
    with reference.MetaOnly():
        (model.log_prob(x).sum() + model.log_prob(x, own).sum()).backward()
        model.log_prob(x[:, :2]).sum().backward()
        assert model.sample((4,), own, given=x[:, :1]).shape == (4, 5, 3)
        assert model.mean(own, n_samples=2).shape == (5, 3)
    for t in (x, *own, *model.parameters()):
        assert t.grad is not None
        assert t.grad.shape == t.shape


def test_the_meta_test_sees_a_cpu_operand() -> None:
    model = RNADE(3, 4, 2).to("meta")
    x, host = torch.empty(5, 3, device="meta"), torch.ones(4)
    with reference.MetaOnly():
        model.log_prob(x)
        with pytest.raises(RuntimeError, match=r"cpu tensor of shape \(4,\)"):
            x @ model.W @ host
        with pytest.raises(RuntimeError, match=r"cpu tensor of shape \(4,\)"):
            x[:4, 0].copy_(host)
        hidden = (x @ model.W).requires_grad_()
        hidden.register_hook(lambda grad: grad * host)
        with pytest.raises(RuntimeError, match=r"cpu tensor of shape \(4,\)"):  # going backward
            hidden.sum().backward()


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_features": 0}, "n_features and n_components must be at least 1"),
        ({"n_components": 0}, "n_features and n_components must be at least 1"),
        ({"n_hidden": -1}, "n_hidden at least 0"),
        ({"component": "cauchy"}, "'cauchy' is none of the components gaussian, laplace"),
        ({"activation": "tanh"}, "'tanh' is none of sigmoid, relu"),
        ({"backend": "exact"}, "'exact' is none of compiled, torch"),
        ({"floor": -0.1}, "floor must be at least 0, got -0.1"),
        ({"floor": float("nan")}, "floor must be at least 0, got nan"),
        ({"censor_at": (0, 1)}, "the component gaussian cannot be censored"),
        ({"censor_at": (1, 1), "component": "laplace"}, "censor_at must be two finite numbers"),
        ({"censor_at": (0, float("inf")), "component": "laplace"}, "two finite numbers in order"),
        ({"censor_at": (0, 1), "component": Laplace()}, r"give censor_at to .* Laplace\(\) itself"),
        ({"censor_at": [0], "component": "laplace"}, "two finite numbers in order"),
    ],
)
def test_invalid_arguments_raise(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RNADE(**{"n_features": 3, "n_hidden": 4, "n_components": 2, **arguments})


@both_backends
def test_wrong_number_of_features_raises(backend: str) -> None:
    model = rnade(backend=backend)
    with pytest.raises(ValueError, match="x has 4 features, the model 3"):
        model.log_prob(randn(5, 4))
    with pytest.raises(ValueError, match="x has 0 features, the model 3"):
        model.log_prob(randn(5, 0))
    with pytest.raises(ValueError, match="given has 4 features, the model 3"):
        model.sample(given=randn(4))


def test_parameter_names_and_shapes() -> None:
    n_features, n_hidden, n_components = 3, 4, 2
    V, b = (n_features, n_hidden, n_components), (n_features, n_components)
    assert {name: tuple(t.shape) for name, t in RNADE(3, 4, 2).named_parameters()} == {
        "W": (n_features, n_hidden), "c": (n_hidden,), "rho": (n_features,),
        "V_alpha": V, "V_mu": V, "V_sigma": V, "b_alpha": b, "b_mu": b, "b_sigma": b,
    }  # fmt: skip


@both_components
def test_temperature_scales_the_draws(component: str) -> None:
    model = rnade(1, 0, 1, component=component)
    warm = model.sample((50,), generator=seed())
    cool = model.sample((50,), generator=seed(), temperature=0.25)
    torch.testing.assert_close(cool - model.b_mu[0, 0], 0.25 * (warm - model.b_mu[0, 0]))
    with pytest.raises(ValueError, match="temperature"):
        model.sample(temperature=0.0)


def test_temperature_sharpens_the_weights() -> None:
    model = rnade(1, 0, 2)
    with torch.no_grad():
        model.b_alpha.copy_(torch.tensor([[0.0, 1.0]]))
        model.b_mu.copy_(torch.tensor([[-100.0, 100.0]]))
    share = (model.sample((20000, 1), generator=seed(), temperature=0.5) > 0).double().mean()
    assert abs(share - torch.sigmoid(torch.tensor(2.0)).item()) < 0.01
