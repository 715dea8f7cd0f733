"""Hold what is known of every feature of a frame when that feature is drawn.

It is the *side information* of raw frames: C numbers of each of their features, such as predictions
of it. It is no part of log p; it is neither standardised nor checked, and no part of it is left
out. A model takes it as a context by feature.

Conventions:
    Frames are read with their side information behind them, ``(T, D_raw + D_raw C)``: the features,
    then the C numbers of feature 0, those of feature 1, and so on. As a context it is
    ``(T, D, C)``, float32, for the D features that are modelled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rnade_lightning.datamodules.core.recording import Frames, Recording


@dataclass(frozen=True)
class Sided:
    """Raw frames ``(T, D_raw)`` with their side information. It slices as they do, and
    ``np.asarray`` reads the features alone.

    Attributes:
        whole: The frames as they were read, ``(T, D_raw + D_raw C)``: an array, or on disk.
        n_features: D_raw.
    """

    whole: Any
    n_features: int

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, span: slice) -> "Sided":
        return Sided(self.whole[span], self.n_features)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.features(), dtype or np.float64)

    def features(self) -> Any:
        """Return the features alone, ``(T, D_raw)``; on disk where the frames are."""
        return self._columns(0, self.n_features)

    def side(self) -> np.ndarray:
        """Return the side information, ``(T, D_raw, C)``, float32."""
        behind = np.asarray(self._columns(self.n_features, None), np.float32)
        n, width = behind.shape
        return behind.reshape(n, self.n_features, width // self.n_features)

    def _columns(self, start: int, stop: int | None) -> Any:
        if isinstance(self.whole, Frames):
            return self.whole.columns(start, stop)
        return np.asarray(self.whole)[:, start:stop]


def sided(about: Recording, frames: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sequences of a recording, so that what reads them reads their features alone."""
    if not about.side_names:
        return dict(frames)
    return {name: Sided(of, len(about.feature_names)) for name, of in frames.items()}


@dataclass(frozen=True)
class Side:
    """Turns side information into a context; it stands where a `Given` does.

    Attributes:
        kept: Numbers of the raw features that are modelled.
    """

    kept: Sequence[int]

    def of(self, raw: Sided, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Return the context ``(T, D, C)`` of the frames of a sequence from one on and before
        another."""
        found = raw[start:stop].side()
        if len(self.kept) < found.shape[1]:
            found = found[:, list(self.kept)]
        return torch.from_numpy(np.ascontiguousarray(found))
