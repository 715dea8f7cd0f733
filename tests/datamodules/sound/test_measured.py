"""Frames of sound are measured as the sound that they are, whatever their kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sounds import audio_module

from rnade_lightning.datamodules.sound.kinds import kind_names
from rnade_lightning.datamodules.sound.sample_figures import NAMES

OWN = {"level", "level_change", "silent", "voiced", "periodicity", "clicks"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", kind_names())
def test_figures_of_held_out_data_are_those_of_data(corpus: Path, kind: str) -> None:
    data = audio_module(corpus, kind=kind, n_mels=40, frame_length=20)
    held_out = [sequence.with_context() for sequence in data.sequences("test")]
    found = data.sample_figures({"the same": held_out})
    assert data.measures_samples
    same, own = found["the same"], found["held-out data"]
    assert tuple(same) == tuple(own) == NAMES
    for key in OWN:
        assert same[key] == pytest.approx(own[key])
    for key in ("level_distance", "spectral_distance", "colour_distance"):
        assert same[key] == pytest.approx(0, abs=1e-9)
        assert 0 < own[key] < 10  # from training data


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["waveform", "innovation"])
def test_a_continuation_is_measured_as_what_it_is(corpus: Path, kind: str) -> None:
    """An innovation means nothing without the sound before it."""
    data = audio_module(corpus, kind=kind, frame_length=20)
    frames = data.sequences("test")[0].frames
    prefix, more = frames[:300], frames[300:]
    heard = data._continued(prefix, more)
    whole = data.to_samples(data.destandardise(frames))
    np.testing.assert_allclose(heard, whole[300 * 20 :], atol=2.0**-16)
    found = data.sample_figures({"more": [more]}, prefixes={"more": [prefix]})["more"]
    assert found["level"] == pytest.approx(_level(whole[300 * 20 :]), abs=0.01)


def _level(samples: np.ndarray) -> float:
    power = [np.mean(x**2) for x in samples[: len(samples) // 320 * 320].reshape(-1, 320)]
    return float(10 * np.log10(np.median(power)))
