"""Standardise raw features without those that carry nothing, and turn them back.

A feature that is constant, or a linear function of the features before it, has no density: the
likelihood of a model that keeps it grows without bound. Such features are found on the training
frames, left out, named, and put back as the same linear function of the features kept. A relation
that a frame of the known parts (training and validation) breaks is none: its feature is kept.

So a likelihood is of the whole frame: a frame that breaks a relation has density 0 under a model of
the others. It breaks it where the deviation is above ten times the residual of training, and above
the rounding of the numbers.

Some features may be *given*: they are no part of what is modelled but known beside it (see
`given`). They are kept first, so that a feature that is a linear function of them is left out.
Others may be *ignored*: they are neither modelled nor given nor checked, and are written at their
means.

One raw feature may be a log-Jacobian: where frames are a transformation of the data that stretches
them by an amount that depends on the data, ``log |d frame / d data|`` given all data before. It is
never modelled; added to a log density of frames, it makes it one of the data.

Conventions:
    ``D_raw`` features as read, ``D`` features kept, the given ones aside. Statistics are
    float64, with the population's divisor. Standardised frames are float32 tensors, raw frames
    float64 arrays.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.moments import Moments, moments, pieces
from rnade_lightning.datamodules.core.numbers import rounding
from rnade_lightning.datamodules.core.relations import function_of

_CONSTANT = 1e-12
"""Deviation, in sizes of the mean, of a feature that is constant but for the rounding of sums."""

_BREAKS = 10.0
"""Residuals of training that a frame deviates by when it breaks a relation."""

RANK_TOLERANCE = 1e-4
"""Residual, in standard deviations of the feature, below which it depends on others. In CMU motion
(four sets of takes, 2 to 104) knees, elbows and toes leave at most 1.2e-5 (rounding of the angles
in the file), every other feature leaves at least 1.1e-3."""

LOG_JACOBIAN = "log_jacobian"
"""Name of the raw feature that is one."""

IGNORED = "ignored"
"""Why a feature is left out that the data module was told to ignore."""

_ANYTHING = 1e300  # residual of a feature of which nothing is known that a frame could break
_TINY = 1e-9  # of a deviation: rounding of sums


@dataclass(frozen=True)
class Standardiser:
    """An affine map from raw to standardised features, and its inverse.

    Attributes:
        names: Names of the raw features.
        kept: Indices of the features kept, the given ones first.
        mean: Mean of each kept feature, ``(D,)``, in its own unit.
        std: Standard deviation of each kept feature, ``(D,)``.
        basis: Raw features as a linear function of standardised ones, ``(D_raw, D)``.
        offset: Raw features where all standardised ones are zero, ``(D_raw,)``.
        residual: Root mean square that this function leaves of each feature on the training frames,
            ``(D_raw,)``, in its own unit.
        rounding: Rounding of each feature that is known of the kind of data, ``(D_raw,)``.
        dropped: Why each feature that is not kept was left out, by name.
        n_given: Number of features that are given.
    """

    names: list[str]
    kept: list[int]
    mean: Array
    std: Array
    basis: Array
    offset: Array
    residual: Array
    rounding: Array
    dropped: dict[str, str]
    n_given: int = 0

    def __post_init__(self) -> None:
        n_raw, n = len(self.names), len(self.kept)
        sizes = {"mean": (n,), "std": (n,), "basis": (n_raw, n)}
        sizes |= dict.fromkeys(("offset", "residual", "rounding"), (n_raw,))
        for name, size in sizes.items():
            found = getattr(self, name)
            of_kind = isinstance(found, np.ndarray) and found.dtype == np.float64
            if not of_kind or found.shape != size or not np.isfinite(found).all():
                raise DataError(f"the statistics' {name} is not {size} finite float64 numbers")
        if not (self.std > 0).all() or not {*self.kept} <= {*range(n_raw)}:
            raise DataError("the statistics hold a deviation of 0 or a feature that there is not")
        if len({*self.kept}) < n:
            raise DataError("the statistics keep a feature twice")
        own = self.basis[self.kept], self.offset[self.kept]
        if not (np.array_equal(own[0], np.diag(self.std)) and np.array_equal(own[1], self.mean)):
            raise DataError("the statistics' basis and offset are not those of mean and std")
        if not 0 <= self.n_given <= n:
            raise DataError(f"the statistics say that {self.n_given} of {n} features are given")

    @property
    def modelled(self) -> list[int]:
        """Return the indices of the features that are modelled, ``(D,)``."""
        return self.kept[self.n_given :]

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
        known: Sequence[npt.ArrayLike] = (),
        rounded: npt.ArrayLike = 0.0,
        given: Sequence[int] = (),
        ignored: Sequence[int] = (),
    ) -> "Standardiser":
        """Return the map for training frames with these statistics.

        Args:
            statistics: Statistics of the training frames.
            names: Names of the raw features.
            rank_tolerance: Residual below which a feature depends on those before it.
            rescale: False leaves the features kept in their own units.
            known: Sequences ``(T, D_raw)`` on which relations must hold.
            rounded: By how much numbers may be off, one number or ``(D_raw,)``. A feature that
                varies less is constant.
            given: Indices of the features that are given.
            ignored: Indices of those that are ignored.
        """
        rounded = np.broadcast_to(np.asarray(rounded, dtype=np.float64), (len(names),)).copy()
        needed: dict[int, float] = {}  # features to keep whatever they are, with deviations
        needed |= {j: float(statistics.std[j]) or 1.0 for j in given}
        while True:
            how = rank_tolerance, rescale, rounded, needed, given, ignored
            found = cls._of(statistics, names, *how)
            broken = found._not_held(known)
            if not broken:
                return found
            needed |= broken

    @classmethod
    def _of(
        cls,
        statistics: Moments,
        names: list[str],
        rank_tolerance: float,
        rescale: bool,
        rounded: Array,
        needed: dict[int, float],
        given: Sequence[int],
        ignored: Sequence[int],
    ) -> "Standardiser":
        """Return the map that keeps the features ``needed``, whatever they are functions of, and
        those ``given`` first."""
        n, mean, std = statistics.n, statistics.mean, statistics.std.copy()
        varies = std > np.maximum(rounded, _CONSTANT * np.abs(mean))
        scaled = statistics.centred / np.where(varies, std, 1.0)  # columns of length 1

        # Gram and Schmidt, of the features kept: what a column leaves when those before it are
        # taken off is the part of the feature, in its own deviations, that they do not explain.
        directions = np.zeros((len(scaled), 0))
        kept: list[int] = []
        dropped: dict[str, str] = {}
        weights: dict[int, dict[int, float]] = {}  # of dropped features, on those kept by then
        for j in sorted(range(len(names)), key=lambda j: j not in given):
            name = names[j]
            if name == LOG_JACOBIAN:
                weights[j] = {}
                continue
            if j in ignored:
                dropped[name], weights[j] = IGNORED, {}
                continue
            if not varies[j]:
                if j in needed:
                    std[j] = needed[j]
                    kept.append(j)
                else:
                    dropped[name], weights[j] = "constant", {}
                continue
            rest = scaled[:, j]
            for _ in range(2):  # the second time takes off what rounding left
                rest = rest - directions @ (directions.T @ rest)
            residual = float(np.linalg.norm(rest))
            before = [k for k in kept if varies[k]]
            found = None
            few = n - 1 - len(before) < 1  # then nothing follows from what is left
            if j not in needed and (few or residual <= rank_tolerance):
                found = function_of(scaled[:, before], scaled[:, j], n, rank_tolerance)
            if found is None:
                if residual > _TINY:
                    directions = np.column_stack([directions, rest / residual])
                kept.append(j)
                continue
            weights[j] = {before[k]: weight for k, weight in found.items()}
            largest = sorted(weights[j], key=lambda k: -abs(weights[j][k]))[:3]
            told = [names[k] for k in largest if abs(weights[j][k]) > 0.01]
            dropped[name] = "linear in " + ", ".join(told)

        own = std[kept] if rescale else np.ones(len(kept))
        centre = mean[kept] if rescale else np.zeros(len(kept))
        place = {k: i for i, k in enumerate(kept)}
        basis = np.zeros((len(names), len(kept)))
        basis[kept, np.arange(len(kept))] = own
        left = np.zeros(len(names))
        for j, of in weights.items():
            rest = scaled[:, j].copy()
            for k, weight in of.items():
                basis[j, place[k]] = std[j] * weight / std[k] * own[place[k]]
                rest -= weight * scaled[:, k]
            freedom = max(n - 1 - len(of), 1)
            unit = std[j] if varies[j] else 1.0
            left[j] = np.linalg.norm(rest) * unit * np.sqrt(n / freedom)
            if j in ignored:
                left[j] = _ANYTHING
        offset = mean - basis @ ((mean[kept] - centre) / own)
        offset[kept] = centre
        return cls(
            list(names), kept, centre, own, basis, offset, left, rounded, dropped, len(given)
        )

    @classmethod
    def identity(cls, names: list[str]) -> "Standardiser":
        """Return the map that leaves all features as they are."""
        n = len(names)
        none, own = np.zeros(n), np.ones(n)
        return cls(list(names), list(range(n)), none, own, np.eye(n), none, none, none, {})

    # Relations

    def breaks(self, raw: npt.ArrayLike) -> dict[int, str]:
        """Return the frames ``(T, D_raw)`` that break a relation of training, by number, each with
        the name of the feature that deviates the most from what the features kept say of it."""
        frames = np.asarray(raw, dtype=np.float64)
        excess, out = self._excess(frames)
        worst = excess.argmax(axis=1) if len(out) else np.zeros(len(frames), dtype=int)
        at = np.flatnonzero(excess.max(axis=1, initial=0.0) > 1)
        return {int(t): self.names[out[worst[t]]] for t in at}

    def _excess(self, frames: Array) -> tuple[Array, list[int]]:
        """Return the deviations of the features left out, ``(T, n)``, over those allowed, and the
        numbers of these features."""
        out = [j for j, name in enumerate(self.names) if name in self.dropped]
        if not out:
            return np.zeros((len(frames), 0)), out
        standardised = (frames[:, self.kept] - self.mean) / self.std
        basis = self.basis[out]
        with np.errstate(over="ignore", invalid="ignore"):
            deviation = np.abs(frames[:, out] - standardised @ basis.T - self.offset[out])
        allowed = np.broadcast_to(_BREAKS * self.residual[out], deviation.shape)
        if (deviation > allowed).any():  # seldom: look at the digits
            off = np.maximum(rounding(frames), self.rounding) + _CONSTANT * np.abs(frames)
            of_others = off[:, self.kept] @ np.abs(basis / self.std).T
            allowed = np.maximum(allowed, off[:, out] + of_others)
        with np.errstate(divide="ignore"):  # nothing is allowed where all is exact
            excess = np.divide(deviation, allowed, out=np.zeros_like(allowed), where=deviation > 0)
        return np.nan_to_num(excess, nan=np.inf), out

    def _not_held(self, known: Sequence[npt.ArrayLike]) -> dict[int, float]:
        """Return the features of relations that some known frame breaks, each with how far frames
        are from the relation (the root mean square)."""
        if not self.dropped:
            return {}
        broken, squares, n = np.zeros(len(self.names), dtype=bool), np.zeros(len(self.names)), 0
        for frames in pieces(known):
            excess, out = self._excess(frames)
            broken[out] |= (excess > 1).any(axis=0)
            standardised = (frames[:, self.kept] - self.mean) / self.std
            deviation = frames[:, out] - standardised @ self.basis[out].T - self.offset[out]
            squares[out] += np.square(deviation).sum(axis=0)
            n += len(frames)
        return {int(j): float(np.sqrt(squares[j] / n)) for j in np.flatnonzero(broken)}

    @property
    def log_scale(self) -> float:
        """Return the sum of log deviations: log p of raw frames is log p of standardised ones less
        this."""
        return float(np.log(self.std[self.n_given :]).sum())

    def report(self) -> str:
        """Return one line on the features left out: how many, and where to read which."""
        constant = sum(why == "constant" for why in self.dropped.values())
        ignored = sum(why == IGNORED for why in self.dropped.values())
        linear = len(self.dropped) - constant - ignored
        counts = {"constant": constant, "linear in others": linear, "ignored as told": ignored}
        kinds = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n)
        return (
            f"{len(self.dropped)} of {len(self.names)} features carry nothing and are left out "
            f"({kinds}); run.json and prepare list them under dropped"
        )

    def forward(self, raw: npt.ArrayLike) -> torch.Tensor:
        """Turn raw frames ``(..., D_raw)`` into standardised ones ``(..., D)``, float32."""
        frames = np.asarray(raw, dtype=np.float64)
        all_in_order = self.kept == list(range(len(self.names)))
        frames = (frames if all_in_order else frames[..., self.kept]) - self.mean
        frames /= self.std
        return torch.from_numpy(frames[..., self.n_given :].astype(np.float32))

    def log_jacobian(self, raw: npt.ArrayLike, breaks: Iterable[int] | None = None) -> torch.Tensor:
        """Return what to add to log p of standardised frames for that of raw ones ``(T, D_raw)``,
        up to `log_scale`: the log-Jacobian, 0 if there is none; -inf where a frame breaks a
        relation.

        Args:
            raw: Raw frames.
            breaks: The frames that do, if that is known.

        Returns:
            float32 ``(T,)``.
        """
        frames = np.asarray(raw, dtype=np.float64)
        added = np.zeros(len(frames))
        if LOG_JACOBIAN in self.names:
            added = frames[:, self.names.index(LOG_JACOBIAN)].copy()
        added[list(self.breaks(frames) if breaks is None else breaks)] = -np.inf
        return torch.from_numpy(added.astype(np.float32))

    def backward(
        self, frames: torch.Tensor | npt.ArrayLike, given: npt.ArrayLike | None = None
    ) -> Array:
        """Turn standardised frames ``(..., D)`` into raw ones ``(..., D_raw)``, float64.

        Args:
            frames: Standardised frames.
            given: The features that are given, raw, ``(..., n_given)``.
        """
        if isinstance(frames, torch.Tensor):
            frames = frames.detach().cpu().double().numpy()
        known = np.asarray(frames, dtype=np.float64)
        if self.n_given:
            n = self.n_given
            scaled = (np.asarray(given, dtype=np.float64) - self.mean[:n]) / self.std[:n]
            known = np.concatenate([scaled, known], -1)
        return known @ self.basis.T + self.offset

    def state(self) -> dict[str, Any]:
        """Return the map in plain types and tensors, for a checkpoint."""
        arrays = ("mean", "std", "basis", "offset", "residual", "rounding")
        return {
            key: torch.from_numpy(value.copy()) if key in arrays else value
            for key, value in vars(self).items()
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Standardiser":
        """Return the map of a `state`.

        Raises:
            DataError: The state is of another version's map.
        """
        state = {"n_given": 0} | state  # of a checkpoint before there were given features
        wanted = {field.name for field in fields(cls)}
        if different := sorted(wanted ^ set(state)):
            raise DataError(
                f"the statistics are those of another version: {', '.join(different[:3])}, missing"
                " or new"
            )
        plain: dict[str, Any] = {
            k: v.cpu().numpy() if torch.is_tensor(v) else v for k, v in state.items()
        }
        return cls(**plain)
