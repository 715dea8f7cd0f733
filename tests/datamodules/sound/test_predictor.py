"""The adaptive predictor: textbook least squares, causal, its Jacobian 1, its inverse stable."""

import numpy as np
import pytest
from sounds import HARD, RATE, STEP, autoregressive

from rnade_lightning.datamodules.sound import predictor
from rnade_lightning.datamodules.sound.predictor import analyse, synthesise
from rnade_lightning.datamodules.sound.speechlike import speechlike

ORDER, FORGETTING = 24, 0.994  # the data module's


def least_squares(x: np.ndarray, order: int, forgetting: float) -> np.ndarray:
    """Return residuals by solving, before every sample, for the weights w that minimise the sum of
    ``forgetting**age (x_t - w'h_t)**2``, with the ridge added one weight at a time."""
    ridge, padded = 1e-6, np.concatenate([np.zeros(order), x])
    A, b, e = ridge * np.eye(order), np.zeros(order), np.zeros(len(x))
    for t in range(len(x)):
        h = padded[t : t + order][::-1]  # x_{t-1}, x_{t-2}, ..
        w = np.linalg.solve(A, b)
        e[t] = x[t] - np.clip(0.97 ** np.arange(1, order + 1) * w @ h, -1, 1)
        A, b = forgetting * A + np.outer(h, h), forgetting * b + h * x[t]
        lag = order - 1 - t % order
        A[lag, lag] += (1 - forgetting) * order * ridge
    return e


@pytest.mark.parametrize(("order", "forgetting"), [(1, 0.9), (3, 0.99), (24, 0.994)])
def test_residuals_are_those_of_least_squares(order: int, forgetting: float) -> None:
    x = autoregressive(400) + speechlike(0, 1.0)[4000:4400]
    expected = least_squares(x, order, forgetting)
    np.testing.assert_allclose(analyse(x, order, forgetting), expected, atol=1e-9)
    other = least_squares(x, order, forgetting + 0.001)  # the fault, were it there
    assert np.abs(analyse(x, order, forgetting) - other).max() > 1e-6


def test_a_sample_changes_no_earlier_residual_and_its_own_by_as_much() -> None:
    x = speechlike(0, 1.0)[4000:4600]
    e = analyse(x, ORDER, FORGETTING)
    for t in (0, 1, 23, 300, 599):
        changed = x.copy()
        changed[t] += 0.125
        difference = analyse(changed, ORDER, FORGETTING) - e
        assert not difference[:t].any()
        assert difference[t] == pytest.approx(0.125, abs=1e-15)
        assert t > 590 or np.abs(difference[t + 1 : t + 9]).max() > 1e-3


def test_jacobian_is_triangular_with_ones() -> None:
    x, step = autoregressive(40), 1e-6
    jacobian = np.stack(
        [
            (analyse(x + step * unit, 3, 0.99) - analyse(x - step * unit, 3, 0.99)) / (2 * step)
            for unit in np.eye(40)
        ],
        axis=1,
    )
    np.testing.assert_allclose(np.triu(jacobian), np.eye(40), atol=1e-8)
    assert np.abs(np.tril(jacobian, -1)).max() > 0.1
    assert np.linalg.slogdet(jacobian)[1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_sound_comes_back(seed: int) -> None:
    x = speechlike(seed) + STEP * (np.random.default_rng(seed).random(2 * RATE) - 0.5)
    e = analyse(x, ORDER, FORGETTING)
    assert np.std(e) < 0.5 * np.std(x)
    exact = synthesise(e, ORDER, FORGETTING)
    assert np.abs(exact - x).max() < 1e-10
    rounded = synthesise(e.astype(np.float32), ORDER, FORGETTING)
    assert np.abs(rounded - x).max() < 0.1 * STEP


def test_without_bandwidth_expansion_it_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor, "_EXPANSION", 1.0)
    x = speechlike(0) + STEP * (np.random.default_rng(0).random(2 * RATE) - 0.5)
    back = synthesise(analyse(x, ORDER, FORGETTING), ORDER, FORGETTING)
    assert np.abs(back - x).max() > 100 * STEP


@pytest.mark.parametrize("name", HARD)
def test_any_sound_gives_numbers_both_ways(name: str) -> None:
    x = HARD[name]
    with np.errstate(over="ignore"):
        e = analyse(x, ORDER, FORGETTING)
        assert np.abs(e - x).max() <= 1.0 + 1e-9 * np.abs(x).max()  # a prediction's bound
        back = synthesise(e, ORDER, FORGETTING)
        assert np.isfinite(back).all()
        driven = synthesise(x, ORDER, FORGETTING)  # as residuals, which they are not
    assert np.abs(driven - x).max() <= 1.0 + 1e-9 * np.abs(x).max()


@pytest.mark.parametrize("scale", [1e-5, 1e-3, 0.1, 10.0])
def test_noise_stays_as_loud_as_it_is(scale: float) -> None:
    """Noise cannot be predicted: what a model might draw comes out at nearly its own level."""
    noise = scale * np.random.default_rng(0).standard_normal(5 * RATE)
    for out in (synthesise(noise, ORDER, FORGETTING), analyse(noise, ORDER, FORGETTING)):
        assert 0.9 < np.std(out) / scale < 1.6
