"""MFCC frames: librosa's, and back by the mel power that they leave."""

import librosa
import numpy as np
import pytest
from sounds import RATE

from rnade_lightning.datamodules.sound.kinds.log_mel import LogMel
from rnade_lightning.datamodules.sound.kinds.mfcc import MFCC

SIZES = (512, 400, 160, 40, 60.0, 7000.0, False)


@pytest.mark.slow
def test_frames_are_those_of_librosa(utterance: np.ndarray) -> None:
    log_mel, frames = (k.to_frames(utterance, RATE) for k in (LogMel(*SIZES), MFCC(*SIZES, 13)))
    decibels = 10 / np.log(10) * log_mel.T
    expected = librosa.feature.mfcc(S=decibels, n_mfcc=13, dct_type=2, norm="ortho").T
    np.testing.assert_allclose(10 / np.log(10) * frames, expected, atol=0.02)
    assert MFCC(*SIZES, 13).feature_names == [f"mfcc_{i}" for i in range(13)]


def test_all_of_them_sound_as_the_mel_frames_do(utterance: np.ndarray) -> None:
    log_mel, mfcc = LogMel(*SIZES), MFCC(*SIZES, 40)
    frames = mfcc.to_frames(utterance[:4000], RATE)
    restored = mfcc.to_log_mel(frames)
    np.testing.assert_allclose(restored, log_mel.to_frames(utterance[:4000], RATE), atol=1e-3)
    sound = log_mel.to_samples(restored, RATE)
    np.testing.assert_array_equal(mfcc.to_samples(frames, RATE), sound)
