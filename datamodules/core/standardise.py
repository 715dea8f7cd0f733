"""Standardise raw features without those that carry nothing, and turn them back.

A feature that is constant, or a linear function of the features before it, has no density: the
likelihood of a model that keeps it grows without bound. Such features are found on the training
frames, left out, named, and put back as the same linear function of the features kept.

One raw feature may be a log-Jacobian: where frames are a transformation of the data that stretches
them by an amount that depends on the data, ``log |d frame / d data|`` given all data before. It is
never modelled; added to a log density of frames, it makes it one of the data.

Conventions:
    ``D_raw`` features as read, ``D`` features kept. Statistics are float64, with the population's
    divisor. Standardised frames are float32 tensors, raw frames float64 arrays.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import solve_triangular

from rnade_lightning.datamodules.core import Array, DataError

_CONSTANT = 1e-5
"""Standard deviation below which a feature is constant. Over 104 CMU takes at 30 frames per second
angles that are fixed vary by up to 6e-7 rad (rounding), and others by 1e-3 rad or more."""

RANK_TOLERANCE = 1e-4
"""Residual, in standard deviations of the feature, below which it depends on others. In CMU motion
(four sets of takes, 2 to 104) knees, elbows and toes leave at most 1.2e-5 (rounding of the angles
in the file), every other feature leaves at least 1.1e-3."""

LOG_JACOBIAN = "log_jacobian"
"""Name of the raw feature that is one."""

_ROWS = 4096  # frames that are added to statistics at a time


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


def moments(sequences: Iterable[npt.ArrayLike], n_rows: int = _ROWS) -> Moments:
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

    for sequence in sequences:
        frames: Any = sequence
        for start in range(0, len(frames), n_rows):
            pile.append(np.asarray(frames[start : start + n_rows], dtype=np.float64))
            add(n_rows)
    add(1)
    if total is None:
        raise ValueError("no frames to take statistics of")
    return total


@dataclass(frozen=True)
class Standardiser:
    """An affine map from raw to standardised features, and its inverse.

    Attributes:
        names: Names of the raw features.
        kept: Indices of the features kept.
        mean: Mean of each kept feature, ``(D,)``, in its own unit.
        std: Standard deviation of each kept feature, ``(D,)``.
        basis: Raw features as a linear function of standardised ones, ``(D_raw, D)``.
        offset: Raw features where all standardised ones are zero, ``(D_raw,)``.
        dropped: Why each feature that is not kept was left out, by name.
    """

    names: list[str]
    kept: list[int]
    mean: Array
    std: Array
    basis: Array
    offset: Array
    dropped: dict[str, str]

    def __post_init__(self) -> None:
        n_raw, n = len(self.names), len(self.kept)
        sizes = {"mean": (n,), "std": (n,), "basis": (n_raw, n), "offset": (n_raw,)}
        for name, size in sizes.items():
            found = getattr(self, name)
            if np.shape(found) != size or not np.isfinite(found).all():
                raise DataError(f"the statistics' {name} is not {size} finite numbers")
        if not (self.std > 0).all() or not all(0 <= i < n_raw for i in self.kept):
            raise DataError("the statistics hold a deviation of 0 or a feature that there is not")

    @classmethod
    def fit(
        cls,
        frames: Iterable[npt.ArrayLike],
        names: list[str],
        rank_tolerance: float = RANK_TOLERANCE,
        rescale: bool = True,
    ) -> "Standardiser":
        """Fit statistics to raw training sequences, each ``(T, D_raw)``; see `of`."""
        return cls.of(moments(frames), names, rank_tolerance, rescale)

    @classmethod
    def of(
        cls,
        statistics: Moments,
        names: list[str],
        rank_tolerance: float = RANK_TOLERANCE,
        rescale: bool = True,
    ) -> "Standardiser":
        """Return the map for training frames with these statistics.

        Args:
            statistics: Statistics of the training frames.
            names: Names of the raw features.
            rank_tolerance: Residual below which a feature depends on those before it.
            rescale: False leaves the features kept in their own units.
        """
        mean, std = statistics.mean, statistics.std
        varies = std > np.maximum(_CONSTANT, 1e-12 * np.abs(mean))
        scaled = statistics.centred / np.where(varies, std, 1.0)  # columns of length 1

        # Gram and Schmidt, of the features kept: what a column leaves when those before it are
        # taken off is the part of the feature, in its own deviations, that they do not explain.
        directions = np.zeros((len(scaled), len(names)))
        factor = np.zeros((len(names), len(names)))
        kept: list[int] = []
        dropped: dict[str, str] = {}
        weights: dict[int, Array] = {}  # of dropped features, on those kept by then
        for j, name in enumerate(names):
            if name == LOG_JACOBIAN:
                weights[j] = np.zeros(0)
                continue
            if not varies[j]:
                dropped[name], weights[j] = "constant", np.zeros(0)
                continue
            n = len(kept)
            basis, rest, row = directions[:, :n], scaled[:, j], np.zeros(n)
            for _ in range(2):  # the second time takes off what rounding left
                part = basis.T @ rest
                row, rest = row + part, rest - basis @ part
            residual = np.linalg.norm(rest)
            if residual > rank_tolerance:
                factor[n, :n], factor[n, n] = row, residual
                directions[:, n] = rest / residual
                kept.append(j)
                continue
            weights[j] = solve_triangular(factor[:n, :n], row, lower=True, trans="T")
            largest = [k for k in np.argsort(-np.abs(weights[j]))[:3] if abs(weights[j][k]) > 0.01]
            dropped[name] = "linear in " + ", ".join(names[kept[k]] for k in largest)

        own = std[kept] if rescale else np.ones(len(kept))
        centre = mean[kept] if rescale else np.zeros(len(kept))
        basis = np.zeros((len(names), len(kept)))
        basis[kept, np.arange(len(kept))] = own
        for j, weight in weights.items():
            n = len(weight)
            basis[j, :n] = std[j] * weight / std[kept[:n]] * own[:n]
        offset = mean - basis @ ((mean[kept] - centre) / own)
        offset[kept] = centre
        return cls(list(names), kept, centre, own, basis, offset, dropped)

    @property
    def log_scale(self) -> float:
        """Return the sum of log deviations: log p of raw frames is log p of standardised ones less
        this."""
        return float(np.log(self.std).sum())

    def report(self) -> str:
        """Return one line on the features left out: how many, and where to read which."""
        constant = sum(why == "constant" for why in self.dropped.values())
        counts = {"constant": constant, "linear in others": len(self.dropped) - constant}
        kinds = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n)
        return (
            f"{len(self.dropped)} of {len(self.names)} features carry nothing and are left out "
            f"({kinds}); run.json and prepare list them under dropped"
        )

    def forward(self, raw: npt.ArrayLike) -> torch.Tensor:
        """Turn raw frames ``(..., D_raw)`` into standardised ones ``(..., D)``, float32."""
        frames = np.asarray(raw, dtype=np.float64)
        frames = (
            frames[..., self.kept] if len(self.kept) < len(self.names) else frames
        ) - self.mean
        frames /= self.std
        return torch.from_numpy(frames.astype(np.float32))

    def log_jacobian(self, raw: npt.ArrayLike) -> torch.Tensor:
        """Return the log-Jacobian of raw frames ``(T, D_raw)``, float32 ``(T,)``; 0 if there is
        none."""
        frames = np.asarray(raw, dtype=np.float64)
        if LOG_JACOBIAN not in self.names:
            return torch.zeros(len(frames))
        column = frames[:, self.names.index(LOG_JACOBIAN)]
        return torch.from_numpy(column.astype(np.float32))

    def backward(self, frames: torch.Tensor | npt.ArrayLike) -> Array:
        """Turn standardised frames ``(..., D)`` into raw ones ``(..., D_raw)``, float64."""
        if isinstance(frames, torch.Tensor):
            frames = frames.detach().cpu().double().numpy()
        return np.asarray(frames, dtype=np.float64) @ self.basis.T + self.offset

    def state(self) -> dict[str, Any]:
        """Return the map in plain types and tensors, for a checkpoint."""
        arrays = ("mean", "std", "basis", "offset")
        return {
            key: torch.from_numpy(value.copy()) if key in arrays else value
            for key, value in vars(self).items()
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Standardiser":
        """Return the map of a `state`."""
        plain: dict[str, Any] = {
            k: v.cpu().numpy() if torch.is_tensor(v) else v for k, v in state.items()
        }
        return cls(**plain)


@dataclass(frozen=True)
class FrameSequence:
    """A standardised sequence; it unpacks as name and frames.

    Attributes:
        name: Where it comes from: the file's name, and a number if the file holds several.
        frames: ``(T, D)``, float32.
        log_jacobian: To add to log p of each frame, ``(T,)``; 0 where frames are the data.
    """

    name: str
    frames: torch.Tensor
    log_jacobian: torch.Tensor

    def __iter__(self) -> Iterator[Any]:
        return iter((self.name, self.frames))

    def start(self, n: int) -> "FrameSequence":
        """Return the first n frames of the sequence."""
        return replace(self, frames=self.frames[:n], log_jacobian=self.log_jacobian[:n])

    @classmethod
    def of(cls, name: str, raw: npt.ArrayLike, standardiser: Standardiser) -> "FrameSequence":
        """Return raw frames ``(T, D_raw)`` as standardised ones."""
        raw = np.asarray(raw, dtype=np.float64)
        return cls(name, standardiser.forward(raw), standardiser.log_jacobian(raw))


class Sequences(Sequence[FrameSequence]):
    """Standardised sequences, read when they are asked for."""

    def __init__(
        self, raw: Sequence[tuple[str, npt.ArrayLike]], standardiser: Standardiser
    ) -> None:
        self._raw, self._standardiser = raw, standardiser

    def __len__(self) -> int:
        return len(self._raw)

    @overload
    def __getitem__(self, index: int) -> FrameSequence: ...
    @overload
    def __getitem__(self, index: slice) -> "Sequences": ...
    def __getitem__(self, index: int | slice) -> "FrameSequence | Sequences":
        if isinstance(index, slice):
            return Sequences(self._raw[index], self._standardiser)
        name, raw = self._raw[index]
        return FrameSequence.of(name, raw, self._standardiser)
