"""Whiten sound by the envelope that its log mel power tells, and colour it again.

At every frame of samples, log mel power is read between its own frames, and turned into the
non-negative power spectrum that fits it (see `spectra`). The linear predictor of a sound with that
spectrum (autocorrelation, Levinson and Durbin) has weights a and an error of deviation g:

    excitation   e_t = (x_t - sum_i a_i x_{t-i}) / g

Weights and gain are functions of the mel alone. So given the mel, excitations are a triangular
function of samples with 1 / g on the diagonal: log p of samples is log p of excitations less
sum_t log g. Each filter back to samples is stable and follows from no sample that it made: a draw
has the level and the envelope of the mel for as long as it lasts. (Valin and Skoglund, *LPCNet*,
2019, take the predictor from the mel, too.) A prediction is at most full scale, both ways: where a
mel jumps as none of a sound does, a sound stays finite.

Conventions:
    Samples and excitations ``(N,)``, full scale 1, before a sound all is 0. ``log_mel (T, n_mels)``
    as in `spectra`; at frames of samples, T is N over the frame's length.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.core.compiling import kept
from rnade_lightning.datamodules.sound.spectra import Mel

_GRID = 2.0**-10
"""Of log mel power at frames, 0.004 dB: what float32 rounds is the same multiple of it again, so
that both ways see the same filters."""
_FLOOR = 1e-5  # of the power, -50 dB, white, beside the spectrum: what keeps filters short
_BOUND = 1.0  # of a prediction
_N_FITS = 8  # of the spectrum to the mel; 30 whiten no better
_FRAMES = 512  # whose spectra are in memory


class AtFrames:
    """Reads log mel power, which comes in pieces, where frames of samples begin.

    Args:
        pieces: log mel power ``(T, n_mels)``, piece by piece.
        hop_length: samples from one frame of it to the next.
        frame_length: samples of a frame.
    """

    def __init__(self, pieces: Iterable[Array], hop_length: int, frame_length: int) -> None:
        self._pieces, self._step = iter(pieces), frame_length / hop_length
        self._held, self._first = np.zeros((0, 0)), 0  # frames in memory, number of the first
        self._n = 0

    def read(self, n: int) -> Array:
        """Return log mel power at the next n frames, ``(n, n_mels)``; its last frame lasts."""
        at = (self._n + np.arange(n)) * self._step
        self._n += n
        while self._first + len(self._held) <= at[-1] + 1:
            if (piece := next(self._pieces, None)) is None:
                break
            self._held = np.concatenate([self._held, piece]) if len(self._held) else piece
        found = _between(self._held, at - self._first)
        done = min(int(at[-1]) - self._first, len(self._held) - 1)
        self._first, self._held = self._first + done, self._held[done:]
        return np.asarray(np.round(found / _GRID) * _GRID)


def at_hops(log_mel: Array, hop_length: int, frame_length: int) -> Array:
    """Return log mel power at its own frames, of that at frames of samples ``(T, n_mels)``."""
    n = 1 + (len(log_mel) - 1) * frame_length // hop_length
    return _between(log_mel, np.arange(n) * (hop_length / frame_length))


def _between(values: Array, at: npt.NDArray[np.floating[Any]]) -> Array:
    """Return values ``(T, n)`` between their places, linearly; beyond the last, the last."""
    place = np.minimum(at, len(values) - 1)
    before = place.astype(int)
    after, share = np.minimum(before + 1, len(values) - 1), (place - before)[:, None]
    return np.asarray((1 - share) * values[before] + share * values[after])


def filters(mel: Mel, log_mel: Array, order: int) -> tuple[Array, Array]:
    """Return the weights ``(T, order)``, a_1 first, and the gains ``(T,)`` of the predictors that
    log mel power tells.

    Args:
        mel: the transform.
        log_mel: ``(T, n_mels)``.
        order: samples that predict the next.
    """
    log_mel = np.round(mel.bounded(log_mel) / _GRID) * _GRID
    parts = np.split(log_mel, range(_FRAMES, len(log_mel), _FRAMES))
    weights, gains = zip(*(_filters(mel, part, order) for part in parts), strict=True)
    return np.concatenate(weights), np.concatenate(gains)


def _filters(mel: Mel, log_mel: Array, order: int) -> tuple[Array, Array]:
    power = mel.power(torch.from_numpy(log_mel).float().exp(), _N_FITS).double().numpy()  # (T, F)
    inside = np.flatnonzero(mel.covered)  # beyond the bands it is as at their edges
    power = power[:, np.clip(np.arange(power.shape[1]), inside[0], inside[-1])]
    r = np.fft.irfft(power, axis=1)[:, : order + 1] / mel.window_power
    r[:, 0] *= 1 + _FLOOR
    a, error = np.zeros((len(r), order + 1)), r[:, 0].copy()
    a[:, 0] = 1
    for i in range(1, order + 1):  # a of order i - 1 to order i
        k = -(a[:, :i] * r[:, i:0:-1]).sum(1) / error
        a[:, 1 : i + 1] += k[:, None] * a[:, i - 1 :: -1][:, :i]
        error *= 1 - k * k
    return -a[:, 1:], np.sqrt(error)


def whitened(samples: Array, past: Array, weights: Array, gains: Array) -> Array:
    """Return the excitations ``(N,)`` of samples.

    Args:
        samples: ``(N,)``, N a multiple of T.
        past: samples before them, ``(order,)``.
        weights: of every frame ``(T, order)``.
        gains: ``(T,)``.
    """
    found = np.empty(len(samples))
    _recursion(np.concatenate([past, samples]), found, weights, gains, False)
    return found


def coloured(excitations: Array, past: Array, weights: Array, gains: Array) -> Array:
    """Return the samples ``(N,)`` of excitations: the inverse of `whitened`."""
    x = np.concatenate([past, np.zeros(len(excitations))])
    _recursion(x, np.asarray(excitations, np.float64), weights, gains, True)
    return x[len(past) :]


@kept([__file__])
def _recursion(x: Array, e: Array, weights: Array, gains: Array, synthesis: bool) -> None:
    """Fill in excitations e ``(N,)`` or, in synthesis, the samples x behind their past."""
    order, length = weights.shape[1], len(e) // max(len(gains), 1)
    for t in range(len(e)):
        a, g = weights[t // length], gains[t // length]
        prediction = 0.0
        for i in range(order):
            prediction += a[i] * x[order + t - 1 - i]
        prediction = min(max(prediction, -_BOUND), _BOUND)
        if synthesis:
            x[order + t] = prediction + g * e[t]
        else:
            e[t] = (x[order + t] - prediction) / g
