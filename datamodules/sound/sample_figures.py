r"""Measure generated sound beside held-out sound, by figures that cannot all be gamed at once.

A hum has the mean spectrum of speech if its filter has, and noise has its level; each gives itself
away in another figure. `figures` is of any sounds beside any data: of samples beside held-out data,
and of held-out data beside training data, which says what a perfect sample would have.

Of frames of 20 ms:
    ``level``               median level, in dB
    ``level_distance``      Wasserstein distance of the levels from those of the data, in dB
    ``level_change``        median level of the last thirds of sounds less that of the first, in dB:
                            below 0 where they fade
    ``silent``              share of frames more than 40 dB below the loudest 1 %
Of spectra:
    ``spectral_distance``   root mean square over 40 mel bands of the difference of mean log power
                            from that of the data, in dB
    ``colour_distance``     the same of spectra less their mean over bands: level makes none
    ``modulation_distance`` root mean square, over 1 to 20 Hz, of the difference of the levels'
                            power spectra, in dB: syllables make it, hum and noise do not
Of waveforms:
    ``voiced``              share of frames of 40 ms, silent ones left out, whose normalised
                            autocorrelation has a peak above 0.5 between 60 and 400 Hz
    ``periodicity``         mean peak of these frames
    ``clicks``              clicks a second: places where the second difference is above 12 times
                            its usual size around them (see `n_clicks`)
Of one second:
    ``auc``                 how well logistic regression tells them from data by level and log mel
                            power: 0.5 is not at all, 1 is always (Lopez-Paz and Oquab, *Revisiting
                            Classifier Two-Sample Tests*, 2017)

Conventions:
    Samples are ``(N,)``, full scale 1; rates in samples per second. Levels are of the mean square,
    in dB of full scale, at least -100: rounding to 16 bits is as loud. A figure that cannot be told
    is not a number: all but ``silent`` where all is silent, ``periodicity`` without voiced frames,
    and those of sounds that are shorter than they need.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import wasserstein_distance

from rnade_lightning.datamodules.core import Array

NAMES = (
    *("level", "level_distance", "level_change", "silent"),
    *("spectral_distance", "colour_distance", "modulation_distance"),
    *("voiced", "periodicity", "clicks", "auc"),
)
"""Of the figures, in the order in which they are shown."""
_LEAST = -100.0  # dB of full scale
_SILENT = 40.0  # dB below the loudest 1 %
_PITCHES = 60.0, 400.0  # Hz
_VOICED = 0.5
_N_MELS = 40
_N_SECOND = 50  # frames of 20 ms in a second
_MODULATIONS = slice(1, 21)  # Hz
_LEAST_MODULATION = 0.01  # dB ** 2
_CLICK = 12.0  # times the usual size of second differences
_USUAL = 0.95, 1.96  # quantile of their sizes, over that of a normal variable of deviation 1
_STEP = 2.0**-15  # second differences of integers are of that size where nothing is heard
_EXCERPTS = 200  # of the classifier, at most, of a kind
_C = 0.1  # of its logistic regression


@dataclass(frozen=True)
class Sounds:
    """Some sounds of one rate.

    Attributes:
        samples: Each ``(N,)``, of any length.
        rate: Samples per second.
    """

    samples: Sequence[Array]
    rate: int

    def __post_init__(self) -> None:
        for i, x in enumerate(self.samples):
            if x.ndim != 1 or not np.isfinite(x).all():
                raise ValueError(f"sound {i}: samples to measure must be (N,) and finite")

    @property
    def hop(self) -> int:
        """Return the samples of 20 ms, an even number."""
        return 2 * max(round(0.01 * self.rate), 1)

    @property
    def heard(self) -> bool:
        """Return whether any frame is above the least level."""
        return bool(_joined(self.levels).max(initial=_LEAST) > _LEAST)

    @cached_property
    def levels(self) -> list[Array]:
        """Return the levels of frames of 20 ms, ``(F,)`` each."""
        return [_decibels(power) for power in self._powers]

    @cached_property
    def _powers(self) -> list[Array]:
        framed = (x[: len(x) // self.hop * self.hop] for x in self.samples)
        return [np.square(x).reshape(-1, self.hop).mean(axis=1) for x in framed]

    @cached_property
    def silence(self) -> float:
        """Return the level below which a frame is silent."""
        return float(np.quantile(_joined(self.levels), 0.99)) - _SILENT

    @cached_property
    def log_mel(self) -> list[Array]:
        """Return log mel power every 10 ms in dB, ``(T, 40)`` each."""
        from rnade_lightning.datamodules.sound.spectra import Mel  # torchaudio takes time

        n_fft = 1 << int(np.ceil(np.log2(max(0.032 * self.rate, 256))))
        mel = Mel(self.rate, n_fft, n_fft, self.hop // 2, _N_MELS, 0.0, self.rate / 2)
        nothing = np.zeros((0, _N_MELS))
        made = (mel.log_mel(x) if len(x) > n_fft // 2 else nothing for x in self.samples)
        return [10 / np.log(10) * x for x in made]

    @cached_property
    def spectrum(self) -> Array:
        """Return mean log mel power in dB, ``(40,)``; not a number of nothing."""
        return _mean(np.concatenate([*self.log_mel, np.zeros((0, _N_MELS))]))

    @cached_property
    def peaks(self) -> Array:
        """Return the autocorrelation peaks of frames of 40 ms that are not silent, ``(n,)``."""
        found = []
        for x, power in zip(self.samples, self._powers, strict=True):
            heard = _decibels((power[1:] + power[:-1]) / 2) >= self.silence
            starts = self.hop * np.flatnonzero(heard)
            found += [autocorrelation_peaks(x, starts, self.rate)] if len(starts) else []
        return _joined(found)

    @cached_property
    def modulation(self) -> Array:
        """Return the power spectrum of levels at 1, 2 .. 20 Hz in dB, ``(20,)``; of no second,
        not a number."""
        window, found = np.hanning(_N_SECOND + 1)[:-1], [np.zeros((0, _N_SECOND))]
        for levels in self.levels:
            if len(levels) >= _N_SECOND:
                every = np.lib.stride_tricks.sliding_window_view(levels, _N_SECOND)
                found.append(every[:: _N_SECOND // 2])
        seconds = np.concatenate(found)
        changes = (seconds - seconds.mean(axis=1, keepdims=True)) * window
        power = np.square(np.abs(np.fft.rfft(changes)))[:, _MODULATIONS] / np.square(window).sum()
        return 10 * np.log10(np.maximum(_mean(power), _LEAST_MODULATION))

    @cached_property
    def excerpts(self) -> tuple[list[Array], list[int]]:
        """Return what the classifier sees of seconds, and the sound that each is of: means and
        deviations of log mel power, and the level."""
        rows, of = [], []
        for i, (mel, levels) in enumerate(zip(self.log_mel, self.levels, strict=True)):
            for start in range(0, len(levels) - _N_SECOND + 1, _N_SECOND):
                bands = mel[2 * start : 2 * (start + _N_SECOND)]
                level = levels[start : start + _N_SECOND].mean()
                rows.append(np.array([*bands.mean(axis=0), *bands.std(axis=0), level]))
                of.append(i)
        step = -(-len(rows) // _EXCERPTS) or 1
        return rows[::step], of[::step]


def figures(sounds: Sounds, data: Sounds, seed: int = 0) -> dict[str, float]:
    """Return the figures of sounds beside data; not a number where one cannot be told.

    Args:
        sounds: What to measure.
        data: What it should be like, at the same rate.
        seed: Of the classifier.
    """
    levels = _joined(sounds.levels)
    if not sounds.heard:
        return dict.fromkeys(NAMES, np.nan) | ({"silent": 1.0} if len(levels) else {})
    is_voiced = sounds.peaks > _VOICED
    found = {
        "level": float(np.median(levels)),
        "level_change": _level_change(sounds.levels),
        "silent": float(np.mean(levels < sounds.silence)),
        "voiced": float(_mean(is_voiced)),
        "periodicity": float(_mean(sounds.peaks[is_voiced])),
        "clicks": _clicks(sounds),
    }
    if data.heard:
        spectra = sounds.spectrum - data.spectrum
        found |= {
            "level_distance": float(wasserstein_distance(levels, _joined(data.levels))),
            "spectral_distance": _rms(spectra),
            "colour_distance": _rms(spectra - spectra.mean()),
            "modulation_distance": _rms(sounds.modulation - data.modulation),
            "auc": auc(sounds, data, seed),
        }
    return {name: found.get(name, np.nan) for name in NAMES}


def auc(sounds: Sounds, data: Sounds, seed: int = 0) -> float:
    """Return the area under the ROC curve of logistic regression that tells seconds of sounds from
    seconds of data, or 1 less it where that is more. It is asked of sounds that it was not fitted
    to, in three ways to part them; not a number if there are too few."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    (own, of_own), (them, of_them) = sounds.excerpts, data.excerpts
    n_folds = min(5, len(set(of_own)), len(set(of_them)))
    if n_folds < 2:
        return np.nan
    x, y = np.array(own + them), np.repeat([1, 0], [len(own), len(them)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=_C, class_weight="balanced"))
    rng, found = np.random.default_rng(seed), []
    for _ in range(3):
        folds = [_folds(of, n_folds, rng) for of in (of_own, of_them)]
        how = {"cv": PredefinedSplit(np.concatenate(folds)), "method": "decision_function"}
        found.append(roc_auc_score(y, cross_val_predict(model, x, y, **how)))
    mean = float(np.mean(found))
    return max(mean, 1 - mean)


