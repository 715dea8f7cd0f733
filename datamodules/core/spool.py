"""Frames that come in pieces: an array, or a temporary file where they are too many for memory."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np

from rnade_lightning.datamodules.core import Array

ROWS = 1 << 15
"""Frames of a piece."""

_MOST = 32 << 20  # bytes of frames that are held in memory


@dataclass(frozen=True)
class Spooled:
    """Frames ``(T, D_raw)`` in a temporary file: slices like an array, read by ``np.asarray``.

    The file goes when the last slice of it does.
    """

    file: IO[bytes]
    dtype: np.dtype[Any]
    n_features: int
    start: int
    stop: int

    ndim = 2

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def shape(self) -> tuple[int, int]:
        """Frames and features."""
        return len(self), self.n_features

    def __getitem__(self, span: slice) -> "Spooled":
        start, stop, step = span.indices(len(self))
        if step != 1:
            raise ValueError("frames on disk are sliced with step 1")
        return replace(self, start=self.start + start, stop=self.start + max(start, stop))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        found = np.empty(self.shape, self.dtype)
        view = found.data.cast("B") if found.size else memoryview(b"")
        self.file.seek(self.start * self.n_features * self.dtype.itemsize)
        while len(view) and (n := self.file.readinto(view)):  # type: ignore[attr-defined]
            view = view[n:]
        if len(view):
            raise OSError("the temporary file of these frames was cut")
        return found.astype(dtype or self.dtype, copy=False)


def gathered(pieces: Iterable[Array], most: int = _MOST) -> Array | Spooled:
    """Return frames that come in pieces ``(T, D_raw)``, one at least, as one sequence.

    Args:
        pieces: of one width and type.
        most: bytes to hold in memory; more go to a temporary file.
    """
    held: list[Array] = []
    size, n_frames, file = 0, 0, None
    for piece in pieces:
        held.append(piece)
        size, n_frames = size + piece.nbytes, n_frames + len(piece)
        if size > most:
            file = file or tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - frames own it
            _write(file, held)
            held, size = [piece[:0]], 0
    if file is None:
        return np.concatenate(held)
    _write(file, held)
    return Spooled(file, held[0].dtype, held[0].shape[1], 0, n_frames)


def pieces_of(frames: Any) -> Iterator[Array]:
    """Yield frames that are sliced like an array, in memory or on disk, piece by piece."""
    return (np.asarray(frames[i : i + ROWS]) for i in range(0, len(frames), ROWS))


def _write(file: IO[bytes], pieces: list[Array]) -> None:
    for piece in pieces:
        view = np.ascontiguousarray(piece).data.cast("B") if len(piece) else b""
        while len(view):
            view = view[file.write(view) :]
