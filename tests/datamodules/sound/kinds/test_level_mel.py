"""Level and colours: a reflection of log mel power."""

import numpy as np
import pytest
from sounds import RATE

from rnade_lightning.datamodules.sound.kinds.level_mel import LevelMel
from rnade_lightning.datamodules.sound.kinds.log_mel import LogMel
from rnade_lightning.datamodules.sound.speechlike import speechlike

SIZES = (512, None, 160)


@pytest.mark.parametrize("n_mels", [1, 2, 40])
def test_a_louder_sound_moves_the_level_alone(n_mels: int) -> None:
    kind = LevelMel(*SIZES, n_mels, 0.0, None, False)
    sound = speechlike(0, 0.5)
    quiet, loud = kind.to_frames(sound, RATE), kind.to_frames(2 * sound, RATE)
    expected = np.zeros(n_mels)
    expected[0] = np.sqrt(n_mels) * np.log(4)
    np.testing.assert_allclose(loud - quiet, np.broadcast_to(expected, quiet.shape), atol=1e-5)


@pytest.mark.parametrize("n_mels", [1, 2, 40])
def test_the_level_is_the_mean_of_the_bands_and_nothing_is_stretched(n_mels: int) -> None:
    both = (k(*SIZES, n_mels, 0.0, None, False) for k in (LogMel, LevelMel))
    log_mel, frames = (kind.to_frames(speechlike(0, 0.5), RATE) for kind in both)
    np.testing.assert_allclose(frames[:, 0], np.sqrt(n_mels) * log_mel.mean(1), atol=1e-9)
    np.testing.assert_allclose(
        np.linalg.norm(np.diff(frames, axis=0), axis=1),
        np.linalg.norm(np.diff(log_mel, axis=0), axis=1),
        atol=1e-9,
    )
    kind = LevelMel(*SIZES, n_mels, 0.0, None, False)
    np.testing.assert_allclose(kind.to_log_mel(frames), log_mel, atol=1e-9)
