"""The 2-D trajectory has the density of its process."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from rnade_lightning.datamodules.simulated.trajectory import (
    STD_RATIO,
    STD_X,
    TrajectoryDataModule,
    entropy_rate,
    log_density,
)


def test_the_process_says_what_its_frames_do() -> None:
    data = TrajectoryDataModule(n_test=2000, n_frames=30, window=30)
    sequences = data.sequences("test")
    log_p, mean, variance = data.process(sequences[0].frames)
    frames = torch.stack([s.frames for s in sequences]).double()
    torch.testing.assert_close(frames.mean(0), mean.double(), rtol=0, atol=0.1)
    seen = (frames - mean).square().mean((0, 1))
    torch.testing.assert_close(seen, variance.mean(0), rtol=0.05, atol=0)
    z = (data.destandardise(frames[0])[:, 0] - np.sin(np.arange(30)) - 1) / STD_X
    ratio = data.destandardise(frames[0]).T
    r = (ratio[1] / ratio[0] - np.sin(np.arange(30)) - 0.5) / STD_RATIO
    raw = -0.5 * (z**2 + r**2) - np.log(2 * np.pi * STD_X * STD_RATIO) - np.log(np.abs(ratio[0]))
    np.testing.assert_allclose(log_p, raw + data.log_scale, atol=1e-4)


def test_entropy_rate_is_the_mean_of_minus_log_p_of_the_process() -> None:
    frames = TrajectoryDataModule(n_frames=1000).simulate(600, np.random.default_rng(0))
    log_p = log_density(frames)
    error = log_p.std() / np.sqrt(log_p.size)
    assert error < 2.5e-3
    assert abs(-log_p.mean() - entropy_rate()) < 4 * error


@pytest.mark.parametrize("std", [0.02, 0.1, 0.5])
def test_entropy_rate_agrees_with_quadrature_over_both_variables(std: float) -> None:
    theta = (np.arange(1, 20000, 2)) * np.pi / 20000  # of sin, over half a turn
    z = np.linspace(-8, 8, 801)
    log_distance = np.log(np.abs(1 - np.cos(2 * theta)[:, None] + std * z)).mean(axis=0)
    expected = float((log_distance * norm.pdf(z)).sum() * (z[1] - z[0]))
    expected += np.log(2 * np.pi * np.e * std * 0.2)
    assert entropy_rate(std) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("t", [0, 1, 3])
def test_true_density_integrates_to_one(t: int) -> None:
    wave = np.sin(t)
    x = wave + 1 + 0.1 * np.linspace(-7, 7, 700)
    y = np.linspace(-6, 8, 12001)
    total = 0.0
    for value in x[np.abs(x) > 1e-3]:
        pair = np.stack([np.full_like(y, value), y], axis=-1)[:, None]
        total += np.exp(log_density(pair, start=t)).sum() * (y[1] - y[0]) * (x[1] - x[0])
    assert total == pytest.approx(1, abs=5e-3)


def test_trajectory_frames_have_the_moments_of_the_process() -> None:
    frames = TrajectoryDataModule(n_frames=7, window=7).simulate(40000, np.random.default_rng(1))
    wave = np.sin(np.arange(7))
    x, ratio = frames[..., 0], frames[..., 1] / frames[..., 0]
    np.testing.assert_allclose(x.mean(axis=0), wave + 1, atol=0.005)
    np.testing.assert_allclose(x.std(axis=0), 0.1, atol=0.005)
    np.testing.assert_allclose(np.median(ratio, axis=0), wave + 0.5, atol=0.01)
    np.testing.assert_allclose(ratio.std(axis=0), 0.2, atol=0.01)


def test_standardised_trajectory_keeps_its_entropy_up_to_the_log_scale() -> None:
    data = TrajectoryDataModule(n_train=400)
    raw = np.concatenate([data.destandardise(s.frames)[None] for s in data.sequences("train")])
    own = float(log_density(raw).mean())
    assert -own == pytest.approx(data.entropy_rate, abs=0.03)
    spread = np.log(raw.reshape(-1, 2).std(axis=0)).sum()
    assert data.log_scale == pytest.approx(spread, abs=1e-5)
