"""Read C3D marker files: where each marker was in each frame.

Read here, with NumPy alone: `ezc3d`, against which it is tested, crashes the process on damaged
files. A file is a header block of 512 bytes, a section of named parameters in groups, and the
frames: four numbers a marker (x, y, z and how well it was seen), then the analog samples of that
frame, which are passed over. Numbers are 16-bit integers times a scale, or 32-bit floats, as
written by Intel, MIPS or DEC machines.

Conventions:
    Coordinates are ``(T, M, 3)`` in the unit of the file, as floats; a marker that was not seen is
    NaN. Frames count from 0 in the file, whatever number it gives to the first.
"""

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.texts import told_apart
from rnade_lightning.datamodules.motion.markers import Markers

_BLOCK = 512
_ENDIAN = {84: "<", 85: "<", 86: ">"}  # Intel, DEC, MIPS
_DEC = 85
_FULL = 65535  # the largest number of frames that a 16-bit field can hold
_OUTPUTS = ["ANGLES", "FORCES", "MOMENTS", "POWERS", "SCALARS", "REACTIONS"]
"""Groups of what models compute, which stand among the points but are not places."""
_OUTPUT = re.compile(
    r".+(?:Angles?|Moments?|Powers?|Forces?|Scalars?|GRF)(?:_[0-9]+)?"
    r"|(?i:.+[_ .-](?:angle|moment|power|force|scalar|grf)s?(?:[_ .-][xyz0-9])?)"
)


