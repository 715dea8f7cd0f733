"""A support censors: two atoms and a density between them, for frames and for sequences."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import reference
import torch
from reference import BOUNDS, spread, supplement
from scipy import stats

from rnade_lightning import RNADE, RNNRNADE
from rnade_lightning.checkpoints import Checkpoint, load_model
from rnade_lightning.lightning_module import RNNRNADEModule

LOW, HIGH = BOUNDS
both_backends = pytest.mark.parametrize("backend", ["torch", "compiled"])


def seed(n: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(n)


def randn(*shape: int, n: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=seed(n), dtype=torch.float64)


def rnade(n_features: int, **options: Any) -> RNADE:
    model = RNADE(n_features, 4, 2, "laplace", linear=True, censor_at=BOUNDS, **options).double()
    with torch.no_grad():
        spread(model).b_sigma -= 1  # scales of about a third of the support
    return model


def rnn_rnade(**options: Any) -> RNNRNADE:
    model = supplement(
        3, 4, 5, 2, "gru", component="laplace", linear=True, n_past=2, censor_at=BOUNDS, **options
    ).double()
    return spread(model, 0.3)


@pytest.mark.slow
@pytest.mark.parametrize("n_features", [1, 2])
@both_backends
def test_atoms_and_the_integral_between_add_up_to_one(backend: Any, n_features: int) -> None:
    model, n = rnade(n_features, backend=backend), 2001
    step = (HIGH - LOW) / n
    between = LOW + step * (torch.arange(n, dtype=torch.float64) + 0.5)
    axis = torch.cat((torch.tensor([LOW, HIGH], dtype=torch.float64), between))
    size = torch.tensor([1.0, 1.0, *[step] * n]).double()  # of an atom, of a cell
    points = torch.cartesian_prod(*[axis] * n_features).view(-1, n_features)
    sizes = torch.cartesian_prod(*[size] * n_features).view(-1, n_features).prod(-1)
    total = (model.log_prob(points).exp() * sizes).sum().item()
    assert total == pytest.approx(1, abs=1e-4)


@both_backends
def test_what_lies_beyond_is_taken_for_the_bound(backend: Any) -> None:
    model, x = rnn_rnade(backend=backend), (3 * randn(2, 4, 3)).requires_grad_()
    inside = (x > LOW) & (x < HIGH)
    log_p = model.log_prob(x)
    torch.testing.assert_close(log_p, model.log_prob(x.clamp(LOW, HIGH)))
    (slope,) = torch.autograd.grad(log_p.sum(), x)
    assert torch.equal(slope != 0, inside)


@pytest.mark.slow
@both_backends
def test_samples_have_the_atoms_and_the_distribution_of_the_density(backend: Any) -> None:
    model = rnade(3, backend=backend)
    x = model.sample((4000,), generator=seed())
    assert ((x >= LOW) & (x <= HIGH)).all()
    for bound in BOUNDS:
        expected = model.log_prob(torch.tensor([bound], dtype=torch.float64)).exp().item()
        share = (x[:, 0] == bound).double().mean().item()
        assert 0.03 < share == pytest.approx(expected, abs=4 * (expected / 4000) ** 0.5)
    u = model.feature_cdf(x).detach()
    assert min(stats.kstest(u[:, d], "uniform").pvalue for d in range(3)) > 1e-3
    with torch.no_grad():
        model.b_sigma += 0.3
    u = model.feature_cdf(x).detach()
    assert min(stats.kstest(u[:, d], "uniform").pvalue for d in range(3)) < 1e-3  # it is seen


@pytest.mark.slow
@both_backends
def test_the_mean_is_that_of_the_draws(backend: Any) -> None:
    model = rnade(3, backend=backend)
    x = model.sample((40_000,), generator=seed())
    mean = model.mean(n_samples=900, generator=seed(1))
    assert ((mean - x.mean(0)).abs() < 3 * x.std(0) * (1 / 200 + 1 / 30)).all()
    log_weights, means, log_scales = (p[0] for p in model.conditionals(x[:1, :1])[:3])
    n = 400_000
    level = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    standard = torch.where(level < 0.5, (2 * level).log(), -(2 - 2 * level).log())
    drawn = (means + log_scales.exp() * standard[:, None, None]).clamp(LOW, HIGH)  # by quantiles
    by_quantiles = (log_weights.exp() * drawn.mean(0)).sum().item()
    assert mean[0].item() == pytest.approx(by_quantiles, abs=1e-5)


@pytest.mark.slow
def test_the_same_noise_gives_the_same_sequences() -> None:
    plain, fast = (rnn_rnade(backend=backend) for backend in ("torch", "compiled"))
    for call in ({"n_samples": 3}, {"prefix": randn(2, 4, 3), "temperature": 1.2}):
        one, two = (m.sample(12, generator=seed(), **call) for m in (plain, fast))
        torch.testing.assert_close(two, one, rtol=1e-10, atol=1e-10)
        assert ((one >= LOW) & (one <= HIGH)).all()


@both_backends
def test_the_linear_path_moves_the_means_and_not_the_frame(backend: Any) -> None:
    model, frames = rnn_rnade(backend=backend), randn(2, 6, 3)
    seen = model.states(frames)[0]
    past = torch.nn.functional.pad(frames.clamp(LOW, HIGH), (0, 0, 2, 0))
    explained = past[:, 1:-1] @ model.A[0].T + past[:, :-2] @ model.A[1].T
    alpha, mu, sigma = model.frame_params(seen[..., :5].new_zeros(2, 6, seen.shape[-1]))
    mu = mu + (seen[..., :5] @ model.W_mu.T).view(2, 6, 3, 2) + explained[..., None]
    alpha = alpha + (seen[..., :5] @ model.W_alpha.T).view(2, 6, 3, 2)
    sigma = sigma + (seen[..., :5] @ model.W_sigma.T).view(2, 6, 3, 2)
    expected = model.rnade.log_prob(frames, (alpha, mu, sigma))
    torch.testing.assert_close(model.log_prob(frames), expected)
    torch.testing.assert_close(model.feature_log_prob(frames).sum(-1), expected)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"feature_order": 1, "n_layers": 2}], ids=["", "order"])
def test_sequences_follow_the_conditional_cdfs(options: dict[str, Any]) -> None:
    model = rnn_rnade(**options)
    drawn = model.sample(4, 500, generator=seed())[0]
    pit = model.feature_cdf(drawn).detach().numpy()
    assert stats.kstest(pit.ravel(), "uniform").pvalue > 0.01
    draws = model.one_step_samples(drawn[:50], n_samples=200, generator=seed())
    mean = model.predictive_mean(drawn[:50], n_samples=200, generator=seed(1))
    assert ((draws >= LOW) & (draws <= HIGH)).all()
    assert (draws.mean(0) - mean).abs().max() < 0.2


def test_a_bound_is_met_in_float32() -> None:
    model = RNADE(2, 4, 2, "laplace", censor_at=(1 / 512, 511 / 512))
    x = model.sample((200,), generator=seed())
    on_bound = (x == x.min()) | (x == x.max())
    assert on_bound.any()
    for bound in (0.0, 1.0):  # the atoms of the draws are those of the density
        own = x[(x - bound).abs().amin(-1) < 0.01]
        torch.testing.assert_close(
            model.log_prob(own), model.double().log_prob(own.double()).float()
        )
        model.float()


def test_a_checkpoint_keeps_it() -> None:
    module = RNNRNADEModule(3, 4, 5, 2, component="laplace", censor_at=BOUNDS)
    saved = {"hyper_parameters": dict(module.hparams), "state_dict": module.state_dict()}
    module.on_save_checkpoint(saved)
    model = load_model(Checkpoint(saved, "laplace"))
    assert isinstance(model, RNNRNADE)
    assert model.rnade.component.atoms == BOUNDS


@pytest.mark.parametrize("low_or_high", [0, 1])
def test_the_probability_of_a_bound_far_from_the_means_is_finite(low_or_high: int) -> None:
    for backend, dtype in itertools.product(("torch", "compiled"), (torch.float32, torch.float64)):
        model = RNADE(1, 0, 1, "laplace", censor_at=BOUNDS, backend=backend).to(dtype)
        with torch.no_grad():
            model.b_mu.fill_(1e3 * (1 - 2 * low_or_high)), model.b_sigma.fill_(-3)
        log_p = model.log_prob(torch.tensor([BOUNDS[low_or_high]], dtype=dtype))
        log_p.backward()
        r = abs(1e3 * (1 - 2 * low_or_high) - BOUNDS[low_or_high]) * torch.tensor(3.0).exp().item()
        assert log_p.item() == pytest.approx(-r - torch.tensor(2.0).log().item(), rel=1e-5)
        assert all(t.grad is None or t.grad.isfinite().all() for t in model.parameters())


def test_without_bounds_nothing_changes() -> None:
    wide = RNADE(3, 4, 2, "laplace", censor_at=(-1e9, 1e9)).double()
    free = RNADE(3, 4, 2, "laplace").double()
    free.load_state_dict(spread(wide).state_dict())
    x = randn(5, 3)
    torch.testing.assert_close(wide.log_prob(x), free.log_prob(x))
    torch.testing.assert_close(
        reference.log_prob(reference.parameters(wide), x[0].numpy(), component="laplace"),
        wide.log_prob(x)[0].item(),
    )
