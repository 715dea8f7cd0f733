"""Add up means, deviations and covariances of more frames than memory holds, in one pass.

Conventions:
    Frames are ``(T, D_raw)``. Statistics are float64, with the population's divisor.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rnade_lightning.datamodules.core import Array

N_ROWS = 4096
"""Frames that are added to statistics at a time."""


@dataclass(frozen=True)
class Moments:
    """First and second moments of a set of frames, as sufficient statistics that can be added.

    With A = [1, X - shift] for the frames X, one a row, what is kept is the triangular R of A = QR,
    so ``R'R = A'A``. The R of a union is that of the stacked R: one pass over frames in any pieces.
    R and not the sums of products A'A, because forming those squares the condition number: a part
    of 1e-5 that other features leave unexplained would be 1e-10 of a sum with rounding errors of
    1e-12 and more.

    Column 0 is that of the ones, so what stands right of and below the corner is the R of frames
    about their own mean, whatever the shift; the shift only keeps digits.

    Attributes:
        n: Number of frames.
        shift: A value near the mean of each feature, ``(D_raw,)``.
        factor: R, at most ``(1 + D_raw, 1 + D_raw)``.
    """

    n: int
    shift: Array
    factor: Array

    @classmethod
    def of(cls, frames: npt.ArrayLike) -> "Moments":
        """Return the statistics of frames ``(T, D_raw)``, of which there is at least one."""
        raw = np.asarray(frames, dtype=np.float64)
        shift = raw.mean(axis=0)
        ones = np.ones((len(raw), 1))
        return cls(len(raw), shift, _triangle(np.hstack([ones, raw - shift])))

    def __add__(self, other: "Moments") -> "Moments":
        theirs = other.factor.copy()  # [1, X - b] to [1, X - a]: add b - a times the ones
        theirs[:, 1:] += theirs[:, :1] * (other.shift - self.shift)
        factor = _triangle(np.vstack([self.factor, theirs]))
        return Moments(self.n + other.n, self.shift, factor)

    @property
    def mean(self) -> Array:
        """Return the mean of each feature, ``(D_raw,)``."""
        return self.shift + self.factor[0, 1:] / self.factor[0, 0]

    @property
    def centred(self) -> Array:
        """Return R of the frames about their mean, over the root of their number: ``R'R`` is the
        covariance."""
        return self.factor[1:, 1:] / np.sqrt(self.n)

    @property
    def std(self) -> Array:
        """Return the standard deviation of each feature, ``(D_raw,)``."""
        return np.linalg.norm(self.centred, axis=0)


def _triangle(rows: Array) -> Array:
    """Return R of the QR decomposition of a matrix, with as many rows as it has columns (or rows,
    if fewer)."""
    factor: Any = np.linalg.qr(rows, mode="r")
    return np.asarray(factor, dtype=np.float64)


def moments(sequences: Iterable[npt.ArrayLike], n_rows: int = N_ROWS) -> Moments:
    """Return the statistics of sequences ``(T, D_raw)``, in one pass that holds ``n_rows`` frames
    at a time.

    Args:
        sequences: Sequences, or frames on disk that slice like them.
        n_rows: Frames to add at a time.
    """
    total: Moments | None = None
    pile: list[Array] = []

    def add(size: int) -> None:
        nonlocal total
        if sum(map(len, pile)) >= size:
            part = Moments.of(np.concatenate(pile))
            total = part if total is None else total + part
            pile.clear()

    for piece in pieces(sequences, n_rows):
        pile.append(piece)
        add(n_rows)
    add(1)
    if total is None:
        raise ValueError("no frames to take statistics of")
    return total


def pieces(sequences: Iterable[npt.ArrayLike], n_rows: int = N_ROWS) -> Iterator[Array]:
    """Yield all frames of sequences ``(T, D_raw)``, so many of one at a time, in float64."""
    for sequence in sequences:
        frames: Any = sequence
        for start in range(0, len(frames), n_rows):
            yield np.asarray(frames[start : start + n_rows], dtype=np.float64)
