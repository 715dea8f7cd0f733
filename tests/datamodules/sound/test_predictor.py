"""The adaptive predictor: textbook least squares, causal, its Jacobian 1, its inverse exact."""

import numpy as np
import pytest
from sounds import HARD, RATE, STEP, autoregressive

from rnade_lightning.datamodules.sound import predictor
from rnade_lightning.datamodules.sound.predictor import Predictor, analyse, settled, synthesise
from rnade_lightning.datamodules.sound.speechlike import speechlike

ORDER, FORGETTING = 24, 0.994  # the data module's


def least_squares(x: np.ndarray, order: int, forgetting: float) -> np.ndarray:
    """Return residuals by solving, before every sample, for the weights w that minimise the sum of
    ``forgetting**age (x_t - w'h_t)**2`` of samples rounded to 16 bits, with the ridge added one
    weight at a time."""
    rounded = np.floor(x / STEP + 0.5) * STEP
    ridge, padded = 1e-6, np.concatenate([np.zeros(order), rounded])
    A, b, e = ridge * np.eye(order), np.zeros(order), np.zeros(len(x))
    for t in range(len(x)):
        h = padded[t : t + order][::-1]  # x_{t-1}, x_{t-2}, ..
        w = np.linalg.solve(A, b)
        e[t] = x[t] - np.clip(0.97 ** np.arange(1, order + 1) * w @ h, -1, 1)
        A, b = forgetting * A + np.outer(h, h), forgetting * b + h * rounded[t]
        lag = order - 1 - t % order
        A[lag, lag] += (1 - forgetting) * order * ridge
    return e


@pytest.mark.parametrize(("order", "forgetting"), [(1, 0.9), (3, 0.99), (24, 0.994)])
@pytest.mark.slow
def test_residuals_are_those_of_least_squares(order: int, forgetting: float) -> None:
    x = autoregressive(400) + speechlike(0, 1.0)[4000:4400]
    expected = least_squares(x, order, forgetting)
    np.testing.assert_allclose(analyse(x, order, forgetting), expected, atol=1e-9)
    other = least_squares(x, order, forgetting + 0.001)  # the fault, were it there
    assert np.abs(analyse(x, order, forgetting) - other).max() > 1e-6


@pytest.mark.slow
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


@pytest.mark.slow
def test_jacobian_is_triangular_with_ones() -> None:
    """By steps below those of 16 bits, which the predictor does not see, and by larger ones, which
    it does: either way no residual depends on a later sample, and on its own with slope 1."""
    x = np.round(autoregressive(40) / STEP) * STEP
    for step in (1e-6, 64 * STEP):
        jacobian = np.stack(
            [
                (analyse(x + step * unit, 3, 0.99) - analyse(x - step * unit, 3, 0.99)) / (2 * step)
                for unit in np.eye(40)
            ],
            axis=1,
        )
        np.testing.assert_allclose(np.triu(jacobian), np.eye(40), atol=1e-8)
        assert (np.abs(np.tril(jacobian, -1)).max() > 0.1) == (step > STEP)


RNG = np.random.default_rng(1)
T = np.arange(RATE) / RATE
UNSTABLE = {
    "clipped speech": np.clip(10 * speechlike(1), -1, 1 - STEP),
    "a chord": 0.2 * sum(np.sin(2 * np.pi * f * T) for f in (440, 554.37, 659.26)),
    "an alarm": 0.8 * np.sign(np.sin(2 * np.pi * 880 * T)) * (T % 0.5 < 0.25),
    "a telephone": np.where(T // 0.05 % 2 < 1, 0.4, 0.2) * np.sin(6283 * T) * (T % 0.65 < 0.4),
    "a square wave": np.where(np.arange(RATE) % 73 < 36, 1 - STEP, -1.0),
    "a sweep": 0.9 * np.sin(2 * np.pi * 4000 * T**2),
    "speech on an offset": speechlike(2)[:RATE] + 0.3,
    "8 bits in 16": np.round(128 * speechlike(3)) / 128,
    "noise at full scale": RNG.uniform(-1, 1 - STEP, RATE),
    "silence": np.zeros(RATE),
    "a click": np.eye(1, RATE, 8000)[0] * 0.9,
}
"""Sounds on which an adaptive filter driven by what it made is chaotic, and easy ones."""


def rounded_back(x: np.ndarray, scaled: bool) -> tuple[np.ndarray, np.ndarray]:
    """Samples with noise, settled, and what comes back of their numbers, standardised in float32
    with a mean and a deviation that are not theirs."""
    noisy = np.round(x / STEP) * STEP + STEP * (np.random.default_rng(0).random(len(x)) - 0.5)
    predictions, log_scale = Predictor(ORDER, FORGETTING, scaled).predict(noisy)
    kept, lost = settled(noisy, predictions, log_scale)
    assert lost is None
    assert np.mean(kept != noisy) < 0.07
    assert np.abs(kept - noisy).max() <= 0.07 * STEP
    numbers = ((kept - predictions) / np.exp(log_scale)).astype(np.float32)
    mean, std = 0.3 * np.abs(numbers).mean(), 1.7 * np.std(numbers)
    standardised = ((numbers - mean) / std).astype(np.float32)
    back, _ = Predictor(ORDER, FORGETTING, scaled).synthesise(standardised * std + mean)
    return noisy, back


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("name", UNSTABLE)
def test_any_sound_comes_back_to_its_integers(name: str, scaled: bool) -> None:
    x = UNSTABLE[name]
    noisy, back = rounded_back(x, scaled)
    np.testing.assert_array_equal(np.round(back / STEP), np.round(x / STEP))
    assert np.abs(back - noisy).max() < 0.1 * STEP


@pytest.mark.slow
def test_a_predictor_that_does_not_round_the_past_loses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: driven by the samples themselves, the way back is chaotic."""
    monkeypatch.setattr(predictor, "_STEP", 2.0**-60)
    predictor._recursion.recompile()
    errors = {}
    for name, x in UNSTABLE.items():
        e = analyse(x, ORDER, FORGETTING).astype(np.float32)
        errors[name] = np.abs(synthesise(e, ORDER, FORGETTING) - x).max() / STEP
    monkeypatch.undo()
    predictor._recursion.recompile()
    assert max(errors.values()) > 100, errors
    rounded_back(UNSTABLE["clipped speech"], False)


def test_a_residual_that_float32_cannot_hold_is_named() -> None:
    x = np.zeros(1000)
    x[700] = 1000.0
    assert settled(x, np.zeros(1000), np.zeros(1000))[1] == 700


@pytest.mark.parametrize("scaled", [False, True])
def test_a_sound_in_pieces_is_predicted_as_a_whole(scaled: bool) -> None:
    x = speechlike(0)
    whole = Predictor(ORDER, FORGETTING, scaled)
    expected = whole.predict(x)
    analysis, synthesis = (Predictor(ORDER, FORGETTING, scaled) for _ in range(2))
    pieces = np.split(x, [1, 20, 21, 5000, 20_001])
    found = [analysis.predict(piece) for piece in pieces]
    for i in (0, 1):
        np.testing.assert_array_equal(np.concatenate([f[i] for f in found]), expected[i])
    numbers = np.split((x - expected[0]) / np.exp(expected[1]), [7, 19_000])
    back = np.concatenate([synthesis.synthesise(piece)[0] for piece in numbers])
    np.testing.assert_allclose(back, x, atol=1e-12)


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
