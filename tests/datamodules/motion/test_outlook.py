"""A linear model of its motion says where a root will be."""

from __future__ import annotations

import numpy as np
import pytest

from rnade_lightning.datamodules.motion.outlook import Outlook

N, N_AHEAD, SPEED, SIGMA = 4, 3, 2.0, np.array([0.0, 0.1, 0.4])


@pytest.fixture(scope="module")
def free() -> tuple[np.ndarray, np.ndarray]:
    """Make roots that go straight ahead, at a speed of their own, and their random numbers."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(200, 60, 3))
    own = 0.5 * rng.normal(size=(200, 1, 1)) * np.array([0.0, 0.0, 1.0])
    return np.array([0.0, 0.0, SPEED]) + own + SIGMA * noise, noise


@pytest.fixture(scope="module")
def outlook(free: tuple[np.ndarray, np.ndarray]) -> Outlook:
    return Outlook.learnt(*free, N, N_AHEAD)


def test_who_goes_faster_will_be_further(outlook: Outlook) -> None:
    """The share of the last stretch's speed that is the root's own: its regression."""
    share = 0.5**2 / (0.5**2 + SIGMA[2] ** 2 / N)
    frames = N * np.arange(1, N_AHEAD + 1)
    np.testing.assert_allclose(outlook.weights[3, 1::2], share * frames, rtol=0.1)
    at_mean = outlook.weights[0] + outlook.weights[3] * SPEED
    np.testing.assert_allclose(at_mean[1::2], SPEED * frames, rtol=0.03)
    left = 0.5**2 * (1 - share)  # of the variance of the speed
    expected = left * np.outer(frames, frames) + SIGMA[2] ** 2 * np.minimum.outer(frames, frames)
    np.testing.assert_allclose(outlook.covariance[1::2, 1::2], expected, rtol=0.15)


def test_a_random_number_moves_the_root_from_then_on(outlook: Outlook) -> None:
    np.testing.assert_allclose(outlook.response[::2, 1], SIGMA[1], rtol=0.1)
    np.testing.assert_allclose(outlook.response[1::2, 2], SIGMA[2], rtol=0.1)
    np.testing.assert_allclose(outlook.response[:, 0], 0.0, atol=0.05)


@pytest.mark.parametrize("h", [1, N_AHEAD])
def test_slopes_are_the_gradient_of_log_p(outlook: Outlook, h: int) -> None:
    recent = np.tile([0.0, 0.0, SPEED], (2, 1))
    frames = N * np.arange(1, h + 1)
    ahead = np.stack([0 * frames, SPEED * frames + 1.0], -1)[None] * np.ones((2, 1, 1))
    ahead[1] += 0.5
    slopes, step = outlook.slopes(recent, ahead, 0.3), 1e-4
    assert (slopes[:, 2] > 0).all()
    for k in range(3):
        by = step * outlook.response[: 2 * h, k].reshape(1, h, 2)
        low, high = (outlook.log_p(recent, ahead + s * by, 0.3) for s in (1, -1))
        np.testing.assert_allclose((high - low) / (2 * step), slopes[:, k], rtol=1e-6, atol=1e-8)


def test_nothing_ahead_is_worth_nothing(outlook: Outlook) -> None:
    recent, none = np.zeros((5, 3)), np.zeros((5, 0, 2))
    assert not outlook.log_p(recent, none, 0.3).any()
    assert not outlook.slopes(recent, none, 0.3).any()
    assert outlook.slopes(recent, none, 0.3).shape == (5, 3)


def test_motion_without_random_numbers_has_no_slopes(free: tuple[np.ndarray, np.ndarray]) -> None:
    outlook = Outlook.learnt(free[0], 0 * free[1], N, N_AHEAD)
    assert not outlook.response.any()
