"""Samples as files: clean edges, no clipping, and a beginning that stays as it is."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import RATE

from rnade_lightning.datamodules.sound.playback import write_integers, write_sound


@pytest.mark.parametrize(("bits", "subtype"), [(5, "PCM_16"), (16, "PCM_16"), (24, "PCM_24")])
def test_integers_are_written_as_they_are(tmp_path: Path, bits: int, subtype: str) -> None:
    full = 2 ** (bits - 1)
    integers = np.random.default_rng(0).integers(-full, full, 1000)
    integers[:2] = -full, full - 1
    sound = integers / full
    sound[2:4] = 1.5, -1.5
    integers[2:4] = full - 1, -full
    written = write_integers(tmp_path / "a.wav", sound, RATE, bits)
    samples, _ = soundfile.read(tmp_path / "a.wav")
    np.testing.assert_array_equal(samples * full, integers)
    np.testing.assert_array_equal(written, samples)
    assert soundfile.info(tmp_path / "a.wav").subtype == subtype


def test_edges_have_no_click_and_the_inside_is_untouched(tmp_path: Path) -> None:
    held = np.full(8000, 0.5)  # as loud a click as there is, if it is not faded
    write_sound(tmp_path / "a.wav", held, RATE)
    samples, _ = soundfile.read(tmp_path / "a.wav")
    padded = np.pad(samples, 1)
    assert np.abs(np.diff(padded)).max() < 0.02
    assert np.abs(np.diff(np.pad(held, 1))).max() == 0.5  # the fault, if it is left in
    np.testing.assert_array_equal(samples[48:-48], held[48:-48])


def test_what_would_clip_is_made_quieter_and_said_so(tmp_path: Path) -> None:
    loud = 3 * np.sin(np.arange(8000) * 0.05)
    with pytest.warns(UserWarning, match=r"a\.wav: from 0\.00 s on up to 9\.5 dB quieter"):
        write_sound(tmp_path / "a.wav", loud, RATE)
    samples, _ = soundfile.read(tmp_path / "a.wav")
    np.testing.assert_allclose(samples[100:-48], loud[100:-48] / 3, atol=1e-4)  # from a peak on
    wrapped = np.round(loud * 2**15).astype(np.int64).astype(np.int16) / 2**15
    assert np.abs(np.diff(wrapped)).max() > 1 > np.abs(np.diff(samples)).max()  # the fault


def test_what_stands_before_the_first_sample_that_would_clip_is_untouched(tmp_path: Path) -> None:
    """Full scale in the file, with its noise, is not clipped either."""
    given = np.random.default_rng(0).integers(-(2**15), 2**15, 8000)
    given[100], given[200] = -(2**15), 2**15 - 1
    noisy = (given + np.random.default_rng(1).uniform(-0.5, 0.5, 8000)) / 2**15
    drawn = 2.5 * np.sin(np.arange(8000) * 0.05)
    with pytest.warns(UserWarning, match=r"from 0\.50 s on up to 8\.0 dB quieter"):
        write_sound(tmp_path / "a.wav", np.concatenate([noisy, drawn]), RATE)
    samples, _ = soundfile.read(tmp_path / "a.wav", dtype="int16")
    np.testing.assert_array_equal(samples[48:8000], given[48:])
    whole = np.concatenate([noisy, drawn]) / 2.5  # the fault: all of it made quieter
    assert np.abs(np.round(whole[:8000] * 2**15) - given).max() > 1000
