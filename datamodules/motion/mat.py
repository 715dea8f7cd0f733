"""Read MATLAB 5 files: the arrays of numbers among their variables.

Read here, with NumPy alone: SciPy's reader, against which it is tested, crashes the process on
damaged files. A file is a header of 128 bytes and one element a variable, perhaps compressed. An
element is a tag (type and size) and its content, and a variable consists of elements: flags, shape,
name, numbers.

Conventions:
    Arrays are float64, with the shape they have in MATLAB. Variables of other kinds (text, cells,
    structures, sparse and complex arrays) are passed over.
"""

import itertools
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.limits import Limit

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
_NUMBERS |= {12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_CLASSES = range(6, 16)  # double, single and the integers


_FPS = 30.0  # of the published set; the file does not say


class Numbers(NamedTuple):
    """Sequences of features that say nothing of a body.

    Attributes:
        sequences: ``(T, D)`` each, by what is added to the file's name.
        names: Names of the features.
        fps: Frames per second.
    """

    sequences: dict[str, Array]
    names: list[str]
    fps: float


def read_paper_set(path: Path, max_bytes: int | None = None) -> Numbers:
    """Read the paper's motion set, ``batchdata`` in sequences of ``seqlengths``.

    Args:
        path: File to read.
        max_bytes: What its arrays may take; see `Limit`.

    Raises:
        DataError: not such a file, damaged, or lengths that do not fit the data.
    """
    content = read_mat(path, max_bytes)
    if not {"batchdata", "seqlengths"} <= set(content):
        raise DataError(f"{path}: no numbers called batchdata and seqlengths: leave it out")
    data, counts = content["batchdata"], content["seqlengths"].ravel()
    if not np.isfinite(counts).all() or (counts != np.round(counts)).any():
        raise DataError(f"{path}: seqlengths are not whole numbers: repair it")
    lengths = counts.astype(np.int64)
    if data.ndim != 2 or min(lengths, default=0) < 1 or counts.sum() != len(data):
        raise DataError(
            f"{path}: seqlengths sums to {counts.sum():g} where batchdata is {data.shape}"
        )
    parts = np.split(data, np.cumsum(lengths)[:-1])
    names = [f"feature_{i}" for i in range(data.shape[1])]
    return Numbers({f":{i}": x for i, x in enumerate(parts)}, names, _FPS)


def read_mat(path: Path, max_bytes: int | None = None) -> dict[str, Array]:
    """Return arrays by the names of the variables.

    Args:
        path: File to read.
        max_bytes: What its arrays may take in float64; see `Limit`.

    Raises:
        DataError: Not a MATLAB 5 file, not whole, or too large when unpacked.
    """
    limit, taken = Limit.of(path, max_bytes), 0
    try:
        data = path.read_bytes()
        if data.startswith((b"MATLAB 7.3", b"\x89HDF")):
            raise DataError(f"{path}: a MATLAB 7.3 file: save it with -v7")
        if len(data) < 128 or data[126:128] not in (b"IM", b"MI"):
            raise ValueError("it does not begin as one: if it is of MATLAB 4, save it with -v7")
        endian = "<" if data[126:128] == b"IM" else ">"
        found: dict[str, Array] = {}
        for kind, content in _elements(data[128:], endian, padded=False):
            if kind == _COMPRESSED:
                unpack = zlib.decompressobj()
                unpacked = unpack.decompress(content, (limit.n_bytes - taken) // 2 + 1)
                taken += 2 * len(unpacked)  # zlib holds it twice
                limit.check(taken, "what is packed in it", "more than ")
                if not unpack.eof:
                    raise ValueError("a compressed variable is not whole")
                (kind, content), *_ = itertools.islice(_elements(unpacked, endian), 1)
            if kind != _MATRIX:
                raise ValueError(f"an element of type {kind} stands where a variable is needed")
            name, values, shape = _variable(content, endian)
            if name in found:
                raise ValueError(f"two variables are called {name}")
            if values is not None:
                taken += 8 * values.size
                limit.check(taken, "its arrays")
                found[name] = values.astype(np.float64).reshape(shape, order="F")
    except DataError:
        raise
    except (OSError, ValueError, zlib.error, struct.error) as error:
        raise DataError(f"{path}: not a whole MATLAB 5 file ({error}): get it again") from error
    return found


def _elements(
    data: bytes | memoryview, endian: str, padded: bool = True
) -> Iterator[tuple[int, memoryview]]:
    """Type and content of each element, which is not copied."""
    data, at = memoryview(data), 0
    while at < len(data):
        if at + 8 > len(data):
            raise ValueError(f"it ends inside the tag {len(data) - at} bytes before its end")
        kind, size = struct.unpack_from(endian + "II", data, at)
        if kind >> 16:  # a small element, with up to 4 bytes inside the tag
            size, kind, begin, step = kind >> 16, kind & 0xFFFF, at + 4, 8
            if size > 4:
                raise ValueError(f"a small element has {size} bytes")
        else:
            begin = at + 8
            step = 8 + (-(-size // 8) * 8 if padded else size)
        if begin + size > len(data):
            raise ValueError(f"an element needs {size} bytes where {len(data) - begin} follow")
        yield kind, data[begin : begin + size]
        at += step


def _variable(
    content: bytes | memoryview, endian: str
) -> tuple[str, npt.NDArray[Any] | None, list[int]]:
    """Name, numbers (None for other kinds of variables) and shape; the numbers are not copied."""
    elements = list(itertools.islice(_elements(content, endian), 5))  # a cell has any number
    if len(elements) < 3:
        raise ValueError("a variable has no flags, shape and name")
    (flag_kind, flags), (shape_kind, shape_bytes), (_, name_bytes), *parts = elements
    if flag_kind != 6 or len(flags) != 8 or shape_kind != 5 or len(shape_bytes) % 4:
        raise ValueError("a variable has no good flags and shape")
    word = struct.unpack(endian + "II", flags)[0]
    name = bytes(name_bytes).decode("latin-1")
    complex_numbers = bool(word & 0x800)
    if word & 0xFF not in _CLASSES or complex_numbers:
        return name, None, []
    shape = [int(n) for n in np.frombuffer(shape_bytes, endian + "i4")]
    if len(parts) != 1 or parts[0][0] not in _NUMBERS or min(shape, default=-1) < 0:
        raise ValueError(f"variable {name} is not an array of numbers")
    dtype = np.dtype(endian + _NUMBERS[parts[0][0]])
    if len(parts[0][1]) != int(np.prod(shape, dtype=object)) * dtype.itemsize:
        raise ValueError(f"variable {name} has {len(parts[0][1])} bytes for shape {shape}")
    return name, np.frombuffer(parts[0][1], dtype), shape
