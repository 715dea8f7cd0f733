"""Make sound that has a given log mel power: from noise, or near a given sound.

Mel power holds neither phases nor fine structure, so that many sounds have it. As in Griffin-Lim
(1984) with momentum (Perraudin, Balazs and Sondergaard, *A fast Griffin-Lim algorithm*, 2013), each
step takes the spectra of the sound, keeps their phases, corrects their power, and goes to the sound
whose spectra are nearest. Unlike there, power keeps its own fine structure: it is multiplied by
what makes it fit the mel power, where Griffin-Lim puts one smooth power spectrum in its place.

What is drawn is one of many sounds with that mel, and further from another one than their mean is.
So in its last steps log power moves a part of the way to a mean: of the spectra of several sounds
that were fitted, or the smooth spectrum.

Conventions:
    Samples ``(N,)``, full scale 1; ``log_mel (T, n_mels)`` and frames as in `spectra`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.core.compiling import kept
from rnade_lightning.datamodules.sound.spectra import Mel

_N_STEPS, _N_LAST, _MOMENTUM = 200, 5, 0.99
_SHARE = 0.3  # of the mean, in each of the last steps
_N_BESIDE, _N_STEPS_EACH = 3, 150  # sounds from noise that are fitted beside a given one
_N_FITS = 3  # of power to mel power, in each step
_COVERED = 0.01  # least power of all windows on a sample; with hops of half a window it is 0.5

Single = npt.NDArray[np.float32]

_compiled = kept(
    [__file__], fastmath={"contract", "nsz", "arcp", "reassoc"}, error_model="numpy", nogil=True
)


def from_noise(mel: Mel, log_mel: Array) -> Array:
    """Return sound that has nearly this log mel power ``(T, n_mels)``: ``(T - 1) * hop_length``
    samples, of one frame ``hop_length``. The same frames give the same sound."""
    n_frames, least = len(log_mel), mel.n_fft // (2 * mel.hop_length) + 2  # for its edges
    log_mel = np.pad(log_mel, ((0, max(least - n_frames, 0)), (0, 0)), mode="edge")
    n = (len(log_mel) - 1) * mel.hop_length + mel.n_fft % 2
    fit = _Fit(mel, log_mel, np.zeros(n, np.float32), np.arange(len(log_mel)))
    sound = fit.steps(fit.steps(fit.noise(0), _N_STEPS), _N_LAST, fit.smooth)
    return sound[: max(n_frames - 1, 1) * mel.hop_length].astype(np.float64)


def fitted(mel: Mel, samples: Array, log_mel: Array, moved: npt.NDArray[np.bool_]) -> Array:
    """Return sound ``(N,)`` near samples ``(N,)`` that has nearly this log mel power.

    Bins beyond the bands, and all other frames, stay as they are.

    Args:
        mel: the transform.
        samples: ``(N,)``, N above ``n_fft // 2``.
        log_mel: ``(T, n_mels)``.
        moved: which frames are to be fitted, ``(T,)``; those that the samples do not have are not.
    """
    half, hop = mel.n_fft // 2, mel.hop_length
    at = np.flatnonzero(moved[: 1 + (len(samples) + 2 * half - mel.n_fft) // hop])
    if not len(at):
        return samples
    fit = _Fit(mel, log_mel[at], samples.astype(np.float32), at)
    starts = fit.samples, *map(fit.noise, range(_N_BESIDE))
    sounds = [fit.steps(start, _N_STEPS_EACH) for start in starts]
    sound = fit.steps(sounds[0], _N_LAST, fit.mean(sounds))
    touched = np.zeros(len(samples), bool)
    for t in at.tolist():
        touched[max(t * hop - half, 0) :][: mel.n_fft + min(t * hop - half, 0)] = True
    return np.where(touched, sound.astype(np.float64), samples)


class _Fit:
    """Some frames of a sound on their way to a mel power.

    Args:
        mel: the transform.
        log_mel: ``(T, n_mels)``.
        samples: the sound ``(N,)``, whose other frames stay as they are.
        at: numbers of the frames ``(T,)``.
    """

    def __init__(self, mel: Mel, log_mel: Array, samples: Single, at: npt.NDArray[np.intp]) -> None:
        self.samples, self.frames = samples, _Frames(mel, len(samples), at)
        self.stays, self.bands = self.frames.others(samples), _bands(mel)
        wanted = torch.from_numpy(mel.bounded(log_mel)).float().exp()
        self.wanted, power = wanted.numpy(), mel.power(wanted)
        self.smooth, self.gains = power.numpy(), (power / mel.window_power).sqrt()

    def noise(self, seed: int) -> Single:
        """Return white noise ``(N,)`` through the smooth spectrum."""
        noise = np.random.default_rng(seed).standard_normal(len(self.samples), np.float32)
        spectra = self.frames.spectra(noise, self.frames.empty())
        return self.frames.sound(spectra.mul_(self.gains), self.stays)

    def steps(self, samples: Single, n: int, mean: Single | None = None) -> Single:
        """Return samples ``(N,)`` after n steps, each a share of the way to a mean power ``(T,
        F)`` if there is one."""
        before, spectra = self.frames.empty().zero_(), self.frames.empty()
        share, towards = (0.0, self.smooth) if mean is None else (_SHARE, mean)
        how = self.wanted, towards, *self.bands, _MOMENTUM / (1 + _MOMENTUM), share
        for _ in range(n):
            self.frames.spectra(samples, spectra)
            _move(_parts(spectra), _parts(before), *how)
            samples = self.frames.sound(before, self.stays)
            spectra, before = before, spectra
        return samples

    def mean(self, sounds: Sequence[Single]) -> Single:
        """Return the geometric mean of the power of sounds ``(N,)``, ``(T, F)``."""
        spectra, log_power = self.frames.empty(), np.zeros_like(self.smooth)
        for samples in sounds:
            power = np.square(_parts(self.frames.spectra(samples, spectra))).sum(-1)
            log_power += np.log(np.maximum(power, np.float32(1e-20)))
        return np.exp(log_power / np.float32(len(sounds)))


class _Frames:
    """Some frames of a sound, from samples to spectra and back, without copies.

    Args:
        mel: the transform.
        n: samples of the sound.
        at: numbers of the frames ``(T,)``.
    """

    def __init__(self, mel: Mel, n: int, at: npt.NDArray[np.intp]) -> None:
        self.how = mel.window.numpy(), mel.hop_length
        self.n_fft, self.at = mel.n_fft, at
        self.every = np.arange(1 + (n + 2 * (mel.n_fft // 2) - mel.n_fft) // mel.hop_length)
        self.cut = torch.empty(len(at), mel.n_fft)
        windows = np.tile(self.how[0], (len(self.every), 1))
        self.power = np.zeros(n, np.float32)  # of all windows on each sample
        _add(windows, self.every, *self.how, self.power)
        self.power = np.maximum(self.power, np.float32(_COVERED))

    def empty(self) -> torch.Tensor:
        """Return room for spectra ``(T, F)``."""
        return torch.empty(len(self.at), self.n_fft // 2 + 1, dtype=torch.complex64)

    def spectra(self, samples: Single, out: torch.Tensor) -> torch.Tensor:
        """Return the spectra ``(T, F)``, in ``out``."""
        _cut(samples, self.at, *self.how, self.cut.numpy())
        return torch.fft.rfft(self.cut, out=out)

    def sound(self, spectra: torch.Tensor, stays: Single) -> Single:
        """Return the samples ``(N,)`` whose spectra are nearest to these, ``(T, F)``, and to what
        `others` says of all other frames."""
        torch.fft.irfft(spectra, n=self.n_fft, out=self.cut)
        samples = stays.copy()
        _add(self.cut.numpy(), self.at, *self.how, samples)
        samples /= self.power
        return samples

    def others(self, samples: Single) -> Single:
        """Return the sum ``(N,)`` of all other frames of samples, under their windows twice."""
        others = np.setdiff1d(self.every, self.at)
        cut, stays = np.empty((len(others), self.n_fft), np.float32), np.zeros_like(samples)
        _cut(samples, others, *self.how, cut)
        _add(cut, others, *self.how, stays)
        return stays


def _bands(mel: Mel) -> tuple[Any, Single, Single]:
    """Return the first of the two neighbouring bands that hold each bin ``(F,)``, its weights in
    both ``(F, 2)``, and what remains of a bin that no band holds ``(F,)``: 1, of others 0."""
    filters = np.pad(mel.filters.numpy(), ((0, 0), (0, 1)))  # (F, n_mels + 1)
    first = np.argmax(filters > 0, axis=1)
    weights = np.take_along_axis(filters, first[:, None] + [0, 1], axis=1)
    return first, np.ascontiguousarray(weights), (mel.filters.sum(1) == 0).float().numpy()


def _parts(spectra: torch.Tensor) -> Any:
    return torch.view_as_real(spectra).numpy()


@_compiled
def _cut(samples, at, window, hop, out):  # type: ignore[no-untyped-def]
    """Fill in frames ``(T, n_fft)`` under a window; the sound is reflected at its ends."""
    n, size = len(samples), len(window)
    for k in range(len(at)):
        start = at[k] * hop - size // 2
        if start >= 0 and start + size <= n:
            for i in range(size):
                out[k, i] = window[i] * samples[start + i]
        else:
            for i in range(size):
                j = abs(start + i)
                out[k, i] = window[i] * samples[j if j < n else 2 * (n - 1) - j]


@_compiled
def _add(frames, at, window, hop, samples):  # type: ignore[no-untyped-def]
    """Add frames ``(T, n_fft)`` under a window to samples."""
    n, size = len(samples), len(window)
    for k in range(len(at)):
        start = at[k] * hop - size // 2
        for i in range(max(-start, 0), min(size, n - start)):
            samples[start + i] += window[i] * frames[k, i]


@_compiled
def _move(spectra, before, mel, mean, first, weights, bare, momentum, share):  # type: ignore[no-untyped-def]
    """Replace spectra of the last step, ``before (T, F, 2)``, by spectra of this one with the power
    that fits mel power ``(T, n_mels)``, nearer to a mean power ``(T, F)`` by a share of the
    logarithm, and the phases a step ahead."""
    F, M, zero = len(first), mel.shape[1], np.float32(0)
    momentum, share = np.float32(momentum), np.float32(share)
    spread, power = np.empty_like(weights), np.empty(F, np.float32)
    ratio = np.ones(M + 1, np.float32)
    for f in range(F):
        mass = weights[f, 0] + weights[f, 1] + bare[f]
        spread[f, 0], spread[f, 1] = weights[f, 0] / mass, weights[f, 1] / mass
    for t in range(len(spectra)):
        for f in range(F):
            power[f] = spectra[t, f, 0] ** 2 + spectra[t, f, 1] ** 2
            if share > zero and bare[f] == zero:
                power[f] = power[f] ** (np.float32(1) - share) * mean[t, f] ** share
        for _ in range(_N_FITS):
            ratio[:] = zero
            for f in range(F):
                ratio[first[f]] += weights[f, 0] * power[f]
                ratio[first[f] + 1] += weights[f, 1] * power[f]
            for m in range(M):
                ratio[m] = mel[t, m] / max(ratio[m], np.float32(1e-10))
            for f in range(F):
                at = first[f]
                power[f] *= bare[f] + spread[f, 0] * ratio[at] + spread[f, 1] * ratio[at + 1]
        for f in range(F):
            re = spectra[t, f, 0] - momentum * before[t, f, 0]
            im = spectra[t, f, 1] - momentum * before[t, f, 1]
            gain = np.sqrt(power[f] / max(re * re + im * im, np.float32(1e-20)))
            before[t, f, 0], before[t, f, 1] = gain * re, gain * im
