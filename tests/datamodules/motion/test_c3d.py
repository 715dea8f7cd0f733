"""Marker files of every machine are read."""

from pathlib import Path

import numpy as np
import pytest
from motion_formats import c3d_bytes
from PIL import Image

from rnade_lightning.datamodules import DataError, MocapDataModule
from rnade_lightning.datamodules.motion.c3d import read_c3d


@pytest.mark.parametrize("kind", [84, 85, 86])
@pytest.mark.parametrize("integers", [False, True])
def test_c3d_of_every_machine_is_read(
    kind: int, integers: bool, cloud: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "a.c3d").write_bytes(c3d_bytes(cloud, kind, integers))
    found = read_c3d(tmp_path / "a.c3d")
    np.testing.assert_allclose(found.points, cloud, atol=1e-4)
    assert (found.names, found.fps) == (["M0", "M1", "M2", "M3"], 60.0)


def test_c3d_is_read_as_ezc3d_reads_and_writes_it(cloud: np.ndarray, tmp_path: Path) -> None:
    ezc3d = pytest.importorskip("ezc3d")
    (tmp_path / "a.c3d").write_bytes(c3d_bytes(cloud))
    theirs = ezc3d.c3d(str(tmp_path / "a.c3d"))["data"]["points"][:3].transpose(2, 1, 0)
    np.testing.assert_allclose(theirs, cloud, atol=1e-4)
    made = ezc3d.c3d()
    made["parameters"]["POINT"]["RATE"]["value"] = [60.0]
    made["parameters"]["POINT"]["LABELS"]["value"] = ["a", "b", "c", "d"]
    made["data"]["points"] = np.concatenate([cloud, np.ones((300, 4, 1))], axis=-1).T
    made.write(str(tmp_path / "b.c3d"))
    found = read_c3d(tmp_path / "b.c3d")
    np.testing.assert_allclose(found.points, cloud, atol=1e-4)
    assert found.names == ["a", "b", "c", "d"]


def test_markers_are_data_and_are_played(cloud: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "a.c3d").write_bytes(c3d_bytes(cloud))
    data = MocapDataModule(
        str(tmp_path), window=16, min_piece=50, rename={"M0": "knee"}, markers=["M2", "knee"]
    )
    assert data.feature_names == ["M2.x", "M2.y", "M2.z", "knee.x", "knee.y", "knee.z"]
    assert [len(s.frames) for s in data.sequences("train")] == [52, 38]
    raw = data.destandardise(data.sequences("train")[1].frames)
    np.testing.assert_allclose(raw.reshape(-1, 2, 3)[:, 1], cloud[190::2, 0][:38], atol=1e-3)
    npz, gif, html, *_ = data.render(data.sequences("test")[0].frames, tmp_path / "m")
    assert np.load(npz)["frames"].shape[1] == 6
    assert html.stat().st_size > 0
    with Image.open(gif) as image:
        assert len(image.convert("RGB").getcolors(100000) or []) > 3  # dots beside the grid
    with pytest.raises(DataError, match=r"a\.c3d: has no marker \['M9'\]"):
        MocapDataModule(str(tmp_path), markers=["M9"]).setup()
    with pytest.raises(DataError, match=r"a\.c3d: no 200 frames in a row.*missing: M2 13%"):
        MocapDataModule(str(tmp_path), min_piece=200).setup()


def made(path: Path, names: list[str], n_frames: int = 300, **groups: list[str]) -> np.ndarray:
    """Write a file by ezc3d, with more parameters of POINT; return its points."""
    ezc3d = pytest.importorskip("ezc3d")
    points = np.random.default_rng(0).normal(size=(n_frames, len(names), 3)) + 500
    file = ezc3d.c3d()
    file["parameters"]["POINT"]["RATE"]["value"] = [100.0]
    file["parameters"]["POINT"]["LABELS"]["value"] = names
    for key, value in groups.items():
        file.add_parameter("POINT", key, value)
    file["data"]["points"] = np.concatenate([points, np.ones((*points.shape[:2], 1))], axis=-1).T
    file.write(str(path))
    return points


