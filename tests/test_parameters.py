"""Parameters of a frame: what a state sets is computed when it is asked for, and fits."""

from __future__ import annotations

import pytest
import torch
from kernel_pairs import randn

from rnade_lightning import RNADE
from rnade_lightning.parameters import StateParams, batch_of


def test_parameters_that_a_state_sets_are_products_until_they_are_asked_for() -> None:
    rnade, u, W = RNADE(3, 4, 2).double(), randn(5, 6), randn(6, 6)
    params = StateParams(rnade.static_params(), [None, W, None], u)
    assert len(params) == 3
    assert params[0] is rnade.b_alpha
    torch.testing.assert_close(params[1], rnade.b_mu + (u @ W.T).view(5, 3, 2))
    assert batch_of(list(params)) == (5,)
    assert params.batch == (5,)


def test_those_that_do_not_fit_are_refused() -> None:
    rnade, u, W = RNADE(3, 4, 2).double(), randn(5, 6), randn(6, 6)
    x, static = randn(5, 3), rnade.static_params()
    rnade.log_prob(x, StateParams(static, [None, W, None], u))
    for weights, state, message in (
        ([None, W[:, :5], None], u, r"W_mu has shape \(6, 5\), expected \(6, 6\)"),
        ([None, W[:5], None], u, r"W_mu has shape \(5, 6\), expected \(6, 6\)"),
        ([None, W, None], u[:4], r"the batches do not broadcast: x \(5,\), biases \(4,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            rnade.log_prob(x, StateParams(static, weights, state))
    with pytest.raises(TypeError, match=r"state must be of a floating dtype"):
        rnade.log_prob(x, StateParams(static, [None, W, None], u.to(torch.complex128)))
