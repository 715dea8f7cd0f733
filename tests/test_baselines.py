"""The baselines against their textbook forms."""

import math

import pytest
import torch
from torch import Tensor

from rnade_lightning.baselines import VAR


@pytest.fixture
def sequences() -> list[Tensor]:
    """Return two stretches of a stable VAR(2) with correlated errors, D = 3."""
    generator = torch.Generator().manual_seed(0)
    A1 = torch.tensor([[0.5, 0.2, 0.0], [0.0, 0.3, 0.1], [0.2, 0.0, 0.4]], dtype=torch.float64)
    A2 = 0.2 * torch.eye(3, dtype=torch.float64)
    mix = torch.tensor([[1.0, 0, 0], [0.5, 1, 0], [0.2, -0.3, 0.5]], dtype=torch.float64)
    found = []
    for n in (4000, 3000):
        x = torch.zeros(n, 3, dtype=torch.float64)
        e = torch.randn(n, 3, dtype=torch.float64, generator=generator) @ mix.T
        for t in range(2, n):
            x[t] = 1 + A1 @ x[t - 1] + A2 @ x[t - 2] + e[t]
        found.append(x)
    return found


def test_var_recovers_the_process(sequences: list[Tensor]) -> None:
    var = VAR.fit(sequences, n_lags=2, ridge=0.0)
    assert torch.allclose(var.A[0, :3], torch.tensor([0.5, 0.2, 0.0]).double(), atol=0.05)
    assert var.covariance[1, 0] == pytest.approx(0.5, abs=0.05)


def test_var_log_prob_is_the_gaussian_of_its_errors(sequences: list[Tensor]) -> None:
    x = sequences[0][:50]
    var = VAR.fit(sequences, n_lags=2)
    for t in (2, 17, 49):
        mean = var.A @ torch.cat((x[t - 1], x[t - 2], torch.ones(1, dtype=x.dtype)))
        e = x[t] - mean
        quadratic = e @ torch.linalg.inv(var.covariance) @ e
        expected = -0.5 * (quadratic + torch.logdet(var.covariance) + 3 * math.log(2 * math.pi))
        assert var.log_prob(x)[t - 2] == pytest.approx(expected.item(), abs=1e-10)


def test_var_terms_are_conditionals_inside_the_frame(sequences: list[Tensor]) -> None:
    """The first two terms are the density of the first two features, whatever the third."""
    x = sequences[0][:30]
    var = VAR.fit(sequences, n_lags=2)
    terms = var.feature_log_prob(x)
    assert torch.allclose(terms.sum(-1), var.log_prob(x))
    S = var.covariance[:2, :2]
    marginal = torch.distributions.MultivariateNormal(var.mean(x)[:, :2], S)
    assert torch.allclose(terms[:, :2].sum(-1), marginal.log_prob(x[2:, :2]))


def test_expected_error_of_a_draw_is_that_of_draws(sequences: list[Tensor]) -> None:
    x = sequences[0][:200]
    var = VAR.fit(sequences, n_lags=1)
    noise = torch.distributions.MultivariateNormal(torch.zeros(3).double(), var.covariance)
    torch.manual_seed(0)
    drawn = (var.mean(x) + noise.sample((4000,))[..., None, :] - x[1:]).square().sum(-1).mean(0)
    of_samples, of_mean = var.squared_errors(x)
    assert drawn.mean() == pytest.approx(of_samples.mean().item(), rel=0.05)
    assert (of_samples > of_mean).all()


def test_copy_last_predicts_the_last_frame(sequences: list[Tensor]) -> None:
    x = sequences[0][:20]
    assert torch.equal(VAR.copy_last(sequences).mean(x), x[:-1])


def test_no_frame_to_fit_on_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 3"):
        VAR.fit([torch.zeros(3, 2)], n_lags=3)
