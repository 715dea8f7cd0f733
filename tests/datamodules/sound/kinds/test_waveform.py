"""Waveform frames: exact to one step, bits of known sources, the noise of dequantising."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from sounds import RATE, audio_module

from rnade_lightning.datamodules.sound.soundfiles import read_sound
from rnade_lightning.datamodules.sound.speechlike import speechlike


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24"])
@pytest.mark.slow
def test_waveform_comes_back_exact_to_one_step(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", speechlike(1, 1.0), RATE, subtype=subtype)
    data = audio_module(tmp_path / "a.wav", split="tail", frame_length=20)
    bits, (samples, _, _) = data.bit_depth, read_sound(tmp_path / "a.wav")
    assert bits == {"PCM_U8": 8, "PCM_16": 16, "PCM_24": 24}[subtype]
    raw = np.concatenate(
        [data.destandardise(data.sequences(s)[0].frames) for s in ("train", "val", "test")]  # type: ignore[arg-type]
    )
    error = np.abs(raw.reshape(-1) - samples[:, 0]) * 2.0 ** (bits - 1)
    assert error.max() < 1
    assert error.mean() == pytest.approx(0.25, abs=0.02)  # of uniform noise of one step
    (wav, png) = data.render(data.score_input(tmp_path / "a.wav").frames, tmp_path / "out" / "b.1")
    assert (wav.name, png.name) == ("b.1.wav", "b.1.png")
    written, rate = soundfile.read(wav)
    inner = slice(100, -100)  # without the fades
    step = 2.0 ** (1 - min(bits, 16))
    assert rate == RATE
    assert np.abs(written - samples[:, 0])[inner].max() <= step * 1.01
    assert Image.open(png).size == (1000, 500)


@pytest.mark.parametrize("standardise", [True, False])
def test_bits_per_sample_are_the_entropy_of_a_known_source(
    tmp_path: Path, standardise: bool
) -> None:
    """Integers are drawn from p. The density p_k over the cell of k costs what p says they cost."""
    p = np.array([0.5, 0.25, 0.125, 0.0625, 0.0625])  # of 100, 200, .. 500
    rng = np.random.default_rng(0)
    drawn = rng.choice(5, p=p, size=8000)
    soundfile.write(tmp_path / "a.wav", (100 * (drawn + 1)).astype(np.int16), RATE)
    data = audio_module(tmp_path / "a.wav", split="tail", frame_length=10, standardise=standardise)
    frames = data.score_input(tmp_path / "a.wav").frames
    raw = data.destandardise(frames)
    k = np.round(raw * 2**15 / 100).astype(int) - 1
    assert (np.abs(raw * 2**15 - 100 * (k + 1)) <= 0.5001).all()  # within the cell of the integer
    log_prob = (np.log(p[k]) + 15 * np.log(2)).sum(-1)  # the density: p_k over 2^-15
    standardised = log_prob + data.log_scale
    expected = -np.log2(p[drawn]).mean()  # by hand; the entropy is 1.875 bits
    assert data.bits_per_sample(standardised.mean()) == pytest.approx(expected, abs=1e-9)
    assert expected == pytest.approx(1.875, abs=0.05)


def test_a_gaussian_costs_what_theory_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = np.round(rng.normal(0, 1000, 80_000)).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    data = audio_module(tmp_path / "a.wav", split="tail")
    z = data.score_input(tmp_path / "a.wav").frames.double()
    log_prob = float((-0.5 * z**2 - 0.5 * np.log(2 * np.pi)).sum(-1).mean())
    expected = 0.5 * np.log2(2 * np.pi * np.e * 1000**2)
    assert data.bits_per_sample(log_prob) == pytest.approx(expected, abs=0.02)


def test_noise_is_small_beside_every_feature(tmp_path: Path) -> None:
    """Uniform noise of one step has the deviation step / sqrt(12)."""
    rng = np.random.default_rng(0)
    samples = rng.integers(-2, 3, 40_000) * np.tile([1, 1, 1, 10], 10_000)
    soundfile.write(tmp_path / "a.wav", samples.astype(np.int16), RATE)
    how = {"split": "tail", "frame_length": 4}
    data = audio_module(tmp_path / "a.wav", **how)
    loudest = np.sqrt(100 * 2 + 1 / 12)  # in steps; the noise adds 1/12
    assert data.noise_scale == pytest.approx(1 / np.sqrt(12) / loudest, rel=0.02)
    assert audio_module(tmp_path / "a.wav", standardise=False, **how).noise_scale == 0
    assert audio_module(tmp_path / "a.wav", normalise="peak", **how).noise_scale == 0
