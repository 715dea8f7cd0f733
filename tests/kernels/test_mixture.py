"""Pieces of the compiled mixture, one by one, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numba import njit

from rnade_lightning.components import make_component
from rnade_lightning.kernels import mixture

BOUNDS = (-0.4, 0.7)


def lanes(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape)


@pytest.mark.slow
def test_frames_go_into_lanes_and_come_back() -> None:
    @njit
    def there_and_back(rows: Any, block: Any, out: Any) -> None:
        mixture.to_lanes(block, rows, 3)
        mixture.from_lanes(out, block, 3)

    rows, block, out = lanes(10, 4), np.ones((4, 16)), np.zeros((10, 4))
    there_and_back(rows, block, out)
    np.testing.assert_array_equal(block[:, :7], rows[3:].T)
    assert not block[:, 7:].any()
    np.testing.assert_array_equal(out[3:], rows[3:])


@pytest.mark.slow
def test_units_and_scales_are_those_of_the_equations() -> None:
    @njit
    def both(h: Any, a: Any, z: Any, relu: Any) -> None:
        mixture.units(h, a, 0.7, relu)
        mixture.floored_log_scales(z, 0.3, 2)

    for relu in (False, True):
        a, z, h = lanes(4, 16), lanes(6, 16), np.empty((4, 16))
        expected = np.maximum(0.7 * a, 0) if relu else 1 / (1 + np.exp(-0.7 * a))
        scales = np.log(0.3 + np.exp(z[4:]))
        both(h, a, z, relu)
        np.testing.assert_allclose(h, expected, rtol=1e-12)
        np.testing.assert_allclose(z[4:], scales, rtol=1e-12)


@pytest.mark.slow
def test_a_censored_laplace_is_that_of_the_component() -> None:
    @njit
    def terms(x: Any, mu: Any, log_sigma: Any, out: Any) -> None:
        for n in range(len(x)):
            r = (x[n] - mu[n]) * np.exp(-log_sigma[n])
            below, above = x[n] <= -0.4, x[n] >= 0.7
            one, half, log_2 = 1.0, 0.5, np.log(2.0)
            out[n] = mixture.censored(r, log_sigma[n], below, above, one, half, log_2)

    mu, log_sigma = lanes(60), lanes(60) / 2
    x = np.clip(1.5 * np.random.default_rng(1).normal(size=60), *BOUNDS)
    out = np.empty((60, 3))
    terms(x, mu, log_sigma, out)
    component = make_component("laplace", censor_at=BOUNDS)
    given = [torch.from_numpy(v) for v in (x, mu, log_sigma)]
    by_mu, by_log_sigma = component.log_prob_slopes(*given)
    np.testing.assert_allclose(out[:, 0], component.log_prob(*given).numpy(), rtol=1e-10)
    np.testing.assert_allclose(out[:, 1] * np.exp(-log_sigma), by_mu.numpy(), rtol=1e-10)
    np.testing.assert_allclose(out[:, 2], by_log_sigma.numpy(), rtol=1e-9, atol=1e-12)
