"""Read TRC files, which OpenSim and motion-capture programs write: where each marker was.

A file is text, words between tabs:

    PathFileType  4  (X/Y/Z)  walk.trc
    DataRate  CameraRate  NumFrames  NumMarkers  Units  OrigDataRate  ..
    60.00  60.00  300  2  mm  60.00  ..
    Frame#  Time  LASI      RASI
                  X1  Y1  Z1  X2  Y2  Z2

and a line of numbers a frame, often after an empty one. A marker that was not seen has nothing
between its tabs.

Conventions:
    As in `markers`. Three zeros, too, are a marker that was not seen.
"""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
from pytorch_lightning.utilities import rank_zero_warn

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.limits import Limit
from rnade_lightning.datamodules.core.numbers import is_number
from rnade_lightning.datamodules.core.tables import check_end
from rnade_lightning.datamodules.core.texts import read_text, told_apart
from rnade_lightning.datamodules.motion.markers import Markers

_GONE = {"", "nan", "na", "n/a", "null"}  # what stands for a number of a marker not seen
_FRAME = re.compile("frame ?#", re.IGNORECASE)  # what the line of names begins with
_AXES = re.compile(r"[XYZ][0-9]+", re.IGNORECASE)
_FEW = 3  # frames by which a file may miss the number that it declares, or a twentieth of them
_OFF = 0.05  # share by which times may differ from the frame rate: they are rounded
_NUMBER = 80  # bytes that a number takes while it is read, about


def read_trc(path: str | Path, max_bytes: int | None = None) -> Markers:
    """Read the markers of a ``.trc`` file.

    Args:
        path: File to read.
        max_bytes: What the file may take; see `Limit`.

    Raises:
        DataError: Not a TRC file, truncated by more than the last frames, or numbers that are none.
            Names the file, and the line where known.
    """
    path = Path(path)
    limit = Limit.of(path, max_bytes)
    lines = read_text(path, limit).split("\n")
    fields = _fields(path, lines)
    fps, n_frames = _number(path, fields, "DataRate"), int(_number(path, fields, "NumFrames"))
    first = next((i for i, line in enumerate(lines) if _FRAME.match(line)), None)
    if first is None:
        raise DataError(f"{path}: no line of names (Frame#, Time ..): get the whole file again")
    head = _FRAME.sub("Frame#", lines[first])
    n_markers = int(_number(path, fields, "NumMarkers"))
    names = [word.strip() for word in head.rstrip().split("\t")[2:]]
    names = [name for name in names if name]
    if "\t" not in head:
        names = head.split()[2:]
    if len(names) != n_markers:
        raise DataError(
            f"{path}, line {first + 1}: {len(names)} names of {n_markers} markers:"
            " correct NumMarkers"
        )
    rows = [
        (number, line)
        for number, line in enumerate(lines[first + 1 :], start=first + 2)
        if line.strip() and not _is_axes(line)
    ]
    limit.check(
        len(rows) * (3 * n_markers + 2) * _NUMBER, f"{n_markers} markers in {len(rows)} rows"
    )
    width = 2 + 3 * n_markers
    values = [_row(path, number, line, width, number == len(lines)) for number, line in rows]
    table = np.array(values).reshape(len(rows), width)
    _check_count(path, lines, rows, n_frames)
    _check_time(path, table[:, 1], fps)
    points = table[:, 2:].reshape(len(rows), n_markers, 3)
    seen = np.isfinite(points).all(axis=-1) & (points != 0).any(axis=-1)
    points = np.where(seen[..., None], points, np.nan)
    names = told_apart(path, names, "markers")
    return Markers(names, points, fps, fields.get("units", "mm").strip("()[] ").lower())


def _fields(path: Path, lines: list[str]) -> dict[str, str]:
    """Return what the head of the file says, by name in lower case."""
    for names, values in pairwise(lines):
        if names.lower().split()[:1] == ["datarate"]:
            return dict(zip(names.lower().split(), values.split(), strict=False))
    raise DataError(f"{path}: not a TRC file (no line that begins with DataRate): leave it out")


def _number(path: Path, fields: dict[str, str], name: str) -> float:
    word = fields.get(name.lower(), "")
    if not is_number(word) or not 0 < float(word) < 1e9:
        raise DataError(f"{path}: {name} is {word[:30]!r}, not a positive number: repair it")
    return float(word)


def _is_axes(line: str) -> bool:
    """Tell whether a line names the axes of the columns."""
    return all(_AXES.fullmatch(word) for word in line.split())


def _row(path: Path, number: int, line: str, width: int, unended: bool) -> list[float]:
    """Return the numbers of a line, NaN where a marker was not seen."""
    words = [word.strip() for word in line.split("\t")] if "\t" in line else line.split()
    while len(words) > width and not words[-1]:
        words.pop()
    if "\t" in line and not unended and 1 < len(words) < width and (width - len(words)) % 3 == 0:
        words += [""] * (width - len(words))  # tabs after the last marker that was seen
    if len(words) != width:
        raise DataError(
            f"{path}, line {number}: {len(words)} numbers where {width} are expected, as in a"
            " truncated file: get the whole file again"
        )
    values = [*words[:2], *("nan" if word.lower() in _GONE else word for word in words[2:])]
    bad = next((word for word in values if word != "nan" and not is_number(word)), None)
    if bad is not None or "nan" in values[:2]:
        word = "nan" if bad is None else bad
        raise DataError(f"{path}, line {number}: {word[:30]!r} is not a finite number: repair it")
    return [float(value) for value in values]


def _check_time(path: Path, time: Array, fps: float) -> None:
    """Refuse a file whose times contradict its frame rate."""
    step = float(np.median(np.diff(time))) if len(time) > 1 else 0.0
    if step and abs(step * fps - 1) > _OFF:
        raise DataError(
            f"{path}: Time goes on by {step:g} a row, DataRate is {fps:g} frames per second:"
            f" correct one of them (1 / {step:g} = {1 / step:g})"
        )


def _check_count(path: Path, lines: list[str], rows: list[tuple[int, str]], declared: int) -> None:
    """Refuse a file that is not whole; say if it has a few frames more or fewer than declared."""
    found = len(rows)
    if lines[-1].strip():
        check_end(path, len(lines), (line.split()[-1] for _, line in rows))
    if found == declared:
        return
    if found == 0 or abs(found - declared) > max(_FEW, found // 20):
        raise DataError(
            f"{path}: {found} frames where {declared} are declared: get the whole file again, or"
            " correct its NumFrames"
        )
    rank_zero_warn(f"{path}: {declared} frames are declared: the {found} there are read")
