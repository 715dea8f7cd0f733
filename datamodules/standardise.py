"""Raw features to standardised ones, without those that carry nothing, and back.

A feature that is constant, or a linear function of the features before it, has no density: the
likelihood of a model that keeps it grows without bound. Such features are found on the training
frames, left out, named, and put back as the same linear function of the features kept.

Conventions:
    ``D_raw`` features as read, ``D`` features kept. Statistics are float64, with the population's
    divisor. Standardised frames are float32 tensors, raw frames float64 arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import solve_triangular

Array = npt.NDArray[np.float64]

_CONSTANT = 1e-5
"""Standard deviation below which a feature is constant. Over 104 CMU takes at 30 frames per second
angles that are fixed vary by up to 6e-7 rad (rounding), and others by 1e-3 rad or more."""

RANK_TOLERANCE = 1e-4
"""Residual, in standard deviations of the feature, below which it depends on others. In CMU motion
(four sets of takes, 2 to 104) knees, elbows and toes leave at most 1.2e-5 (rounding of the angles
in the file), every other feature leaves at least 1.1e-3."""


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

    @classmethod
    def fit(
        cls,
        frames: Sequence[Array],
        names: list[str],
        rank_tolerance: float = RANK_TOLERANCE,
        rescale: bool = True,
    ) -> "Standardiser":
        """Fits statistics to raw training sequences, each ``(T, D_raw)``.

        Args:
            frames: Training sequences.
            names: Names of the raw features.
            rank_tolerance: Residual below which a feature depends on those before it.
            rescale: False leaves the features kept in their own units.
        """
        raw = np.concatenate(frames)  # (N, D_raw)
        mean, std = raw.mean(axis=0), raw.std(axis=0)
        varies = std > np.maximum(_CONSTANT, 1e-12 * np.abs(mean))
        scaled = (raw - mean) / np.where(varies, std, 1.0)
        correlation = scaled.T @ scaled / len(raw)

        # Cholesky's factor, row by row, of the features kept: the last entry of a row is the part
        # of the feature, in its own deviations, that the features before it leave unexplained.
        factor = np.zeros_like(correlation)
        kept: list[int] = []
        dropped: dict[str, str] = {}
        weights: dict[int, Array] = {}  # of dropped features, on those kept by then
        for j, name in enumerate(names):
            if not varies[j]:
                dropped[name], weights[j] = "constant", np.zeros(0)
                continue
            n = len(kept)
            row = solve_triangular(factor[:n, :n], correlation[kept, j], lower=True)
            residual = np.sqrt(max(1.0 - row @ row, 0.0))
            if residual > rank_tolerance:
                factor[n, :n], factor[n, n] = row, residual
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
        """Sum of log deviations: log p of raw frames is log p of standardised ones less this."""
        return float(np.log(self.std).sum())

    def report(self) -> str:
        """One line on the features left out."""
        reasons = [f"{name} is {why}" for name, why in self.dropped.items() if why != "constant"]
        constant = [name for name, why in self.dropped.items() if why == "constant"]
        reasons += [f"{', '.join(constant)}: constant"] if constant else []
        line = f"{len(self.dropped)} of {len(self.names)} features carry nothing and are left out: "
        return line + "; ".join(reasons)

    def forward(self, raw: npt.ArrayLike) -> torch.Tensor:
        """Raw ``(..., D_raw)`` to standardised ``(..., D)``, float32."""
        kept = np.asarray(raw, dtype=np.float64)[..., self.kept]
        return torch.from_numpy(((kept - self.mean) / self.std).astype(np.float32))

    def backward(self, frames: torch.Tensor | npt.ArrayLike) -> Array:
        """Standardised ``(..., D)`` to raw ``(..., D_raw)``, float64."""
        if isinstance(frames, torch.Tensor):
            frames = frames.detach().cpu().double().numpy()
        return np.asarray(frames, dtype=np.float64) @ self.basis.T + self.offset

    def state(self) -> dict[str, Any]:
        """The map in plain types and tensors, for a checkpoint."""
        arrays = ("mean", "std", "basis", "offset")
        return {
            key: torch.from_numpy(value.copy()) if key in arrays else value
            for key, value in vars(self).items()
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Standardiser":
        """The inverse of `state`."""
        plain: dict[str, Any] = {
            k: v.cpu().numpy() if torch.is_tensor(v) else v for k, v in state.items()
        }
        return cls(**plain)