def _folds(of: Sequence[int], n_folds: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Return the fold of each excerpt: whole sounds, dealt out one by one."""
    _, number = np.unique(of, return_inverse=True)
    return np.asarray(rng.permutation(number.max() + 1)[number] % n_folds)


def autocorrelation_peaks(samples: Array, starts: npt.NDArray[np.intp], rate: int) -> Array:
    """Return the highest peak of the normalised autocorrelation of 40 ms from each start on,
    between 60 and 400 Hz; 0 where there is none.

    r_k = sum_t x_t x_{t+k} / sqrt(sum_t x_t^2 sum_t x_{t+k}^2), over all t with both in the frame

    Args:
        samples: ``(N,)``.
        starts: First samples of the frames, ``(n,)``.
        rate: Samples per second.
    """
    n = 4 * max(round(0.01 * rate), 1)
    low, high = max(int(rate / _PITCHES[1]), 1), int(np.ceil(rate / _PITCHES[0]))
    frames = samples[starts[:, None] + np.arange(n)]  # (n, 40 ms)
    frames = frames - frames.mean(axis=1, keepdims=True)
    power = np.square(np.abs(np.fft.rfft(frames, n + high + 1)))
    lags = np.arange(low - 1, high + 2)  # with one at either side
    products = np.fft.irfft(power, n + high + 1)[:, lags]
    energy = np.pad(np.square(frames).cumsum(axis=1), ((0, 0), (1, 0)))  # of the first samples
    both = energy[:, n - lags] * (energy[:, -1:] - energy[:, lags])
    r = products / np.sqrt(np.maximum(both, 1e-30))
    is_peak = (r[:, 1:-1] >= r[:, :-2]) & (r[:, 1:-1] >= r[:, 2:])
    return np.asarray(np.where(is_peak, r[:, 1:-1], 0.0).max(axis=1))


def n_clicks(samples: Array, rate: int) -> int:
    """Return the number of clicks: second differences above 12 times their usual size, of which
    those within 1 ms are one.

    The usual size is the 95 % quantile of 20 ms over that of a normal variable of deviation 1, of
    the loudest of these 20 ms and those before and after, and a step of 16 bits at least. So
    glottal pulses, which come again, and onsets, which go on, are no clicks.
    """
    n = 2 * max(round(0.01 * rate), 1)
    sizes = np.abs(np.diff(samples, 2))
    sizes = sizes[: len(sizes) // n * n].reshape(-1, n)
    if not len(sizes):
        return 0
    quantile, normal = _USUAL
    usual = np.pad(np.quantile(sizes, quantile, axis=1) / normal, 1, mode="edge")
    usual = np.maximum(np.maximum(usual[:-2], usual[1:-1]), np.maximum(usual[2:], _STEP))
    where = np.flatnonzero(sizes > _CLICK * usual[:, None])
    return int((np.diff(where, prepend=-rate) > 0.001 * rate).sum())


def _clicks(sounds: Sounds) -> float:
    n_seconds = sum(len(x) for x in sounds.samples) / sounds.rate
    return sum(n_clicks(x, sounds.rate) for x in sounds.samples) / n_seconds


def _level_change(levels: Sequence[Array]) -> float:
    thirds = [(x[: len(x) // 3], x[-(len(x) // 3) :]) for x in levels if len(x) > 2]
    first, last = (_joined([pair[i] for pair in thirds]) for i in (0, 1))
    return float(np.median(last) - np.median(first)) if thirds else np.nan


def _joined(parts: Sequence[Array]) -> Array:
    return np.concatenate([*parts, np.zeros(0)])


def _decibels(power: Array) -> Array:
    return 10 * np.log10(np.maximum(power, 10 ** (_LEAST / 10)))


def _mean(rows: npt.NDArray[Any]) -> Array:
    """Return the mean over the first axis; not a number of nothing."""
    return np.asarray(rows.mean(axis=0) if len(rows) else np.full(rows.shape[1:], np.nan))


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
