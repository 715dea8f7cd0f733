"""Sound made for mel power has it, keeps what is to stay, and is the same every time."""

import numpy as np
import pytest
import torch
import torchaudio
from sounds import RATE

from rnade_lightning.datamodules.sound import inversion
from rnade_lightning.datamodules.sound.inversion import from_noise
from rnade_lightning.datamodules.sound.spectra import Mel, log_spectral_distance

MEL = Mel.checked(RATE, 1024, 1024, 256, 80, 0.0, 8000.0)
SMALL = Mel.checked(RATE, 512, 512, 128, 40, 0.0, 8000.0)
TRANSFORMS = [(512, 512, 128), (401, 401, 160), (512, 300, 128), (512, 512, 512)]


def griffin_lim(mel: Mel, log_mel: np.ndarray) -> np.ndarray:
    power = mel.power(torch.from_numpy(log_mel).float().exp()).T
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sound = torchaudio.functional.griffinlim(
            power, mel.window, mel.n_fft, mel.hop_length, mel.n_fft, 2.0, 64, 0.99,
            (power.shape[1] - 1) * mel.hop_length, True,
        )  # fmt: skip
    return sound.double().numpy()


def test_mel_frames_come_back_as_sound_with_nearly_the_same_frames(utterance: np.ndarray) -> None:
    wanted = MEL.log_mel(utterance)
    sound, plain = from_noise(MEL, wanted), griffin_lim(MEL, wanted)
    n = len(utterance) // 256 * 256
    assert sound.shape == (n,)
    assert log_spectral_distance(sound, utterance) < log_spectral_distance(plain, utterance) < 6
    assert log_spectral_distance(utterance[::-1].copy(), utterance) > 12  # it is heard
    level = np.sqrt(np.mean(sound**2) / np.mean(utterance[:n] ** 2))
    assert 0.9 < level < 1.1
    away = [np.abs(MEL.log_mel(x)[: len(wanted)] - wanted)[:-3].mean() for x in (sound, plain)]
    assert away[0] < 0.15
    assert away[0] < 0.5 * away[1]


@pytest.mark.parametrize(("n_fft", "win_length", "hop_length"), TRANSFORMS)
def test_any_transform_comes_back(
    utterance: np.ndarray, n_fft: int, win_length: int, hop_length: int
) -> None:
    mel = Mel.checked(RATE, n_fft, win_length, hop_length, 30, 100.0, 7000.0)
    wanted = mel.log_mel(utterance[:6000])
    sound = from_noise(mel, wanted)
    assert len(sound) == (len(wanted) - 1) * hop_length
    assert np.abs(mel.log_mel(sound)[:25] - wanted[: len(mel.log_mel(sound))][:25]).mean() < 0.5


@pytest.mark.parametrize(("n_fft", "win_length", "hop_length"), TRANSFORMS[:3])
def test_spectra_are_those_of_torch_and_go_back(
    n_fft: int, win_length: int, hop_length: int
) -> None:
    mel = Mel(RATE, n_fft, win_length, hop_length, 30, 0.0, 8000.0)
    x = np.random.default_rng(0).standard_normal(3000, np.float32)
    theirs = torch.stft(
        torch.from_numpy(x), n_fft, hop_length, win_length, torch.hann_window(win_length),
        pad_mode="reflect", return_complex=True,
    ).T  # fmt: skip
    at = np.arange(2, len(theirs), 3)
    frames = inversion._Frames(mel, len(x), at)
    ours = frames.spectra(x, frames.empty())
    torch.testing.assert_close(ours, theirs[torch.from_numpy(at)], atol=1e-4, rtol=1e-4)
    whole = slice(n_fft, len(x) - n_fft)  # samples that all their windows cover
    back = frames.sound(ours, frames.others(x))
    np.testing.assert_allclose(back[whole], x[whole], atol=1e-5)


def test_power_of_a_step_fits_the_mel_and_phases_go_ahead() -> None:
    """Beside the updates written out with all filters."""
    mel = Mel.checked(RATE, 512, 512, 128, 40, 100.0, 7000.0)
    rng = np.random.default_rng(0)
    now, before = (rng.standard_normal((5, 257, 2)).astype(np.float32) for _ in range(2))
    wanted, smooth = np.exp(rng.standard_normal((5, 40))), np.exp(rng.standard_normal((5, 257)))
    filters = mel.filters.double().numpy()
    mass = filters.sum(1)
    for share in (0.0, 0.3):
        power = np.square(now.astype(float)).sum(-1)
        power = np.where(mass > 0, power ** (1 - share) * smooth**share, power)
        for _ in range(inversion._N_FITS):
            ratio = wanted / (power @ filters)
            power = np.where(mass > 0, power * (ratio @ filters.T) / np.maximum(mass, 1e-9), power)
        ahead = now - 0.4 * before.astype(float)
        expected = ahead * np.sqrt(power / np.square(ahead).sum(-1))[..., None]
        found, single = before.copy(), (a.astype(np.float32) for a in (wanted, smooth))
        inversion._move(now, found, *single, *inversion._bands(mel), 0.4, share)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_inversion_is_repeatable_and_leaves_the_random_state_alone(utterance: np.ndarray) -> None:
    frames = SMALL.log_mel(utterance[:4000])
    first = from_noise(SMALL, frames)
    torch.randn(3)
    state = torch.get_rng_state()
    np.testing.assert_array_equal(from_noise(SMALL, frames), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_inversion_of_absurd_frames_is_finite_and_not_far_beyond_full_scale() -> None:
    for frames in (np.full((5, 40), 1e6), np.full((5, 40), -1e6), np.zeros((1, 40))):
        assert np.abs(from_noise(SMALL, frames)).max() < 40


def test_a_full_scale_sine_comes_back_at_full_scale() -> None:
    sound = from_noise(MEL, MEL.log_mel(np.sin(2 * np.pi * 1000 * np.arange(8192) / RATE)))
    assert 0.6 < np.abs(sound[1024:-1024]).max() < 1.6


def test_a_sound_is_fitted_to_mel_power_where_it_is_to_be(utterance: np.ndarray) -> None:
    """Noise of the sound's level is given its mel, and what is to stay does."""
    wanted, noise = MEL.log_mel(utterance), np.random.default_rng(0).standard_normal(RATE)
    level = np.repeat(np.abs(utterance).reshape(-1, 200).mean(1), 200)
    start = noise * level
    moved = np.arange(len(wanted)) >= 30
    made = inversion.fitted(MEL, start, wanted, moved)
    away = np.abs(MEL.log_mel(made) - wanted).mean(1)
    assert away[34:58].mean() < 0.2
    assert np.abs(MEL.log_mel(start) - wanted).mean(1)[34:58].mean() > 2
    np.testing.assert_array_equal(made[: 30 * 256 - 512], start[: 30 * 256 - 512])
    assert inversion.fitted(MEL, start, wanted, np.zeros(len(wanted), bool)) is start
