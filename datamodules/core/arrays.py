"""Read frames as plain numbers, from memory, NumPy and CSV files: features that are ready to use.

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
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.files import with_ending
from rnade_lightning.datamodules.core.frames import FrameDataModule, Recording
from rnade_lightning.datamodules.core.limits import Limit
from rnade_lightning.datamodules.core.pictures import write_plot
from rnade_lightning.datamodules.core.reading import check_finite
from rnade_lightning.datamodules.core.store import FrameStore, Kept, whole_file
from rnade_lightning.datamodules.core.tables import read_csv

if TYPE_CHECKING:
    InMemory: TypeAlias = Any
else:
    InMemory = str  # options of the command line name files only

_LABELS = ("fps", "feature_names")


class ArrayDataModule(FrameDataModule):
    """Frames of plain numbers from .npz, .npy and .csv files, or from memory.

    Args:
        root: Folder, file or glob to read; in Python also frames ``(T, D)`` or a list of them, each
            an array, a tensor or a table (DataFrame). They are copied, and not kept in checkpoints.
        fps: Frames per second of the files. A file with another rate is refused, since numbers of
            unknown meaning cannot be resampled.
        **kwargs: See `FrameDataModule`.
    """

    extensions = (".npz", ".npy", ".csv")
    reader_version = 1

    def __init__(
        self, root: str | InMemory | None = None, fps: float = 30.0, **kwargs: Any
    ) -> None:
        held = None if root is None or isinstance(root, str | Path) else root
        root = None if root is None or held is not None else str(root)  # what is recorded
        super().__init__(root, **kwargs)
        self.fps = fps
        if not fps > 0:
            raise DataError("fps must be above 0")
        self._held = None if held is None else recordings(held, fps)

    def read(self, path: Path) -> Recording:
        """Read all sequences of one file."""
        arrays, fps, names = read_arrays(path, self.max_bytes)
        if fps is not None and abs(fps - self.fps) > 1e-6 * self.fps:
            raise DataError(f"{path}: has {fps:g} frames per second: set fps to that")
        width = next(iter(arrays.values())).shape[1]
        names = names or [f"feature_{i}" for i in range(width)]
        return Recording(arrays, names, self.fps, {})

    def _root(self) -> str | Path:
        return super()._root() if self._held is None else "frames in memory"

    def _files(self) -> list[Path]:
        return super()._files() if self._held is None else list(self._held)

    def _opened(self, files: list[Path]) -> tuple[list[Kept | DataError], FrameStore]:
        if self._held is None:
            return super()._opened(files)
        return [
            Kept(x._replace(frames={}), {**x.frames}) for x in self._held.values()
        ], self._store()

    def write(self, raw: Array, stem: Path) -> list[Path]:
        """Write ``.npz`` and, as a picture, ``.png``."""
        return write_numbers(stem, raw, self.frame_rate, self._fitted()[1].feature_names)


def recordings(held: Any, fps: float) -> dict[Path, Recording]:
    """Return frames in memory, copied, by the name of each sequence: ``sequence_0`` and so on.

    Args:
        held: Frames ``(T, D)``, or a list or ``(N, T, D)`` of them; arrays, tensors or tables.
        fps: Frames per second.

    Raises:
        DataError: They are not frames of finite numbers.
    """
    alone = hasattr(held, "columns") or getattr(held, "ndim", 0) == 2
    found = {}
    for i, one in enumerate([held] if alone else held):
        name = Path(f"sequence_{i}")
        columns = [str(column) for column in getattr(one, "columns", ())]
        if isinstance(one, torch.Tensor):
            one = one.detach().cpu()
            one = (one if one.dtype == torch.float32 else one.double()).numpy()
        frames = np.array(one.to_numpy() if hasattr(one, "to_numpy") else one)
        if frames.dtype.kind not in "fiub" or frames.ndim != 2 or 0 in frames.shape:
            raise DataError(
                f"{name}: {type(one).__name__} of {frames.dtype} {frames.shape}, not numbers "
                "(frames, features): give one such array or table, or a list of them"
            )
        names = columns or [f"feature_{d}" for d in range(frames.shape[1])]
        if len(set(names)) != len(names):
            raise DataError(f"{name}: two columns have one name: rename one of them")
        if frames.dtype != np.float32:
            frames = frames.astype(np.float64)
        found[name] = Recording({"": frames}, names, fps, {})
        check_finite(name, found[name])
    if not found:
        raise DataError("frames in memory: an empty list: give one array at least")
    return found


def write_numbers(stem: Path, raw: Array, fps: float, names: list[str]) -> list[Path]:
    """Write frames ``(T, D)`` as ``.npz`` and as a plot; return the paths."""
    npz, png = with_ending(stem, "npz"), with_ending(stem, "png")
    write_frames(npz, raw, fps, names)
    write_plot(png, raw, fps)
    return [npz, png]


def write_frames(path: Path, raw: Array, fps: float, names: list[str] | None = None) -> None:
    """Write frames ``(T, D)`` as ``.npz`` that `read_arrays` reads."""
    labels: dict[str, Any] = {} if names is None else {"feature_names": np.array(names)}
    with whole_file(path) as part, part.open("wb") as file:
        np.savez_compressed(file, frames=raw, fps=np.array(fps), **labels)


def read_arrays(
    path: Path, max_bytes: int | None = None
) -> tuple[dict[str, Array], float | None, list[str] | None]:
    """Return sequences by the suffix of their names, and the frame rate and feature names of the
    file.

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
            names = words(path, content, "feature_names")
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


