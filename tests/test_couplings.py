"""Couplings: correlations within a frame that follow the state, exactly."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from reference import spread, supplement
from torch import Tensor

from rnade_lightning import RNNRNADE, RNNDensity
from rnade_lightning.callbacks.gradient_check import gradient_table, require_correct
from rnade_lightning.couplings import Couplings
from rnade_lightning.densities import GaussianMixture


def randn(*shape: int, n: int = 1) -> Tensor:
    g = torch.Generator().manual_seed(n)
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def model_of(n_features: int = 3, **options: Any) -> RNNRNADE:
    options = {"n_couplings": 2, "n_past": 2, "whiten": True} | options
    model = spread(supplement(n_features, 4, 5, 2, "gru", **options).double())
    if model.root is not None:
        model.root.copy_(randn(n_features, n_features, n=4).tril(-1) + 0.5 * torch.eye(n_features))
    return model  # type: ignore[no-any-return]


def test_what_is_taken_is_given_back_and_the_jacobian_is_one() -> None:
    of, u = Couplings(3, 5, 4).double(), randn(4, n=2)
    of.M.data.normal_()
    x = randn(7, 5)
    torch.testing.assert_close(of.given_back(of.taken(x, u), u), x)
    J = torch.autograd.functional.jacobian(lambda y: of.taken(y, u), x[0])
    assert (J.triu(1) == 0).all()
    assert (J.diagonal() == 1).all()
    assert J.tril(-1).count_nonzero() == 10


def test_a_model_with_couplings_starts_as_one_without() -> None:
    frames = randn(2, 5, 3)
    torch.manual_seed(0)
    one = RNNRNADE(3, n_past=1).double()
    two = RNNRNADE(3, n_past=1, n_couplings=4).double()
    two.load_state_dict(one.state_dict(), strict=False)
    assert torch.equal(one.log_prob(frames), two.log_prob(frames))


def test_the_mixtures_of_features_are_the_density() -> None:
    model, frames = model_of(feature_order=[2, 0, 1], n_scales=2), randn(2, 4, 3)
    history = model.states(frames)[0]
    log_weights, means, log_scales = model.mixtures_given(history, frames)
    each = model.rnade.component.log_prob(frames[..., None], means, log_scales)
    found = torch.logsumexp(log_weights + each, -1)
    torch.testing.assert_close(found, model.feature_log_prob(frames))


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("kind", [RNNRNADE, RNNDensity])
def test_the_mean_of_a_frame_is_the_mean_of_its_draws(kind: type, whiten: bool) -> None:
    """Couplings are bounded and so not linear: they do not lead from mean to mean."""
    options: dict[str, Any] = {"n_couplings": 1, "n_past": 0, "whiten": whiten}
    model = RNNRNADE(2, 3, 4, 2, conditioned=(), **options)
    if kind is RNNDensity:
        model = RNNDensity(GaussianMixture(2, 2), 4, **options)
    model, means = model.double(), torch.tensor([[0.0, 6.0], [0.0, 0.0]])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.density.b_mu.copy_(means if kind is RNNRNADE else means.T)
        model.couplings.M[0, 1, 0], model.couplings.b[0] = 1.0, 10.0
        if whiten:
            model.root.copy_(torch.tensor([[1.0, 0.0], [0.5, 2.0]]))
    history, generator = model.history(model.initial_state(1)), torch.Generator().manual_seed(0)
    draws = model.sample_given(history, (40_000,), generator)[:, 0]
    mean = model.mean_given(history, 4000, generator)[0]
    error = draws.std(0) * (1 / 40_000 + 1 / 4000) ** 0.5
    assert ((mean - draws.mean(0)).abs() < 4 * error).all()
    assert not mean.requires_grad
    of_mean = model._in_frames(torch.tensor([[3.0, 0.0]], dtype=torch.float64), history)[0]
    assert (of_mean - mean)[1].abs() > 10 * error[1]


def test_the_correlation_of_two_features_follows_the_state() -> None:
    """Features move together after one state, and against each other after another; the density
    of their draws is that of the Gaussians that made them, one after the other."""
    model = RNNRNADE(2, 0, 1, 1, component="gaussian", floor=0.0, n_past=0, linear=False,
                     conditioned=(), n_couplings=1).double()  # fmt: skip
    of, normal = model.couplings, torch.distributions.Normal(0.0, 1.0)
    assert of is not None
    with torch.no_grad():
        for b in model.rnade.static_params():
            b.zero_()
        of.M[0, 1, 0], of.W[0, 0] = 0.8, 50.0
        for sign in (-1.0, 1.0):
            x = model.sample(1, 4000, u=torch.full((1, 1), sign).double())[0, :, 0]
            assert 0.5 < sign * torch.corrcoef(x.T)[0, 1] < 0.8 / math.sqrt(1.64)
            left = x[:, 1] - sign * 0.8 * 3 * torch.tanh(x[:, 0] / 3)
            u = torch.full((len(x), 1), sign).double()
            found = model.log_prob(x[:, None], u=u)[:, 0]
            torch.testing.assert_close(found, normal.log_prob(x[:, 0]) + normal.log_prob(left))


def test_what_a_feature_says_is_bounded() -> None:
    """A frame far out is drawn near to where its innovations put it: nothing adds up."""
    of, u, z = Couplings(3, 40, 4).double(), randn(4, n=2), 100 * randn(5, 40)
    of.M.data.normal_()
    most = 3 * of.M.tril(-1).abs().sum(0).sum(-1)
    for far in (of.given_back(z, u), of.taken(z, u)):
        assert ((far - z).abs() <= most).all()


def test_compiled_draws_see_the_context_as_those_of_torch_do() -> None:
    both = [model_of(n_context=2, n_layers=2, backend=b) for b in ("compiled", "torch")]
    how = {"prefix": randn(2, 4, 3), "context": randn(2, 10, 2, n=5)}
    drawn = [m.sample(6, 3, generator=torch.Generator().manual_seed(0), **how) for m in both]
    torch.testing.assert_close(*drawn, rtol=1e-9, atol=1e-9)
    of = both[0].couplings
    assert of is not None
    of.W.data[:, -2:] = 0.0  # the context no longer sets them
    other = both[0].sample(6, 3, generator=torch.Generator().manual_seed(0), **how)
    assert not torch.allclose(other, drawn[0])


def test_frames_out_of_reach_have_no_density_and_no_gradient() -> None:
    model, frames = model_of(), randn(1, 3, 3)
    frames[0, 1, 1] = math.inf
    log_p = model.log_prob(frames.requires_grad_())
    assert log_p[0, 1] == -math.inf
    log_p[0, :1].sum().backward()
    assert frames.grad is not None
    assert frames.grad.isfinite().all()


def test_a_wrong_gradient_of_a_coupling_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    require_correct(gradient_table(model_of(), randn(2, 4, 3)))
    right = Couplings.strengths
    monkeypatch.setattr(Couplings, "strengths", lambda self, state: right(self, state.detach()))
    with pytest.raises(Exception, match="differ"):
        require_correct(gradient_table(model_of(), randn(2, 4, 3)))


def test_bounds_have_no_couplings_and_their_number_is_checked() -> None:
    with pytest.raises(ValueError, match="bounds cannot be whitened or coupled"):
        supplement(3, 4, 5, 2, component="laplace", censor_at=(-1.0, 1.0), n_couplings=2)
    with pytest.raises(ValueError, match="n_couplings must be at least 0"):
        RNNRNADE(3, n_couplings=-1)