def test_markers_of_one_name_are_told_apart_in_order(tmp_path: Path) -> None:
    points = made(tmp_path / "a.c3d", ["A", "B", "B", "B_2", "B"])
    found = read_c3d(tmp_path / "a.c3d")
    assert found.names == ["A", "B", "B_3", "B_2", "B_4"]
    np.testing.assert_allclose(found.points, points, atol=1e-3)


def test_units_are_told_in_any_case(tmp_path: Path) -> None:
    made(tmp_path / "a.c3d", ["A", "B"], UNITS=["MM "])
    assert read_c3d(tmp_path / "a.c3d").unit == "mm"


def test_markers_without_a_label_are_used_only_by_name(tmp_path: Path) -> None:
    made(tmp_path / "a.c3d", ["*1", "A", "S:*22", "B", "Unlabeled 3"])
    how = {"window": 16, "cache_dir": str(tmp_path / "cache")}
    data = MocapDataModule(str(tmp_path / "a.c3d"), **how)  # type: ignore[arg-type]
    assert data.feature_names == ["A.x", "A.y", "A.z", "B.x", "B.y", "B.z"]
    data = MocapDataModule(str(tmp_path / "a.c3d"), markers=["*1"], **how)  # type: ignore[arg-type]
    assert data.feature_names == ["*1.x", "*1.y", "*1.z"]


@pytest.mark.parametrize("declared", [True, False])
def test_outputs_of_models_are_not_markers(declared: bool, tmp_path: Path) -> None:
    names = ["LHipAngles", "A", "LHipMoment", "S:B", "LHipPower", "L_KNEE_ANGLE", "l.ankle.force.x"]
    groups = {"TYPE_GROUPS": ["ODD"], "ODD": ["S:B"], "ANGLES": ["LHipAngles"]} if declared else {}
    points = made(tmp_path / "a.c3d", names, **groups)
    found = read_c3d(tmp_path / "a.c3d")
    assert found.names == (["A"] if declared else ["A", "S:B"])
    np.testing.assert_allclose(found.points[:, 0], points[:, 1], atol=1e-3)
    made(tmp_path / "b.c3d", names[::2][:3], **groups)
    with pytest.raises(DataError, match=r"b\.c3d: has no markers, only outputs of a model"):
        read_c3d(tmp_path / "b.c3d")


def test_a_file_may_end_a_little_early_or_late(cloud: np.ndarray, tmp_path: Path) -> None:
    path, whole = tmp_path / "a.c3d", c3d_bytes(cloud)
    path.write_bytes(whole + bytes(3000))
    np.testing.assert_allclose(read_c3d(path).points, cloud, atol=1e-4)
    path.write_bytes(whole + bytes(range(1, 250)) * 4)
    np.testing.assert_allclose(read_c3d(path).points, cloud, atol=1e-4)
    path.write_bytes(whole + bytes(range(1, 250)) * 12)
    with pytest.raises(DataError, match="2988 bytes follow the 300 frames"):
        read_c3d(path)
    narrow = bytearray(c3d_bytes(cloud[:, :3]))
    narrow[4:6] = (4).to_bytes(2, "little")  # of the analog samples, by the header alone
    path.write_bytes(narrow + bytes(range(1, 250)) * 4)
    with pytest.raises(DataError, match=r"a\.c3d"):
        read_c3d(path)
    path.write_bytes(whole[:-70])  # a frame is 64 bytes
    with pytest.warns(UserWarning, match=r"a\.c3d: 300 frames are declared: the 298"):
        np.testing.assert_allclose(read_c3d(path).points, cloud[:298], atol=1e-4)
    path.write_bytes(whole[:-640])
    with pytest.raises(DataError, match="290 frames where 300"):
        read_c3d(path)


