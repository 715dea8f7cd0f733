"""Make sound that is like speech: a voice source through moving formants.

A train of Rosenberg (1971) glottal pulses, with a pitch contour, jitter and shimmer, drives eight
resonators in a row (Klatt 1980), of which four glide from vowel to vowel. Noise through a resonator
of its own makes fricatives. Syllables open and close the voice. There are no words in it, but what
a model of speech has to learn: harmonics, formants, voiced and unvoiced parts, pauses, hiss.

Conventions:
    Samples are ``(N,)``, full scale 1; frequencies in Hz, times in seconds. The same arguments give
    the same samples.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import soundfile
from scipy.signal import resample_poly

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.core.store import whole_file

RATE = 16_000

_OVERSAMPLING = 3  # of the source, whose pulses end abruptly
_BLOCK = 0.0025  # seconds for which formants stand still
_VOWELS = np.array(  # F1, F2, F3 of a man (Peterson and Barney 1952) and a usual F4
    [
        [270, 2290, 3010, 3500],  # heed
        [390, 1990, 2550, 3500],  # hid
        [530, 1840, 2480, 3500],  # head
        [660, 1720, 2410, 3500],  # had
        [730, 1090, 2440, 3500],  # hod
        [570, 840, 2410, 3400],  # hawed
        [440, 1020, 2240, 3400],  # hood
        [300, 870, 2240, 3400],  # who'd
        [640, 1190, 2390, 3400],  # hud
    ],
    dtype=np.float64,
)
_HIGHER = np.array([4500.0, 5500.0, 6500.0, 7500.0])  # they stand still
_BANDWIDTHS = np.array([70.0, 90.0, 130.0, 200.0, 250.0, 350.0, 450.0, 550.0])
_FRICATIVES = np.array([[5500.0, 1800.0], [2900.0, 900.0], [4200.0, 3500.0]])  # centre, bandwidth
_LEVEL = 0.06  # root mean square of an utterance, -24 dB
_HISS = 2e-4  # -74 dB


def speechlike(seed: int, seconds: float = 2.0) -> Array:
    """Return one utterance at 16 kHz, ``(N,)``.

    Args:
        seed: seed of all random numbers.
        seconds: length.
    """
    rng = np.random.default_rng([seed, 0x5EED])
    n = round(seconds * RATE)
    formants, voicing, friction, colour = _gestures(n, rng)
    pitch = _pitch(n, seconds, rng)
    source = _glottis(pitch, rng) + 0.02 * rng.standard_normal(n)  # breath
    voiced = _resonate(source * voicing, formants, np.broadcast_to(_BANDWIDTHS, formants.shape))
    noise = np.diff(rng.standard_normal(n + 2), 2) * friction  # little at low frequencies
    unvoiced = _resonate(noise, colour[:, :1], colour[:, 1:])
    sound = voiced / _rms(voiced) + 0.3 * unvoiced / max(_rms(unvoiced), 1e-9)
    return sound * _LEVEL / _rms(sound) + _HISS * rng.standard_normal(n)


def write_speechlike(folder: Path, n_files: int = 40, seconds: float = 2.0) -> None:
    """Write utterances as 16-bit WAV files; files that exist already stay.

    Args:
        folder: folder of the files.
        n_files: number of utterances.
        seconds: length of each.
    """
    for i in range(n_files):
        path = folder / f"utterance_{i:03d}.wav"
        if path.exists():
            continue
        pcm = np.round(np.clip(speechlike(i, seconds), -1, 1 - 2.0**-15) * 2**15)
        with whole_file(path) as part:
            soundfile.write(part, pcm.astype(np.int16), RATE, subtype="PCM_16", format="WAV")


def _gestures(n: int, rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """Return the articulators' movements by sample: formants ``(N, 8)``, loudness of voice and of
    friction ``(N,)`` each, centre and bandwidth of the friction ``(N, 2)``."""
    times, targets = [0.0], [_VOWELS[rng.integers(len(_VOWELS))]]
    voicing, friction = np.zeros(n), np.zeros(n)
    colour = np.tile(_FRICATIVES[0], (n, 1))
    t, end = rng.uniform(0.05, 0.15), n / RATE - 0.08
    while t < end - 0.12:
        if rng.random() < 0.45:  # an unvoiced onset
            length = rng.uniform(0.05, 0.12)
            span = slice(round(t * RATE), round((t + length) * RATE))
            friction[span] += rng.uniform(0.4, 1.0) * _bell(len(friction[span]))
            colour[span.start :] = _FRICATIVES[rng.integers(len(_FRICATIVES))]
            t += 0.85 * length
        length = min(rng.uniform(0.11, 0.28), end - t)
        span = slice(round(t * RATE), round((t + length) * RATE))
        voicing[span] += rng.uniform(0.5, 1.0) * _bell(len(voicing[span]))
        vowel = _VOWELS[rng.integers(len(_VOWELS))] * rng.normal(1, 0.03, size=4)
        times += [t + 0.25 * length, t + 0.75 * length]
        targets += [vowel, 0.8 * vowel + 0.2 * _VOWELS[rng.integers(len(_VOWELS))]]
        t += length * rng.uniform(0.8, 1.0)
        t += rng.choice([0.0, 0.04, 0.18], p=[0.6, 0.25, 0.15])  # a closure, a pause
    instants = np.arange(n) / RATE
    gliding = [np.interp(instants, times, column) for column in np.array(targets).T]
    still = [np.full(n, f) for f in _HIGHER]
    return np.stack(gliding + still, axis=-1), np.minimum(voicing, 1), friction, colour


def _bell(n: int) -> Array:
    """Return a rise over the first quarter and a fall over the last third, both as a cosine."""
    x = np.arange(n) / max(n, 1)
    rise, fall = np.clip(x / 0.25, 0, 1), np.clip((1 - x) / 0.35, 0, 1)
    return np.sin(0.5 * np.pi * rise) ** 2 * np.sin(0.5 * np.pi * fall) ** 2


def _pitch(n: int, seconds: float, rng: np.random.Generator) -> Array:
    """Return a pitch contour that falls over the utterance, with accents, ``(N,)``."""
    t = np.arange(n) / RATE
    fall = rng.uniform(125, 145) * 0.75 ** (t / seconds)
    knots = np.arange(0, seconds + 0.3, 0.3)
    return fall * np.exp(np.interp(t, knots, rng.normal(0, 0.08, size=len(knots))))


def _glottis(pitch: Array, rng: np.random.Generator) -> Array:
    """Return the derivative of the flow through the glottis, ``(N,)``.

    Rosenberg's pulse opens as a cosine for 0.4 of the period, closes in 0.16 of it along a quarter
    of a cosine, and stays closed.
    """
    fine = np.repeat(pitch, _OVERSAMPLING) / (RATE * _OVERSAMPLING)  # periods per sample
    period = np.cumsum(fine).astype(np.int64)
    jitter, shimmer = rng.normal(1, 0.01, period[-1] + 2), rng.normal(1, 0.04, period[-1] + 2)
    phase = np.cumsum(fine * jitter[period])
    period, phase = phase.astype(np.int64), phase % 1
    opening = np.pi / 0.8 * np.sin(np.pi * phase / 0.4)
    closing = -np.pi / 0.32 * np.sin(0.5 * np.pi * (phase - 0.4) / 0.16)
    flow = np.where(phase < 0.4, 0.4 * opening, np.where(phase < 0.56, 0.4 * closing, 0.0))
    flow *= shimmer[np.minimum(period, len(shimmer) - 1)]
    return resample_poly(flow, 1, _OVERSAMPLING)[: len(pitch)]


def _resonate(sound: Array, centres: Array, bandwidths: Array) -> Array:
    """Return sound through resonators in a row; each passes 0 Hz unchanged.

    ``centres`` and ``bandwidths`` are ``(N, R)``.

    y_n = a x_n + b y_{n-1} + c y_{n-2}, c = -exp(-2 pi w / rate), a = 1 - b - c,
    b = 2 exp(-pi w / rate) cos(2 pi f / rate)   (Klatt 1980, eq. 1 and 2)
    """
    step = round(_BLOCK * RATE)
    f, w = centres[::step] / RATE, bandwidths[::step] / RATE  # (blocks, R)
    b, c = 2 * np.exp(-np.pi * w) * np.cos(2 * np.pi * f), -np.exp(-2 * np.pi * w)
    out: Array = _recursions()(sound, b, c, step)
    return out


@cache
def _recursions() -> Any:
    """Return the recursion of `_resonate`, compiled on first use."""

    def recursions(sound: Array, b: Array, c: Array, step: int) -> Array:
        out = sound.copy()
        for r in range(b.shape[1]):  # past outputs stay what they were when b and c change
            last, before = 0.0, 0.0
            for n in range(len(out)):
                k = n // step
                y = (1 - b[k, r] - c[k, r]) * out[n] + b[k, r] * last + c[k, r] * before
                out[n], before, last = y, last, y
        return out

    return numba.njit(recursions)


def _rms(sound: Array) -> float:
    return float(np.sqrt(np.mean(np.square(sound))))
