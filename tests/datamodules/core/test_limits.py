"""The memory that a file may take while it is read."""

import gzip
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bodies import tumble
from damaged import GOOD, text
from motion_formats import ASF, c3d_bytes
from scipy.io import savemat

from rnade_lightning.datamodules import ArrayDataModule, DataError, MocapDataModule
from rnade_lightning.datamodules.core.limits import Limit
from rnade_lightning.datamodules.motion.bvh import read_bvh, write_bvh

MIB = 1 << 20


def packed_array(path: Path) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w") as f,
    ):
        np.lib.format.write_array(f, np.zeros((256 * MIB // 32, 4)))


def many_packed_arrays(path: Path) -> None:
    zeros = np.zeros((MIB // 32, 4))
    np.savez_compressed(path, **{f"a{i}": zeros for i in range(300)})


def packed_bytes(path: Path) -> None:
    """One byte a number, so that its float64 are eight times as long."""
    savemat(path, {"Motion": np.zeros((64 * MIB // 8, 8), np.uint8)}, do_compression=True)


def packed_lines(path: Path) -> None:
    blank = gzip.compress(b"\n" * (16 * MIB))
    path.write_bytes(gzip.compress(text().encode()) + 16 * blank)


def packed_joints(path: Path) -> None:
    """Joints without channels, which turn in every frame all the same."""
    joint = "JOINT j%d { OFFSET 0 1 0 CHANNELS 0\n"
    n = 5_000
    joints = "".join(joint % i for i in range(n)) + "}" * n
    head = GOOD.replace("End Site", joints + "\nEnd Site").replace("60", "5000")
    path.write_text(head + "0 0 0 0 0 0 0 0 0\n" * 5_000)


def bones_without_angles(path: Path) -> None:
    bone = "begin\n id 9\n name b%d\n direction 0 1 0\n length 1\n axis 0 0 0 XYZ\n end\n"
    n = 2000
    asf = ASF.replace(":hierarchy", "".join(bone % i for i in range(n)) + ":hierarchy")
    asf = asf.replace("root head", "root " + " ".join(f"b{i}" for i in range(n)) + " head")
    path.with_suffix(".asf").write_text(asf)
    row = "\nroot 0 0 0 0 0 0\nthigh 0 0 0\nshin 0\n"
    path.write_text("".join(f"{t}{row}" for t in range(1, 5_000)))


def overlapping_parameters(path: Path) -> None:
    """Each parameter says that its values reach over all that come after it."""
    data = c3d_bytes(np.zeros((9, 2, 3)))
    one = bytes([1, 1]) + b"A" + (9).to_bytes(2, "little") + bytes([1, 2, 255, 255, 0, 0, 0])
    path.write_bytes(data[:516] + one * 5_000)


BOMBS: dict[str, tuple[Callable[[Path], None], type]] = {
    "a.npz": (packed_array, ArrayDataModule),
    "many.npz": (many_packed_arrays, ArrayDataModule),
    "a.mat": (packed_bytes, MocapDataModule),
    "a.bvh.gz": (packed_lines, MocapDataModule),
    "a.bvh": (packed_joints, MocapDataModule),
    "a.amc": (bones_without_angles, MocapDataModule),
    "a.c3d": (overlapping_parameters, MocapDataModule),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_what_a_file_takes_is_bounded_by_its_size(name: str, tmp_path: Path) -> None:
    make, kind = BOMBS[name]
    path = tmp_path / name
    make(path)
    data = kind(str(path))
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as caught:
            data.read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert peak < 1.1 * min(1000 * size, 200 * size + 64 * MIB)
    if not name.endswith("c3d"):
        assert "--data.max_bytes" in str(caught.value)


def test_the_error_says_which_limit_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, np.zeros((100_000, 4), np.uint8))
    with pytest.raises(DataError, match=r"would take 3,200,000 bytes where") as caught:
        ArrayDataModule(str(path)).read(path)
    limit = int(str(caught.value).rpartition("(to ")[2].rstrip(")"))
    frames = ArrayDataModule(str(path), max_bytes=limit).read(path).frames[""]
    assert frames.shape == (100_000, 4)
    with pytest.raises(DataError, match="max_bytes"):
        ArrayDataModule(str(path), max_bytes=limit - 1).read(path)


def test_a_small_file_may_grow_more_than_a_large_one(tmp_path: Path) -> None:
    path, limits = tmp_path / "a", []
    for size in (1000, 10_000_000):
        path.write_bytes(b"\0" * size)
        limits.append(Limit.of(path).n_bytes / size)
    assert limits == [1000, 100]
    assert Limit.of(path, 7).n_bytes == 7


def chain(n: int, still: bool) -> str:
    """BVH of a chain of n joints; all have places, and none but the last moves, if still."""
    kinds = "6 Xposition Yposition Zposition " if still else "3 "
    joint = f"JOINT j%d\n{{\nOFFSET 0 1 0\nCHANNELS {kinds}Zrotation Yrotation Xrotation\n"
    head = "HIERARCHY\nROOT r\n{\nOFFSET 0 0 0\nCHANNELS 6 Xposition Yposition Zposition "
    head += "Zrotation Yrotation Xrotation\n" + "".join(joint % i for i in range(1, n))
    head += "End Site\n{\nOFFSET 0 1 0\n}\n" + "}\n" * n + "MOTION\nFrames: 3\nFrame Time: 0.05\n"
    rows = np.tile([0, 1, 0, 0, 0, 0] if still else [0, 0, 0], (3, n, 1)).reshape(3, -1)
    if not still:
        rows = np.concatenate([np.zeros((3, 3), int), rows + np.arange(3)[:, None]], axis=1)
    rows[:, -6 if still else -1] += np.arange(3)
    return head + "\n".join(" ".join(map(str, row)) for row in rows) + "\n"


@pytest.mark.slow
@pytest.mark.parametrize("still", [False, True], ids=["turning", "folded"])
def test_time_is_linear_in_joints(still: bool, tmp_path: Path) -> None:
    def seconds(n: int) -> float:
        path = tmp_path / f"{n}.bvh"
        path.write_text(chain(n, still))
        start = time.process_time()
        motion = read_bvh(path)
        motion.points()
        write_bvh(tmp_path / "again.bvh", motion)
        np.testing.assert_allclose(
            read_bvh(tmp_path / "again.bvh").points(), motion.points(), atol=1e-3 * n
        )
        return time.process_time() - start

    seconds(50)
    few, many = min(seconds(500), seconds(500)), seconds(4000)
    assert many < 25 * few or many < 1  # quadratic: 64 times


def test_the_limits_let_ordinary_files_through(tmp_path: Path) -> None:
    for n_frames in (2, 2000):  # of which the first is all head, the second all numbers
        write_bvh(tmp_path / f"{n_frames}.bvh.gz", tumble(n_frames))
        assert len(read_bvh(tmp_path / f"{n_frames}.bvh.gz").positions) == n_frames
