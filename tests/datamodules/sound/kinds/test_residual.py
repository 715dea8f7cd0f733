"""Residual frames: bits of a known source, and the way back from the beginning of a file."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import STEP

from rnade_lightning.datamodules import AudioDataModule


def module(root: Path, **kwargs: object) -> AudioDataModule:
    given = {"kind": "residual", "frame_length": 20, "window": 8, "warmup": 1, **kwargs}
    return AudioDataModule(str(root), **given)  # type: ignore[arg-type]


def test_bits_per_sample_are_the_entropy_rate(linear_corpus: Path) -> None:
    """A Gaussian on the residuals takes the bits of the source's noise. A Gaussian on the samples
    themselves takes more."""
    rate = 0.5 * np.log2(2 * np.pi * np.e * 1000**2)
    bits = {}
    for kind in ("residual", "waveform"):
        data = module(linear_corpus, kind=kind, predictor_order=2, forgetting=0.999)
        raw = data.destandardise(data.score_input(linear_corpus / "0.flac").frames)[50:] / STEP
        scale = 1000 if kind == "residual" else np.std(raw)
        log_prob = -0.5 * (raw / scale) ** 2 - np.log(np.sqrt(2 * np.pi) * scale * STEP)
        found = data.bits_per_sample(float(log_prob.sum(-1).mean()) + data.log_scale)
        assert found is not None
        bits[kind] = found
    assert bits["residual"] == pytest.approx(rate, abs=0.02)
    assert bits["waveform"] > rate + 0.5


def test_bits_are_told_of_the_files_own_integers_only(linear_corpus: Path) -> None:
    assert module(linear_corpus).bit_depth == 16
    assert module(linear_corpus, sample_rate=8000).bits_per_sample(-1.0) is None
    assert module(linear_corpus, normalise="peak").bits_per_sample(-1.0) is None


@pytest.mark.slow
@pytest.mark.parametrize("n_frames", [50, 1600])
def test_frames_from_the_beginning_are_written_as_the_sound_they_are(
    linear_corpus: Path, tmp_path: Path, n_frames: int
) -> None:
    data = module(linear_corpus)
    frames = data.score_input(linear_corpus / "1.flac").frames[:n_frames]
    wav, _ = data.render(frames, tmp_path / "start")
    written, source = soundfile.read(wav)[0], soundfile.read(linear_corpus / "1.flac")[0]
    assert len(written) == 20 * n_frames
    inside = slice(100, len(written) - 100)  # without the fades
    assert np.abs(written - source[: len(written)])[inside].max() <= STEP * 1.01
    later = data.render(frames[10:], tmp_path / "later")[0]  # the fault, were a start left out
    assert np.abs(soundfile.read(later)[0][100:400] - source[300:600]).max() > 100 * STEP