def read_c3d(path: str | Path) -> Markers:
    """Read the markers of a ``.c3d`` file.

    Raises:
        DataError: Not a C3D file, damaged, truncated by more than the last frames, or without
            markers.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}): get the whole file again") from error
    if len(data) < 2 * _BLOCK or data[1] != 0x50 or data[0] < 2:
        raise DataError(f"{path}: not a C3D file (it does not begin as one): leave it out")
    start = (data[0] - 1) * _BLOCK
    kind = data[start + 3] if start + 3 < len(data) else 0
    if kind not in _ENDIAN:
        raise DataError(f"{path}, byte {start + 3}: processor {kind} is not known: get it again")
    reader = _Reader(path, data, kind)
    parameters = reader.parameters(start + 4)
    header = struct.unpack_from(_ENDIAN[kind] + "5H", data, 2)
    n_points, n_analog, first, last, _ = header
    rate = parameters.get("POINT:RATE", [reader.floats(20, 1)[0]])
    fps = _one(path, "frame rate", rate)
    if not 0 < fps < 1e5:
        raise DataError(f"{path}: its frame rate is {fps:g}: repair it")
    scale = _one(path, "scale", parameters.get("POINT:SCALE", [reader.floats(12, 1)[0]]))
    if scale == 0:
        raise DataError(f"{path}: its scale is 0: repair it")
    used = int(_one(path, "number of markers", parameters.get("POINT:USED", [n_points]))) % 65536
    if used != n_points or not used:
        raise DataError(f"{path}: {n_points} markers by its header, {used} by POINT:USED")
    block = struct.unpack_from(_ENDIAN[kind] + "H", data, 16)[0]
    begin = int(_one(path, "DATA_START", parameters.get("POINT:DATA_START", [block]))) % 65536
    if begin not in (0, block) or (block - 1) * _BLOCK <= start:
        raise DataError(f"{path}: frames begin in block {block} by its header, or in {begin}")
    rows = struct.unpack_from(_ENDIAN[kind] + "H", data, 18)[0]  # analog samples of a frame
    channels = parameters.get("ANALOG:USED", [0])
    twice = list(channels) == [n_analog // max(rows, 1)] and "POINT:USED" in parameters
    at, size = (block - 1) * _BLOCK, (4 * used + n_analog) * (4 if scale < 0 else 2)
    left = len(data) - at, len(data.rstrip(b"\0")) - at
    n_frames = _n_frames(path, parameters, first, last, size, *left)
    points = reader.points(at, n_frames, used, n_analog, scale, twice)
    names = _labels(path, parameters, used)
    kept = _markers(path, parameters, names)
    names, points = told_apart(path, [names[m] for m in kept], "markers"), points[:, kept]
    unit = str(next(iter(parameters.get("POINT:UNITS", [])), "mm")).strip().lower()
    screen = [str(axis).upper() for axis in parameters.get("POINT:Y_SCREEN", [])]
    up = {"+Y": "y", "+Z": "z"}.get(screen[0]) if screen else None
    return Markers(names, points, fps, unit, up)


class _Reader:
    """The bytes of a file, in the numbers of the machine that wrote it."""

    def __init__(self, path: Path, data: bytes, kind: int) -> None:
        self.path, self.data, self.kind, self.endian = path, data, kind, _ENDIAN[kind]
        self.left = len(data)  # bytes that values of parameters may still take, which may overlap

    def floats(self, at: int, count: int) -> Array:
        """Return 32-bit floats; those of DEC have swapped halves and are four times as large."""
        raw = np.frombuffer(self.data, f"{self.endian}u2", 2 * count, at).reshape(-1, 2)
        if self.kind != _DEC:
            with np.errstate(invalid="ignore"):  # signalling NaNs
                return np.frombuffer(self.data, f"{self.endian}f4", count, at).astype(np.float64)
        with np.errstate(invalid="ignore"):
            swapped = np.ascontiguousarray(raw[:, ::-1]).view("<f4")[:, 0].astype(np.float64)
        return np.asarray(np.where(raw[:, 0] == 0, 0.0, swapped / 4))

    def parameters(self, at: int) -> dict[str, Any]:
        """Return values by ``GROUP:NAME``: lists of texts, or of numbers."""
        groups: dict[int, str] = {}
        found: list[tuple[int, str, list[Any]]] = []
        end = len(self.data)
        while at + 2 <= end and self.data[at] != 0:
            length = abs(struct.unpack_from("b", self.data, at)[0])
            group = struct.unpack_from("b", self.data, at + 1)[0]
            after = at + 2 + length
            if after + 2 > end or group == 0:
                raise self._bad(at)
            name = self.data[at + 2 : after].decode("latin-1").strip().upper()
            step = struct.unpack_from(f"{self.endian}H", self.data, after)[0]
            if group < 0:
                groups[-group] = name
            else:
                found.append((group, name, self._value(after + 2)))
            if step == 0:
                break
            if step < 3:
                raise self._bad(at)
            at = after + step
        else:
            if at + 2 > end:
                raise self._bad(min(at, end))
        values: dict[str, Any] = {}
        for group, name, value in found:
            key = f"{groups.get(group, group)}:{name}"
            if key in values and key.startswith("POINT:"):
                raise DataError(f"{self.path}: parameter {key} comes twice: repair it")
            values[key] = value
        return values

    def _value(self, at: int) -> list[Any]:
        if at + 2 > len(self.data):
            raise self._bad(at)
        kind, n_dims = struct.unpack_from("bB", self.data, at)
        dims = list(self.data[at + 2 : at + 2 + n_dims])
        at += 2 + n_dims
        count = int(np.prod(dims, dtype=object)) if dims else 1
        self.left -= count * abs(kind)
        if kind not in (-1, 1, 2, 4) or n_dims > 7 or at + count * abs(kind) > len(self.data):
            raise self._bad(at)
        if self.left < 0:
            raise self._bad(at)
        if kind == -1:
            width = dims[0] if dims else 1
            raw = self.data[at : at + count]
            rows = range(0, count, max(width, 1))
            return [raw[i : i + width].decode("latin-1").strip(" \0") for i in rows]
        if kind == 4:
            return list(self.floats(at, count))
        return list(np.frombuffer(self.data, f"{self.endian}i{kind}", count, at).tolist())

    def points(
        self,
        at: int,
        n_frames: int,
        n_points: int,
        n_analog: int,
        scale: float,
        declared_twice: bool,
    ) -> Array:
        """Return the places of all markers, ``(T, M, 3)``; a negative scale says that numbers are
        floats. Where the width of a frame is declared twice, alike, bytes that follow are no sign
        of another one."""
        width, size = 4 * n_points + n_analog, 4 if scale < 0 else 2
        there = max(len(self.data) - at, 0) // (width * size)
        end = at + n_frames * width * size
        left = len(self.data) - end
        more = max(_BLOCK, width * size) - 1
        if declared_twice:
            more = max(2 * _BLOCK, end // 100) + -end % _BLOCK  # past the last block
        if left > more and self.data.count(0, end) < left:
            raise DataError(
                f"{self.path}: {left} bytes follow the {n_frames} frames declared, so that markers"
                " or analog samples are not as declared: get the whole file again"
            )
        if left < 0:
            if not 0 < n_frames - there <= max(1, n_frames // 100) or there == 0:
                raise DataError(
                    f"{self.path}: {there} frames where {n_frames} are declared, as in a truncated"
                    " file: get the whole file again"
                )
            rank_zero_warn(
                f"{self.path}: {n_frames} frames are declared: the {there} there are read"
            )
            n_frames = there
        if scale < 0:
            flat = self.floats(at, n_frames * width)
        else:
            flat = np.frombuffer(self.data, f"{self.endian}i2", n_frames * width, at).astype(float)
        values = flat.reshape(n_frames, width)[:, : 4 * n_points].reshape(n_frames, n_points, 4)
        points = values[..., :3] * (1.0 if scale < 0 else scale)
        seen = (values[..., 3] >= 0) & (points != 0).any(axis=-1)
        seen &= np.isfinite(points).all(axis=-1)
        return np.where(seen[..., None], points, np.nan)

    def _bad(self, at: int) -> DataError:
        return DataError(f"{self.path}, byte {at}: not a parameter: get the whole file again")


def _one(path: Path, what: str, value: list[Any]) -> float:
    if len(value) != 1 or isinstance(value[0], str) or not np.isfinite(value[0]):
        raise DataError(f"{path}: its {what} is not one number: repair it")
    return float(value[0])


def _n_frames(
    path: Path, parameters: dict[str, Any], first: int, last: int, size: int, left: int, seen: int
) -> int:
    """Return the number of frames. Long takes overflow the 16-bit fields: these hold the rest of a
    division by 65536 or the largest number that they can, and other fields or the bytes tell.

    Args:
        path: File to name in an error.
        parameters: Its parameters.
        first: First frame, by the header.
        last: Last frame, by the header.
        size: Bytes of a frame.
        left: Bytes where frames are, to the end of the file.
        seen: Of these, without zeros at the end, which may fill up a block.
    """
    by_header = last - first + 1
    declared = {"header": by_header}
    if "POINT:FRAMES" in parameters:
        frames = _one(path, "POINT:FRAMES", parameters["POINT:FRAMES"])
        declared["POINT:FRAMES"] = int(frames) % 65536 if frames < 0 else int(frames)
    agreed = len(set(declared.values())) == 1 and by_header >= 1
    overflow = last == _FULL or max(declared.values()) >= _FULL or by_header < 1
    if overflow:
        if "POINT:LONG_FRAMES" in parameters:
            return int(_one(path, "POINT:LONG_FRAMES", parameters["POINT:LONG_FRAMES"]))
        fields = [parameters.get(f"TRIAL:ACTUAL_{end}_FIELD") for end in ("START", "END")]
        if all(field is not None and len(field) == 2 for field in fields):
            start, end = (int(low) % 65536 + 65536 * int(high) for low, high in fields)  # type: ignore[misc]
            return end - start + 1
    rest = declared.get("POINT:FRAMES", by_header)
    found = left // size - (left // size - rest) % 65536
    if (agreed or overflow) and found > 0 and left - found * size <= _BLOCK:
        return found
    there = -(-seen // size)
    if overflow and rest == _FULL < there and 0 <= left - there * size <= _BLOCK:
        rank_zero_warn(f"{path}: its fields are too small to tell its frames: all {there} are read")
        return there
    if not agreed:
        said = ", ".join(f"{count} by {where}" for where, count in declared.items())
        raise DataError(f"{path}: frames: {said}: repair it")
    return by_header


def _labels(path: Path, parameters: dict[str, Any], n_points: int) -> list[str]:
    names: list[str] = []
    for i in range(1, 100):  # 255 to a parameter: then comes LABELS2
        more = parameters.get("POINT:LABELS" + (str(i) if i > 1 else ""))
        if more is None:
            break
        names += [str(name) for name in more]
    names = names[:n_points] + [f"marker_{i}" for i in range(len(names), n_points)]
    names = [name or f"marker_{i}" for i, name in enumerate(names)]
    return names


def _markers(path: Path, parameters: dict[str, Any], names: list[str]) -> list[int]:
    """Return the points that are markers, not angles, forces, moments and powers of a model."""
    groups = {str(group).upper() for group in parameters.get("POINT:TYPE_GROUPS", [])}
    groups = {group for group in groups if "MARKER" not in group} | set(_OUTPUTS)
    groups -= {"", "LABELS", "DESCRIPTIONS", "UNITS"}
    computed: set[str] = set()
    for key, value in parameters.items():
        if key.removeprefix("POINT:").rstrip("0123456789") in groups:
            computed |= {str(label) for label in value}
    computed |= {label.rpartition(":")[2] for label in computed}
    kept = [
        m
        for m, name in enumerate(names)
        if not ({name, name.rpartition(":")[2]} & computed or _OUTPUT.fullmatch(name))
    ]
    if not kept:
        raise DataError(
            f"{path}: has no markers, only outputs of a model ({', '.join(names[:5])}): export"
            " the markers"
        )
    if len(kept) < len(names):
        rank_zero_info(f"{path}: {len(names) - len(kept)} outputs of models are left out")
    return kept
