"""The compiled distribution of the next sample is that of the model, and a distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rnade_lightning.datamodules.sound import front_end
from rnade_lightning.kernels import experts
from rnade_lightning.rnn_experts import RNNExperts

NONE = np.zeros(0)


def model_of(seed: int = 0) -> RNNExperts:
    torch.manual_seed(seed)
    model = RNNExperts(4, n_recurrent=5, n_hidden=9, n_components=3, n_lags=6)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def walk(n: int, seed: int = 0, size: float = 20.0) -> np.ndarray:
    return np.round(np.cumsum(np.random.default_rng(seed).normal(size=n) * size))


def test_masses_are_those_of_the_model() -> None:
    model, x = model_of(), walk(120)
    z, side = front_end.analyse(front_end.start(), x, NONE)
    frames = torch.from_numpy(z).view(1, -1, 4).float()
    context = torch.from_numpy(side).view(1, -1, 4, front_end.N_SIDE)
    expected = model.feature_log_prob(frames, context=context).detach().flatten().numpy()
    W = experts.weights_of(model)
    S, N = front_end.start(), experts.start(W)
    for t, sample in enumerate(x):
        experts.predict(S, N, W, 0.0)
        own = N.weight, N.mean, N.inverse, N.table, 3
        mass = experts.mixture(sample + 0.5, 1.0, *own) - experts.mixture(sample - 0.5, 1.0, *own)
        assert np.isclose(np.log(mass), expected[t], atol=2e-4), t
        experts.learn(S, N, W, sample)


@pytest.mark.parametrize("weights", [experts.NO_NET, experts.weights_of(model_of())])
def test_the_distribution_function_rises_from_0_to_1(weights: experts.Weights) -> None:
    K = int(weights.sizes[3])
    S, N = front_end.start(), experts.start(weights)
    for sample in walk(200):
        experts.predict(S, N, weights, 0.0)
        m, s = S.m[0], S.m[1]
        x = np.floor(m) + 0.5 + np.arange(-3000, 3000)
        F = np.array([experts.cdf(N, value, K) for value in x[::7]])
        assert (np.diff(F) >= 0).all()
        far = 1e6 * (1 + s)
        assert experts.cdf(N, m - far, K) == 0
        assert np.isclose(experts.cdf(N, m + far, K), 1, atol=1e-12)
        experts.learn(S, N, weights, sample)


def test_pieces_and_whole_are_the_same_to_the_bit() -> None:
    W, x = experts.weights_of(model_of()), walk(5000)
    whole = experts.ends(front_end.start(), experts.start(W), W, x, NONE)
    state = front_end.start(), experts.start(W), W
    pieces = [experts.ends(*state, piece, NONE) for piece in np.split(x, [3, 1111])]
    for k, of_whole in enumerate(whole):
        assert (np.concatenate([piece[k] for piece in pieces]) == of_whole).all()


def test_the_bank_learns_a_constant_and_a_law_of_chance() -> None:
    def bits(x: np.ndarray) -> float:
        W = experts.NO_NET
        found = experts.ends(front_end.start(), experts.start(W), W, x, NONE)
        return float(-np.log2(np.maximum(found[2] - found[1], 2.0**-24))[2000:].mean())

    assert bits(np.full(4000, 7.0)) < 0.01
    laplace = np.round(np.random.default_rng(0).laplace(size=20_000) * 40)
    p = np.abs(np.arange(-2000, 2001))
    exact = np.exp(-p / 40) / np.exp(-p / 40).sum()
    assert bits(laplace) < -(exact * np.log2(exact)).sum() + 0.07


def test_wide_cells_hold_the_samples_in_them() -> None:
    x = np.random.default_rng(0).integers(-(2**23), 2**23, 3000).astype(float)
    W = experts.NO_NET
    state = front_end.start(), experts.start(W), W
    cell, low, high, plain, n_plain = experts.ends(*state, x, NONE)
    assert n_plain[100:].min() >= 10
    assert (plain < 2.0**n_plain).all()
    assert (high >= low).all()
    assert np.abs(cell).max() <= experts.CELLS
