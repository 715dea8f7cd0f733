"""The compiled distribution of the next sample is that of the model, and a distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rnade_lightning.datamodules.sound import front_end, panel
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
    z, side, _ = front_end.analyse(front_end.start(), x, NONE)
    frames = torch.from_numpy(z).view(1, -1, 4).float()
    context = torch.from_numpy(side).view(1, -1, 4, panel.N_SIDE)
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
