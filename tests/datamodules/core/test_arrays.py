"""Frames of plain numbers go in and out."""

from pathlib import Path

import numpy as np
import pytest
from fuzz import outcome

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.core.arrays import ArrayDataModule


@pytest.mark.parametrize("kind", ["npy", "npz", "csv"])
def test_plain_frames_go_in_and_out(kind: str, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).normal(size=(200, 3))
    path = tmp_path / f"a.{kind}"
    if kind == "npy":
        np.save(path, frames.astype(np.float32))
    elif kind == "npz":
        np.savez(path, one=frames[:120], two=frames[120:], fps=50)
    else:
        np.savetxt(path, frames, delimiter=";", header="left; right;up", comments="")
    data = ArrayDataModule(str(path), window=16, fps=50, standardise=False)
    names = ["a:one", "a:two"] if kind == "npz" else ["a"]
    assert [s.name for s in data.sequences("train")] == names
    assert data.feature_names[0] == ("left" if kind == "csv" else "feature_0")
    first = data.sequences("train")[0].frames.numpy()
    np.testing.assert_allclose(first, frames[: len(first)], atol=1e-6)
    npz, png = data.render(first[:20], tmp_path / "out")
    assert png.stat().st_size > 0
    np.testing.assert_allclose(data.score_input(npz).frames.numpy(), first[:20], atol=1e-6)
    if kind == "npz":
        with pytest.raises(DataError, match=r"a\.npz: has 50 frames per second: set fps"):
            ArrayDataModule(str(path), fps=30).setup()


def test_a_header_that_asks_for_all_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((60, 4)))
    path.write_bytes(path.read_bytes().replace(b"(60, 4), ", b"(10**9,4)"))
    assert outcome(path, ArrayDataModule().read) == "refused"
    np.save(path, np.zeros((60, 4)))
    path.write_bytes(path.read_bytes().replace(b"(60, 4),   ", b"(60000000, 4),")[:-5])
    assert outcome(path, ArrayDataModule().read) == "refused"


def test_objects_in_arrays_are_not_run(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"a\.npy: not a whole NumPy file"):
        ArrayDataModule().read(tmp_path / "a.npy")
