"""The mel of a sound tells filters that whiten it, and that bring it back."""

import numpy as np
import pytest
from scipy.signal import lfilter
from sounds import RATE

from rnade_lightning.datamodules.sound import envelope
from rnade_lightning.datamodules.sound.spectra import Mel

MEL = Mel.checked(RATE, 512, 512, 128, 40, 0.0, 8000.0)
RNG = np.random.default_rng(0)


def at_frames(log_mel: np.ndarray, n: int, length: int = 16) -> np.ndarray:
    return envelope.AtFrames([log_mel], MEL.hop_length, length).read(n)


def test_excitations_of_a_linear_source_are_white_with_variance_one() -> None:
    x = 0.01 * lfilter([1], [1, -1.2, 0.6], RNG.standard_normal(RATE))
    weights, gains = envelope.filters(MEL, at_frames(MEL.log_mel(x), RATE // 16), 16)
    e = envelope.whitened(x, np.zeros(16), weights, gains)
    assert e.std() == pytest.approx(1, abs=0.05)
    correlation = [np.mean(e[i:] * e[: len(e) - i]) / e.var() for i in (1, 2, 3)]
    np.testing.assert_allclose(correlation, 0, atol=0.05)
    raw = [np.mean(x[i:] * x[: len(x) - i]) / x.var() for i in (1, 2, 3)]
    assert np.abs(raw).max() > 0.7  # what was to be taken off


def test_colouring_undoes_whitening_and_is_stable_for_any_mel() -> None:
    how = envelope.filters(MEL, np.cumsum(RNG.standard_normal((50, 40)), 0) - 5, 32)
    x, past = 0.1 * RNG.standard_normal(800), 0.1 * RNG.standard_normal(32)
    e = envelope.whitened(x, past, *how)
    np.testing.assert_allclose(envelope.coloured(e, past, *how), x, atol=1e-9)
    how = envelope.filters(MEL, RNG.uniform(-23, 10, (50, 40)), 32)  # as no sound has it
    bound = 1 + 10 * how[1].max()
    assert np.abs(envelope.coloured(10 * np.ones(800), np.zeros(32), *how)).max() <= bound
    steady = [np.repeat(part[:1], 5000, axis=0) for part in how]
    assert (
        np.abs(envelope.coloured(np.eye(1, 80_000)[0], np.zeros(32), *steady)[-100:]).max() < 1e-6
    )


def test_rounding_in_float32_leaves_the_filters_as_they_are() -> None:
    log_mel = at_frames(RNG.uniform(-23, 10, (20, 40)), 100)
    rounded = (log_mel.astype(np.float32) * np.float32(1.7) / np.float32(1.7)).astype(float)
    assert (rounded != log_mel).any()
    for ours, theirs in zip(
        envelope.filters(MEL, log_mel, 8), envelope.filters(MEL, rounded, 8), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("n", [1, 7, 100])
def test_mel_is_read_between_its_frames_whatever_the_pieces(n: int) -> None:
    log_mel = np.cumsum(RNG.standard_normal((30, 3)), 0)
    at = np.arange(300) * 16 / 128
    wanted = np.stack([np.interp(at, np.arange(30), band) for band in log_mel.T], 1)
    frames = envelope.AtFrames(np.split(log_mel, [1, 2, 9]), 128, 16)
    found = np.concatenate([frames.read(min(n, 300 - i)) for i in range(0, 300, n)])
    np.testing.assert_allclose(found, wanted, atol=2.0**-11)
    back = envelope.at_hops(found, 128, 16)
    np.testing.assert_allclose(back[:30], log_mel, atol=2.0**-11)