def load_numpy(
    path: Path, max_bytes: int | None = None, only: Collection[str] | None = None
) -> dict[str, Any]:
    """Return the arrays of a ``.npy`` (called "") or ``.npz`` file, without running code in it.

    Args:
        path: File to read.
        max_bytes: What its arrays may take in float64; see `Limit`.
        only: Arrays of an ``.npz`` file to read; others may hold anything. Without it, all.

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
                if only is not None and info.filename[:-4] not in only:
                    continue
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


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays of a ``.npy`` (called "") or ``.npz`` file, by their headers;
    of a file that is none, nothing."""
    shapes: dict[str, tuple[int, ...]] = {}
    with suppress(Exception):  # whatever is wrong is said where it is read
        if not path.name.lower().endswith(".npz"):
            with path.open("rb") as file:
                return {"": _header(file)[0]}
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                with archive.open(info) as member:
                    shapes[info.filename.removesuffix(".npy")] = _header(member)[0]
    return shapes


def _check_header(file: Any, size: int) -> int:
    """Return the bytes that an array takes, with at least 8 for a number. Refuse a header whose
    array is not as long as the rest of the file."""
    shape, dtype = _header(file)
    count = int(np.prod(shape, dtype=object))
    need, left = count * dtype.itemsize, size - file.tell()
    if dtype.hasobject or min(shape, default=0) < 0 or need != left:
        raise ValueError(f"its header asks for {dtype} {shape}, {need} bytes, where {left} follow")
    return count * max(dtype.itemsize, 8)


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and kind of numbers of an array."""
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
    return shape, dtype


def words(path: Path, content: dict[str, Any], key: str) -> list[str]:
    """Return the texts under a name.

    Raises:
        DataError: They are damaged.
    """
    try:
        return [str(word) for word in content[key].ravel()]
    except (SystemError, ValueError) as error:  # of code points that no letter has
        raise DataError(f"{path}: {key} holds what is no text ({error}): get it again") from error


def number(path: Path, content: dict[str, Any], key: str) -> float:
    """Return the one positive number under a name.

    Raises:
        DataError: It is none.
    """
    value = content[key]
    if value.size != 1 or value.dtype.kind not in "fiu" or not 0 < float(value.item()) < 1e6:
        raise DataError(f"{path}: {key} is not one positive number: repair it")
    return float(value.item())
