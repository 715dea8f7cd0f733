"""MATLAB files are read as SciPy reads them, or refused."""

from pathlib import Path

import numpy as np
import pytest
from damaged import refused
from scipy.io import loadmat, savemat

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.motion.mat import read_mat


@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_arrays_are_read_as_scipy_reads_them(compressed: bool, tmp_path: Path) -> None:
    content = {
        "a": np.random.default_rng(0).normal(size=(5, 3)),
        "b": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "c": np.float32(2.5),
        "text": "passed over",
        "z": np.array([[1 + 2j]]),
    }
    savemat(tmp_path / "a.mat", content, do_compression=compressed)
    found, theirs = read_mat(tmp_path / "a.mat"), loadmat(tmp_path / "a.mat")
    assert set(found) == {"a", "b", "c"}
    for name, value in found.items():
        np.testing.assert_array_equal(value, theirs[name])


def test_damaged_paper_sets_are_named(tmp_path: Path) -> None:
    path, data = tmp_path / "set.mat", np.random.default_rng(0).normal(size=(300, 5))
    savemat(path, {"batchdata": data, "seqlengths": [[100, 200]]})
    whole = path.read_bytes()
    refused(path, "leave fps", fps=60)
    for n in (0, 60, 200, 2000, len(whole) - 9):
        path.write_bytes(whole[:n])
        refused(path, "MATLAB|batchdata")
    savemat(path, {"other": data})
    refused(path, "no numbers called batchdata")
    savemat(path, {"batchdata": data, "seqlengths": [[100, 100]]})
    refused(path, "sums to 200")
    data[7, 3] = np.nan
    savemat(path, {"batchdata": data, "seqlengths": [[100, 200]]})
    refused(path, "frame 7, feature_3 is nan")
    savemat(path, {"batchdata": np.zeros((300, 5)), "seqlengths": [[300]]})
    refused(path, "every feature is constant")


@pytest.mark.parametrize("start", [b"MATLAB 7.3 MAT-file, Platform: GLNXA64", b"\x89HDF\r\n"])
def test_another_version_is_not_called_damaged(start: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(start.ljust(1000, b"\0"))
    with pytest.raises(DataError, match=r"a\.mat: a MATLAB 7\.3 file: save it with -v7"):
        read_mat(tmp_path / "a.mat")
