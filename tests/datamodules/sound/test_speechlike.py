"""Generated sound: a function of its seed, with what speech has."""

import librosa
import numpy as np
import pytest
from sounds import RATE

from rnade_lightning.datamodules.sound.speechlike import speechlike


def test_generated_sound_is_a_function_of_its_seed() -> None:
    np.testing.assert_array_equal(speechlike(3, 0.5), speechlike(3, 0.5))
    assert np.abs(speechlike(3, 0.5) - speechlike(4, 0.5)).max() > 0.05


@pytest.mark.parametrize("seed", range(4))
def test_generated_sound_is_like_speech(seed: int) -> None:
    sound = speechlike(seed)
    assert len(sound) == 2 * RATE
    assert np.abs(sound).max() < 0.9  # nothing clips
    assert np.sqrt(np.mean(sound**2)) == pytest.approx(0.06, rel=0.01)
    level = 20 * np.log10(librosa.feature.rms(y=sound, frame_length=512, hop_length=256)[0])
    assert np.mean(level < level.max() - 35) > 0.1  # pauses
    assert level.min() > -80  # that hiss: no digital silence
    centroid = librosa.feature.spectral_centroid(y=sound, sr=RATE, n_fft=512, hop_length=256)[0][
        level > level.max() - 15
    ]
    assert 400 < np.median(centroid) < 2500
    pitch = librosa.yin(sound, fmin=60, fmax=300, sr=RATE, frame_length=1024, hop_length=256)
    voiced = pitch[: len(level)][level[: len(pitch)] > level.max() - 8]
    assert 85 < np.median(voiced) < 165
