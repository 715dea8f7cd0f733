"""Log mel frames: librosa's, at the rate and with the slopes that are asked for."""

import librosa
import numpy as np
import pytest
from sounds import RATE

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.sound.kinds.log_mel import LogMel


def decibels(samples: np.ndarray, **kwargs: float) -> np.ndarray:
    power = librosa.feature.melspectrogram(y=samples, sr=RATE, pad_mode="reflect", **kwargs)
    return librosa.power_to_db(power, amin=1e-10, top_db=None)


def test_frames_are_those_of_librosa(utterance: np.ndarray) -> None:
    frames = LogMel(512, 400, 160, 40, 60.0, 7000.0, False).to_frames(utterance, RATE)
    sizes = {"n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 40}
    expected = decibels(utterance, **sizes, fmin=60.0, fmax=7000.0)
    np.testing.assert_allclose(10 / np.log(10) * frames, expected.T, atol=0.02)


def test_what_is_left_out_is_the_whole_window_and_half_the_rate(utterance: np.ndarray) -> None:
    short, whole = LogMel(512, None, 160, 40, 0.0, None, False), (512, 512, 160, 40, 0.0)
    for rate in (RATE, 8000):
        expected = LogMel(*whole, rate / 2, False).to_frames(utterance, rate)
        np.testing.assert_array_equal(short.to_frames(utterance, rate), expected)


def test_slopes_follow_the_bands_and_are_left_out_on_the_way_back(utterance: np.ndarray) -> None:
    plain, both = (LogMel(512, None, 160, 40, 0.0, None, deltas) for deltas in (False, True))
    frames = both.to_frames(utterance, RATE)
    assert both.feature_names[38:42] == ["mel_38", "mel_39", "delta_mel_0", "delta_mel_1"]
    np.testing.assert_array_equal(frames[:, :40], plain.to_frames(utterance, RATE))
    slopes = librosa.feature.delta(frames[:, :40].T, width=5, mode="nearest").T
    np.testing.assert_allclose(frames[:, 40:], slopes, atol=1e-9)
    sound = plain.to_samples(frames[:20, :40], RATE)
    np.testing.assert_array_equal(both.to_samples(frames[:20], RATE), sound)


def test_bands_above_half_the_rate_are_refused(utterance: np.ndarray) -> None:
    kind = LogMel(512, None, 160, 40, 0.0, 7000.0, False)
    with pytest.raises(DataError, match=r"f_max 7000 Hz .* \(4000 Hz\)"):
        kind.to_frames(utterance, 8000)
