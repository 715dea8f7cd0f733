"""Common scales, white units and couplings: a frame is drawn from as it is scored."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from reference import spread, supplement
from scipy import integrate, stats
from torch import Tensor

from rnade_lightning import RNNRNADE, Ensemble
from rnade_lightning.callbacks.gradient_check import gradient_table, require_correct
from rnade_lightning.frame_scales import FrameScales
from rnade_lightning.parameters import StateParams

WHITE = {"n_past": 2, "whiten": True, "feature_order": [2, 0, 1]}
COUPLED = {"n_couplings": 2, **WHITE}
PATHS = [{"n_scales": 3}, {"n_scales": 2, **WHITE}, WHITE, COUPLED, {"n_scales": 2, **COUPLED}]
both = pytest.mark.parametrize("paths", PATHS)


def seed(n: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(n)


def randn(*shape: int, n: int = 1) -> Tensor:
    return torch.randn(*shape, generator=seed(n), dtype=torch.float64)


def model_of(n_features: int = 3, cell: str = "gru", **options: Any) -> RNNRNADE:
    model = spread(supplement(n_features, 4, 5, 2, cell, **options).double())
    if model.root is not None:
        own = randn(n_features, n_features, n=4).tril(-1)
        model.root.copy_(own + 0.3 * torch.eye(n_features))
    return model  # type: ignore[no-any-return]


@pytest.mark.parametrize("paths", [{"n_scales": 3}, {"n_past": 1, "whiten": True, "n_scales": 2}])
def test_the_density_of_a_frame_integrates_to_one(paths: dict[str, Any]) -> None:
    model = model_of(1, **paths)
    past = randn(1, 3, 1)

    def p(x: float) -> float:
        frames = torch.cat((past, torch.full((1, 1, 1), x, dtype=torch.float64)), 1)
        return model.log_prob(frames)[0, -1].exp().item()

    assert integrate.quad(p, -80, 80, limit=400, points=[-5, 0, 5])[0] == pytest.approx(1, abs=1e-6)


@both
def test_the_terms_of_the_features_add_up(paths: dict[str, Any]) -> None:
    model, frames = model_of(**paths), randn(2, 5, 3)
    torch.testing.assert_close(model.feature_log_prob(frames).sum(-1), model.log_prob(frames))
    marginal = model.feature_log_prob(frames)[..., model.feature_order[0] if WHITE is paths else 0]
    assert (marginal > model.log_prob(frames) - 50).all()


@both
@pytest.mark.parametrize("backend", ["torch", "compiled"])
def test_samples_follow_the_distribution_functions(paths: dict[str, Any], backend: str) -> None:
    model = model_of(backend=backend, **paths)
    with torch.no_grad():
        drawn = model.sample(3, 4000, generator=seed())[0]
        below = model.feature_cdf(drawn).flatten(1)
    assert min(stats.kstest(b.numpy(), "uniform").pvalue for b in below.T) > 1e-3


@both
def test_log_p_of_draws_is_that_of_importance_weights(paths: dict[str, Any]) -> None:
    """The mean of q(x) / p(x) over draws of p is 1 for another density q."""
    model = model_of(2, **{k: v for k, v in paths.items() if k != "feature_order"})
    with torch.no_grad():
        drawn = model.sample(1, 40_000, generator=seed())[0]
        inner = torch.distributions.Normal(drawn[:, 0].median(0).values, 0.3)
        ratio = (inner.log_prob(drawn[:, 0]).sum(-1) - model.log_prob(drawn)[:, 0]).exp()
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / 200


@both
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_compiled_draws_are_those_of_torch(paths: dict[str, Any], temperature: float) -> None:
    fast, plain = (model_of(backend=b, **paths) for b in ("compiled", "torch"))
    how = {"prefix": randn(2, 4, 3), "temperature": temperature}
    one, two = (m.sample(8, 3, generator=seed(), **how) for m in (fast, plain))
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


@both
def test_chunks_streams_and_steps_give_the_same(paths: dict[str, Any]) -> None:
    model, frames = model_of(**paths), randn(2, 6, 3)
    whole = model.log_prob(frames)
    first, u = model.log_prob_and_state(frames[:, :4])
    torch.testing.assert_close(torch.cat((first, model.log_prob(frames[:, 4:], u=u)), 1), whole)
    stream = model.stream(n_samples=2, u=u, generator=seed())
    drawn = model.sample(3, 2, u=u, generator=seed())
    for t in range(3):
        assert torch.equal(next(stream), drawn[:, :, t])


def test_the_mean_is_that_of_draws() -> None:
    model, frames = model_of(n_scales=3, **WHITE), randn(1, 3, 3)
    with torch.no_grad():
        mean = model.predictive_mean(frames, n_samples=900, generator=seed())
        draws = model.one_step_samples(frames, n_samples=4000, generator=seed(1))
    assert ((mean - draws.mean(0)).abs() < 4 * draws.std(0) * (1 / 30 + 1 / 63)).all()


@both
@pytest.mark.parametrize("cell", ["gru", "tanh"])
def test_the_gradient_check_covers_them(paths: dict[str, Any], cell: str) -> None:
    model = model_of(cell=cell, **paths)
    rows = gradient_table(model, randn(2, 4, 3))
    require_correct(rows)
    assert ("scales.log_scales" in {row.parameter for row in rows}) == ("n_scales" in paths)


def test_a_factor_whose_gradient_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = FrameScales.log_weights
    monkeypatch.setattr(FrameScales, "log_weights", lambda self, state: right(self, state.detach()))
    model = model_of(n_scales=3)
    with pytest.raises(Exception, match="differ"):
        require_correct(gradient_table(model, randn(2, 4, 3)))


def test_frames_that_are_far_out_together_gain() -> None:
    """Frames of one scale each, the same for all features, have more density under a mixture with
    these scales than under independent features, whatever their tails are."""
    scale = torch.where(torch.rand(1, 300, 1, generator=seed(2)) < 0.5, 0.2, 1.0).double()
    frames = scale * randn(1, 300, 8)
    model = RNNRNADE(8, 0, 2, 2, component="gaussian", n_past=0, n_scales=2, linear=False).double()
    with torch.no_grad():
        model.rnade.b_mu.zero_()
        model.rnade.b_sigma.copy_(torch.tensor([0.2, 1.0]).log().expand(8, 2))
        alone = model.scales.log_scales.zero_()  # type: ignore[union-attr]
        by_feature = model.log_prob(frames).mean()
        model.rnade.b_sigma.zero_()
        alone.copy_(torch.tensor([0.2, 1.0]).log())
        assert model.log_prob(frames).mean() > by_feature + 1


def test_a_frame_goes_on_from_its_first_features_as_the_density_says() -> None:
    """Draws of whole frames that begin near a value go on as draws given that value."""
    density = model_of(2, n_past=0, n_scales=2).density
    with torch.no_grad():
        density.log_scales.copy_(torch.tensor([-2.0, 2.0]))  # type: ignore[union-attr]
        whole = density.sample((400_000,), generator=seed())
        first = whole[:, 0].quantile(0.97)
        near = whole[(whole[:, 0] - first).abs() < 0.02 * first.abs()]
        drawn = density.sample((len(near),), given=first[None], generator=seed(1))
    assert len(near) > 300
    assert (drawn[:, 0] == first).all()
    assert stats.ks_2samp(near[:, 1].numpy(), drawn[:, 1].numpy()).pvalue > 1e-3


def test_without_a_state_a_density_with_scales_has_that_of_zeros_or_refuses() -> None:
    model, x = model_of(2, n_past=0, n_scales=2), randn(3, 2)
    with torch.no_grad():
        model.scales.W_w.normal_()  # type: ignore[union-attr]
        zeros = StateParams(model.rnade.static_params(), [None] * 3, x.new_zeros(5))
        assert torch.equal(model.density.log_prob(x), model.density.log_prob(x, zeros))
        with pytest.raises(TypeError, match="follow a state"):
            model.density.log_prob(x, model.rnade.static_params())


def test_a_copy_has_its_own_parameters() -> None:
    model = model_of(2, n_scales=2)
    other = copy.deepcopy(model)
    assert other.scales.rnade is other.rnade is not model.rnade  # type: ignore[union-attr]
    assert not [name for name in model.state_dict() if name.startswith("scales.rnade")]


def test_scales_are_of_the_density_that_the_model_has_now() -> None:
    model, x = model_of(2, n_scales=2), randn(3, 4, 2)
    before = model.log_prob(x)
    model.rnade = copy.deepcopy(model.rnade)
    with torch.no_grad():
        model.rnade.b_mu += 1
    assert not torch.allclose(model.log_prob(x), before)
    other = model_of(2, n_scales=2)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.log_prob(x), model.log_prob(x))


def test_an_ensemble_may_have_members_with_scales() -> None:
    both = Ensemble([model_of(n_scales=2), model_of()])
    frames = randn(2, 4, 3)
    each = torch.stack([m.log_prob(frames) for m in both.members])
    torch.testing.assert_close(both.log_prob(frames), torch.logsumexp(each, 0) - math.log(2))
    assert both.sample(3, 2).shape == (1, 2, 3, 3)


def test_arguments_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="n_scales must be at least 1, got 0"):
        model_of(n_scales=0)
    with pytest.raises(ValueError, match="cannot be whitened"):
        supplement(3, 4, 5, 2, component="laplace", censor_at=(-1.0, 1.0), n_past=1, whiten=True)
