"""The densities that stand beside RNADE are densities, and their samplers draw from them."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch
from reference import relative_error, spread
from scipy import stats
from torch import Tensor, distributions

from rnade_lightning import RNNRNADE, SequenceDensity, densities
from rnade_lightning.densities import Flow, Gaussian, GaussianMixture, LowRankGaussian, RNNDensity
from rnade_lightning.ensemble import Ensemble
from rnade_lightning.lightning_module import RNNDensityModule

has_zuko = importlib.util.find_spec("zuko") is not None
flow = pytest.param("flow", marks=pytest.mark.skipif(not has_zuko, reason="zuko not installed"))


def seed(n: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(n)


def randn(*shape: int, n: int = 1) -> Tensor:
    return torch.randn(*shape, generator=seed(n), dtype=torch.float64)


def make(kind: str, D: int = 2) -> Any:
    made: Any = {
        "gaussian": lambda: Gaussian(D, floor=0.1),
        "low_rank": lambda: LowRankGaussian(D, rank=2, floor=0.1),
        "mixture": lambda: GaussianMixture(D, n_components=3, floor=0.1),
        "flow": lambda: Flow(D, n_context=3, n_transforms=2, n_hidden=8),
    }[kind]()
    return spread(made.double(), 0.3 if kind == "flow" else 0.5)


every_density = pytest.mark.parametrize("kind", ["gaussian", "low_rank", "mixture", flow])
closed_form = pytest.mark.parametrize("kind", ["gaussian", "low_rank", "mixture"])


@every_density
@pytest.mark.slow
def test_integrates_to_one(kind: str) -> None:
    axis = torch.linspace(-14, 14, 701, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    total = make(kind).log_prob(points).exp().sum() * float(axis[1] - axis[0]) ** 2
    assert total.item() == pytest.approx(1, abs=2e-3)


def test_equal_torch_distributions() -> None:
    x = randn(5, 4)
    model = make("low_rank", 4)
    mu, F, z_sigma = model.static_params()
    other = distributions.LowRankMultivariateNormal(mu, F, (0.1 + z_sigma.exp()).square())
    torch.testing.assert_close(model.log_prob(x), other.log_prob(x))
    model = make("mixture", 4)
    alpha, mu, z_sigma = model.static_params()
    parts = distributions.Independent(distributions.Normal(mu, 0.1 + z_sigma.exp()), 1)
    whole = distributions.MixtureSameFamily(distributions.Categorical(logits=alpha), parts)
    torch.testing.assert_close(model.log_prob(x), whole.log_prob(x))
    torch.testing.assert_close(model.mean(), whole.mean)


@closed_form
def test_terms_are_those_of_the_chain_rule(kind: str) -> None:
    model, x = make(kind, 4), randn(3, 4)
    terms = model.feature_log_prob(x)
    torch.testing.assert_close(terms.sum(-1), model.log_prob(x))
    y = x.clone()
    y[:, 2:] += 1  # later features do not bear on the terms of those before
    torch.testing.assert_close(model.feature_log_prob(y)[:, :2], terms[:, :2])
    assert not torch.allclose(model.feature_log_prob(y)[:, 2:], terms[:, 2:])


@every_density
@pytest.mark.slow
def test_sampler_matches_density(kind: str) -> None:
    """Log p of draws is distributed as importance sampling from a wide Gaussian says."""
    model = make(kind)
    draws = model.sample((20_000,), generator=seed())
    wide = 4 * randn(200_000, 2)
    log_q = distributions.Normal(0.0, 4.0).log_prob(wide).sum(-1)
    weights = (model.log_prob(wide) - log_q).exp()
    for f in (lambda x: x[:, 0], lambda x: x[:, 1], lambda x: (x[:, 0] * x[:, 1]).clamp(-9, 9)):
        expected = (weights * f(wide)).mean() / weights.mean()
        spread_of = f(draws).std() / len(draws) ** 0.5 + (weights * f(wide)).std() / 200_000**0.5
        assert abs(f(draws).mean() - expected) < 5 * spread_of
    mean = model.mean(n_samples=400, generator=seed(1))
    torch.testing.assert_close(mean, draws.mean(0), rtol=0, atol=0.3)


def test_pit_of_own_draws_is_uniform() -> None:
    model = make("gaussian", 3)
    pit = model.feature_cdf(model.sample((4000,), generator=seed()))
    assert stats.kstest(pit.detach().flatten().numpy(), "uniform").pvalue > 0.01


@every_density
def test_a_sequence_model_takes_it(kind: str) -> None:
    names = {"gaussian": Gaussian, "low_rank": LowRankGaussian, "mixture": GaussianMixture}
    name = names.get(kind, Flow).__name__
    arguments = {"n_context": 3, "n_hidden": 8} if kind == "flow" else {"floor": 0.1}
    density = {"class_path": name, "init_args": arguments}
    model = RNNDensityModule(3, density, n_recurrent=5, n_past=0).double().model
    frames = randn(2, 6, 3)
    log_p = model.log_prob(frames)
    changed = frames.clone()
    changed[:, 3:] += 1
    torch.testing.assert_close(model.log_prob(changed)[:, :3], log_p[:, :3])  # causal
    assert model.sample(4, 2, prefix=frames, generator=seed()).shape == (2, 2, 4, 3)
    assert model.predictive_mean(frames, n_samples=2).shape == frames.shape
    assert model.one_step_samples(frames, n_samples=2).shape == (2, *frames.shape)
    log_p.sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name


def test_parameters_by_frame_and_temperature() -> None:
    for kind in ("gaussian", "low_rank", "mixture"):
        model = make(kind, 3)
        params = [randn(7, *shape, n=i) for i, shape in enumerate(model.param_shapes.values())]
        x = randn(7, 3)
        alone = [model.log_prob(x[i], [p[i] for p in params]) for i in range(7)]
        torch.testing.assert_close(model.log_prob(x, params), torch.stack(alone))
        assert model.sample((5,), params).shape == (5, 7, 3)
        calm = model.sample((500,), temperature=1e-6)
        assert calm.std(0).max() < 1e-3
        with pytest.raises(ValueError, match="temperature must be above 0"):
            model.sample((1,), temperature=0.0)


def test_a_fault_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(densities.Gaussian, "_scale", lambda self, z: 1.1 * z.exp())
    model = make("gaussian")
    mu, z = (t.detach().numpy() for t in model.static_params())
    x = randn(3, 2)
    right = stats.norm.logpdf(x.numpy(), mu, 0.1 + np.exp(z)).sum(-1)
    assert relative_error(model.log_prob(x), torch.as_tensor(right)) > 1e-3


@pytest.mark.skipif(not has_zuko, reason="zuko not installed")
def test_a_flow_leaves_the_checks_of_other_distributions_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(distributions.Distribution, "_validate_args", True)  # torch's compiler: off
    make("flow")
    with pytest.raises(ValueError, match="scale"):
        distributions.Normal(0.0, -1.0)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="floor must be at least 0"):
        Gaussian(3, floor=-1.0)
    with pytest.raises(ValueError, match="cannot continue a frame"):
        RNNDensity(Gaussian(3), 4).density.sample(given=torch.zeros(1))
    with pytest.raises(ValueError, match="'fast' is none of compiled, torch"):
        RNNDensity(Gaussian(3), 4, backend="fast")
    for density in (Gaussian(3), LowRankGaussian(3)):
        with pytest.raises(TypeError, match="x is of type list, not a tensor"):
            density.log_prob([0.0] * 3)  # type: ignore[arg-type]


@closed_form
def test_autocast_changes_no_number(kind: str) -> None:
    model, frames = spread(RNNDensity(make(kind, 3).float(), 4)), randn(2, 5, 3).float()
    entries = [model.log_prob, model.feature_log_prob]
    if kind == "gaussian":
        entries.append(model.feature_cdf)
    for entry in entries:
        expected = entry(frames)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(entry(frames), expected)


def a_model(kind: str, backend: Any) -> SequenceDensity:
    """Return a model of three features."""
    if kind == "ensemble":
        return Ensemble([RNNRNADE(3, 4, 5, 2, component="gaussian", backend=backend)])
    if kind in ("gaussian", "low_rank", "mixture"):
        return RNNDensity(make(kind, 3), 4, backend=backend)
    options: dict[str, Any] = {"scales": {"n_scales": 3}, "white": {"whiten": True}}.get(kind, {})
    model = RNNRNADE(3, 4, 5, 2, component="gaussian", backend=backend, **options)
    if model.root is not None:
        model.root.copy_(torch.randn(3, 3, generator=seed()).tril() + 3 * torch.eye(3))
    return model


@pytest.mark.parametrize("backend", ["compiled", "torch"])
@pytest.mark.parametrize(
    "kind", ["plain", "scales", "white", "ensemble", "gaussian", "low_rank", "mixture"]
)
def test_frames_out_of_reach_have_density_0_and_no_gradient(kind: str, backend: Any) -> None:
    """Infinite ones, and those whose square is too large a number."""
    model, frames = spread(a_model(kind, backend).double()), randn(3, 4, 3)
    finite = frames[:, :3].clone()
    expected = torch.autograd.grad(model.log_prob(finite).sum(), list(model.parameters()))
    frames[0, 3, 0], frames[1, 3, 1], frames[2, 3, 2] = torch.inf, -torch.inf, 1e200
    frames.requires_grad_()
    log_p = model.log_prob(frames)
    assert log_p[:, 3].isneginf().all()
    if kind != "ensemble":
        terms = model.feature_log_prob(frames)
        assert not terms.isnan().any()
        torch.testing.assert_close(terms.sum(-1), log_p)
    inputs = [*model.parameters(), frames]
    *found, d_frames = torch.autograd.grad(log_p[log_p.isfinite()].sum(), inputs)
    assert not d_frames[:, 3].any()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
