"""ASF and AMC are read, or refused with the line of the fault."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damaged import refused
from motion_formats import ASF, amc
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules import DataError, MocapDataModule
from rnade_lightning.datamodules.motion.asfamc import read_amc
from rnade_lightning.datamodules.motion.bvh import read_bvh, write_bvh


@pytest.fixture
def acclaim(tmp_path: Path) -> Path:
    (tmp_path / "07.asf").write_text(ASF)
    (tmp_path / "07_01.amc").write_text(amc(400))
    return tmp_path / "07_01.amc"


def test_acclaim_bones_are_placed_by_their_global_rotation(acclaim: Path) -> None:
    """The definition agrees: G = G_parent C M C^-1, and a bone goes from its parent's end to its
    own end, along G times its direction."""
    motion = read_amc(acclaim, 120)
    assert motion.skeleton.names == ["root", "head", "thigh", "shin"]
    words = acclaim.read_text().splitlines()[3 + 4 * 250 :][:4]
    root, thigh, shin = (np.array(line.split()[1:], dtype=float) for line in words[1:])

    def turn(angles: Any, order: str = "xyz") -> np.ndarray:
        return np.asarray(Rotation.from_euler(order, angles, degrees=True).as_matrix())

    world = turn(root[3:])
    axes = turn([0, 0, 20])
    world_thigh = world @ axes @ turn(thigh) @ axes.T
    axes = turn([30, -20, 10])
    world_shin = world_thigh @ axes @ turn(shin, "x") @ axes.T
    knee = root[:3] + world_thigh @ [0, -4, 0]
    points = motion.points()[250]
    np.testing.assert_allclose(points[3], knee, atol=1e-9)
    np.testing.assert_allclose(points[4], root[:3] + world @ [0, 2, 0], atol=1e-9)
    np.testing.assert_allclose(points[5], knee + world_shin @ [3, -4, 0], atol=1e-9)


def test_acclaim_motion_is_written_as_bvh_with_the_same_points(acclaim: Path) -> None:
    motion = read_amc(acclaim, 120)
    write_bvh(acclaim.with_suffix(".bvh"), motion)
    again = read_bvh(acclaim.with_suffix(".bvh"))
    assert again.skeleton.names == motion.skeleton.names
    np.testing.assert_allclose(again.points(), motion.points(), atol=1e-5)


@pytest.mark.slow
def test_acclaim_takes_are_data(acclaim: Path, tmp_path: Path) -> None:
    data = MocapDataModule(str(acclaim.parent), window=32)
    assert (data.frame_rate, data.layout["format"]) == (30.0, ".amc")
    assert sum(len(s.frames) for p in ("train", "val", "test") for s in data.sequences(p)) == 99  # type: ignore[arg-type]
    assert "shin.y" in data.dropped or "shin.x" in data.dropped  # one axis
    frames = data.sequences("test")[0].frames
    bvh = data.render(frames, tmp_path / "out" / "walk")[0]
    again = data.score_input(bvh).frames
    torch.testing.assert_close(again, frames[1:], atol=1e-3, rtol=0)


def test_another_asf_beside_is_taken_if_it_is_the_only_one(acclaim: Path) -> None:
    acclaim.with_name("07.asf").rename(acclaim.with_name("someone.asf"))
    assert len(read_amc(acclaim, 120).positions) == 400
    acclaim.with_name("other.asf").write_text(ASF)
    with pytest.raises(DataError, match=r"07_01\.amc: has no skeleton"):
        read_amc(acclaim, 120)


@pytest.mark.parametrize(
    "units",
    [
        ":units\n  length 0.45\n  ANGLE RAD",
        ":units\n  length 0.45\n  Angle rad # not deg",
        ":units\n  angle Radians\n",
        ":units mass 1.0 length 0.45 angle rad",
    ],
)
def test_units_are_told_in_many_spellings(units: str, acclaim: Path) -> None:
    asf, motion = acclaim.with_name("07.asf"), acclaim.read_text().replace(":DEGREES\n", "")
    plain = ASF.replace("angle deg", "angle rad").replace("0 0 20", "0 0 0.2")
    asf.write_text(plain)
    acclaim.write_text(motion)
    expected = read_amc(acclaim, 120).points()
    other = plain.replace(":units\n  length 0.45\n  angle rad", units)
    assert other != plain
    asf.write_text(other.replace("begin", "BEGIN").replace("  end", "  End  # of it"))
    np.testing.assert_array_equal(read_amc(acclaim, 120).points(), expected)
    acclaim.write_text(motion.replace("SPECIFIED", "SPECIFIED\n:RADIANS # not :DEGREES"))
    asf.write_text(other, encoding="utf-16")
    np.testing.assert_array_equal(read_amc(acclaim, 120).points(), expected)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (("shin ", "shank "), r"07_01\.amc, line \d+: 'shank' is no bone"),
        (("thigh ", "thigh 1 "), r"line 6: 4 angles of thigh where 3"),
        (("\n7\n", "\n8\n"), r"line 28: frame 8 follows frame 6"),
        (("root ", "root x"), r"line 5: 'x.*' is not a finite number"),
    ],
)
def test_faults_of_acclaim_motions_are_placed(
    change: tuple[str, str], match: str, tmp_path: Path
) -> None:
    (tmp_path / "07.asf").write_text(ASF)
    (tmp_path / "07_01.amc").write_text(amc(40).replace(*change, 1))
    refused(tmp_path, match)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (("thigh shin", "thigh foot"), r"07\.asf, line \d+: no bone is called 'foot'"),
        (("    thigh shin\n", ""), r"07\.asf: nothing holds the bones \['shin'\]"),
        (("dof rx ry rz", "dof rx tx"), r"line 12: thigh has a dof other than"),
        (("length 5", "length five"), r"line 23: a bone without a good name"),
        (("axis 30 -20 10 XYZ", "axis 30 -20 10 XXZ"), r"line 23: a bone without.*axis"),
        (("order TX TY TZ", "order TX TY"), r":root is not understood"),
        ((":hierarchy", ":h"), r"not a whole ASF file"),
        (("angle deg", "angle grad"), r"angles in grad"),
        (("angle deg", "angle # deg"), r"angles in no unit"),
    ],
)
def test_faults_of_acclaim_skeletons_are_placed(
    change: tuple[str, str], match: str, tmp_path: Path
) -> None:
    (tmp_path / "07.asf").write_text(ASF.replace(*change, 1))
    (tmp_path / "07_01.amc").write_text(amc(40))
    refused(tmp_path, match)
