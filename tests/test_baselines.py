"""The baselines against their textbook forms."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
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


@pytest.mark.parametrize("df", [2.0, -1.0, math.nan])
def test_errors_without_a_covariance_are_refused(sequences: list[Tensor], df: float) -> None:
    with pytest.raises(ValueError, match="above 2 degrees of freedom"):
        VAR.fit(sequences, df=df)


def heavy(n: int, df: float, seed: int = 0) -> Tensor:
    """Return independent frames of a Student t with correlated features, ``(n, 3)``."""
    rng = np.random.default_rng(seed)
    scale = np.array([[1.0, 0.6, 0.2], [0.6, 1.0, -0.3], [0.2, -0.3, 0.5]])
    return torch.as_tensor(stats.multivariate_t(shape=scale, df=df, seed=rng).rvs(n))


@pytest.mark.parametrize("df", [3.0, 7.5])
def test_student_errors_have_the_density_of_scipy(df: float) -> None:
    x = heavy(60, 5)
    var = VAR.fit([x], 2, df=df)
    rival = stats.multivariate_t(shape=var.covariance.numpy(), df=df)
    expected = torch.as_tensor(rival.logpdf((x[2:] - var.mean(x)).numpy()))
    torch.testing.assert_close(var.log_prob(x), expected, rtol=1e-9, atol=1e-9)
    marginal = stats.multivariate_t(shape=var.covariance[:2, :2].numpy(), df=df)
    expected = torch.as_tensor(marginal.logpdf((x[2:] - var.mean(x))[:, :2].numpy()))
    terms = var.feature_log_prob(x)[:, :2].sum(-1)
    torch.testing.assert_close(terms, expected, rtol=1e-9, atol=1e-9)


def test_many_degrees_of_freedom_are_nearly_gaussian() -> None:
    x = heavy(60, 5)
    torch.testing.assert_close(
        VAR.fit([x], 1, df=1e9).log_prob(x), VAR.fit([x], 1).log_prob(x), rtol=1e-6, atol=1e-6
    )


def test_student_errors_have_the_variance_of_the_residuals() -> None:
    x = heavy(4000, 5)
    gaussian, student = VAR.fit([x], 1), VAR.fit([x], 1, df=5.0)
    for one, two in zip(gaussian.squared_errors(x), student.squared_errors(x), strict=True):
        torch.testing.assert_close(one, two)
    torch.testing.assert_close(student.covariance * 5 / 3, gaussian.covariance)


def test_an_infinite_ridge_leaves_what_it_draws_to(sequences: list[Tensor]) -> None:
    x = sequences[0][:50]
    assert torch.equal(VAR.fit([x], 1, math.inf).mean(x), torch.zeros(49, 3).double())
    near = VAR.fit([x], 1, 1e12, towards_copying=True).A[:, :3]
    torch.testing.assert_close(near, torch.eye(3).double(), atol=1e-6, rtol=0)


@pytest.mark.slow
def test_tuning_finds_heavy_tails_and_few_lags() -> None:
    var = VAR.tuned([heavy(3000, 4)], [heavy(3000, 4, seed=1)])
    assert var.df in (3.0, 4.0, 5.0)
    assert 0.7 < var.options.factor < 1.5
    gaussian = torch.randn(3000, 3, generator=torch.Generator().manual_seed(0)).double()
    assert VAR.tuned([gaussian[:2000]], [gaussian[2000:]]).df >= 20


def test_tuning_is_never_below_what_it_starts_from(sequences: list[Tensor]) -> None:
    train, held_out = sequences[0][:60], sequences[1][:300]
    tuned = VAR.tuned([train], [held_out])
    for plain in (VAR.fit([train], p) for p in (1, 2, 3)):
        skip = 3 - plain.n_lags
        own = tuned.log_prob(held_out)[3 - tuned.n_lags :].mean()
        assert own >= plain.log_prob(held_out)[skip:].mean()


def test_few_frames_of_many_features_have_a_density_all_the_same() -> None:
    """Residuals of 20 frames have no covariance of 30 features: it is shrunk."""
    x = torch.randn(40, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for copy in (False, True):
        tuned = VAR.tuned([x[:20]], [x[20:30]], copy=copy)
        assert tuned.options.shrinkage > 0
        assert tuned.log_prob(x[30:]).mean() > -80
    assert VAR.fit([x[:20]]).log_prob(x[30:]).mean() < -1000


def test_the_options_of_a_tuned_model_fit_other_sequences(sequences: list[Tensor]) -> None:
    tuned = VAR.tuned([sequences[0][:300]], [sequences[1][:300]])
    again = tuned.refitted([sequences[0][:300]])
    assert torch.equal(again.A, tuned.A)
    assert again.options == tuned.options
    assert "Gaussian" in str(tuned.options) or "Student" in str(tuned.options)


@pytest.mark.parametrize(
    "options",
    [{"ridge": -1.0}, {"ridge": float("nan")}, {"shrinkage": 2.0}, {"factor": 0.0}, {"n_lags": 0}],
)
def test_options_out_of_their_range_are_refused(
    sequences: list[Tensor], options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        VAR.fit(sequences, **options)


def test_nothing_to_choose_on_is_refused(sequences: list[Tensor]) -> None:
    with pytest.raises(ValueError, match="no validation sequence is longer than 3"):
        VAR.tuned(sequences, [sequences[0][:3]])


@pytest.mark.parametrize("df", [math.inf, 5.0])
def test_draws_have_the_mean_and_the_covariance_of_the_errors(df: float) -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(300, 3, generator=generator).double().cumsum(0) / 10
    var = VAR.fit([frames], 2, df=df)
    state = torch.random.get_rng_state()
    draws = var.draws(frames[:4], 50_000)
    assert torch.equal(torch.random.get_rng_state(), state)  # a diagnostic never changes the run
    torch.testing.assert_close(draws.mean(0), var.mean(frames[:4]), rtol=0, atol=0.01)
    of_draw, _ = var.squared_errors(frames[:4])
    squares = (draws - frames[2:4]).square().sum(-1).mean(0)
    torch.testing.assert_close(squares, of_draw, rtol=0.05, atol=0)
