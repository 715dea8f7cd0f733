"""Read a file by a reader, whoever wrote it, and refuse what cannot be frames.

Conventions:
    As in `recording`.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rnade_lightning.datamodules.core import DataError, MachineError, reason_of, short_of
from rnade_lightning.datamodules.core.recording import Recording
from rnade_lightning.datamodules.core.spool import ROWS, pieces_of


def read_checked(read: Callable[[Path], Recording], path: Path) -> Recording:
    """Read a file; only finite numbers in frames of one width, with names and a rate, get through.

    Raises:
        DataError: The file cannot be read, or used.
        MachineError: The machine is short of something, whatever the file.
    """
    try:
        recording = read(path)
    except (OSError, MemoryError, DataError) as error:
        if short := short_of(error):
            raise MachineError(f"{path}: cannot be read: {short}") from error
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read ({reason_of(error)})") from error
    except Exception as error:
        kind = type(error).__name__
        raise DataError(f"{path}: {_reader(read)} raised {kind}: {error}: mend it") from error
    _check_kind(path, recording, _reader(read))
    check_finite(path, recording)
    return recording


def _reader(read: Callable[[Path], Recording]) -> str:
    return str(getattr(read, "__qualname__", read))


def _check_kind(path: Path, recording: Any, reader: str) -> None:
    """Refuse what is no recording, or has names or a rate that cannot be.

    Raises:
        DataError: Says which.
    """
    if not isinstance(recording, Recording) or not isinstance(recording.frames, Mapping):
        kind = type(recording).__name__
        raise DataError(f"{path}: {reader} returned a {kind}, no Recording with frames by suffix")
    for suffix, frames in recording.frames.items():
        kind = getattr(frames, "dtype", type(frames).__name__)
        if not hasattr(frames, "ndim") or getattr(kind, "kind", "f") not in "fiub":
            raise DataError(f"{path}{suffix}: {reader} returned frames of {kind}, no real numbers")
    names, rate = list(recording.feature_names), recording.frame_rate
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise DataError(f"{path}: {reader} calls several features {twice[0]!r}: name them apart")
    if not isinstance(rate, int | float | np.number) or not 0 < rate < math.inf:
        raise DataError(f"{path}: {reader} says {rate!r} frames a second, which is no rate")


def check_finite(path: Path, recording: Recording) -> None:
    """Refuse frames that are not finite numbers, or not as wide as they have names.

    Raises:
        DataError: Names the first of them.
    """
    for suffix, frames in recording.frames.items():
        if frames.ndim != 2 or frames.shape[1] != recording.width:
            wanted = f"(T, {recording.width})"
            raise DataError(f"{path}{suffix}: frames {frames.shape} are not {wanted}")
        for start, piece in zip(range(0, len(frames), ROWS), pieces_of(frames), strict=True):
            with np.errstate(all="ignore"):
                if np.isfinite(piece.sum()):  # one pass; an overflow is looked at
                    continue
            for t, d in np.argwhere(~np.isfinite(piece))[:1]:
                where = f"frame {start + t}, {recording.name_of(d)}"
                raise DataError(f"{path}: {where} is {piece[t, d]}: repair or remove the file")
