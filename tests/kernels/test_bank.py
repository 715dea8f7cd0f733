"""The bank finds which of its components a sound is like, and forgets none."""

from __future__ import annotations

import numpy as np
import pytest

from rnade_lightning.datamodules.sound import front_end
from rnade_lightning.kernels import bank, experts

T = np.arange(1500.0)
FIRST = len(bank.AHEAD) + len(bank.BEST)
STRAIGHT = slice(FIRST, FIRST + len(bank.STRAIGHT))


def learnt(x: np.ndarray, step: float = 1.0) -> experts.Net:
    """Return what is known of a sound without a net."""
    S, N, W = front_end.start(), experts.start(experts.NO_NET, x.min(), x.max()), experts.NO_NET
    N.bank.step[0] = step
    for sample in x:
        experts.predict(S, N, W, 0.0)
        experts.learn(S, N, W, sample)
    return N


def test_a_sawtooth_is_followed_by_a_line_whatever_its_jumps() -> None:
    saw = np.round((T * 0.00731 % 1 - 0.5) * 2**22)
    N = learnt(saw)
    assert bank.POLYNOMIALS[np.argmin(N.bank.error)] == (2, -1, 0, 0)
    assert N.bank.error.min() < 3
    assert N.weight[STRAIGHT].sum() > 0.9


def test_white_noise_is_even_over_its_range() -> None:
    x = np.random.default_rng(0).integers(-(2**15), 2**15, 1500).astype(float)
    assert learnt(x).weight[-1] > 0.9


@pytest.mark.parametrize("x", [np.zeros(1500), np.round(1e4 * np.sin(T)), T * 300 % 7001])
def test_weights_sum_to_1_and_none_is_forgotten(x: np.ndarray) -> None:
    weight = learnt(x).weight
    assert np.isclose(weight.sum(), 1)
    assert weight.min() > 4e-6


def test_mass_of_a_wide_step_is_that_of_its_cell() -> None:
    """Multiples of 256 cost what they would cost over 256, about."""
    x = np.random.default_rng(0).integers(-100, 100, 1500).astype(float)
    S, N, W = front_end.start(), experts.start(experts.NO_NET, -100 * 256, 99 * 256), experts.NO_NET
    N.bank.step[0] = 256.0
    bits = []
    for sample in 256 * x:
        experts.predict(S, N, W, 0.0)
        bits.append(-np.log2(experts.cdf(N, sample + 128, 0) - experts.cdf(N, sample - 128, 0)))
        experts.learn(S, N, W, sample)
    assert abs(np.mean(bits[500:]) - np.log2(200)) < 0.1
