"""Describe the content of one file.

Conventions:
    Sequences are ``(T, D_raw)``, time first, in the units of their features.
"""

from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from typing import Any, NamedTuple

import numpy as np

from rnade_lightning.datamodules.core import Array


class Recording(NamedTuple):
    """The content of one file.

    Attributes:
        frames: Raw sequences ``(T, D_raw)``, by what is added to the file's name to name them.
            float32 stays float32 on disk; all else becomes float64.
        feature_names: Names of the raw features.
        frame_rate: Frames per second.
        layout: What it takes to write frames back, in plain types (for a checkpoint and JSON).
    """

    frames: dict[str, Array]
    feature_names: list[str]
    frame_rate: float
    layout: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Frames:
    """Raw frames ``(T, D_raw)`` on disk: slices like an array, read by ``np.asarray``.

    Every read maps the file anew and lets it go, so that neither mappings nor resident pages add
    up over a corpus.
    """

    path: str
    dtype: str
    offset: int  # bytes before the file's first frame
    n_features: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, span: slice) -> "Frames":
        start, stop, step = span.indices(len(self))
        if step != 1:
            raise ValueError("frames on disk are sliced with step 1")
        place = self.path, self.dtype, self.offset, self.n_features
        return Frames(*place, self.start + start, self.start + max(start, stop))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        n_features, shape = self.n_features, (len(self), self.n_features)
        if not len(self):
            return np.zeros(shape, dtype or np.float64)
        offset = self.offset + self.start * n_features * np.dtype(self.dtype).itemsize
        with open(self.path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
            flat = np.frombuffer(mapped, self.dtype, shape[0] * n_features, offset)
            found = flat.reshape(shape).astype(dtype or np.float64)  # a copy, in memory
            del flat  # lets go of the mapping
        return found
