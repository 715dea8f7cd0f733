"""Samples made ready for frames: noise, sample rate, channels, levels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sounds import RATE, audio_module, strongest, tone

from rnade_lightning.datamodules import DataError


def test_noise_is_a_function_of_the_content(tmp_path: Path) -> None:
    frames = []
    samples = np.round(3000 * np.sin(0.1 * np.arange(8000))).astype(np.int16)
    for name in ("a.wav", "elsewhere.flac"):
        soundfile.write(tmp_path / name, samples, RATE)
        frames.append(audio_module(None).read(tmp_path / name).frames[""])
    np.testing.assert_array_equal(*frames)
    noise = frames[0].reshape(-1).astype(float) * 2**15 - samples
    assert np.abs(noise).max() <= 0.501
    assert noise.std() == pytest.approx(1 / np.sqrt(12), abs=0.01)
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.05


@pytest.mark.parametrize(("rate", "target"), [(44_100, 16_000), (8000, 16_000), (22_050, 8000)])
def test_resampling_keeps_pitch_and_duration(tmp_path: Path, rate: int, target: int) -> None:
    data = audio_module(None, sample_rate=target)
    recording = data.read(tone(tmp_path / "a.wav", rate, n=rate))
    samples = recording.frames[""].reshape(-1)
    assert abs(len(samples) - target) <= 200
    assert strongest(samples, target) == pytest.approx(440, abs=2)
    assert recording.frame_rate == target / 200
    assert np.abs(samples[400:-400]).max() == pytest.approx(0.2, rel=0.01)


def test_channels_are_mixed_or_picked(tmp_path: Path) -> None:
    path = tone(tmp_path / "a.wav", stereo=True)
    left, right, mix = (
        audio_module(None, channel=c).read(path).frames[""].reshape(-1)
        for c in (0, 1, "mix")
    )  # fmt: skip
    assert strongest(left, RATE) == pytest.approx(440, abs=2)
    assert strongest(right, RATE) == pytest.approx(880, abs=2)
    np.testing.assert_allclose(mix, (left + right) / 2, atol=2.0**-14)
    with pytest.raises(DataError, match=r"a\.wav: no channel 2: it has 2"):
        audio_module(None, channel=2).read(path)


def test_levels_and_trimming(tmp_path: Path) -> None:
    padded = np.concatenate(
        [np.zeros(8000), 0.05 * np.sin(np.arange(16_000) * 0.2), np.zeros(8000)]
    )
    soundfile.write(tmp_path / "a.wav", padded, RATE)

    def samples(**kwargs: Any) -> np.ndarray:
        return audio_module(None, **kwargs).read(tmp_path / "a.wav").frames[""].reshape(-1)

    assert np.abs(samples(normalise="peak")).max() == pytest.approx(1, abs=1e-3)
    assert np.sqrt(np.mean(samples(normalise="rms") ** 2)) == pytest.approx(0.1, rel=1e-3)
    trimmed = samples(trim_db=40)
    assert 16_000 <= len(trimmed) <= 16_000 + 2 * 2048
    assert len(samples()) == 32_000


def test_silence_has_no_level(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), RATE)
    with pytest.raises(DataError, match=r"a\.wav: nothing but silence"):
        audio_module(tmp_path / "a.wav", split="tail", normalise="rms").setup()
