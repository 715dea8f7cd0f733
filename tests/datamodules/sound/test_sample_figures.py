"""Figures of samples tell a sound that is not like the data, whatever it gains elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import firwin, lfilter, resample_poly

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.sound.sample_figures import (
    NAMES,
    Sounds,
    autocorrelation_peaks,
    figures,
    n_clicks,
)
from rnade_lightning.datamodules.sound.speechlike import RATE, speechlike

SECONDS, N = 4.0, 12
DISTANCES = ("level_distance", "spectral_distance", "colour_distance", "modulation_distance")


@pytest.fixture(scope="module")
def speech() -> list[Array]:
    return [speechlike(i, SECONDS) for i in range(2 * N)]


@pytest.fixture(scope="module")
def data(speech: list[Array]) -> Sounds:
    return Sounds(speech[:N], RATE)


@pytest.fixture(scope="module")
def good(speech: list[Array], data: Sounds) -> dict[str, float]:
    """Return the figures of other sounds of the same kind."""
    return figures(Sounds(speech[N:], RATE), data)


@pytest.mark.slow
def test_other_sound_of_the_same_kind_is_like_the_data(
    good: dict[str, float], data: Sounds
) -> None:
    assert tuple(good) == NAMES
    assert max(good[key] for key in DISTANCES) < 2
    assert abs(good["level_change"]) < 3
    assert good["clicks"] < 0.3
    assert good["auc"] < 0.6
    same = figures(data, data)
    assert max(same[key] for key in DISTANCES) < 1e-9
    for key in ("level", "voiced", "silent", "periodicity"):
        assert good[key] == pytest.approx(same[key], rel=0.1, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8_000, 11_025, 48_000])
def test_a_rate_makes_no_difference(speech: list[Array], good: dict[str, float], rate: int) -> None:
    g = np.gcd(rate, RATE)
    at_rate = [resample_poly(x, rate // g, RATE // g) for x in speech]
    found = figures(Sounds(at_rate[N:], rate), Sounds(at_rate[:N], rate))
    assert found["level"] == pytest.approx(good["level"], abs=2)  # of what is below half the rate
    for key in ("level_change", "level_distance", "modulation_distance"):
        assert found[key] == pytest.approx(good[key], abs=1)
    for key in ("voiced", "silent", "periodicity"):
        assert found[key] == pytest.approx(good[key], abs=0.1)
    assert max(found["spectral_distance"], found["colour_distance"]) < 2
    assert found["clicks"] < 0.5
    assert found["auc"] < 0.6


@pytest.mark.slow
def test_a_fade_to_silence_is_seen(speech: list[Array], data: Sounds) -> None:
    fade = np.clip(np.linspace(1.5, -0.5, len(speech[0])), 0, 1)
    found = figures(Sounds([x * fade for x in speech[N:]], RATE), data)
    assert found["level_change"] < -40
    assert found["level_distance"] > 10
    assert found["silent"] > 0.3
    assert found["auc"] > 0.65


@pytest.mark.slow
def test_a_change_of_level_is_seen_and_no_other(
    speech: list[Array], data: Sounds, good: dict[str, float]
) -> None:
    found = figures(Sounds([2 * x for x in speech[N:]], RATE), data)
    six = 20 * np.log10(2)
    assert found["level"] == pytest.approx(good["level"] + six)
    assert found["level_distance"] == pytest.approx(six, abs=1.5)
    assert found["spectral_distance"] == pytest.approx(six, abs=1.5)
    for key in ("colour_distance", "modulation_distance", "voiced", "silent", "periodicity"):
        assert found[key] == pytest.approx(good[key], abs=0.01)
    assert found["auc"] > 0.9


@pytest.mark.slow
def test_a_low_pass_is_seen(speech: list[Array], data: Sounds) -> None:
    low = firwin(101, 2000, fs=RATE)
    found = figures(Sounds([lfilter(low, 1, x) for x in speech[N:]], RATE), data)
    assert min(found["spectral_distance"], found["colour_distance"]) > 5
    assert found["auc"] > 0.95


@pytest.mark.slow
def test_clicks_are_counted(speech: list[Array], data: Sounds, good: dict[str, float]) -> None:
    rng, clicked = np.random.default_rng(0), []
    for x in speech[N:]:
        places = rng.choice(len(x) // 400 - 1, round(10 * SECONDS), replace=False) * 400 + 100
        x = x.copy()
        x[places] += 0.5
        clicked.append(x)
    found = figures(Sounds(clicked, RATE), data)
    assert found["clicks"] == pytest.approx(10, abs=1)
    assert found["level_distance"] < 3
    assert good["clicks"] < 0.3


@pytest.mark.slow
def test_noise_of_the_level_and_spectrum_of_speech_is_seen(
    speech: list[Array], data: Sounds
) -> None:
    rng, noise = np.random.default_rng(0), []
    for x in speech[N:]:
        size = np.abs(np.fft.rfft(x))
        turned = np.exp(2j * np.pi * rng.random(len(size)))
        noise.append(np.fft.irfft(size * turned, len(x)))
    white = [np.std(x) * rng.standard_normal(len(x)) for x in speech[N:]]
    for sounds in (noise, white):
        found = figures(Sounds(sounds, RATE), data)
        assert found["modulation_distance"] > 5
        assert found["silent"] == 0
        assert found["auc"] > 0.95
    assert found["voiced"] < 0.01  # white noise; in coloured noise a formant may look like pitch
    assert np.isnan(found["periodicity"])
    assert found["colour_distance"] > 5


@pytest.mark.slow
@pytest.mark.parametrize("length", [0.01, 0.25])
def test_a_sound_that_stands_still_or_repeats_itself_is_seen(
    speech: list[Array], data: Sounds, length: float
) -> None:
    """A period of a vowel over and over is a hum, and a syllable over and over a beat."""
    n = round(length * RATE)
    loud = [int(np.argmax(np.convolve(x**2, np.ones(n), "valid"))) for x in speech[N:]]
    again = [np.resize(x[i : i + n], len(x)) for x, i in zip(speech[N:], loud, strict=True)]
    found = figures(Sounds(again, RATE), data)
    assert found["modulation_distance"] > 5
    assert found["auc"] > 0.95
    if length < 0.1:
        assert found["periodicity"] > 0.99


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_pitch_is_a_peak_of_one(rate: int) -> None:
    t = np.arange(rate) / rate
    starts = np.arange(0, rate // 2, rate // 50)
    pulses = sum(np.cos(2 * np.pi * 110 * k * t) for k in range(1, 20))
    assert autocorrelation_peaks(np.asarray(pulses), starts, rate).min() > 0.95
    noise = np.random.default_rng(0).standard_normal(rate)
    assert autocorrelation_peaks(noise, starts, rate).max() < 0.5
    rumble = np.cos(2 * np.pi * 20 * t)  # alike from one sample to the next, and of no pitch
    assert autocorrelation_peaks(rumble, starts, rate).max() < 0.5
    assert not autocorrelation_peaks(np.zeros(rate), starts, rate).any()


def test_autocorrelation_is_that_of_a_loop() -> None:
    x = np.random.default_rng(1).standard_normal(700)
    x[60:] += x[:-60]
    n, wanted = 320, 0.0
    frame = x[100 : 100 + n] - x[100 : 100 + n].mean()

    def r(k: int) -> float:
        a, b = frame[: n - k], frame[k:]
        return float((a @ b) / np.sqrt((a @ a) * (b @ b)))

    for k in range(20, 135):  # 400 to 60 Hz
        if r(k) >= r(k - 1) and r(k) >= r(k + 1):
            wanted = max(wanted, r(k))
    assert wanted > 0
    assert autocorrelation_peaks(x, np.array([100]), 8_000)[0] == pytest.approx(wanted)


def test_a_click_is_one_however_long_it_rings() -> None:
    x = 0.01 * np.random.default_rng(0).standard_normal(8_000)
    assert n_clicks(x, 8_000) == 0
    x[[1000, 1003, 5000]] += 1.0
    assert n_clicks(x, 8_000) == 2
    assert n_clicks(np.concatenate([np.zeros(1600), x[5100:]]), 8_000) == 0  # an onset
    assert n_clicks(np.zeros(10), 8_000) == 0


def test_silence_and_short_sounds_have_no_figures_but_silence() -> None:
    rng = np.random.default_rng(0)
    noise = Sounds([0.1 * rng.standard_normal(RATE) for _ in range(3)], RATE)
    silence, nothing = Sounds([np.zeros(RATE)] * 3, RATE), Sounds([], RATE)
    short = Sounds([0.1 * rng.standard_normal(n) for n in (0, 1, 200, 700)], RATE)
    with np.errstate(all="raise"):
        found = figures(silence, noise)
        assert found.pop("silent") == 1
        assert np.isnan(list(found.values())).all()
        assert np.isnan(list(figures(nothing, noise).values())).all()
        beside = figures(noise, silence)
        assert np.isnan([beside[key] for key in (*DISTANCES, "auc")]).all()
        assert beside["level"] == pytest.approx(-20, abs=0.2)
        few = figures(short, noise)
        assert np.isnan([few[key] for key in ("auc", "modulation_distance", "level_change")]).all()
        assert few["level_distance"] < 1


def test_sound_that_is_no_sound_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sound 1: .* finite"):
        Sounds([np.zeros(5), np.array([np.nan])], RATE)
