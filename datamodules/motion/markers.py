"""Choose markers, and cut takes where they are gone.

Conventions:
    Coordinates are ``(T, M, 3)`` in the unit of the file; a marker that was not seen is NaN.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rnade_lightning.datamodules.core import Array, DataError

_UNLABELLED = re.compile(
    r"(?:.*:)?(?:\*.*|(?:unlabell?ed|unnamed|unidentified|uname)[ _*:-]*[0-9]*)", re.I
)
_NOT = ("-", "!")  # what stands before a pattern of markers to leave out
_NAMED = 60  # names in a message, at most


@dataclass(frozen=True)
class Markers:
    """Markers over time.

    Attributes:
        names: Name of each marker.
        points: Places, ``(T, M, 3)``, NaN where a marker was not seen.
        fps: Frames per second.
        unit: Unit of length, as the file calls it.
        up: Vertical axis, ``"y"`` or ``"z"``, if the file gives it.
    """

    names: list[str]
    points: Array
    fps: float
    unit: str
    up: str | None = None


def unlabelled(name: str) -> bool:
    """Return whether a name is one that programs give to a marker that nobody has named.

    >>> unlabelled("*155"), unlabelled("Subject:*3"), unlabelled("LASI")
    (True, True, False)
    """
    return _UNLABELLED.fullmatch(name) is not None


def chosen(path: Path, names: Sequence[str], wanted: Sequence[str] | None) -> list[int]:
    """Return the markers to use, in the order in which they are asked for.

    Args:
        path: File to name in an error.
        names: Names of the markers of the file.
        wanted: Names, patterns such as ``L*`` and, with ``-`` or ``!`` before them, those to leave
            out. Patterns mean labelled markers. With nothing but what to leave out, or without
            it, all that have a label.

    Raises:
        DataError: One of them is not there, or none is left.
    """
    labelled = [m for m, name in enumerate(names) if not unlabelled(name)]
    labelled = labelled or list(range(len(names)))
    found: list[int] = []
    out: set[int] = set()
    for entry in wanted or ():
        excludes = entry not in names and entry.startswith(_NOT)
        pattern = entry[1:] if excludes else entry
        same = [m for m, name in enumerate(names) if name == pattern]
        same = same or [m for m in labelled if fnmatchcase(names[m], pattern)]
        if not same:
            raise DataError(f"{path}: has no marker {[pattern]}, only {list(names[:_NAMED])}")
        if excludes:
            out.update(same)
        else:
            found += [m for m in same if m not in found]
    kept = [m for m in (found or labelled) if m not in out]
    if not kept:
        raise DataError(f"{path}: markers leaves out all of its markers: name some to keep")
    return kept


def usable(points: Array, max_gap: int, shortest: int) -> tuple[list[int], int]:
    """Return the largest set of markers that are all seen for so many frames in a row, and how many
    frames pieces of that length then hold.

    Args:
        points: Places, ``(T, M, 3)``, NaN in gaps.
        max_gap: Longest gap that is filled in; see `whole_pieces`.
        shortest: Frames in a row.
    """
    long = long_gaps(points, max_gap)
    shortest = min(shortest, len(points))
    sums = np.concatenate([np.zeros((1, long.shape[1]), dtype=int), np.cumsum(long, axis=0)])
    free = sums[shortest:] == sums[:-shortest]  # (starts, M)
    start = int(free.sum(axis=1).argmax())
    kept = np.flatnonzero(free[start]).tolist()
    if not kept:
        return [], 0
    edges = np.flatnonzero(np.diff(~long[:, kept].any(axis=1), prepend=False, append=False))
    lengths = edges[1::2] - edges[::2]
    return kept, int(lengths[lengths >= shortest].sum())


def long_gaps(points: Array, max_gap: int) -> npt.NDArray[np.bool_]:
    """Return where markers are gone for too long to fill in, ``(T, M)``; see `whole_pieces`."""
    long = _gone(points)
    for m in np.flatnonzero(long.any(axis=0)):
        edges = np.flatnonzero(np.diff(long[:, m], prepend=False, append=False))
        for start, stop in edges.reshape(-1, 2):
            if stop - start <= max_gap and start > 0 and stop < len(points):
                long[start:stop, m] = False
    return long


def _gone(points: Array) -> npt.NDArray[np.bool_]:
    return np.asarray(np.isnan(points).any(axis=-1))


def whole_pieces(points: Array, max_gap: int) -> list[Array]:
    """Cut a take where a marker is gone for long, and fill in the gaps that are short.

    Args:
        points: Places, ``(T, M, 3)``, NaN in gaps.
        max_gap: Longest gap, in frames, that is filled in on a straight line. At the ends of a
            take there is nothing to draw a line to.

    Returns:
        Pieces without gaps, ``(T, M, 3)``, in order.
    """
    filled, gone = points.copy(), _gone(points)
    for m in np.flatnonzero(gone.any(axis=0)):
        time, seen = np.arange(len(points)), ~gone[:, m]
        if seen.any():
            for axis in range(3):
                known = points[seen, m, axis]
                filled[~seen, m, axis] = np.interp(time[~seen], time[seen], known)
    return [filled[span] for span in whole_spans(points, max_gap)]


def whole_spans(points: Array, max_gap: int) -> list[slice]:
    """Return the frames of each of the `whole_pieces`, in order."""
    long = long_gaps(points, max_gap).any(axis=1)
    edges = np.flatnonzero(np.diff(~long, prepend=False, append=False))
    return [slice(start, stop) for start, stop in edges.reshape(-1, 2).tolist()]
