"""Describe the content of one file.

Conventions:
    Sequences are ``(T, D_raw)``, time first, in the units of their features. Behind them may stand
    side information of every feature (see `side`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
        side_names: Names of the C numbers of each feature that stand behind the features of a
            frame; the sequences are then ``(T, D_raw + D_raw C)``.
    """

    frames: dict[str, Array]
    feature_names: list[str]
    frame_rate: float
    layout: dict[str, Any]
    side_names: Sequence[str] = ()

    @property
    def width(self) -> int:
        """Return how many numbers a frame holds, with its side information."""
        return len(self.feature_names) * (1 + len(self.side_names))

    def name_of(self, column: int) -> str:
        """Return the name of a number of a frame."""
        if (n := column - len(self.feature_names)) < 0:
            return self.feature_names[column]
        feature, which = divmod(n, len(self.side_names))
        return f"{self.side_names[which]} of {self.feature_names[feature]}"


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
    shown: tuple[int, int | None] = (0, None)  # columns that are read

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, span: slice) -> "Frames":
        start, stop, step = span.indices(len(self))
        if step != 1:
            raise ValueError("frames on disk are sliced with step 1")
        return replace(self, start=self.start + start, stop=self.start + max(start, stop))

    def columns(self, start: int, stop: int | None) -> "Frames":
        """Return these frames with the features from one on and before another; no others are
        read."""
        return replace(self, shown=(start, stop))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        n_features, shape, shown = self.n_features, (len(self), self.n_features), slice(*self.shown)
        if not len(self):
            return np.zeros(shape, dtype or np.float64)[:, shown]
        offset = self.offset + self.start * n_features * np.dtype(self.dtype).itemsize
        with open(self.path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
            flat = np.frombuffer(mapped, self.dtype, shape[0] * n_features, offset)
            found = flat.reshape(shape)[:, shown].astype(dtype or np.float64)  # a copy, in memory
            del flat  # lets go of the mapping
        return found
