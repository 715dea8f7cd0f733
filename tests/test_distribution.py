"""RNADE as a distribution of torch: its figures are those of its density, and it composes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from reference import spread
from torch import Tensor
from torch import distributions as D

from rnade_lightning import RNADE, distribution
from rnade_lightning.components import make_component

BOUNDS = (-0.4, 0.7)
OPTIONS: list[dict[str, Any]] = [
    {"component": "gaussian"},
    {"component": "gaussian", "linear": True, "backend": "torch"},
    {"component": "laplace", "activation": "relu", "floor": 0.3},
    {"component": "laplace", "censor_at": BOUNDS},
]
every_kind = pytest.mark.parametrize(
    "options", OPTIONS, ids=["gaussian", "linear", "laplace", "censored"]
)


def rnade(n_features: int, n_hidden: int = 4, n_components: int = 2, **options: Any) -> RNADE:
    return spread(RNADE(n_features, n_hidden, n_components, **options).double())


def randn(*shape: int, n: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(n), dtype=torch.float64)


@pytest.fixture(autouse=True)
def _seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(D.Distribution, "_validate_args", True)  # torch's compiler turns it off


def lattice(model: RNADE) -> tuple[Tensor, Tensor]:
    """Return frames ``(N, 2)`` and their probabilities ``(N,)``: a square lattice of middles of
    cells, and the atoms where the density is censored."""
    atoms = model.component.atoms
    low, high = atoms or (-25.0, 25.0)
    edges = torch.linspace(low, high, 801, dtype=torch.float64)
    middles = (edges[1:] + edges[:-1]) / 2
    points = torch.cat((middles, middles.new_tensor(atoms)))
    widths = torch.cat((edges.diff(), torch.ones(len(atoms), dtype=torch.float64)))
    x = torch.cartesian_prod(points, points)
    with torch.no_grad():
        p = model.log_prob(x).exp() * torch.cartesian_prod(widths, widths).prod(-1)
    assert float(p.sum()) == pytest.approx(1, abs=2e-3)
    return x, p


@pytest.mark.slow
@every_kind
def test_variance_and_entropy_are_those_of_the_density(options: dict[str, Any]) -> None:
    model = rnade(2, **options)
    x, p = lattice(model)
    mean = p @ x
    expected = p @ (x - mean).square()
    d = model(n_samples=40_000)
    torch.testing.assert_close(d.variance[0], expected[0], rtol=5e-3, atol=0)  # of it, all exact
    torch.testing.assert_close(d.variance[1], expected[1], rtol=3e-2, atol=0)
    torch.testing.assert_close(d.stddev, d.sample((40_000,)).std(0), rtol=3e-2, atol=0)
    entropy = -(p * model.log_prob(x).detach()).sum()
    torch.testing.assert_close(d.entropy(), entropy, rtol=0, atol=0.03)


@pytest.mark.slow
def test_the_first_variance_is_exact_and_two_draws_are_unbiased() -> None:
    model = rnade(3)
    model.V_mu.data.mul_(6)  # so that means depend on prefixes
    few = torch.stack([model(n_samples=2).variance for _ in range(2000)])
    assert few[:, 0].std() < 1e-12
    x = model.sample((200_000,))
    torch.testing.assert_close(few.mean(0), x.var(0), rtol=0.05, atol=0)
    log_weights, means, _ = model.conditionals(x)
    of_prefixes = (log_weights.exp() * means).sum(-1).var(0)
    assert of_prefixes[2] > 0.1 * x.var(0)[2]  # left out, it would be seen


def test_a_gaussian_has_the_known_figures() -> None:
    model = rnade(3, 0, 1, linear=True)
    sigma = model.b_sigma.detach()[:, 0].exp()
    inverse = torch.linalg.inv(torch.eye(3).double() - model.L.detach().tril(-1))  # type: ignore[union-attr]
    covariance = inverse @ sigma.square().diag() @ inverse.T
    d = model(n_samples=50_000)
    torch.testing.assert_close(d.variance, covariance.diag(), rtol=2e-2, atol=0)
    entropy = sigma.log().sum() + 1.5 * math.log(2 * math.pi * math.e)
    torch.testing.assert_close(d.entropy(), entropy, rtol=0, atol=0.03)
    alone = rnade(3, 0, 1)  # nothing listens to a prefix: exact with any number of draws
    torch.testing.assert_close(alone(n_samples=2).variance, (2 * alone.b_sigma[:, 0]).exp())


@pytest.mark.slow
def test_figures_have_batch_shapes_also_when_draws_come_by_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, own = rnade(3), [randn(2, 4, 3, 2, n=n) for n in range(3)]
    whole = model(own, n_samples=4000)
    assert whole.variance.shape == whole.stddev.shape == (2, 4, 3)
    assert whole.entropy().shape == (2, 4)
    assert not whole.variance.requires_grad
    monkeypatch.setattr(distribution, "_NUMBERS_AT_ONCE", 30_000)
    parts = list(whole._draws())
    assert len(parts) > 10
    assert sum(len(part) for part in parts) == 4000
    torch.testing.assert_close(whole.variance[..., 0], model(own).variance[..., 0])
    alone = model([b[1, 2] for b in own], n_samples=4000)
    torch.testing.assert_close(whole.variance[1, 2], alone.variance, rtol=0.1, atol=0)
    torch.testing.assert_close(whole.entropy()[1, 2], alone.entropy(), rtol=0, atol=0.12)


def test_a_variance_without_end_is_infinite() -> None:
    heavy = {"class_path": "student_t", "init_args": {"df": 1.5}}
    model = rnade(2, component=heavy)
    assert model().variance.isinf().all()
    model.b_alpha.data[:, 0] = -2000.0  # a component of no weight
    assert model().variance.isinf().all()


def test_a_component_that_does_not_say_its_variance_is_refused() -> None:
    class Silent(type(make_component("gaussian"))):  # type: ignore[misc]
        @property
        def standard_variance(self) -> float:
            return super(type(make_component("gaussian")), self).standard_variance

    with pytest.raises(NotImplementedError, match=r"Silent does not define its variance: add"):
        rnade(2, component=Silent())().variance  # noqa: B018


@every_kind
@pytest.mark.slow
def test_feature_cdf_is_the_integral_of_the_density(options: dict[str, Any]) -> None:
    model = rnade(2, **options)
    x, step = torch.tensor([0.2, 0.31], dtype=torch.float64), 1e-4
    d = model()
    for feature in range(2):
        below, above = x.clone(), x.clone()
        below[feature] -= step
        above[feature] += step
        slope = (d.feature_cdf(above) - d.feature_cdf(below))[feature] / (2 * step)
        density = model.feature_log_prob(x)[feature].exp()
        torch.testing.assert_close(slope, density, rtol=1e-6, atol=0)
    first = d.sample((20_000,))[:, 0]
    share = (first <= x[0]).double().mean()
    torch.testing.assert_close(d.feature_cdf(x)[0].detach(), share, rtol=0, atol=0.02)


def test_the_support_of_a_censored_density_is_between_its_bounds() -> None:
    d = rnade(2, component="laplace", censor_at=BOUNDS)()
    low, high = BOUNDS
    rows = [[low, high], [0.0, 0.1], [low - 1e-9, 0.0], [0.0, high + 1e-9]]
    x = torch.tensor(rows, dtype=torch.float64)
    assert d.support.check(x).tolist() == [True, True, False, False]
    assert d.support.check(d.sample((1000,))).all()
    assert d.support.check(d.sample((1000,)).float()).all()
    torch.testing.assert_close(d.log_prob(x), d.log_prob(x.clamp(low, high)))  # read as the bound
    for value in (d.log_prob, d.feature_cdf):
        with pytest.raises(ValueError, match="support"):
            value(torch.full((2,), torch.nan))
    free = rnade(2)()
    assert free.support.check(1e6 * x).all()
    assert free.support.event_dim == d.support.event_dim == 1


def test_frames_that_are_no_tensor_are_refused() -> None:
    distribution = RNADE(2, 3, 2)(n_samples=2)
    for method in (distribution.log_prob, distribution.feature_cdf):
        with pytest.raises(TypeError, match="x is of type list, not a tensor"):
            method([[0.0, 1.0]])  # type: ignore[arg-type]


def test_one_draw_has_no_variance() -> None:
    with pytest.raises(ValueError, match="n_samples must be at least 2, got 1"):
        rnade(2)(n_samples=1)


def test_the_number_of_draws_is_kept_when_expanded() -> None:
    assert rnade(2)(n_samples=7).expand((4,)).n_samples == 7


def test_forward_is_a_distribution() -> None:
    model, own = rnade(3), [randn(4, 3, 2, n=n) for n in range(3)]
    static, batched = model(), model(own)
    assert (static.batch_shape, static.event_shape) == ((), (3,))
    assert (batched.batch_shape, batched.event_shape) == ((4,), (3,))
    x = randn(5, 4, 3)
    torch.testing.assert_close(batched.log_prob(x), model.log_prob(x, own))
    assert batched.sample((5,)).shape == (5, 4, 3)
    assert batched.mean.shape == (4, 3)
    wide = static.expand((2, 4))
    assert wide.batch_shape == (2, 4)
    assert wide.sample().shape == (2, 4, 3)
    torch.testing.assert_close(wide.log_prob(x[:2]), model.log_prob(x[:2]))
    with pytest.raises(ValueError, match="support"):
        static.log_prob(torch.full((3,), torch.nan))


def test_distribution_composes() -> None:
    model, own = rnade(3), [randn(4, 3, 2, n=n) for n in range(3)]
    x = randn(3)
    apart = torch.stack([model.log_prob(x, [b[j] for b in own]) for j in range(4)])

    independent = D.Independent(model(own), 1)
    torch.testing.assert_close(independent.log_prob(x.expand(4, 3)), apart.sum())

    mixture = D.MixtureSameFamily(D.Categorical(torch.ones(4).double()), model(own))
    torch.testing.assert_close(mixture.log_prob(x), apart.logsumexp(0) - math.log(4))
    assert mixture.sample((5,)).shape == (5, 3)

    scale = torch.tensor([2.0, 0.5, 3.0]).double()
    affine = D.transforms.AffineTransform(torch.ones(3).double(), scale, event_dim=1)
    raw = D.TransformedDistribution(model(own), affine)
    torch.testing.assert_close(raw.log_prob(1 + scale * x), apart - scale.log().sum())
    assert raw.sample((5,)).shape == (5, 4, 3)
