"""The front end predicts from the past alone, alike every time, and close to what is possible."""

from __future__ import annotations

import numpy as np
import pytest

from rnade_lightning.datamodules.sound import front_end

NONE = np.zeros(0)


def analysed(
    samples: np.ndarray, other: np.ndarray = NONE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return innovations, side information and residuals in steps."""
    z, side, _ = front_end.analyse(front_end.start(len(other) > 0), samples, other)
    return z, side, z * np.exp(side[:, 0].astype(float))


def autoregressive(n: int, seed: int = 0, size: float = 50.0) -> np.ndarray:
    """Return integers that an AR(2) process of a resonance makes."""
    noise = np.random.default_rng(seed).normal(size=n) * size
    x = np.zeros(n)
    for t in range(2, n):
        x[t] = 1.8 * x[t - 1] - 0.9 * x[t - 2] + noise[t]
    return np.round(x)


def test_what_comes_later_changes_nothing() -> None:
    x = autoregressive(5000)
    y = x.copy()
    y[3000:] += 17
    (z, side, _), (other_z, other_side, _) = analysed(x), analysed(y)
    assert (z[:3000] == other_z[:3000]).all()
    assert (side[:3001] == other_side[:3001]).all()
    assert (z[3000:] != other_z[3000:]).any()


def test_pieces_are_the_whole() -> None:
    x = autoregressive(9000)  # histories move on the way
    state, parts = front_end.start(), []
    for piece in np.split(x, [1, 700, 4500]):
        parts.append(front_end.analyse(state, piece, NONE))
    z, side, _ = analysed(x)
    assert (np.concatenate([part[0] for part in parts]) == z).all()
    assert (np.concatenate([part[1] for part in parts]) == side).all()


def test_samples_come_back() -> None:
    x = autoregressive(3000)
    z, _, _ = analysed(x)
    narrow = z.astype(np.float32).astype(float)
    assert (front_end.synthesise(front_end.start(), narrow) == x).all()


def test_an_autoregressive_process_is_predicted_almost_as_by_its_own_weights() -> None:
    x = autoregressive(20_000)
    _, side, residual = analysed(x)
    innovations = x[2:] - 1.8 * x[1:-1] + 0.9 * x[:-2]
    ours, least = residual[5000:].std(), innovations[5000:].std()
    assert ours < 1.06 * least
    scale = np.exp(side[5000:, 0])
    assert abs(np.median(scale) / np.abs(residual[5000:]).mean() - 1) < 0.1


def test_the_other_channel_is_used() -> None:
    rng = np.random.default_rng(0)
    first = autoregressive(6000)
    second = np.round(0.5 * first + rng.normal(size=len(first)) * 2)
    alone, given = analysed(second)[2], analysed(second, first)[2]
    assert given[2000:].std() < 0.2 * alone[2000:].std()


def hostile(bits: int) -> list[np.ndarray]:
    """Return integers that are hardest to predict: full-scale noise, squares, and claps after
    silence."""
    rng, most = np.random.default_rng(0), 2.0 ** (bits - 1) - 1
    t = np.arange(3000)
    claps = np.round(most * rng.uniform(-1, 1, len(t)) * (t % 1000 < 100))
    return [np.round(most * rng.uniform(-1, 1, len(t))), most * (1 - 2 * (t // 97 % 2)), claps]


def test_integers_that_float32_would_lose_are_known_and_sixteen_bits_never_are() -> None:
    for x in hostile(16):
        assert (front_end.analyse(front_end.start(), x, NONE)[2] == x).all()
    lost = [front_end.analyse(front_end.start(), x, NONE)[2] != x for x in hostile(24)]
    assert all(of.any() for of in lost)
    assert all(of.mean() < 0.5 for of in lost)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(3000),
        np.tile([2.0**23 - 1, -(2.0**23)], 1500),
        np.where(np.arange(3000) == 1500, 32767.0, 0.0),
        np.clip(autoregressive(3000, size=3e4), -32768, 32767),
        np.round(3e4 * np.sin(np.arange(3000) / 7)),
        np.random.default_rng(0).integers(-(2**23), 2**23, 3000).astype(float),
    ],
    ids=["silence", "alternating", "impulse", "clipped", "sine", "noise"],
)
def test_all_numbers_stay_finite(samples: np.ndarray) -> None:
    z, side, _ = analysed(samples)
    assert np.isfinite(z).all()
    assert np.isfinite(side).all()
    assert np.abs(side[:, 1:]).max() < 1e8
