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
    loud = frames_of(sound)[level > level.max() - 8]
    assert 85 < np.median(pitch_of(loud)) < 165


def frames_of(sound: np.ndarray) -> np.ndarray:
    """Return frames of 1024 samples about every 256th, ``(T, 1024)``."""
    return librosa.util.frame(np.pad(sound, 512), frame_length=1024, hop_length=256, axis=0)


def pitch_of(frames: np.ndarray) -> np.ndarray:
    """Return the frequency, 60 to 300 Hz, where each autocorrelation is highest, ``(T,)``."""
    power = np.abs(np.fft.rfft(frames, 2 * frames.shape[-1])) ** 2
    least, most = RATE // 300, RATE // 60
    correlation = np.fft.irfft(power)[:, least : most + 1]
    return RATE / (least + correlation.argmax(-1))


@pytest.mark.parametrize("pitch", [70.0, 125.0, 290.0])
def test_the_pitch_of_pulses_is_told(pitch: float) -> None:
    pulses = np.diff(np.floor(np.arange(RATE + 1) * pitch / RATE))
    assert np.median(pitch_of(frames_of(pulses))) == pytest.approx(pitch, rel=0.02)
