"""An ensemble is the exact mixture of its members, and one model like any other."""

from __future__ import annotations

import pytest
import torch
from reference import spread, supplement
from test_rnn_rnade import randn, seed

from rnade_lightning import RNNRNADE
from rnade_lightning.densities import Gaussian, RNNDensity
from rnade_lightning.ensemble import Ensemble


def members() -> list[RNNRNADE | RNNDensity]:
    made = [
        supplement(3, 4, 5, 2, "gru", feature_order=3),
        supplement(3, 4, 6, 2, "lstm", n_past=2, n_layers=2),
        RNNDensity(Gaussian(3, 0.3), 4),
    ]
    return [spread(model.double(), seed=i) for i, model in enumerate(made)]


def test_the_likelihood_is_that_of_the_mixture_at_every_frame() -> None:
    each, frames = members(), randn(2, 6, 3)
    together = Ensemble(each)
    expected = torch.stack([m.log_prob(frames).exp() for m in each]).mean(0).log()
    torch.testing.assert_close(together.log_prob(frames), expected)
    product = torch.stack([m.log_prob(frames) for m in each]).mean(0)
    assert (expected > product).all()  # a mixture is never below the average of its members
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    log_p, u = together.log_prob_and_state(frames, mask)
    torch.testing.assert_close(log_p, expected.where(mask, 0))
    torch.testing.assert_close(u[1:], together.states(frames[1:, :4])[1])


def test_chunks_and_steps_equal_the_whole() -> None:
    together, frames = Ensemble(members()), randn(2, 6, 3)
    whole = together.log_prob(frames)
    start, u = together.log_prob_and_state(frames[:, :2])
    torch.testing.assert_close(torch.cat((start, together.log_prob(frames[:, 2:], u=u)), 1), whole)
    for t in range(2, 6):
        u = together.step(frames[:, t], u)
    torch.testing.assert_close(u, together.states(frames)[1])


def test_draws_come_from_all_members_in_equal_shares() -> None:
    each = [RNNDensity(Gaussian(2), 3).double() for _ in range(2)]
    for i, model in enumerate(each):
        spread(model, 0.01)
        model.of_frame.b_mu.data.fill_(100.0 * i)
        model.of_frame.b_sigma.data.zero_()
    together = Ensemble(each)
    draws = together.sample(1, 4000, generator=seed())[0, :, 0]
    assert (draws[:, 0] > 50).double().mean() == pytest.approx(0.5, abs=0.05)
    assert ((draws[:, 0] > 50) == (draws[:, 1] > 50)).all()  # a frame is of one member
    mean = together.predictive_mean(randn(1, 1, 2), n_samples=2)
    torch.testing.assert_close(mean, torch.full_like(mean, 50.0), rtol=0, atol=1.0)
    steps = together.one_step_samples(randn(2, 3, 2), n_samples=5, generator=seed())
    assert steps.shape == (5, 2, 3, 2)


def test_members_of_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"model \[2, 3\] features"):
        Ensemble([RNNDensity(Gaussian(2), 3), RNNDensity(Gaussian(3), 3)])
