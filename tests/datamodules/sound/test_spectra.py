"""Mel frames and cepstra: agreement with librosa and torchaudio, and what the way back costs."""

from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from sounds import RATE, audio_module, tone

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.sound.spectra import (
    Mel,
    cepstra,
    deltas,
    from_cepstra,
    log_spectral_distance,
    with_deltas,
)


@pytest.mark.parametrize(
    ("n_fft", "win_length", "hop_length", "n_mels", "f_min", "f_max"),
    [(1024, 1024, 256, 80, 0.0, 8000.0), (512, 400, 160, 40, 60.0, 7600.0)],
)
@pytest.mark.slow
def test_features_are_those_of_librosa(
    utterance: np.ndarray, n_fft: int, win_length: int, hop_length: int, n_mels: int,
    f_min: float, f_max: float,
) -> None:  # fmt: skip
    mel = Mel(RATE, n_fft, win_length, hop_length, n_mels, f_min, f_max)
    power = librosa.feature.melspectrogram(
        y=utterance, sr=RATE, n_fft=n_fft, win_length=win_length, hop_length=hop_length,
        n_mels=n_mels, fmin=f_min, fmax=f_max, pad_mode="reflect",
    )  # fmt: skip
    decibels = librosa.power_to_db(power, amin=1e-10, top_db=None)
    ours = mel.log_mel(utterance)
    assert ours.shape == (1 + len(utterance) // hop_length, n_mels)
    np.testing.assert_allclose(10 / np.log(10) * ours, decibels.T, atol=0.02)
    theirs = librosa.feature.mfcc(S=decibels, n_mfcc=13, dct_type=2, norm="ortho").T
    np.testing.assert_allclose(10 / np.log(10) * cepstra(ours, 13), theirs, atol=0.02)
    slopes = librosa.feature.delta(ours.T, width=5, mode="nearest").T
    np.testing.assert_allclose(deltas(ours), slopes, atol=1e-9)


@pytest.mark.parametrize(("n_fft", "hop_length"), [(1024, 256), (401, 160), (512, 512)])
@pytest.mark.parametrize("cuts", [[], [1, 2, 600, 601, 5000], [700, 15_900], [15_999]])
def test_a_sound_in_pieces_has_the_frames_of_the_whole(
    utterance: np.ndarray, n_fft: int, hop_length: int, cuts: list[int]
) -> None:
    mel = Mel(RATE, n_fft, n_fft, hop_length, 40, 0.0, 8000.0)
    centred = torch.stft(
        torch.from_numpy(utterance).float(), n_fft, hop_length, window=torch.hann_window(n_fft),
        pad_mode="reflect", return_complex=True,
    )  # fmt: skip
    expected = (centred.abs().square().T @ mel.filters).clamp(min=1e-10).log().numpy()
    pieces = list(mel.pieces(np.split(utterance, cuts)))
    np.testing.assert_allclose(np.concatenate(pieces), expected, atol=1e-4)
    assert len(cuts) < 2 or len(pieces) > 1
    both = np.concatenate(list(with_deltas(pieces)))
    np.testing.assert_array_equal(both[:, :40], np.concatenate(pieces))
    np.testing.assert_allclose(both[:, 40:], deltas(np.concatenate(pieces)), atol=1e-12)


def test_all_cepstra_give_the_mel_frames_back(utterance: np.ndarray) -> None:
    frames = Mel(RATE, 1024, 1024, 256, 40, 0, 8000).log_mel(utterance)
    np.testing.assert_allclose(from_cepstra(cepstra(frames, 40), 40), frames, atol=1e-3)


def test_log_spectral_distance_of_a_change_in_level_is_that_change(utterance: np.ndarray) -> None:
    loud = np.random.default_rng(0).normal(size=20_000)  # no part 60 dB below the rest
    assert log_spectral_distance(loud / 2, loud) == pytest.approx(20 * np.log10(2), abs=0.01)
    assert log_spectral_distance(utterance, utterance) == 0


def test_bands_that_the_transform_cannot_fill_are_refused(tmp_path: Path) -> None:
    path = tone(tmp_path / "a.wav")
    with pytest.raises(DataError, match="of 200 mel bands lie between two frequencies"):
        audio_module(path, split="tail", kind="log_mel", n_mels=200, n_fft=512).setup()
    with pytest.raises(DataError, match=r"f_min 0 and f_max 9000 Hz .*8000 Hz"):
        audio_module(path, split="tail", kind="log_mel", f_max=9000.0).setup()
    with pytest.raises(DataError, match=r"a\.wav: group 'b\[0-9\]' finds nothing"):
        audio_module(path, group="b[0-9]").setup()
