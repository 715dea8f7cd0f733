"""The causal gain: a scale of the past only, its Jacobian, its level."""

import numpy as np
import pytest
from scipy.stats import t as student
from sounds import HARD, RATE, STEP, autoregressive

from rnade_lightning.datamodules.sound.gain import (
    REFERENCE,
    AdaptiveStudent,
    followed,
    log_scale_of,
    mean_size,
    to_innovations,
)
from rnade_lightning.datamodules.sound.predictor import analyse
from rnade_lightning.datamodules.sound.speechlike import speechlike


def to_residuals(innovations: np.ndarray) -> np.ndarray:
    """The inverse of `to_innovations`, a step at a time."""
    levels, residuals = np.full(2, REFERENCE), np.empty_like(innovations)
    for t, e in enumerate(innovations):
        residuals[t] = e * np.exp(log_scale_of(levels))
        followed(levels, abs(residuals[t]))
    return residuals


def log_scales(residuals: np.ndarray) -> np.ndarray:
    """Return the log scales by the module's equations, one step at a time."""
    floor, reference = STEP / np.sqrt(12), 2.0**-10
    averages, found = {0.8: reference, 0.98: reference}, []
    for r in residuals:
        fast, slow = (np.log(v + floor) for v in averages.values())
        found.append(0.6 * fast + 0.3 * slow + 0.1 * np.log(reference))
        averages = {phi: phi * v + (1 - phi) * min(abs(r), 1) for phi, v in averages.items()}
    return np.array(found)


def test_scales_are_those_of_the_equations() -> None:
    r = autoregressive(500)
    e, log_scale = to_innovations(r)
    np.testing.assert_allclose(log_scale, log_scales(r), atol=1e-12)
    np.testing.assert_allclose(e, r / np.exp(log_scale), rtol=1e-12)


def test_jacobian_is_triangular_with_the_gains() -> None:
    r, step = autoregressive(40), 1e-7
    units = step * np.eye(40)
    jacobian = np.stack(
        [(to_innovations(r + u)[0] - to_innovations(r - u)[0]) for u in units], 1
    ) / (2 * step)
    gains = np.exp(-to_innovations(r)[1])
    np.testing.assert_allclose(np.triu(jacobian) / gains, np.eye(40), atol=1e-6)
    assert np.abs(np.tril(jacobian, -1)).max() > 0.01 * gains.max()
    assert np.linalg.slogdet(jacobian)[1] == pytest.approx(np.log(gains).sum(), abs=1e-5)


def test_innovations_of_loud_and_quiet_parts_are_alike() -> None:
    x = speechlike(0) + STEP * (np.random.default_rng(0).random(2 * RATE) - 0.5)
    r = analyse(x, 24, 0.994)
    e, _ = to_innovations(r)
    np.testing.assert_allclose(to_residuals(e), r, rtol=1e-9)
    quiet, loud = np.abs(r) < np.median(np.abs(r)), np.abs(r) > np.quantile(np.abs(r), 0.9)
    assert np.std(e[loud]) / np.std(e[quiet]) < 0.3 * np.std(r[loud]) / np.std(r[quiet])


@pytest.mark.parametrize("name", HARD)
def test_any_numbers_give_numbers(name: str) -> None:
    with np.errstate(over="ignore"):
        e, log_scale = to_innovations(HARD[name])
        assert np.isfinite(e).all()
        assert np.isfinite(log_scale).all()


@pytest.mark.parametrize("residual", [0.0, 0.2, -0.45, 0.5, -3.7])
def test_mean_size_is_the_mean_over_the_noise(residual: float) -> None:
    noise = np.linspace(-0.5, 0.5, 100_001)
    expected = np.abs(residual + noise).mean() * STEP
    assert mean_size(residual * STEP, STEP) == pytest.approx(expected, rel=1e-4)


def test_draws_come_back_to_one_level() -> None:
    """They do so after a burst and after silence alike."""
    noise = np.random.default_rng(0).standard_normal((2, RATE))
    noise[0, :500] *= 100
    noise[1, :500] = 0
    loud, quiet = (np.std(to_residuals(z)[-2000:]) for z in noise)
    assert 0.5 < loud / quiet < 2
    assert 1e-4 < quiet < 0.1


@pytest.mark.slow
def test_student_finds_its_own_parameters() -> None:
    e = student.rvs(5, 0, 0.7, size=(4, 20_000), random_state=0)
    residuals = [to_residuals(z) for z in e]
    found = AdaptiveStudent(residuals)
    assert found.freedom == pytest.approx(5, rel=0.1)
    assert found.scale == pytest.approx(0.7, rel=0.03)
    expected = student.logpdf(e[0], found.freedom, 0, found.scale) - log_scales(residuals[0])
    np.testing.assert_allclose(found.log_prob(residuals[0]), expected, atol=1e-8)
