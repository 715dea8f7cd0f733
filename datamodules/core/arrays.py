"""Frames as plain numbers, from NumPy and CSV files: any features that are ready to use.

    .npy   one array (T, D)
    .npz   one sequence a name, each (T, D) with the same D; fps and feature_names
           are taken for what they say
    .csv   one frame a line, numbers between commas, semicolons, tabs or blanks; the first
           line may name the features

Conventions:
    Time runs down, features across. Numbers are used in the units of the file. A frame rate is in
    frames per second; a file that says none is taken to have the one asked for.
"""

import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.frames import FrameDataModule, Recording, with_ending
from rnade_lightning.datamodules.core.limits import Limit
from rnade_lightning.datamodules.core.pictures import write_plot
from rnade_lightning.datamodules.core.store import whole_file
from rnade_lightning.datamodules.core.tables import read_csv

_LABELS = ("fps", "feature_names")


class ArrayDataModule(FrameDataModule):
    """Frames of plain numbers from .npz, .npy and .csv files.

    Args:
        root: Folder, file or glob to read.
        fps: Frames per second of the files; those that say another rate are refused, since what
            the numbers mean, and so how to resample them, is not known.
        **kwargs: See `FrameDataModule`.
    """

    extensions = (".npz", ".npy", ".csv")
    reader_version = 1

    def __init__(self, root: str | None = None, fps: float = 30.0, **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self.fps = fps
        if not fps > 0:
            raise DataError("fps must be above 0")

    def read(self, path: Path) -> Recording:
        """Reads all sequences of one file."""
        arrays, fps, names = read_arrays(path, self.max_bytes)
        if fps is not None and abs(fps - self.fps) > 1e-6 * self.fps:
            raise DataError(f"{path}: says {fps:g} frames per second: set fps to that")
        width = next(iter(arrays.values())).shape[1]
        names = names or [f"feature_{i}" for i in range(width)]
        return Recording(arrays, names, self.fps, {})

    def write(self, raw: Array, stem: Path) -> list[Path]:
        """Writes ``.npz`` and, as a picture, ``.png``."""
        return write_numbers(stem, raw, self.frame_rate, self._fitted()[1].feature_names)


def write_numbers(stem: Path, raw: Array, fps: float, names: list[str]) -> list[Path]:
    """Writes frames ``(T, D)`` as ``.npz`` and as a plot; returns the paths."""
    npz, png = with_ending(stem, "npz"), with_ending(stem, "png")
    write_frames(npz, raw, fps, names)
    write_plot(png, raw, fps)
    return [npz, png]


def write_frames(path: Path, raw: Array, fps: float, names: list[str] | None = None) -> None:
    """Writes frames ``(T, D)`` as ``.npz`` that `read_arrays` reads."""
    labels: dict[str, Any] = {} if names is None else {"feature_names": np.array(names)}
    with whole_file(path) as part, part.open("wb") as file:
        np.savez_compressed(file, frames=raw, fps=np.array(fps), **labels)


def read_arrays(
    path: Path, max_bytes: int | None = None
) -> tuple[dict[str, Array], float | None, list[str] | None]:
    """Sequences by what is added to the file's name, the frame rate and names if the file says.

    Args:
        path: File to read.
        max_bytes: What its arrays may take; see `Limit`.

    Raises:
        DataError: Not such a file, damaged, or not frames of numbers.
    """
    kind = path.name.lower().rsplit(".", 1)[-1]
    fps = names = None
    if kind == "csv":
        found, names = read_csv(path)
        arrays = {"": found}
    else:
        content = load_numpy(path, max_bytes)
        if "fps" in content:
            fps = number(path, content, "fps")
        if "feature_names" in content:
            names = [str(name) for name in content["feature_names"].ravel()]
        arrays = {key: value for key, value in content.items() if key not in _LABELS}
    sequences = {}
    for key, value in arrays.items():
        place = f"{path}: array {key}" if key else str(path)
        if value.dtype.kind not in "fiub" or value.ndim != 2 or 0 in value.shape:
            raise DataError(
                f"{place} is {value.dtype} {value.shape}, not numbers (frames, features)"
            )
        suffix = f":{key}" if len(arrays) > 1 else ""
        sequences[suffix] = value.astype(np.float64)
    widths = {value.shape[1] for value in sequences.values()}
    if len(widths) != 1:
        raise DataError(f"{path}: sequences of {sorted(widths) or 'no'} features: keep one width")
    if names is not None and (len(names) != min(widths) or len(set(names)) != len(names)):
        raise DataError(f"{path}: {len(names)} feature names, not {min(widths)} different ones")
    return sequences, fps, names


def load_numpy(path: Path, max_bytes: int | None = None) -> dict[str, Any]:
    """The arrays of a ``.npy`` (called "") or ``.npz`` file, without running what is in it.

    Args:
        path: File to read.
        max_bytes: What its arrays may take in float64; see `Limit`.

    Raises:
        DataError: Not such a file, damaged, or too large when unpacked.
    """
    arrays: dict[str, Any] = {}
    limit, need = Limit.of(path, max_bytes), 0
    try:
        if not path.name.lower().endswith(".npz"):
            with path.open("rb") as file:
                need = _check_header(file, path.stat().st_size)
            limit.check(need, "its array")
            return {"": np.load(path, allow_pickle=False)}
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.filename.endswith(".npy"):
                    raise ValueError(f"{info.filename} in it is not an array")
                with archive.open(info) as file:
                    need += _check_header(file, info.file_size)
                limit.check(need, "its arrays")
                with archive.open(info) as file:
                    arrays[info.filename[:-4]] = np.lib.format.read_array(file, allow_pickle=False)
                    if file.read(1):  # also makes the archive compare its check sum
                        raise ValueError(f"{info.filename} in it goes on past its array")
    except DataError:
        raise
    except Exception as error:  # NumPy and zipfile raise errors of many kinds for damaged files
        line = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path}: not a whole NumPy file ({line}): get it again") from error
    return arrays


def _check_header(file: Any, size: int) -> int:
    """Refuses a header whose array is not as long as the rest of the file says; returns the bytes
    that the array takes with at least 8 for a number."""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f"version {version} of the format is not known")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shape, _, dtype = read[version](file)
    count = int(np.prod(shape, dtype=object))
    need, left = count * dtype.itemsize, size - file.tell()
    if dtype.hasobject or min(shape, default=0) < 0 or need != left:
        raise ValueError(f"its header asks for {dtype} {shape}, {need} bytes, where {left} follow")
    return count * max(dtype.itemsize, 8)


def number(path: Path, content: dict[str, Any], key: str) -> float:
    """The one positive number under a name.

    Raises:
        DataError: It is none.
    """
    value = content[key]
    if value.size != 1 or value.dtype.kind not in "fiu" or not 0 < float(value.item()) < 1e6:
        raise DataError(f"{path}: {key} is not one positive number: repair it")
    return float(value.item())
