"""Turn sound into mel frames and cepstra, and back into sound.

Conventions:
    Samples are ``(N,)``, full scale 1. Frames are ``(T, n_mels)`` or ``(T, n_mfcc)``, time first,
    float64. Frame t is centred on sample ``t * hop_length`` (the edges are reflected), so that
    N samples give ``1 + N // hop_length`` frames. The window is a periodic Hann window. Mel filters
    are Slaney's: his scale, each filter of area 1 (librosa's defaults; in torchaudio
    ``mel_scale="slaney", norm="slaney"``). ``log_mel`` is the natural logarithm of mel power, at
    least 1e-10; times ``10 / ln 10`` it is librosa's ``power_to_db`` without its ``top_db``.
    Cepstra are the orthonormal DCT-II of ``log_mel``.
"""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torchaudio

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.core import Array

_LEAST = 1e-10  # mel power
_N_FITS = 30  # of power to mel power; 100 sound no better


@dataclass(frozen=True)
class Mel:
    """The mel transform and its approximate inverse; arguments are named as in torchaudio.

    Attributes:
        sample_rate: Samples per second.
        n_fft: Length of the Fourier transform, in samples.
        win_length: Length of the window, in samples.
        hop_length: Samples from one frame to the next.
        n_mels: Mel filters.
        f_min: Lowest frequency, in Hz.
        f_max: Highest frequency, in Hz.
    """

    sample_rate: int
    n_fft: int
    win_length: int
    hop_length: int
    n_mels: int
    f_min: float
    f_max: float

    @classmethod
    def checked(
        cls,
        sample_rate: int,
        n_fft: int,
        win_length: int,
        hop_length: int,
        n_mels: int,
        f_min: float,
        f_max: float,
    ) -> "Mel":
        """Return a transform whose filters all hold a part of the spectrum.

        Raises:
            DataError: frequencies out of range, or more filters than the transform can fill.
        """
        if not 0 <= f_min < f_max <= sample_rate / 2:
            raise DataError(
                f"f_min {f_min:g} and f_max {f_max:g} Hz must lie in order between 0 and half"
                f" the sample rate ({sample_rate / 2:g} Hz)"
            )
        mel = cls(sample_rate, n_fft, win_length, hop_length, n_mels, f_min, f_max)
        if empty := len(mel.empty_filters):
            raise DataError(
                f"{empty} of {n_mels} mel bands lie between two frequencies of the"
                f" transform: lower n_mels or raise n_fft ({n_fft})"
            )
        return mel

    @property
    def empty_filters(self) -> list[int]:
        """Return the filters that lie between two bins of the Fourier transform and are always
        zero."""
        return torch.nonzero(self.filters.sum(0) == 0).flatten().tolist()

    def log_mel(self, samples: Array) -> Array:
        """Return log mel power, ``(N,)`` to ``(T, n_mels)``; N must be above ``n_fft // 2``."""
        return np.concatenate(list(self.pieces([samples])))

    def pieces(self, samples: Iterable[Array]) -> Iterator[Array]:
        """Yield log mel power ``(T, n_mels)`` of a sound that comes in pieces ``(N,)``, more than
        ``n_fft // 2`` samples in all. Frames are centred, the sound is reflected at its ends."""
        half, held, begun = self.n_fft // 2, np.zeros(0), False
        for piece in samples:
            held = np.concatenate([held, piece])
            if len(held) > 2 * half + self.hop_length:  # what it takes to reflect either end
                held = held if begun else np.pad(held, (half, 0), mode="reflect")
                begun, n_kept = True, half + 1  # for the reflection at the end
                n = (len(held) - n_kept - self.n_fft) // self.hop_length + 1
                if n > 0:
                    yield self._log_mel(held[: (n - 1) * self.hop_length + self.n_fft])
                    held = held[n * self.hop_length :]
        yield self._log_mel(np.pad(held, (0 if begun else half, half), mode="reflect"))

    @cached_property
    def window_power(self) -> float:
        """Return the sum of the squares of the window: what makes power of a white sound its
        variance."""
        return float(self.window.square().sum())

    @cached_property
    def covered(self) -> Array:
        """Return which bins of the Fourier transform some filter holds, ``(F,)``."""
        return (self.filters.sum(1) > 0).numpy()

    def _log_mel(self, samples: Array) -> Array:
        """Return log mel power of frames that begin with the samples ``(N,)``."""
        power = torchaudio.functional.spectrogram(
            torch.from_numpy(samples).float(),
            pad=0,
            window=self.window,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            win_length=self.n_fft,
            power=2.0,
            normalized=False,
            center=False,
        )  # (F, T)
        mel = power.T @ self.filters  # (T, n_mels)
        return mel.clamp(min=_LEAST).log().double().numpy()

    def bounded(self, log_mel: Array) -> Array:
        """Return log mel power ``(T, n_mels)`` that a sound may have: no band holds more than a
        full-scale sine gives it. A model may draw more, which would make the rest of the sound
        inaudible."""
        most = (0.25 * self.window.sum() ** 2 * self.filters.max(0).values).log()
        return np.clip(log_mel, np.log(_LEAST), most.double().numpy())

    def power(self, mel: torch.Tensor, n_fits: int = _N_FITS) -> torch.Tensor:
        """Return non-negative power ``(T, F)`` that fits mel power ``(T, n_mels)``.

        Starts from each band's mean spread over its bins and follows the multiplicative updates of
        Lee and Seung (2001) for the Kullback-Leibler divergence, which keep it positive.
        """
        filters = self.filters.to(mel)  # (F, n_mels)
        mass = filters.sum(1)  # (F,)
        bare = (mass == 0).to(mel)
        spread = filters.T / (mass + bare)  # (n_mels, F)
        power = (mel / filters.sum(0).clamp(min=1e-12)) @ filters.T / (mass + bare)
        for _ in range(n_fits):
            ratio = mel / (power @ filters).clamp(min=_LEAST)
            power = power * torch.addmm(bare, ratio, spread)
        return power

    @cached_property
    def window(self) -> torch.Tensor:
        """Return the window, with zeros on both sides, ``(n_fft,)``."""
        left = (self.n_fft - self.win_length) // 2
        right = self.n_fft - self.win_length - left
        return torch.nn.functional.pad(torch.hann_window(self.win_length), (left, right))

    @cached_property
    def filters(self) -> torch.Tensor:
        """Return the mel filters ``(F, n_mels)``, F = ``n_fft // 2 + 1``."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of empty filters, which `checked` refuses
            return torchaudio.functional.melscale_fbanks(
                self.n_fft // 2 + 1,
                self.f_min,
                self.f_max,
                self.n_mels,
                self.sample_rate,
                norm="slaney",
                mel_scale="slaney",
            )


def cepstra(log_mel: Array, n_mfcc: int) -> Array:
    """Return the cepstral coefficients of log mel power, ``(T, n_mels)`` to ``(T, n_mfcc)``."""
    return log_mel @ _dct(n_mfcc, log_mel.shape[-1])


def from_cepstra(frames: Array, n_mels: int) -> Array:
    """Return the smoothest log mel power with these cepstra, ``(T, n_mfcc)`` to ``(T, n_mels)``."""
    return frames @ _dct(frames.shape[-1], n_mels).T


def with_deltas(pieces: Iterable[Array]) -> Iterator[Array]:
    """Yield frames and their `deltas`, ``(T, D)`` to ``(T, 2 D)``, of a sequence in pieces."""
    held, n_before = np.zeros((0, 0)), 0  # frames that are not yielded yet, and two before them
    for piece in pieces:
        held = np.concatenate([held, piece]) if len(held) else piece
        if len(held) > n_before + 2:
            yield np.concatenate([held, deltas(held)], axis=-1)[n_before:-2]
            held, n_before = held[max(len(held) - 4, 0) :], min(len(held) - 2, 2)
    if len(held):
        yield np.concatenate([held, deltas(held)], axis=-1)[n_before:]


def deltas(frames: Array) -> Array:
    """Return slopes over five frames, ``(T, D)`` to ``(T, D)``; torchaudio's ``compute_deltas``."""
    return torchaudio.functional.compute_deltas(torch.from_numpy(frames).T).T.numpy()


def log_spectral_distance(samples: Array, reference: Array) -> float:
    """Return the log-spectral distance of two sounds in dB.

    It is the root mean square over frequency of the difference of log power spectra, averaged over
    time.

    Spectra are of 1024 samples, every 256, under a Hann window; power more than 60 dB below the
    reference's largest counts as 60 dB below it. The longer sound is cut to the shorter.
    """
    n = min(len(samples), len(reference))
    spectra = torch.stft(
        torch.from_numpy(np.stack([samples[:n], reference[:n]])),
        n_fft=1024,
        hop_length=256,
        window=torch.hann_window(1024, dtype=torch.float64),
        return_complex=True,
    )  # (2, F, T)
    power = spectra.abs().square()
    levels = 10 * power.clamp(min=float(power[1].max()) * 1e-6 + 1e-30).log10()
    return float((levels[0] - levels[1]).square().mean(0).sqrt().mean())


def _dct(n_out: int, n_in: int) -> Array:
    """Return the orthonormal DCT-II, ``(n_in, n_out)``."""
    return torchaudio.functional.create_dct(n_out, n_in, norm="ortho").double().numpy()