def long_take(first: int, last: int, frames: int, n: int = 70_000) -> bytearray:
    """Return a take of one marker by n frames of float32, and what its 16-bit fields say of it."""
    points = np.random.default_rng(0).normal(size=(n, 1, 3))
    content = bytearray(c3d_bytes(points[:1])[:-16])
    content[6:10] = np.array([first, last], "<u2").tobytes()
    at = content.index(b"FRAMES") + 10
    content[at : at + 2] = np.array([frames % 65536], "<u2").tobytes()
    quality = np.concatenate([points, np.zeros((n, 1, 1))], axis=-1)
    return content + quality.astype("<f4").tobytes()


@pytest.mark.parametrize(
    ("first", "last", "frames", "n"),
    [
        (1, 65535, 65535, 70_000),  # the largest number
        (1, 65535, 70_000, 70_000),  # in the header, and the rest in FRAMES
        (1, 4464, 70_000, 70_000),  # the rest in both
        (30_000, 65535, 38_000, 38_000),  # more frames than the header tells
        (30_000, 2463, 38_000, 38_000),
        (1, 65535, 65535, 65_535),
    ],
)
def test_takes_too_long_for_fields_of_16_bits_are_whole(
    first: int, last: int, frames: int, n: int, tmp_path: Path
) -> None:
    path, content = tmp_path / "a.c3d", long_take(first, last, frames, n)
    path.write_bytes(content)
    found = read_c3d(path).points
    assert found.shape == (n, 1, 3)
    assert np.isfinite(found).all()
    if frames == 65535 < n:  # nothing but the bytes tells
        content += b"1"
    else:
        path.write_bytes(content + bytes(-len(content) % 512))
        np.testing.assert_array_equal(read_c3d(path).points, found)
        content = content[: -16 * (n // 50)]
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.c3d: "):
        read_c3d(path)


@pytest.mark.parametrize("frames", [90, 110])
def test_counts_that_differ_are_refused_whatever_the_bytes_hold(
    frames: int, tmp_path: Path
) -> None:
    (tmp_path / "a.c3d").write_bytes(long_take(1, 100, frames, frames))
    with pytest.raises(DataError, match=f"frames: 100 by header, {frames} by POINT:FRAMES"):
        read_c3d(tmp_path / "a.c3d")


def test_a_short_take_without_gaps_is_whole(tmp_path: Path) -> None:
    points = made(tmp_path / "a.c3d", ["A", "B"], n_frames=70)
    data = MocapDataModule(
        str(tmp_path / "a.c3d"),
        window=8,
        fps=100.0,
        standardise=False,
        cache_dir=str(tmp_path / "cache"),
    )
    assert data.feature_names[0] == "A.x"
    n_frames = [len(s.frames) for part in ("train", "val", "test") for s in data.sequences(part)]  # type: ignore[arg-type]
    assert sum(n_frames) == len(points)


@pytest.mark.parametrize(
    ("screen", "head", "up", "by"),
    [
        (["+Y"], None, "y", "by the file"),
        (["+Z"], None, "z", "by the file"),
        (["+Z"], 1, "y", "by feet and head"),
        (["?"], None, "z", "usual for .c3d"),
    ],
)
def test_up_is_found_by_markers_or_as_the_file_says(
    screen: list[str], head: int | None, up: str, by: str, tmp_path: Path
) -> None:
    ezc3d = pytest.importorskip("ezc3d")
    made(tmp_path / "a.c3d", ["LANK", "LFHD" if head else "LKNE"], Y_SCREEN=screen)
    file = ezc3d.c3d(str(tmp_path / "a.c3d"))
    points = file["data"]["points"]
    points[1, 1] += 1700
    file["data"]["points"] = points
    file.write(str(tmp_path / "a.c3d"))
    layout = MocapDataModule(str(tmp_path / "a.c3d"), window=8, cache_dir=str(tmp_path)).layout
    assert (layout["up"], layout["up_by"]) == (up, by)
